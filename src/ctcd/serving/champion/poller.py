"""Polls the registry for its champion in a process of its own, so that no worker imports MLflow.

The process ends with the worker that started it.
"""

import json
import logging
import os
import secrets
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Protocol

from ctcd.contract.traffic import Variant
from ctcd.errors import show_only_our_messages, shown
from ctcd.model.served import INFO_FILE, ModelInfo
from ctcd.serving.champion.state import CHALLENGER_FILE, SERVED_FILE, STATE_FILE, Challenger, Champion
from ctcd.serving.loops import Loop

if TYPE_CHECKING:
    from ctcd.contract.traffic import Experiment
    from ctcd.registry.versions import RegisteredVersion

# By name, because the module is run as a program; as __main__ it would not be among the loggers of this package.
logger = logging.getLogger("ctcd.serving.champion.poller")

MAX_PAUSE = 5.0
"""Maximum pause between two polls, seconds, while the registry is unreachable, and where there may be a challenger,
which has to be known and loaded within `LEAD_SECONDS`."""
STOP_SECONDS = 3.0
"""Timeout for a poll or download in progress when the process is stopped."""


class ChampionRegistry(Protocol):
    """The part of `ctcd.registry.versions.Registry` that is used here."""

    def champion(self) -> "RegisteredVersion":
        """Return the version in service."""

    def challenger(self) -> "tuple[RegisteredVersion, Experiment] | None":
        """Return the challenger, with its experiment."""

    def fetch_scorer(self, version: str, into: Path) -> Path:
        """Download the scorer's files of a version into a folder; return the folder."""


@dataclass(frozen=True, kw_only=True)
class RegistryPoller:
    """Downloads each new champion into a folder of its own and then records it in the state file.

    Args:
        open_registry: connects to the registry; called again after a failure.
        home: folder of the models and of the state file.
        seconds: pause between two polls; at most `MAX_PAUSE` if the challenger is followed.
        challenger: whether to follow the challenger as well.
    """

    open_registry: Callable[[], ChampionRegistry]
    home: Path
    seconds: float
    challenger: bool = False

    def run(self, stop: Event) -> None:
        """Poll until `stop` is set; failures are recorded, and retried with exponential backoff."""
        registry: ChampionRegistry | None = None
        least = pause = min(self.seconds, MAX_PAUSE) if self.challenger else self.seconds
        while not stop.is_set():
            try:
                registry = registry or self.open_registry()
                self.poll(registry)
                pause = least
            except Exception as error:  # noqa: BLE001 - whatever fails, the service goes on and the registry is polled again
                registry = None
                self._record(error)
                pause = max(least, min(pause * 2, MAX_PAUSE))
            stop.wait(pause)

    def poll(self, registry: ChampionRegistry) -> None:
        """Look up champion and challenger once, and download a version that has changed or whose files are missing.

        An error of the challenger is recorded with the challenger; an error of the champion does not affect it.

        Raises:
            NotFound: there is no champion, or it has no scorer.
            Unreachable: the registry does not answer.
            OSError: the files cannot be written.
        """
        champion: ModelInfo | None = None
        try:
            champion = registry.champion().model_info()
            self._follow(registry, champion, Champion.load(self.home), lambda state: state.save(self.home))
        finally:
            if self.challenger:
                self._poll_challenger(registry, champion)

    def _poll_challenger(self, registry: ChampionRegistry, champion: ModelInfo | None) -> None:
        known = Challenger.load(self.home, CHALLENGER_FILE)
        try:
            found = registry.challenger()
            if found is None or (champion and found[0].run_id == champion.run_id):  # it has been promoted
                Challenger(looked_at=_now()).save(self.home, CHALLENGER_FILE)
                return
            experiment = json.dumps(vars(found[1]))
            self._follow(
                registry,
                found[0].model_info(Variant.CHALLENGER),
                known,
                lambda state: Challenger(**vars(state), experiment=experiment).save(self.home, CHALLENGER_FILE),
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, the champion is followed
            text = shown(error)
            if text != known.error:
                logger.warning("the challenger cannot be followed: %s", text)
            with suppress(OSError):
                replace(known, error=text, looked_at=_now()).save(self.home, CHALLENGER_FILE)

    def _follow(
        self, registry: ChampionRegistry, info: ModelInfo, known: Champion, save: Callable[[Champion], None]
    ) -> None:
        """Download a version unless it is known and its files exist, and save the new state."""
        folder = known.folder
        unchanged = (info.version, info.run_id) == (known.version, known.run_id)
        if unchanged and (self.home / folder / INFO_FILE).exists():
            save(Champion(version=info.version, run_id=info.run_id, folder=folder, looked_at=_now()))
            return
        folder = f"{info.version}-{secrets.token_hex(4)}"
        try:
            registry.fetch_scorer(info.version, self.home / folder)
            info.save(self.home / folder)
            save(Champion(version=info.version, run_id=info.run_id, folder=folder, looked_at=_now()))
        except BaseException:
            # The next attempt uses another folder, and incomplete ones would fill the disk.
            shutil.rmtree(self.home / folder, ignore_errors=True)
            raise
        logger.info("fetched version %s", info.version)
        # A worker may still be reading the previous version, and a restart may fall back to the one served last.
        kept = {folder, known.folder, Challenger.load(self.home, CHALLENGER_FILE).folder}
        kept |= {Champion.load(self.home, name).folder for name in (STATE_FILE, SERVED_FILE)}
        for path in self.home.iterdir():
            if path.is_dir() and path.name not in kept:
                shutil.rmtree(path, ignore_errors=True)

    def _record(self, error: Exception) -> None:
        text = shown(error)
        known = Champion.load(self.home)
        if text != known.error:
            logger.warning("the registry cannot be followed: %s", text)
        with suppress(OSError):  # such as a full disk, which may be the error itself
            replace(known, error=text).save(self.home)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def main() -> None:
    """Poll the registry that the settings name until standard input is closed, which happens when the parent ends."""
    from ctcd.contract.instance import load_instance
    from ctcd.serving import logs
    from ctcd.serving.metrics import Metrics
    from ctcd.settings import load_settings

    show_only_our_messages()
    settings = load_settings()
    logs.configure(settings.log_level)
    instance = load_instance(settings.contracts)

    def open_registry() -> ChampionRegistry:
        # Imported here, so that a missing MLflow is recorded like any other failure.
        from ctcd.registry.versions import Registry

        return Registry.open(settings, instance.contract)

    poller = RegistryPoller(
        open_registry=open_registry,
        home=settings.champions,
        seconds=settings.follow_seconds,
        challenger=instance.traffic is not None,
    )
    loop = Loop("poller", poller.run, ended=Metrics(settings.metrics_folder).restarted)
    loop.start()
    # Not through sys.stdin, whose lock would be held when the interpreter exits.
    os.read(sys.stdin.fileno(), 1)
    if not loop.stop(STOP_SECONDS):
        # A normal exit would delete temporary folders to which the poll in progress still writes.
        os._exit(0)


if __name__ == "__main__":
    main()
