"""Runs commands in forks of a process that has already imported what they need: the server of `warm_commands`.

Argument: the socket that it listens on. It ends when its standard input is closed.
"""

import atexit
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import sys
import threading
from contextlib import suppress

from support.shortcuts import shortcuts

NOT_IMPORTED = (
    "ctcd.airflow",
    "ctcd.serving.",
    "ctcd.store.migrations.",
    "ctcd.model.pyfunc_code",
)
"""What no command imports: Airflow's side, the service, and what Alembic and MLflow run as scripts."""
FOREIGN = (
    "great_expectations",
    "mlflow.pyfunc.model",
    "mlflow.sklearn",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.models.signature",
)
"""What libraries import only when it is used."""


def warm_up() -> None:
    """Import what commands import."""
    package = importlib.import_module("ctcd")
    names = [found.name for found in pkgutil.walk_packages(package.__path__, "ctcd.", onerror=None)]
    for name in (*FOREIGN, *names):
        if not name.startswith(NOT_IMPORTED):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()


def serve(listening: socket.socket) -> None:
    """Answer each call in a process of its own, until standard input is closed."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        ready, _, _ = select.select([listening, sys.stdin], [], [])
        if sys.stdin in ready:
            return
        call, _ = listening.accept()
        with call:
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                listening.close()
                with suppress(BrokenPipeError):
                    answer(call)
                os._exit(0)


def answer(call: socket.socket) -> None:
    """Run one command, and send its process id and then its exit code."""
    length, output, _, _ = socket.recv_fds(call, 8, 2)
    with call.makefile("rw") as stream:
        request = json.loads(bytes(stream.buffer.read(int.from_bytes(length, "big"))))
        child = os.fork()
        if child == 0:
            run(request, output)
        for number in output:
            os.close(number)
        stream.write(f"{child}\n")
        stream.flush()
        # The client says nothing more: it can only end, and what ends it ends the command.
        ended = os.pidfd_open(child)
        if ended not in select.select([call.fileno(), ended], [], [])[0]:
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        stream.write(f"{os.waitstatus_to_exitcode(status)}\n")


def run(request: dict[str, object], output: list[int]) -> None:
    """Run a command in this process and end it."""
    from ctcd.cli import app

    code = 1
    try:
        os.setsid()
        os.chdir(str(request["folder"]))
        os.environ.clear()
        os.environ.update(request["environment"])  # type: ignore[call-overload] # as our client wrote it
        for number, given in enumerate(output, start=1):
            os.dup2(given, number)
            os.close(given)
        sys.dont_write_bytecode = "PYTHONDONTWRITEBYTECODE" in os.environ
        code = app.run(list(request["arguments"]))  # type: ignore[call-overload] # as our client wrote it
    finally:
        with suppress(Exception):  # an exit handler of a library decides nothing
            atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    """Import, listen, report readiness, and answer."""
    warm_up()
    threads = [one.name for one in threading.enumerate() if one is not threading.main_thread()]
    if threads:
        raise RuntimeError(f"a fork would lose the threads {threads}")
    with shortcuts(), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(sys.argv[1])
        listening.listen()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        serve(listening)


if __name__ == "__main__":
    main()
