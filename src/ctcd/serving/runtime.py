"""Everything that a worker holds while it serves: model, outbox, shipper, counters."""

import gc
import logging
import sys
from pathlib import Path

from ctcd.contract.payload import Payload
from ctcd.contract.spec import Contract
from ctcd.model.served import INFO_FILE, MODEL_FOLDER, Served, load
from ctcd.serving import logs
from ctcd.serving.batch_predictor import BatchPredictor
from ctcd.serving.champion.follower import Follower, FollowState, newest
from ctcd.serving.metrics import Metrics
from ctcd.serving.prediction_log.outbox import Outbox
from ctcd.serving.prediction_log.shipping import ShippingProcess, ShippingThread
from ctcd.serving.predictor import Predictor
from ctcd.settings import ModelSource, Settings

logger = logging.getLogger(__name__)


class Runtime:
    """Opens what a worker needs, and closes it.

    Args:
        settings: the settings of the service.
        contract: the contract that it serves.
        payload: the rows of a batch.
        metrics: told what happens.

    Raises:
        NotFound: there is no model.
        UsageError: the model does not fit the contract.
        Unreachable: predictions cannot be put on disk.
    """

    def __init__(self, settings: Settings, contract: Contract, payload: Payload, metrics: Metrics) -> None:
        logs.configure(settings.log_level)
        self._metrics = metrics
        self._follower: Follower | None = None
        served = self._model(settings, contract)
        self.outbox = Outbox.claim(settings.outbox, max_records=settings.outbox_max_records)
        shipping = ShippingProcess if settings.ship_in_process else ShippingThread
        self._shipping = shipping(settings, contract, self.outbox, metrics)
        self.predictor = Predictor(served, self.outbox, contract, on_batch=metrics.batch)
        self.batches = BatchPredictor(contract, payload, self.outbox, lambda: self.served)
        self._drain_seconds = settings.drain_seconds

    def _model(self, settings: Settings, contract: Contract) -> Served:
        """Return the model to begin with: the champion that was fetched last, else the one in the Bento, else wait."""
        # BentoML runs a service in the folder of its Bento's content.
        baked = settings.scorer_folder or Path(MODEL_FOLDER).absolute()
        if settings.model_source is ModelSource.BENTO:
            return load(baked, contract)
        served = newest(settings.champions, contract)
        if served is None and (baked / INFO_FILE).exists():
            served = load(baked, contract)
        self._follower = Follower(
            settings.champions,
            contract,
            served=served,
            observer=self._metrics,
            environment=settings.child_environment(),
        )
        return served or self._follower.first(settings.start_seconds)

    @property
    def served(self) -> Served:
        """The model that answers now."""
        return self.predictor.served

    @property
    def following(self) -> FollowState | None:
        """What is known of the registry's champion, if it is followed."""
        return self._follower.state if self._follower else None

    def _swap(self, served: Served) -> None:
        self.predictor.served = served

    def start(self) -> None:
        """Begin to send predictions to the store."""
        self._shipping.start()
        if self._follower:
            self._follower.start(self._swap)
        tune_interpreter()
        logger.info("serving version %s of %s", self.served.version, self.served.info.model_name)

    def stop(self) -> None:
        """Finish what is under way and send predictions to the store; what it does not take now stays on disk."""
        if self._follower:
            self._follower.stop()
        self.predictor.close()
        self.batches.close()
        ended = self._shipping.stop(self._drain_seconds)
        if self.outbox.refresh():
            logger.warning("%d predictions stay in %s until the next start", self.outbox.depth, self.outbox.path)
        if ended:  # else it waits for a store that hangs, and still needs the outbox
            self.outbox.close()


def tune_interpreter() -> None:
    """Set this process's thread switching and garbage collector to what serving is best with, once all is loaded."""
    # While the shipper works, a request has its turn after one millisecond instead of five.
    sys.setswitchinterval(0.001)
    # What is here now stays: the collector need not look at it again. Requests make few cycles, so it may come rarely.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)
