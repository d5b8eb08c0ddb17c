"""Runs the service of a Bento as a child process."""

import errno
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import psutil

from ctcd import urls
from ctcd.errors import CtcdError, NotFound, Unreachable, UsageError
from ctcd.progress import Progress, report_wait, silent
from ctcd.serving.http.api_keys import Guard
from ctcd.serving.http.routes import BY_NAME
from ctcd.settings import Settings

CONTRACTS = "contracts"
"""Folder in a Bento: the instance that it was built for."""
LOG_TAIL = 5
"""Number of lines of the log that an error shows."""
SUPERVISOR = Path(__file__).with_name("supervisor.py")
KEEP_ALIVE_SECONDS = 75
"""How long an idle connection is kept open; longer than clients and load balancers do (often 60 s), so that they close
it and no request meets a connection that is being closed. With uvicorn's default of 5 s, one request in thousands
failed."""
PORT_SECONDS = 2.0
"""Time to wait for a port that is in use."""
_POLL_SECONDS = 0.1
_PROBE_SECONDS = 2.0
_KILL_SECONDS = 20.0
"""Time for the service to end, in addition to draining, before it is killed."""


@dataclass(frozen=True, kw_only=True)
class RunningService:
    """A service that is ready; its process is the supervisor, the parent of the workers."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path


def bentoml_environment(settings: Settings, content: Path) -> dict[str, str]:
    """Return the environment of a child process that runs BentoML with some settings.

    The folder `content` has the content of the Bento, including the instance that it was built for.
    """
    ours = settings.model_copy(update={"contracts": content / CONTRACTS}).child_environment()
    bentoml = {"BENTOML_HOME": str(settings.bentoml_home), "BENTOML_DO_NOT_TRACK": "True", "PYTHONUNBUFFERED": "1"}
    return ours | bentoml


@contextmanager
def running(target: str, settings: Settings, *, progress: Progress = silent) -> Iterator[RunningService]:
    """Serve a Bento while the block and this process run; its output goes to a file in `settings.logs`.

    Raises:
        NotFound: there is no such Bento.
        UsageError: the port is in use, an API key is missing or invalid, or the service cannot start; says why.
        Unreachable: it is not ready in time; shows the end of its log.
    """
    service = start(target, settings, "serve.log", ends_with_parent=True)
    try:
        wait_until_ready(service, settings, progress)
        yield service
    finally:
        end(service.process, settings)


def start(target: str, settings: Settings, log_name: str, *, ends_with_parent: bool = False) -> RunningService:
    """Start serving a Bento of `settings.bentoml_home` in a process; its output goes to a file in `settings.logs`.

    The process outlives this one, unless `ends_with_parent`: then it ends with this one, even if that is killed.

    Raises:
        NotFound: there is no such Bento.
        UsageError: the port is in use, or an API key is missing or invalid.
    """
    Guard(settings)
    require_free_port(settings.host, settings.port)
    settings.logs.mkdir(parents=True, exist_ok=True)
    log = settings.logs / log_name
    with log.open("wb") as output:
        process = _start(target, settings, output.fileno(), ends_with_parent=ends_with_parent)
    return RunningService(url=urls.http_url(settings.host, settings.port), process=process, log=log)


def serve(target: str, settings: Settings) -> int:
    """Serve a Bento in the foreground until it ends or is stopped (Ctrl-C, SIGTERM); return its exit code.

    It also ends if this process is killed.

    Raises:
        NotFound: there is no such Bento.
        UsageError: the port is in use, or an API key is missing or invalid.
    """
    Guard(settings)
    require_free_port(settings.host, settings.port)
    process = _start(target, settings, None, ends_with_parent=True)

    def forward(number: int, _frame: object) -> None:
        process.send_signal(number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _release(process)


def _start(target: str, settings: Settings, output: int | None, *, ends_with_parent: bool) -> subprocess.Popen[bytes]:
    name, _, label = target.partition(":")
    folder = settings.bentoml_home / "bentos" / name / label
    if not label or not (folder / "bento.yaml").exists():
        raise NotFound(f"no Bento {target}", where=str(settings.bentoml_home), hint="run: ctcd build")
    settings.service.mkdir(parents=True, exist_ok=True)
    # The folder, not the tag: BentoML would first try to import a module with the name of the tag.
    command = [
        sys.executable,
        "-P",
        str(SUPERVISOR),
        str(settings.service),
        "attached" if ends_with_parent else "detached",
        "serve",
        str(folder),
        "--host",
        settings.host,
        "--port",
        str(settings.port),
        "--timeout-keep-alive",
        str(KEEP_ALIVE_SECONDS),
    ]
    return subprocess.Popen(  # noqa: S603 - our own command
        command,
        # BentoML deletes the metrics in its home when it starts, so each service has one of its own.
        env=bentoml_environment(settings, folder / "src") | {"BENTOML_HOME": str(settings.service)},
        # Not the caller's directory: modules there would be imported instead of those of the Bento.
        cwd=settings.bentoml_home,
        stdin=subprocess.PIPE if ends_with_parent else subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT if output is not None else None,
        # A process group of its own: a signal from the terminal reaches the supervisor once, through us.
        start_new_session=True,
    )


def require_free_port(
    host: str, port: int, *, where: str = "service", another: str = "set CTCD_PORT to another port"
) -> None:
    """Wait a moment for an address that can be listened on.

    Raises:
        UsageError: it cannot; `another` says in the hint how to take another port.
    """
    # The workers of a service that was killed take a moment to notice.
    deadline = time.monotonic() + PORT_SECONDS
    while (error := _bind(host, port)) is not None:
        if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
            raise UsageError(
                f"port {port} of {host} cannot be used: {error.strerror}",
                where=where,
                hint=f"stop the process that uses it, or {another}",
            ) from error
        time.sleep(_POLL_SECONDS)


def _bind(host: str, port: int) -> OSError | None:
    """Return why an address cannot be listened on, or None if it can."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error
    return None


