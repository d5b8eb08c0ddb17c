"""A private RabbitMQ server, for tests of what consumes from one."""

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep

from support.network import free_port, listening

START_SECONDS = 120
PROGRAM = "/usr/lib/rabbitmq/bin/rabbitmq-server"
"""The one on the PATH changes to the user of the package, who may not write to our folder."""


class RabbitServer:
    """A server of our own on the loopback that can be killed and started again, on the same port and with the same data."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "server.log"
        self.port = free_port()
        password, names = secrets.token_hex(16), free_port()
        configuration = folder / "rabbitmq.conf"
        configuration.touch(mode=0o600)
        configuration.write_text(
            f"listeners.tcp.local = 127.0.0.1:{self.port}\ndefault_user = tests\ndefault_pass = {password}\n"
        )
        # Erlang's register of names would be started as a daemon that outlives the server.
        register = shutil.which("epmd") or "epmd"
        self._register = subprocess.Popen([register, "-port", str(names), "-address", "127.0.0.1"])  # noqa: S603 - fixed arguments
        self._environment = os.environ | {
            "HOME": str(folder),  # Erlang keeps a secret there
            "ERL_EPMD_PORT": str(names),
            "RABBITMQ_NODENAME": "tests@localhost",
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_CONFIG_FILE": str(configuration),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        }
        self.url = f"amqp://tests:{password}@127.0.0.1:{self.port}/"
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        with self._log.open("a") as output:
            self._process = subprocess.Popen(  # noqa: S603 - a fixed command
                [PROGRAM],
                env=self._environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        end = monotonic() + START_SECONDS
        while monotonic() < end and self._process.poll() is None:
            if self._listens():
                return
            sleep(0.2)
        raise RuntimeError(f"rabbitmq-server did not start:\n{self._log.read_text()[-2000:]}")

    def kill(self) -> None:
        """End it and the programs that it has started, at once."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        while self._listens():  # a script has started it, so that it is not our child
            sleep(0.05)

    def _listens(self) -> bool:
        return ("127.0.0.1", self.port) in listening()

    def close(self) -> None:
        """End it and the register of names."""
        self.kill()
        self._register.kill()
        self._register.wait()


@contextmanager
def own_server() -> Iterator[RabbitServer]:
    """Start a server in a temporary folder, give it, and end it.

    Raises:
        RuntimeError: RabbitMQ is not installed, or does not start; says why.
    """
    if not Path(PROGRAM).exists():
        raise RuntimeError("rabbitmq-server is missing: run scripts/ensure-rabbitmq.sh")
    folder = Path(tempfile.mkdtemp(prefix="ctcd-rabbitmq-"))
    try:
        server = RabbitServer(folder)
        try:
            yield server
        finally:
            server.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
