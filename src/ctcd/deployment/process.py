"""Deploys to a process of this machine, which outlives the one that starts it."""

import json
from dataclasses import asdict, dataclass, replace
from typing import Self

import psutil

from ctcd import urls
from ctcd.deployment.target import Deployment, Probe, unprobed
from ctcd.errors import CtcdError
from ctcd.files import write_text
from ctcd.progress import Progress, silent
from ctcd.serving import launch
from ctcd.settings import ModelSource, Settings

LOG = "deployment.log"


@dataclass(frozen=True, kw_only=True)
class _Running:
    """The deployed process; its start time distinguishes it from a later process with the same id."""

    pid: int
    started: float
    url: str
    tag: str
    version: str
    digest: str

    @classmethod
    def load(cls, settings: Settings) -> Self | None:
        try:
            return cls(**json.loads(settings.deployment.read_bytes()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def save(self, settings: Settings) -> None:
        write_text(settings.deployment, json.dumps(asdict(self), indent=2) + "\n")

    def process(self) -> psutil.Process | None:
        try:
            found = psutil.Process(self.pid)
            alive = found.create_time() == self.started and not launch.has_ended(found)
        except psutil.NoSuchProcess:
            return None
        return found if alive else None


class ProcessTarget:
    """One `bentoml serve` on the host and port of the settings.

    The old process ends before the new one starts, so requests fail for the seconds in between; where they must not,
    use another target. The process serves the model in its Bento, whatever the registry's champion is: what is deployed
    is what was probed.
    """

    def __init__(self, settings: Settings, progress: Progress = silent) -> None:
        self._settings = settings.model_copy(update={"model_source": ModelSource.BENTO})
        self._progress = progress

    def deploy(self, tag: str, *, version: str, digest: str, probe: Probe = unprobed) -> Deployment:
        """Replace what is deployed; if the new process is not ready in time or fails its probes, restart the old one.

        Raises:
            NotFound: there is no such Bento.
            UsageError: it cannot start, or something else uses the port.
            Unreachable: it is not ready in time.
            DeploymentBroken: it fails its probes.
        """
        before = _Running.load(self._settings)
        alive = before.process() if before else None
        deployment = Deployment(
            url=urls.http_url(self._settings.host, self._settings.port),
            tag=tag,
            version=version,
            digest=digest,
            before=before.version if before and alive else None,
            changed=True,
        )
        same = before and (before.tag, before.digest, before.url) == (tag, digest, deployment.url)
        if same and alive and _has_settings(alive, self._settings):
            probe(deployment.url)
            return replace(deployment, changed=False)
        self.stop()
        try:
            self._start(tag, version, digest)
            probe(deployment.url)
        except CtcdError:
            self.stop()
            if before and alive:
                self._start(before.tag, before.version, before.digest)
            raise
        return deployment

    def stop(self) -> bool:
        """Stop what is deployed; return whether anything was."""
        running = _Running.load(self._settings)
        process = running.process() if running else None
        if process is not None:
            launch.end(process, self._settings)
        self._settings.deployment.unlink(missing_ok=True)
        return process is not None

    def _start(self, tag: str, version: str, digest: str) -> None:
        service = launch.start(tag, self._settings, LOG)
        try:
            # Saved before it is ready: the next deployment finds the process if this one is killed while it waits.
            _Running(
                pid=service.process.pid,
                started=psutil.Process(service.process.pid).create_time(),
                url=service.url,
                tag=tag,
                version=version,
                digest=digest,
            ).save(self._settings)
            launch.wait_until_ready(service, self._settings, self._progress)
        except CtcdError:
            launch.end(service.process, self._settings)
            self._settings.deployment.unlink(missing_ok=True)
            raise


def _has_settings(process: psutil.Process, settings: Settings) -> bool:
    """Return whether a process was started with these settings, such as the API keys."""
    environment = process.as_dict(["environ"], ad_value={})["environ"]
    wanted = settings.environment_variables()
    # The instance is that of its Bento, and the actor who deployed it.
    for name in ("CTCD_CONTRACTS", "CTCD_ACTOR"):
        del wanted[name]
    return all(environment.get(name) == value for name, value in wanted.items())
