"""Follows the registry's challenger: loads and verifies it, and reports its traffic; the champion is not affected."""

import json
import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from threading import Event

from ctcd.contract import payload
from ctcd.contract.spec import Contract
from ctcd.contract.traffic import LEAD_SECONDS, Experiment, Mode, Variant
from ctcd.errors import UsageError
from ctcd.model.served import Served
from ctcd.serving.champion import follower
from ctcd.serving.champion.state import CHALLENGER_FILE, Challenger
from ctcd.serving.loops import Loop
from ctcd.serving.metrics import Metrics

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Running:
    """An experiment with its loaded challenger."""

    experiment: Experiment
    served: Served


class ChallengerFollower:
    """A thread that loads the challenger that the poller has fetched; a separate one, so as not to delay the champion.

    Args:
        home: folder of the models and of the state file.
        change: called with the experiment each time it changes; None: there is none.
        modes: kinds of traffic for which the challenger is loaded.
    """

    def __init__(
        self,
        home: Path,
        contract: Contract,
        *,
        metrics: Metrics,
        change: Callable[[Running | None], None],
        modes: Collection[Mode] = tuple(Mode),
    ) -> None:
        self._home, self._change, self._metrics, self._modes = home, change, metrics, modes
        self._loading = follower.Loading(home, contract, metrics.challenger_refused)
        self._running: Running | None = None
        self._began = time.time()
        self._known: Experiment | None = None
        self._seen: float | None = None
        self.information: payload.Challenger | None = None
        """What the service reports about the challenger; None if there is none."""
        self._loop = Loop("challenger", self._run, ended=metrics.restarted)

    def start(self) -> None:
        """Start the thread."""
        self._loop.start()

    def stop(self) -> None:
        """Stop the thread, without waiting for a version that takes long to load."""
        self._loop.stop(follower.END_SECONDS)

    def _run(self, stop: Event) -> None:
        while not stop.wait(follower.CHECK_SECONDS):
            self.check()

    def check(self) -> None:
        """Read the state file once, and load, update or unload the challenger accordingly."""
        named = Challenger.load(self._home, CHALLENGER_FILE)
        experiment = _experiment(named)
        if experiment is None or experiment.mode not in self._modes:
            self._loading.reset()
            self._to(None, named.looked_at)
            self.information = None
            return
        running = self._running
        if running is None or (running.served.version, running.served.info.run_id) != (named.version, named.run_id):
            self._to(None, named.looked_at)
            served = self._loading.load(named, "there is no challenger, and the champion answers")
            running = Running(experiment, replace(served, variant=Variant.CHALLENGER)) if served else None
            if running:
                self._metrics.challenger_swapped()
        else:
            running = replace(running, experiment=experiment)
        self._to(running)
        if named.looked_at and not named.error:
            self._seen = datetime.fromisoformat(named.looked_at).timestamp()
        self.information = payload.Challenger(
            version=named.version,
            mode=experiment.mode,
            step=experiment.step,
            share=experiment.share,
            effective=experiment.effective,
            loaded=running is not None,
            refused=self._loading.refused,
        )

    def _to(self, running: Running | None, looked_at: str = "") -> None:
        """Change to an experiment, or to none as the registry said at a time; empty: its state cannot be read."""
        if running == self._running:
            return
        self._change(running)
        self._running = running
        if running is None:
            logger.info("the challenger no longer gets traffic")
            if looked_at and self._seen is not None:
                # When it was stopped is not known: at the earliest when the registry last said that it runs.
                seconds = datetime.fromisoformat(looked_at).timestamp() - max(self._seen, self._began)
                if seconds > LEAD_SECONDS:
                    self._late("ended here up to", seconds, "was stopped")
        else:
            experiment = running.experiment
            what = f"{experiment.mode}, share {experiment.share:g} from {experiment.effective} on"
            logger.info("version %s is the challenger: %s", running.served.version, what)
            begins = experiment.begins.timestamp()
            new, self._known = experiment != self._known, experiment
            if new and self._began < begins < (now := time.time()):
                self._late("changed here", now - begins, "took effect")

    def _late(self, changed: str, seconds: float, when: str) -> None:
        self._metrics.challenger_late()
        logger.warning(
            "the challenger's traffic %s %.1f s after it %s: until then, this worker may have answered a group with"
            " another version than other workers",
            changed,
            seconds,
            when,
        )


def _experiment(named: Challenger) -> Experiment | None:
    if not (named.version and named.experiment):
        return None
    try:
        return Experiment.of(json.loads(named.experiment))
    except (UsageError, ValueError):  # it is written again by the next poll
        return None
