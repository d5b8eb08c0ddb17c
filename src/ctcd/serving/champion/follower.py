"""Follows the registry's champion in a worker: loads and verifies each new one while the old one answers, then swaps them."""

import logging
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Lock

from ctcd.contract.payload import Refused
from ctcd.contract.spec import Contract
from ctcd.errors import CtcdError, NotFound, Unreachable
from ctcd.files import claim
from ctcd.model.served import Served, load
from ctcd.serving.champion.state import CHALLENGER_FILE, SERVED_FILE, STATE_FILE, Challenger, Champion
from ctcd.serving.children import Child
from ctcd.serving.loops import Loop
from ctcd.serving.metrics import Metrics

logger = logging.getLogger(__name__)

CHECK_SECONDS = 0.2
"""Pause between two checks of the state file."""
RETRY_SECONDS = 30.0
"""Pause before a champion is loaded again whose files could not be read, such as with too many files open."""
FRESH_SECONDS = 10.0
"""How old what is known about the challenger may be at a start: what was written since takes effect later."""
END_SECONDS = 5.0
"""How long the poller may take to end before it is killed."""
POLLER = (sys.executable, "-m", "ctcd.serving.champion.poller")


@dataclass(frozen=True, kw_only=True)
class FollowState:
    """What a worker knows about the registry's champion: the last poll, and why it was refused, if it was."""

    champion: Champion = field(default_factory=Champion)
    refused: Refused | None = None


def last_fetched(home: Path, contract: Contract) -> tuple[Path, Served] | None:
    """Return the champion that was fetched last, else the one served last, with its folder; None if neither can be served."""
    for name in (STATE_FILE, SERVED_FILE):
        champion = Champion.load(home, name)
        if champion.version:
            try:
                return home / champion.folder, load(home / champion.folder, contract)
            except CtcdError as error:
                # The follower tries again, and reports it as a refusal.
                logger.warning("version %s cannot be served: %s", champion.version, error)
    return None


class Loading:
    """Loads versions that the state file names: each once, and again after a while if its files could not be read.

    Args:
        home: folder of the models.
        refusing: called when one is refused.
    """

    def __init__(self, home: Path, contract: Contract, refusing: Callable[[], None]) -> None:
        self.refused: Refused | None = None
        """The version that was refused, until another one is loaded."""
        self._home, self._contract, self._refusing = home, contract, refusing
        self._tried = ""
        self._retry_at = 0.0

    def reset(self) -> None:
        """Forget what was tried and refused."""
        self.refused, self._tried = None, ""

    def load(self, named: Champion, otherwise: str) -> Served | None:
        """Return the model; None if it is refused, or was tried already. `otherwise` is logged: what happens then."""
        if named.folder == self._tried and time.monotonic() < self._retry_at:
            return None
        self._tried, self._retry_at = named.folder, float("inf")
        try:
            served = load(self._home / named.folder, self._contract)
        except CtcdError as error:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            self.refused = Refused(version=named.version, reason=str(error), at=now)
            if isinstance(error, Unreachable):
                self._retry_at = time.monotonic() + RETRY_SECONDS
            self._refusing()
            logger.error("version %s is refused, %s: %s", named.version, otherwise, error)  # noqa: TRY400 - our errors say all in one line
            return None
        self.refused = None
        return served


