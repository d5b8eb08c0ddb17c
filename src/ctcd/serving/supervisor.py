"""Runs `bentoml serve`: once per address, and in attached mode no longer than the process that started it.

A script that needs nothing of this package, as BentoML imports the package from the Bento that it serves:

    python -P supervisor.py FOLDER attached|detached ARGUMENT...

FOLDER is the service's own; the arguments are those of `bentoml`. An attached service ends once its standard input is
closed, which also happens when the process that holds the other end is killed.
"""

import fcntl
import os
import runpy
import signal
import sys
from pathlib import Path
from threading import Thread


def main(folder: Path, mode: str, arguments: list[str]) -> None:
    """Run BentoML's command with some arguments; ends in exit code 2 if another service uses the folder."""
    # The kernel releases it when this process dies; workers do not inherit it.
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.stderr.write(
            f"ctcd.errors.UsageError: {folder}: another service with this home uses this address (stop it)\n"
        )
        sys.exit(2)
    # Its workers end without it.
    os.environ["CTCD_SUPERVISOR_PID"] = str(os.getpid())
    if mode == "attached":
        Thread(target=_end_with_input, daemon=True).start()
    sys.argv = ["bentoml", *arguments]
    runpy.run_module("bentoml", run_name="__main__", alter_sys=True)


def _end_with_input() -> None:
    try:
        os.read(0, 1)
    finally:
        os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
