"""The proxy in front of the containers of the compose target: HAProxy's admin socket, reached inside its container.

HAProxy is never reloaded, so it closes no client's connection: at run time a server is drained (it gets no new requests
and finishes those that it has) and made ready again. See "Dynamic changes" in HAProxy's management guide, section 9.3.
"""

import csv
import time

from ctcd.deployment.docker import Docker
from ctcd.errors import Unreachable

BACKEND = "api"
_SEND = 'exec 3<>/dev/tcp/127.0.0.1/9999; printf "%s\\n" "$1" >&3; cat <&3'
_POLL_SECONDS = 0.2
_UP_SECONDS = 30.0


class Proxy:
    """A running proxy, by the id of its container."""

    def __init__(self, docker: Docker, container: str) -> None:
        self._docker, self._container = docker, container

    def make_ready(self, slot: str) -> None:
        """Send requests to a slot as soon as its container is healthy."""
        self._send(f"set server {BACKEND}/{slot} state ready")

    def wait_until_up(self, slot: str) -> None:
        """Wait until a slot passes the proxy's health check.

        Raises:
            Unreachable: it does not in time.
        """
        deadline = time.monotonic() + _UP_SECONDS
        while not self._server(slot)["status"].startswith("UP"):
            if time.monotonic() > deadline:
                raise Unreachable("it fails the proxy's health check", where=slot)
            time.sleep(_POLL_SECONDS)

    def drain(self, slot: str, seconds: float) -> None:
        """Send a slot no new requests, and wait for up to `seconds` until it has answered those that it has."""
        self._send(f"set server {BACKEND}/{slot} state drain")
        deadline = time.monotonic() + seconds
        while int(self._server(slot)["scur"] or 0) and time.monotonic() <= deadline:
            time.sleep(_POLL_SECONDS)

    def _server(self, slot: str) -> dict[str, str]:
        lines = self._send("show stat").removeprefix("# ").splitlines()
        for row in csv.DictReader(lines):
            if (row["pxname"], row["svname"]) == (BACKEND, slot):
                return row
        raise Unreachable(f"the proxy has no server {slot}", where=BACKEND)

    def _send(self, command: str) -> str:
        return self._docker.run("exec", self._container, "bash", "-c", _SEND, "send", command)