class Follower:
    """A thread that swaps champions, and sees to it that one poller runs for all workers that share a home.

    Args:
        home: folder of the models and of the state file.
    """

    def __init__(
        self,
        home: Path,
        contract: Contract,
        *,
        served: Served | None,
        metrics: Metrics,
        environment: dict[str, str],
    ) -> None:
        self.state = FollowState()
        self._home = home
        self._now = served
        self._loading = Loading(home, contract, metrics.swap_refused)
        self._recorded = ""
        self._swap: Callable[[Served], None] = lambda _served: None
        self._metrics = metrics
        self._poller = _SharedPoller(home, environment, ended=lambda: self._metrics.restarted("poller"))
        self._loop = Loop("follower", self._run, ended=metrics.restarted)

    def start(self, swap: Callable[[Served], None]) -> None:
        """Start the thread; `swap` replaces the model that answers, between two batches."""
        self._swap = swap
        self._loop.start()

    def stop(self) -> None:
        """End the thread, and the poller if this worker started it."""
        self._loop.stop()
        self._poller.end()

    def _run(self, stop: Event) -> None:
        while not stop.is_set():
            # First, as another worker's poller may run although this one cannot start one.
            self.check()
            self._poller.keep_running()
            stop.wait(CHECK_SECONDS)

    def wait_for_first(self, seconds: float) -> Served:
        """Wait up to `seconds` for a champion, where there is no model to begin with; to be called before `start`.

        A champion that was fetched earlier and cannot be served may not be the registry's champion any more.

        Raises:
            NotFound: none arrives in time, or the registry's champion cannot be served; says why.
        """
        logger.info("waiting up to %g s for the registry's champion, as there is no model yet", seconds)
        began, deadline = datetime.now(UTC).isoformat(timespec="milliseconds"), time.monotonic() + seconds
        while True:
            self._poller.keep_running()
            self.check()
            if self._now is not None:
                return self._now
            refused, error = self.state.refused, self.state.champion.error
            current = self.state.champion.looked_at >= began
            if (refused is not None and current) or time.monotonic() >= deadline:
                self._poller.end()
                why = refused.reason if refused else error or f"the registry named no champion within {seconds:g} s"
                raise NotFound(f"no model to serve: {why}", where="registry", hint="promote a model, or build a Bento")
            time.sleep(CHECK_SECONDS)

    def wait_for_challenger(self, seconds: float) -> None:
        """Wait up to `seconds` until it is known what the challenger is now; to be called before `start`."""
        began, deadline = time.time(), time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._poller.keep_running()
            looked_at = Challenger.load(self._home, CHALLENGER_FILE).looked_at
            if looked_at and datetime.fromisoformat(looked_at).timestamp() > began - FRESH_SECONDS:
                return
            with suppress(OSError):
                state = self._home / STATE_FILE
                if state.stat().st_mtime > began and Champion.load(self._home).error:
                    return  # the registry cannot be asked
            time.sleep(CHECK_SECONDS)

    def check(self) -> None:
        """Read the state file once, and swap if it names another champion than the one that answers."""
        champion = Champion.load(self._home)
        if champion != self.state.champion:
            self._metrics.followed(not champion.error)
        answering = (self._now.info.version, self._now.info.run_id) if self._now else None
        if not champion.version or (champion.version, champion.run_id) == answering:
            self._loading.reset()
            self.state = FollowState(champion=champion)
            self._record(champion)
            return
        before = self._now.version if self._now else "none"
        served = self._loading.load(champion, f"version {before} stays in service")
        self.state = FollowState(champion=champion, refused=self._loading.refused)
        if served is None:
            return
        self._swap(served)
        self._now = served
        self._metrics.swapped()
        self._record(champion)
        logger.info("version %s answers instead of version %s", served.version, before)

    def _record(self, champion: Champion) -> None:
        """Record which champion is served, for a restart while a newer one cannot be."""
        if champion.version and champion.folder != self._recorded:
            self._recorded = champion.folder
            with suppress(OSError):  # such as a full disk: a restart falls back to the one before
                champion.save(self._home, SERVED_FILE)


class _SharedPoller:
    """One poller for all workers: the worker that holds the lock runs it as its child."""

    def __init__(self, home: Path, environment: dict[str, str], *, ended: Callable[[], None]) -> None:
        self._home = home
        self._claim: int | None = None
        self._child = Child(POLLER, environment, name="the registry's poller", ended=ended)
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
        self._claim = claim(self._home / "poller.lock")
        return self._claim is not None
