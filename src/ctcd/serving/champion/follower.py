"""Follows the registry's champion in a worker: loads and verifies each new one while the old one answers, then swaps them."""

import fcntl
import logging
import os
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
from ctcd.serving.children import Child

logger = logging.getLogger(__name__)

CHECK_SECONDS = 0.2
"""Pause between two checks of the state file."""
END_SECONDS = 5.0
"""How long the poller may take to end before it is killed."""
POLLER = (sys.executable, "-m", "ctcd.serving.champion.poller")


class SwapObserver(Protocol):
    """Is notified of what happens to new champions."""

    def swapped(self) -> None:
        """A new champion answers from now on."""

    def swap_refused(self) -> None:
        """A new champion was refused; the old one stays in service."""

    def followed(self, reachable: bool) -> None:
        """The registry was polled; whether it answered."""


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A champion that this worker does not serve.

    Args:
        version: its version.
        reason: why it was refused.
        at: when it was refused, ISO 8601.
    """

    version: str
    reason: str
    at: str


@dataclass(frozen=True, kw_only=True)
class FollowState:
    """What a worker knows about the registry's champion.

    Args:
        champion: the last poll of the registry.
        refused: the champion, if it was refused.
    """

    champion: Champion = field(default_factory=Champion)
    refused: Refusal | None = None


def last_fetched(home: Path, contract: Contract) -> Served | None:
    """Return the champion that was fetched last, or None if there is none that can be served."""
    champion = Champion.load(home)
    if not champion.version:
        return None
    try:
        return load(home / champion.folder, contract)
    except CtcdError:
        return None  # the follower tries again, and reports the reason


class Follower:
    """A thread that swaps champions, and sees to it that one poller runs for all workers that share a home.

    Args:
        home: folder of the models and of the state file.
        contract: the contract that a model must fit.
        served: the model that answers now, if there is one.
        observer: is notified of every swap.
        environment: environment of the poller.
        command: command of the poller; by default that of the registry.
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
        self._poller = _SharedPoller(home, command or POLLER, environment)
        self._stop = Event()
        self._thread = Thread(target=self._run, name="follower", daemon=True)

    def start(self, swap: Callable[[Served], None]) -> None:
        """Start the thread; `swap` replaces the model that answers, between two batches."""
        self._swap = swap
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and the poller if this worker started it."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._poller.end()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._poller.keep_running()
                self.check()
            except OSError as error:
                # Such as a full disk or process table: the current model stays in service.
                logger.warning("the champion cannot be followed now: %s", error.strerror)
            self._stop.wait(CHECK_SECONDS)

    def wait_for_first(self, seconds: float) -> Served:
        """Wait up to `seconds` for a champion, where there is no model to begin with; to be called before `start`.

        Raises:
            NotFound: none arrives in time, or it cannot be served; says why.
        """
        deadline = time.monotonic() + seconds
        while self._now is None:
            self._poller.keep_running()
            self.check()
            refused, error = self.state.refused, self.state.champion.error
            if refused is not None or time.monotonic() >= deadline:
                self._poller.end()
                why = refused.reason if refused else error or f"the registry named no champion within {seconds:g} s"
                raise NotFound(f"no model to serve: {why}", where="registry", hint="promote a model, or build a Bento")
            time.sleep(CHECK_SECONDS)
        return self._now

    def check(self) -> None:
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
            logger.error("version %s is refused, version %s stays in service: %s", champion.version, before, error)  # noqa: TRY400 - our errors say all in one line
            return
        self._swap(served)
        self._now = served
        self.state = replace(self.state, refused=None)
        self._observer.swapped()
        logger.info("version %s answers instead of version %s", served.version, before)


class _SharedPoller:
    """One poller for all workers: the worker that holds the lock runs it as its child."""

    def __init__(self, home: Path, command: Sequence[str], environment: dict[str, str]) -> None:
        self._home = home
        self._claim: int | None = None
        self._child = Child(command, environment, name="the registry's poller")
        self._lock = Lock()

    def keep_running(self) -> None:
        """Run the poller unless another worker does."""
        with self._lock:
            if self._claim is not None or self._take():
                self._child.keep_running()

    def end(self) -> None:
        """End the poller, and let another worker run one."""
        with self._lock:
            self._child.end(END_SECONDS)
            if self._claim is not None:
                os.close(self._claim)
                self._claim = None

    def _take(self) -> bool:
        self._home.mkdir(parents=True, exist_ok=True)
        claim = os.open(self._home / "poller.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(claim)
            return False
        self._claim = claim
        return True
