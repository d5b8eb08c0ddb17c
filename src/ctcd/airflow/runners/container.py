"""Runs a command in a container, through the hook of Airflow's Docker provider.

Not through its `DockerOperator` (4.6): that cannot make the root file system read-only, drop capabilities, forbid new
privileges or run an init process; it mixes standard output with standard error, and hides the exit code in the text of
an exception.
"""

import codecs
import contextlib
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

from airflow.providers.docker.hooks.docker import DockerHook
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from docker.errors import APIError, DockerException, ImageNotFound  # type: ignore[import-not-found] # mypy finds our folder
from docker.utils import kwargs_from_env  # type: ignore[import-not-found] # as above

from ctcd.airflow.runners.outcome import Outcome, container_variables, required
from ctcd.settings import PREFIX, Settings

LOCAL_SERVER = "unix:///var/run/docker.sock"
STOP_SECONDS = 10
"""Time between SIGTERM and SIGKILL."""

logger = logging.getLogger(__name__)


class ContainerRunner:
    """Runs commands in containers of the worker's Docker, with the home at the same path.

    Raises:
        AirflowFailException: no image is set, or a volume that does not hold the home.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._image = required(settings, "stage_image")
        self._volume = _volume(settings)
        self._container = ""

    def run(self, arguments: Sequence[str], context: Context) -> Outcome:  # noqa: ARG002 - a pod needs the context
        """Run a command; see `Runner`."""
        try:
            return self._run(arguments)
        except DockerException as error:
            raise AirflowException(f"Docker: {error}") from error
        finally:
            self.stop()
            self._remove()
            self._client.close()

    def _run(self, arguments: Sequence[str]) -> Outcome:
        client = self._client
        self._container = self._create(["ctcd", *arguments])
        report: list[bytes] = []
        error = ""
        with (
            # Before the start: Docker removes the container, and with it the exit code, as soon as it has ended.
            _closing(client.events(filters={"container": self._container, "event": "die"}, decode=True)) as ends,
            _closing(client.attach(self._container, stdout=True, stderr=True, stream=True, demux=True)) as output,
        ):
            client.start(self._container)
            for line in _lines(_errors(output, report)):
                error = line
                logger.info("%s", line)
            code = int(next(iter(ends))["Actor"]["Attributes"]["exitCode"])
        return Outcome(code=code, report=b"".join(report).decode(), error=error)

    def _create(self, command: Sequence[str]) -> str:
        """Return the id of a new container; an image that is not there is pulled."""
        client = self._client
        config = client.create_container_config(
            self._image,
            command,
            # What it writes in the home belongs to the worker.
            user=f"{os.getuid()}:{os.getgid()}",
            environment=container_variables(self._settings),
            host_config=client.create_host_config(
                # On Docker's side, so that a container is removed also if the worker is killed.
                auto_remove=True,
                init=True,
                read_only=True,
                tmpfs={"/tmp": ""},  # noqa: S108 - of the container
                network_mode=self._settings.stage_network,
                cap_drop=["ALL"],
                security_opt=["no-new-privileges"],
                binds=[self._volume],
            ),
        )
        try:
            return str(client.create_container_from_config(config)["Id"])
        except ImageNotFound:
            logger.info("pulling %s", self._image)
            client.pull(self._image)
            return str(client.create_container_from_config(config)["Id"])

    @cached_property
    def _client(self) -> Any:
        """Return a client of the Docker that DOCKER_HOST and its companions name, else of this machine's."""
        server = kwargs_from_env()
        hook = DockerHook(docker_conn_id=None, base_url=server.get("base_url", LOCAL_SERVER), tls=server.get("tls"))
        return hook.api_client

    def stop(self) -> None:
        """Send SIGTERM to the container, and SIGKILL if it does not end."""
        if self._container:
            with contextlib.suppress(APIError):  # it has ended, or did not start
                self._client.stop(self._container, timeout=STOP_SECONDS)

    def _remove(self) -> None:
        """Remove the container if it is still there, as one that did not start is."""
        container, self._container = self._container, ""
        if container:
            with contextlib.suppress(APIError):  # Docker has removed it, or is doing so
                self._client.remove_container(container, force=True)


@contextlib.contextmanager
def _closing(stream: Any) -> Iterator[Any]:
    """Close the connection of a stream at the end: neither reading all of it nor its own `close` always does."""
    try:
        yield stream
    finally:
        response = getattr(stream, "_response", None)
        if response is not None:
            response.close()


def _volume(settings: Settings) -> str:
    """Return what is mounted as the home, as SOURCE:PATH.

    Docker knows only folders of its own machine. For a worker in a container that is another one: Docker would silently
    mount an empty folder instead of the home, so the home's volume has to be named.

    Raises:
        AirflowFailException: the home is not in the named volume.
    """
    home = settings.home.resolve()
    volume = settings.stage_volume or f"{home}:{home}"
    if not home.is_relative_to(volume.partition(":")[2] or "-"):
        raise AirflowFailException(
            f"{PREFIX}STAGE_VOLUME: {volume!r} must be NAME:PATH, with the home {home} below PATH"
        )
    return volume


def _errors(output: Iterable[tuple[bytes | None, bytes | None]], report: list[bytes]) -> Iterator[bytes]:
    """Yield what comes on standard error; what comes on standard output is added to the report."""
    for out, err in output:
        if out:
            report.append(out)
        if err:
            yield err


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Yield the lines that have text, stripped."""
    rest = ""
    for text in codecs.iterdecode(chunks, "utf-8", errors="replace"):
        *whole, rest = (rest + text).split("\n")
        yield from filter(None, map(str.strip, whole))
    if rest.strip():
        yield rest.strip()
