"""Watches the registry in a process of its own, so that no worker pays for MLflow; ends with the process that started it."""

import logging
import os
import secrets
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread
from typing import Protocol

from ctcd.errors import CtcdError
from ctcd.model.served import INFO_FILE, ModelInfo
from ctcd.serving.champion.state import Champion

logger = logging.getLogger(__name__)

LONGEST_PAUSE = 15.0
"""Seconds between two looks at most, while the registry is away."""


class Source(Protocol):
    """Where champions come from."""

    def champion(self) -> ModelInfo:
        """Return the version in service."""

    def fetch(self, version: str, into: Path) -> None:
        """Put the scorer's files of a version into a folder."""


@dataclass(frozen=True, kw_only=True)
class Watcher:
    """Fetches each new champion into a folder of its own and then says so in the state file.

    Args:
        open_source: connects to the registry; called again after a failure.
        home: folder of models and state file.
        seconds: pause between two looks.
    """

    open_source: Callable[[], Source]
    home: Path
    seconds: float

    def run(self, stop: Event) -> None:
        """Watch until told to stop."""
        source: Source | None = None
        pause = self.seconds
        while not stop.is_set():
            try:
                source = source or self.open_source()
                self.look(source)
                pause = self.seconds
            except Exception as error:  # noqa: BLE001 - whatever the registry does, the service goes on and it is asked again
                source = None
                self._note(error)
                pause = max(self.seconds, min(pause * 2, LONGEST_PAUSE))
            stop.wait(pause)

    def look(self, source: Source) -> None:
        """Ask for the champion once; fetch it if it is another one than before."""
        info = source.champion()
        known = Champion.load(self.home)
        folder = known.folder
        if (info.version, info.run_id) != (known.version, known.run_id) or not (
            self.home / folder / INFO_FILE
        ).exists():
            folder = f"{info.version}-{secrets.token_hex(4)}"
            source.fetch(info.version, self.home / folder)
            info.save(self.home / folder)
            logger.info("fetched version %s", info.version)
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        Champion(version=info.version, run_id=info.run_id, folder=folder, looked_at=now).save(self.home)
        if folder != known.folder:
            self._forget(keep={folder, known.folder})

    def _note(self, error: Exception) -> None:
        # An unexpected error's text may hold anything, a password too.
        text = f"unexpected: {type(error).__name__}"
        if isinstance(error, CtcdError):
            text = str(error)
        elif isinstance(error, ModuleNotFoundError):
            text = f"the package {error.name} is not installed"
        known = Champion.load(self.home)
        if text != known.error:
            logger.warning("the registry cannot be followed: %s", text)
        replace(known, error=text).save(self.home)

    def _forget(self, keep: set[str]) -> None:
        # A worker may still be reading the one before.
        for path in self.home.iterdir():
            if path.is_dir() and path.name not in keep:
                shutil.rmtree(path, ignore_errors=True)


def main() -> None:
    """Watch the registry that the settings name until standard input is closed, which happens when the parent is gone."""
    from ctcd.contract.instance import load_instance
    from ctcd.serving import logs
    from ctcd.settings import load_settings

    settings = load_settings()
    logs.configure(settings.log_level)
    stop = Event()

    def wait_for_parent() -> None:
        # Not through sys.stdin, whose lock would be held when the interpreter ends.
        os.read(sys.stdin.fileno(), 1)
        stop.set()

    Thread(target=wait_for_parent, daemon=True).start()

    def open_source() -> Source:
        # Here, so that it is said and not hidden if MLflow is not there.
        from ctcd.serving.champion.source import RegistrySource

        return RegistrySource(settings, load_instance(settings.contracts).contract)

    Watcher(open_source=open_source, home=settings.champions, seconds=settings.follow_seconds).run(stop)


if __name__ == "__main__":
    main()
