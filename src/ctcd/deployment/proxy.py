"""The proxy in front of the containers of the compose target: HAProxy's admin socket, reached inside its container.

HAProxy is never reloaded, so it closes no client's connection: a server is drained (it gets no new request and finishes
those that it has) and made ready again at run time. See "Dynamic changes" in the HAProxy management guide, section 9.3.
"""

import csv
import time

from ctcd.deployment.docker import Docker
from ctcd.errors import Unreachable

BACKEND = "api"
_ASK = 'exec 3<>/dev/tcp/127.0.0.1/9999; printf "%s\\n" "$1" >&3; cat <&3'
_POLL_SECONDS = 0.2
_UP_SECONDS = 30.0


class Proxy:
    """A running proxy.

    Args:
        docker: where it runs.
        container: its container.
    """

    def __init__(self, docker: Docker, container: str) -> None:
        self._docker, self._container = docker, container

    def make_ready(self, slot: str) -> None:
        """Let a slot have requests as soon as its container is well."""
        self._ask(f"set server {BACKEND}/{slot} state ready")

    def wait_until_up(self, slot: str) -> None:
        """Wait until a slot has passed the proxy's own check.

        Raises:
            Unreachable: it does not.
        """
        deadline = time.monotonic() + _UP_SECONDS
        while not self._server(slot)["status"].startswith("UP"):
            if time.monotonic() > deadline:
                raise Unreachable("the proxy does not reach it", where=slot)
            time.sleep(_POLL_SECONDS)

    def drain(self, slot: str, seconds: float) -> bool:
        """Give a slot no new request, and wait for those that it has; return whether all were answered in time."""
        self._ask(f"set server {BACKEND}/{slot} state drain")
        deadline = time.monotonic() + seconds
        while int(self._server(slot)["scur"] or 0):
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def _server(self, slot: str) -> dict[str, str]:
        lines = self._ask("show stat").removeprefix("# ").splitlines()
        for row in csv.DictReader(lines):
            if (row["pxname"], row["svname"]) == (BACKEND, slot):
                return row
        raise Unreachable(f"the proxy has no server {slot}", where=BACKEND)

    def _ask(self, command: str) -> str:
        return self._docker.run("exec", self._container, "bash", "-c", _ASK, "ask", command)
