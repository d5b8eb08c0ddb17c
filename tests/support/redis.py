"""A private Redis server: the broker of tests, and of Airflow's workers in `make airflow`."""

import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError
from support.network import free_port

START_SECONDS = 20


class RedisServer:
    """A server of our own on the loopback that can be stopped and started again, on the same port and with the same data.

    Only who knows the URL, which has its password, may use it: whoever can write to Airflow's broker can run tasks.
    """

    def __init__(self, program: str, folder: Path) -> None:
        self._log = folder / "server.log"
        self.port = free_port()
        password = secrets.token_hex(16)
        # Each command is on disk before it is answered, as a broker that loses nothing has it.
        options = {
            "port": self.port,
            "bind": "127.0.0.1",
            "dir": folder,
            "appendonly": "yes",
            "appendfsync": "always",
            "save": '""',
            "requirepass": password,
        }
        # In a file, because everybody may read a command line.
        configuration = folder / "redis.conf"
        configuration.touch(mode=0o600)
        configuration.write_text("".join(f"{name} {value}\n" for name, value in options.items()))
        self._command = [program, str(configuration)]
        self.url = f"redis://:{password}@127.0.0.1:{self.port}/0"
        self.client: Redis = Redis.from_url(self.url)
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers."""
        with self._log.open("a") as output:
            self.process = subprocess.Popen(  # noqa: S603 - fixed arguments
                # Ctrl-C at a terminal reaches whoever uses the server, and is for them to handle.
                self._command,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        for _ in range(START_SECONDS * 20):
            with suppress(RedisError):
                self.client.ping()
                return
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(0.05)
                break
        raise RuntimeError(f"redis-server did not start:\n{self._log.read_text()[-2000:]}")

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()


@contextmanager
def own_server() -> Iterator[RedisServer]:
    """Start a server in a temporary folder, give it, and end it.

    Raises:
        RuntimeError: Redis is not installed, or does not start; says why.
    """
    program = shutil.which("redis-server")
    if program is None:
        raise RuntimeError("redis-server is missing: run scripts/ensure-redis.sh")
    folder = Path(tempfile.mkdtemp(prefix="ctcd-redis-"))
    try:
        server = RedisServer(program, folder)
        try:
            yield server
        finally:
            server.client.close()
            server.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
