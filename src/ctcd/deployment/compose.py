"""Deploys an image to one Docker host, this one or another by SSH, without a dropped request.

The new container starts beside the old one, has to become healthy and to answer its probes, and only then gets requests.
The old one is drained and ends once the new one has answered its probes through the proxy, too; until then every failure
leads back to it. A deployment that was killed is found and settled by the next one.
"""

import hashlib
import os
import time
from contextlib import suppress
from dataclasses import dataclass

from ctcd.deployment.docker import Docker
from ctcd.deployment.image import require_digest
from ctcd.deployment.proxy import Proxy
from ctcd.deployment.target import Deployment, Probe, unprobed
from ctcd.errors import CtcdError, Unreachable, UsageError
from ctcd.progress import Progress, silent
from ctcd.settings import PREFIX, Settings

SLOTS = ("blue", "green")
HANDED_ON = (
    "CTCD_API_KEYS",
    "CTCD_DRAIN_SECONDS",
    "CTCD_ENVIRONMENT",
    "CTCD_LOG_LEVEL",
    "CTCD_METRICS_KEYS",
    "CTCD_OUTBOX_MAX_RECORDS",
    "CTCD_TIMEZONE",
    "CTCD_TRACING",
    "CTCD_WORKERS",
    "FEATURE_STORE_URL",
)
"""Variables that a container gets: the compose file names the same ones."""
FILES = "compose"
_PORT = "3000/tcp"
_POLL_SECONDS = 0.5
_LOG_TAIL = 5
_STOP_SECONDS = 35
"""Beyond draining, how long a container may take to end before it is killed."""


@dataclass(frozen=True, kw_only=True)
class _Slot:
    """A container in one of the two places.

    Args:
        name: of the place.
        container: its id.
        image: reference that it was started from.
        version: version of the model in it.
        settings: digest of the settings that it was started with.
        created: when, ISO 8601.
        running: whether it runs.
        healthy: whether its own health check says so.
        attached: whether the proxy can reach it.
        port: port of the host's loopback that it answers on; 0 if it does not run.
    """

    name: str
    container: str
    image: str
    version: str
    settings: str
    created: str
    running: bool
    healthy: bool
    attached: bool
    port: int


