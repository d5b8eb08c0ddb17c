"""Follows the registry's champion in a worker: loads each new one beside the old one, checks it, and puts it to work."""

import fcntl
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Protocol

from ctcd.contract.spec import Contract
from ctcd.errors import CtcdError, NotFound
from ctcd.model.served import Served, load
from ctcd.serving.champion.state import Champion
from ctcd.serving.children import end_child, start_child

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.2
"""Pause between two looks at the state file."""
RESTART_SECONDS = 5.0
"""Pause before a watcher that ended is started again."""
END_SECONDS = 5.0
WATCHER = (sys.executable, "-m", "ctcd.serving.champion.watcher")


class SwapObserver(Protocol):
    """Told what becomes of new champions."""

    def swapped(self) -> None:
        """A new champion answers from now on."""

    def swap_refused(self) -> None:
        """A new champion was refused; the old one goes on."""

    def followed(self, well: bool) -> None:
        """Whether the registry answered the last time."""


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A champion that this worker does not serve.

    Args:
        version: its version.
        reason: why.
        at: since when, ISO 8601.
    """

    version: str
    reason: str
    at: str


@dataclass(frozen=True, kw_only=True)
class FollowState:
    """What a worker knows about following.

    Args:
        champion: the last look at the registry.
        refused: the champion that is not served, if so.
    """

    champion: Champion = field(default_factory=Champion)
    refused: Refusal | None = None


def newest(home: Path, contract: Contract) -> Served | None:
    """Return the champion that was fetched last, or None if there is none that can be served."""
    champion = Champion.load(home)
    if not champion.version:
        return None
    try:
        return load(home / champion.folder, contract)
    except CtcdError:
        return None  # the follower tries again, and says why not


class Follower:
    """A thread that swaps champions, and keeps one watcher running for all workers of a machine that share a home.

    Args:
        home: folder of models and state file.
        contract: what a model has to fit.
        served: the model that answers now, if there is one.
        observer: told of every swap.
        environment: of the watcher.
        command: starts the watcher; by default that of the registry.
    """

    def __init__(
        self,
        home: Path,
        contract: Contract,
        *,
        served: Served | None,
        observer: SwapObserver,
        environment: dict[str, str],
        command: Sequence[str] | None = None,
    ) -> None:
        self.state = FollowState()
        self._home, self._contract = home, contract
        self._now = served
        self._tried = ""
        self._swap: Callable[[Served], None] = lambda _served: None
        self._observer = observer
        self._watching = _Watching(home, command or WATCHER, environment)
        self._stop = Event()
        self._thread = Thread(target=self._run, name="follower", daemon=True)

    def start(self, swap: Callable[[Served], None]) -> None:
        """Begin; `swap` puts a model in the place of the one that answers, between two batches."""
        self._swap = swap
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and the watcher if it is this worker's."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._watching.end()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._watching.keep_up()
                self.look()
            except OSError as error:
                # Such as a full disk or process table: the model that answers goes on.
                logger.warning("the champion cannot be followed now: %s", error.strerror)
            self._stop.wait(LOOK_SECONDS)

    def first(self, seconds: float) -> Served:
        """Wait for a champion, where there is no model to begin with; to be called before `start`.

        Raises:
            NotFound: there is none within so many seconds, or it cannot be served; says why.
        """
        deadline = time.monotonic() + seconds
        while self._now is None:
            self._watching.keep_up()
            self.look()
            refused, error = self.state.refused, self.state.champion.error
            if refused is not None or time.monotonic() >= deadline:
                self._watching.end()
                why = refused.reason if refused else error or f"the registry named no champion within {seconds:g} s"
                raise NotFound(f"no model to serve: {why}", where="registry", hint="promote a model, or build a Bento")
            time.sleep(LOOK_SECONDS)
        return self._now

    def look(self) -> None:
        """Read the state file once, and swap if it names another champion than the one that answers."""
        champion = Champion.load(self._home)
        if champion != self.state.champion:
            self._observer.followed(not champion.error)
        answering = (self._now.info.version, self._now.info.run_id) if self._now else None
        if not champion.version or (champion.version, champion.run_id) == answering:
            self._tried = ""
            self.state = FollowState(champion=champion)
            return
        self.state = replace(self.state, champion=champion)
        if champion.folder != self._tried:
            self._tried = champion.folder
            self._try(champion)

    def _try(self, champion: Champion) -> None:
        before = self._now.version if self._now else "none"
        try:
            served = load(self._home / champion.folder, self._contract)
        except CtcdError as error:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            refusal = Refusal(version=champion.version, reason=str(error), at=now)
            self.state = replace(self.state, refused=refusal)
            self._observer.swap_refused()
            logger.error("version %s is refused, version %s goes on: %s", champion.version, before, error)  # noqa: TRY400 - our errors are one clear line
            return
        self._swap(served)
        self._now = served
        self.state = replace(self.state, refused=None)
        self._observer.swapped()
        logger.info("version %s answers instead of version %s", served.version, before)


class _Watching:
    """Sees to it that one watcher runs: whichever worker holds the lock has it as its child."""

    def __init__(self, home: Path, command: Sequence[str], environment: dict[str, str]) -> None:
        self._home, self._command, self._environment = home, command, environment
        self._claim: int | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = Lock()
        self._looks_to_wait = 0

    def keep_up(self) -> None:
        """Start the watcher if nobody has."""
        with self._lock:
            if self._looks_to_wait:
                self._looks_to_wait -= 1
                return
            if self._claim is None and not self._take():
                return
            if self._child is not None and self._child.poll() is None:
                return
            if self._child is not None:
                logger.warning("the registry's watcher ended with code %s", self._child.returncode)
                self._close()
                self._looks_to_wait = int(RESTART_SECONDS / LOOK_SECONDS)
                return
            self._child = start_child(self._command, self._environment)

    def end(self) -> None:
        """End the watcher."""
        with self._lock:
            if self._child is not None:
                self._close()
            if self._claim is not None:
                os.close(self._claim)
                self._claim = None

    def _take(self) -> bool:
        self._home.mkdir(parents=True, exist_ok=True)
        claim = os.open(self._home / "watcher.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(claim)
            return False
        self._claim = claim
        return True

    def _close(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            end_child(child, END_SECONDS)
