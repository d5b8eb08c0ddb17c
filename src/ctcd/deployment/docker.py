"""Docker of this machine or another one, by its command line, which handles contexts, SSH and registries."""

import json
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from ctcd.deployment.commands import run_command
from ctcd.errors import Unreachable, UsageError

COMMAND_SECONDS = 600.0
"""Timeout of one command; a pull may take minutes."""
_LOG_LINES = 5
_TUNNEL_SECONDS = 15.0


class Docker:
    """One Docker daemon, by its URL, such as `ssh://user@host`; empty: as Docker's own settings say."""

    def __init__(self, host: str, environment: Mapping[str, str]) -> None:
        self.host = host
        self._environment = {**environment, **({"DOCKER_HOST": host} if host else {})}

    def run(self, *arguments: str, more: Mapping[str, str] | None = None) -> str:
        """Run a command and return its output.

        `more` are additional environment variables. Secrets go there, since a list of processes shows arguments.

        Raises:
            UsageError: Docker is not installed, or the command failed, with the last line of its error output.
            Unreachable: the daemon does not answer.
        """
        done = self._run(*arguments, more=more)
        if done.returncode:
            raise self._failed(arguments, done.stderr)
        return done.stdout.strip()

    def _run(self, *arguments: str, more: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
        return run_command(
            ["docker", *arguments],
            seconds=COMMAND_SECONDS,
            server=self._where,
            environment={**self._environment, **(more or {})},
        )

    def inspect(self, container: str) -> dict[str, Any] | None:
        """Return what `docker container inspect` prints for a container, or None if there is no such container."""
        found: list[dict[str, Any]] = json.loads(self._run("container", "inspect", container).stdout or "[]")
        return found[0] if found else None

    def log_tail(self, container: str) -> str:
        """Return the last lines of a container's log, on one line."""
        done = self._run("logs", "--tail", str(_LOG_LINES), container)
        lines = (done.stdout + done.stderr).splitlines()
        return " | ".join(line.strip() for line in lines if line.strip()) or "its log is empty"

    @contextmanager
    def reach(self, port: int) -> Iterator[str]:
        """Give the URL at which a port of the daemon's loopback interface can be reached, by an SSH tunnel if need be.

        Raises:
            Unreachable: the host cannot be reached.
        """
        parts = urlsplit(self.host)
        if parts.scheme != "ssh":
            yield f"http://127.0.0.1:{port}"
            return
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            local: int = probe.getsockname()[1]
        command = ["ssh", "-N", "-o", "ExitOnForwardFailure=yes", "-o", "BatchMode=yes"]
        command += ["-L", f"127.0.0.1:{local}:127.0.0.1:{port}", *(["-p", str(parts.port)] if parts.port else [])]
        command += [f"{parts.username}@{parts.hostname}" if parts.username else str(parts.hostname)]
        tunnel = subprocess.Popen(  # noqa: S603 - our own command
            command,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            self._wait_for(local, tunnel)
            yield f"http://127.0.0.1:{local}"
        finally:
            tunnel.terminate()
            tunnel.wait()

    def _wait_for(self, port: int, tunnel: "subprocess.Popen[bytes]") -> None:
        deadline = time.monotonic() + _TUNNEL_SECONDS
        while time.monotonic() < deadline and tunnel.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                time.sleep(0.1)
            else:
                return
        raise Unreachable(
            "the SSH tunnel does not open", where=self._where, hint="check the host, its key and your key"
        )

    @property
    def _where(self) -> str:
        return self.host or "docker"

    def _failed(self, arguments: Sequence[str], stderr: str) -> UsageError | Unreachable:
        lines = [line.strip() for line in stderr.splitlines() if line.strip()]
        last = lines[-1] if lines else "no error output"
        if any("Cannot connect to the Docker daemon" in line or "error during connect" in line for line in lines):
            return Unreachable("Docker does not answer", where=self._where)
        return UsageError(f"docker {' '.join(arguments[:2])}: {last}", where=self._where)