def wait_until_ready(service: RunningService, settings: Settings, progress: Progress = silent) -> None:
    """Wait until a service reports that it is ready.

    Raises:
        UsageError: it cannot start; says why.
        Unreachable: it is not ready in time; shows the end of its log.
    """
    began = time.monotonic()
    while (waited := time.monotonic() - began) < settings.start_seconds:
        text = service.log.read_text(encoding="utf-8", errors="replace")
        # BentoML would restart a failing worker over and over again.
        if service.process.poll() is not None or "Application startup failed" in text:
            raise UsageError(f"the service cannot start: {_reason(text)}", where=str(service.log))
        if _is_ready(settings):
            report_wait(progress, "start the service", waited, settings.start_seconds, done=True)
            return
        report_wait(progress, "start the service", waited, settings.start_seconds)
        time.sleep(_POLL_SECONDS)
    text = service.log.read_text(encoding="utf-8", errors="replace")
    raise Unreachable(f"not ready after {settings.start_seconds:g} s: {_reason(text)}", where=str(service.log))


def _is_ready(settings: Settings) -> bool:
    connection = HTTPConnection(settings.host, settings.port, timeout=_PROBE_SECONDS)
    try:
        connection.request("GET", BY_NAME["readyz"].path)
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _reason(log: str) -> str:
    """Return our own error if the log contains one, otherwise its last lines."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    ours = [line for line in lines if line.startswith(f"{CtcdError.__module__}.")]
    return ours[-1].partition(": ")[2] if ours else " | ".join(lines[-LOG_TAIL:]) or "there is no output"


def end(process: "subprocess.Popen[bytes] | psutil.Process", settings: Settings) -> None:
    """End a service and its workers: they may drain their outboxes first, and are killed if they take too long."""
    # BentoML's supervisor puts each worker into a session of its own, so that a signal to the group would miss them.
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    with suppress(psutil.NoSuchProcess):
        process.terminate()
        if not _ends(process, settings.drain_seconds + _KILL_SECONDS):
            process.kill()
            _ends(process, _KILL_SECONDS)
    _, left = psutil.wait_procs(family, timeout=0)
    for worker in left:
        with suppress(psutil.NoSuchProcess):  # it noticed that its supervisor is gone
            worker.kill()
    if isinstance(process, subprocess.Popen):
        _release(process)


def _release(process: subprocess.Popen[bytes]) -> None:
    """Close our end of the pipe that ties a service to this process."""
    if process.stdin is not None:
        process.stdin.close()


def _ends(process: "subprocess.Popen[bytes] | psutil.Process", seconds: float) -> bool:
    """Wait up to `seconds` for a process; return whether it has ended."""
    if isinstance(process, subprocess.Popen):
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        return process.returncode is not None
    deadline = time.monotonic() + seconds
    while not has_ended(process):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def has_ended(process: psutil.Process) -> bool:
    """Return whether a process has ended, with all its threads.

    A process with another parent stays a zombie until that asks for its exit code: in a container, perhaps forever. It is
    one already when its first thread has ended, and the others still hold its locks.
    """
    return not process.is_running() or (process.status() == psutil.STATUS_ZOMBIE and process.num_threads() == 1)