class ComposeTarget:
    """Two places for containers behind a proxy, on the Docker host of the settings.

    Args:
        settings: host and port that the proxy listens on, and what the service is set up by.
        slug: begins the name of the compose project.
        progress: told of the tenths of a second that go by until it is ready.
    """

    def __init__(self, settings: Settings, slug: str, progress: Progress = silent) -> None:
        self._settings, self._progress = settings, progress
        self._docker = Docker(settings.deploy_host, dict(settings.child_environment()))
        self._project = f"{slug}-{settings.environment.value}"
        self._front = f"{self._project}_front"

    def deploy(self, tag: str, *, version: str, digest: str, probe: Probe = unprobed) -> Deployment:
        """Replace what is in service by an image; whatever fails, what was in service before stays or comes back.

        Other settings, a new key say, replace it too.

        Raises:
            UsageError: the image is named by a tag, or its container does not start; says why.
            Unreachable: Docker does not answer, or the container is not healthy in time.
            DeploymentBroken: it does not answer its probes.
        """
        image = require_digest(tag)
        self._settle()
        before = self._in_service()
        self._compose(image, version, "up", "--detach", "--wait", "--no-deps", "proxy")
        same = before and (before.image, before.settings) == (image, self._settings_digest())
        changed = not (before and same and before.healthy)
        if changed:
            self._replace(before, image, version, probe)
        else:
            self._probe_in_service(probe)
        return Deployment(
            url=self._settings.service_url,
            tag=image,
            version=version,
            digest=digest,
            before=before.version if before else None,
            changed=changed,
        )

    def stop(self) -> bool:
        """End what is deployed, proxy included; return whether anything was. The volume with predictions stays."""
        there = self._in_service() is not None
        self._compose("none", "none", "down", "--remove-orphans", "--timeout", str(self._grace))
        return there

    def _replace(self, before: _Slot | None, image: str, version: str, probe: Probe) -> None:
        name = SLOTS[1] if before and before.name == SLOTS[0] else SLOTS[0]
        try:
            new = self._start(name, image, version)
            with self._docker.reach(new.port) as url:
                probe(url)
            self._switch(new, before)
            self._probe_in_service(probe)
        except BaseException:
            # Also when it is interrupted.
            with suppress(CtcdError):
                self._switch_back(name, before)
            raise
        if before:
            self._end(before)

    def _start(self, name: str, image: str, version: str) -> _Slot:
        self._compose(image, version, "up", "--detach", "--no-deps", "--force-recreate", name)
        began = time.monotonic()
        while (waited := time.monotonic() - began) < self._settings.start_seconds:
            slot = self._slot(name)
            if slot is None or not slot.running:
                raise UsageError(f"its container does not run: {self._said(name)}", where=image)
            if slot.healthy:
                self._progress("start the container", int(waited * 10), int(waited * 10))
                return slot
            self._progress("start the container", int(waited * 10), None)
            time.sleep(_POLL_SECONDS)
        raise Unreachable(f"not healthy after {waited:.0f} s: {self._said(name)}", where=image)

    def _switch(self, new: _Slot, before: _Slot | None) -> None:
        proxy = self._proxy()
        proxy.make_ready(new.name)
        self._docker.run("network", "connect", "--alias", new.name, self._front, new.container)
        proxy.wait_until_up(new.name)
        if before:
            proxy.drain(before.name, self._settings.request_seconds)

    def _switch_back(self, name: str, before: _Slot | None) -> None:
        proxy = self._proxy()
        if before:
            proxy.make_ready(before.name)
            # One that was not well before will not be now.
            with suppress(Unreachable):
                proxy.wait_until_up(before.name)
        slot = self._slot(name)
        if slot:
            if slot.attached:
                proxy.drain(name, self._settings.request_seconds)
            self._end(slot)

    def _settle(self) -> None:
        """Bring what a killed deployment left to one container in service at most: the one that was there before."""
        keep = self._in_service()
        for slot in self._slots():
            if keep is None or slot.container != keep.container:
                if keep is not None and slot.attached:
                    self._switch_back(slot.name, keep)
                else:
                    self._end(slot)

    def _end(self, slot: _Slot) -> None:
        self._docker.run("stop", "--time", str(self._grace), slot.container)
        self._docker.run("rm", "--force", slot.container)

    def _in_service(self) -> _Slot | None:
        """Return the oldest container that the proxy reaches; one that does not run only if none does."""
        return min((slot for slot in self._slots() if slot.attached), key=_rank, default=None)

    def _slots(self) -> list[_Slot]:
        return [slot for slot in map(self._slot, SLOTS) if slot is not None]

    def _slot(self, name: str) -> _Slot | None:
        container = self._container(name)
        found = self._docker.inspect(container) if container else None
        if found is None:
            return None
        state, labels = found["State"], found["Config"]["Labels"]
        bound = (found["NetworkSettings"]["Ports"] or {}).get(_PORT) or []
        return _Slot(
            name=name,
            container=container,
            image=labels.get("ctcd.image", ""),
            version=labels.get("ctcd.version", ""),
            settings=labels.get("ctcd.settings", ""),
            created=found["Created"],
            running=bool(state["Running"]) and not state["Restarting"],
            healthy=(state.get("Health") or {}).get("Status") == "healthy",
            attached=self._front in found["NetworkSettings"]["Networks"],
            port=int(bound[0]["HostPort"]) if bound else 0,
        )

    def _container(self, service: str) -> str:
        of = "label=com.docker.compose"
        listed = self._docker.run(
            "ps", "--all", "--quiet", "--no-trunc",
            "--filter", f"{of}.project={self._project}", "--filter", f"{of}.service={service}",
        )  # fmt: skip
        return listed.partition("\n")[0]

    def _proxy(self) -> Proxy:
        return Proxy(self._docker, self._container("proxy"))

    def _probe_in_service(self, probe: Probe) -> None:
        if self._settings.deploy_url or not self._docker.host:
            probe(self._settings.service_url)
            return
        with self._docker.reach(self._settings.port) as url:
            probe(url)

    def _said(self, name: str) -> str:
        return self._docker.last_words(self._container(name), _LOG_TAIL)

    def _compose(self, image: str, version: str, *arguments: str) -> None:
        folder = self._settings.deploy_folder / FILES
        files = [folder / "compose.yaml", folder / "haproxy.cfg"]
        missing = [str(path) for path in files if not path.is_file()]
        if missing:
            raise UsageError("there is no such file", where=", ".join(missing), hint=f"set {PREFIX}DEPLOY_FOLDER")
        variables = {
            "IMAGE": image,
            "VERSION": version,
            "BIND": f"{self._settings.host}:{self._settings.port}",
            "PROXY_IMAGE": self._settings.deploy_proxy_image,
            "PROXY_CONFIG": files[1].read_text(encoding="utf-8"),
            "SETTINGS": self._settings_digest(),
            **self._handed_on(),
        }
        command = ["compose", "--project-name", self._project, "--file", os.fspath(files[0]), *arguments]
        self._docker.run(*command, more=variables)

    def _handed_on(self) -> dict[str, str]:
        known = self._settings.environment_variables()
        # Not the embedded store of the machine that deploys.
        known["FEATURE_STORE_URL"] = self._settings.feature_store_url.get_secret_value()
        return {name: known[name] for name in HANDED_ON}

    def _settings_digest(self) -> str:
        text = "\0".join(f"{name}={value}" for name, value in sorted(self._handed_on().items()))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def _grace(self) -> int:
        return int(self._settings.drain_seconds) + _STOP_SECONDS


def _rank(slot: _Slot) -> tuple[bool, str]:
    return not slot.running, slot.created
