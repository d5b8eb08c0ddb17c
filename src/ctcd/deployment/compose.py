"""Deploys an image to one Docker host, this machine or another one by SSH, without dropping a request (blue-green).

The new container starts next to the old one, and gets requests only once it is healthy and has passed its probes. The
old one is drained, and stopped once the new one has passed its probes through the proxy, too; if anything fails before,
it gets the requests again. The next deployment cleans up after one that was killed.
"""

import hashlib
import os
import time
from contextlib import suppress
from dataclasses import dataclass

from ctcd import urls
from ctcd.deployment.docker import Docker
from ctcd.deployment.image import require_digest
from ctcd.deployment.proxy import Proxy
from ctcd.deployment.target import Deployment, Probe, unprobed
from ctcd.errors import CtcdError, Unreachable, UsageError
from ctcd.progress import Progress, report_wait, silent
from ctcd.settings import PREFIX, Settings

SLOTS = ("blue", "green")
PASSED_ON = (
    "CTCD_API_KEYS",
    "CTCD_ASYNCHRONOUS",
    "CTCD_CACHE_ENTRIES",
    "CTCD_CACHE_SECONDS",
    "CTCD_CACHE_URL",
    "CTCD_DRAIN_SECONDS",
    "CTCD_ENVIRONMENT",
    "CTCD_LOG_LEVEL",
    "CTCD_METRICS_KEYS",
    "CTCD_OUTBOX_MAX_RECORDS",
    "CTCD_REQUESTS_KEEP_SECONDS",
    "CTCD_REQUESTS_LEASE_SECONDS",
    "CTCD_REQUESTS_MAX",
    "CTCD_REQUESTS_MAX_BYTES",
    "CTCD_TIMEZONE",
    "CTCD_TRACING",
    "CTCD_WORKERS",
    "FEATURE_STORE_URL",
)
"""Environment variables of a container; the compose file names the same ones."""
FILES = "compose"
_PORT = "3000/tcp"
_POLL_SECONDS = 0.5
_STOP_SECONDS = 35
"""How long a container may take to stop, besides draining, before it is killed."""


@dataclass(frozen=True, kw_only=True)
class _Slot:
    """A container in one of the two slots.

    Args:
        image: reference that it was started from.
        settings: digest of the settings that it was started with.
        created: when it was created, ISO 8601.
        attached: whether the proxy can reach it.
        port: its port on the host's loopback interface; 0 if it does not run.
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
    """Two slots for containers behind a proxy, on the Docker host of the settings; named after the instance."""

    def __init__(self, settings: Settings, slug: str, progress: Progress = silent) -> None:
        self._settings, self._progress = settings, progress
        self._docker = Docker(settings.deploy_host, dict(settings.child_environment()))
        self._project = f"{slug}-{settings.environment.value}"
        self._front = f"{self._project}_front"

    def deploy(self, tag: str, *, version: str, digest: str, probe: Probe = unprobed) -> Deployment:
        """Replace what is in service by an image; if that fails, what was in service before stays or is restored.

        The container is replaced if the settings have changed, too, for example an API key.

        Raises:
            UsageError: a tag names the image, or its container does not start.
            Unreachable: Docker does not answer, or the container is not healthy in time.
            DeploymentBroken: it fails its probes.
        """
        image = require_digest(tag)
        self._clean_up()
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
        """Stop what is deployed, including the proxy; return whether anything was. The volume with predictions stays."""
        deployed = self._in_service() is not None
        self._compose("none", "none", "down", "--remove-orphans", "--timeout", str(self._grace))
        return deployed

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
            self._remove(before)

    def _start(self, name: str, image: str, version: str) -> _Slot:
        self._compose(image, version, "up", "--detach", "--no-deps", "--force-recreate", name)
        began = time.monotonic()
        while (waited := time.monotonic() - began) < self._settings.start_seconds:
            slot = self._slot(name)
            if slot is None or not slot.running:
                raise UsageError(f"its container does not run: {self._log_tail(name)}", where=image)
            if slot.healthy:
                report_wait(self._progress, "start the container", waited, self._settings.start_seconds, done=True)
                return slot
            report_wait(self._progress, "start the container", waited, self._settings.start_seconds)
            time.sleep(_POLL_SECONDS)
        raise Unreachable(f"not healthy after {waited:.0f} s: {self._log_tail(name)}", where=image)

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
            # It may have been unhealthy before.
            with suppress(Unreachable):
                proxy.wait_until_up(before.name)
        slot = self._slot(name)
        if slot:
            if slot.attached:
                proxy.drain(name, self._settings.request_seconds)
            self._remove(slot)

    def _clean_up(self) -> None:
        """Remove what a killed deployment left behind, so that at most the container from before it is in service."""
        keep = self._in_service()
        for slot in self._slots():
            if keep is None or slot.container != keep.container:
                if keep is not None and slot.attached:
                    self._switch_back(slot.name, keep)
                else:
                    self._remove(slot)

    def _remove(self, slot: _Slot) -> None:
        self._docker.run("stop", "--time", str(self._grace), slot.container)
        self._docker.run("rm", "--force", slot.container)

    def _in_service(self) -> _Slot | None:
        """Return the oldest container that the proxy can reach; one that does not run only if none does."""
        return min(
            (slot for slot in self._slots() if slot.attached),
            key=lambda slot: (not slot.running, slot.created),
            default=None,
        )

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

    def _log_tail(self, name: str) -> str:
        return self._docker.log_tail(self._container(name))

    def _compose(self, image: str, version: str, *arguments: str) -> None:
        folder = self._settings.deploy_folder / FILES
        files = [folder / "compose.yaml", folder / "haproxy.cfg"]
        missing = [str(path) for path in files if not path.is_file()]
        if missing:
            raise UsageError("file not found", where=", ".join(missing), hint=f"set {PREFIX}DEPLOY_FOLDER")
        variables = {
            "IMAGE": image,
            "VERSION": version,
            "BIND": urls.http_url(self._settings.host, self._settings.port).removeprefix("http://"),
            "PROXY_IMAGE": self._settings.deploy_proxy_image,
            "PROXY_CONFIG": files[1].read_text(encoding="utf-8"),
            "SETTINGS": self._settings_digest(),
            **self._passed_on(),
        }
        command = ["compose", "--project-name", self._project, "--file", os.fspath(files[0]), *arguments]
        self._docker.run(*command, more=variables)

    def _passed_on(self) -> dict[str, str]:
        known = self._settings.environment_variables()
        # Not the URL of the embedded store of the machine that deploys.
        known["FEATURE_STORE_URL"] = self._settings.feature_store_url.get_secret_value()
        return {name: known[name] for name in PASSED_ON}

    def _settings_digest(self) -> str:
        text = "\0".join(f"{name}={value}" for name, value in sorted(self._passed_on().items()))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def _grace(self) -> int:
        return int(self._settings.drain_seconds) + _STOP_SECONDS
