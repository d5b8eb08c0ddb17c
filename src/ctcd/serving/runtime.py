"""The resources of a worker while it serves: model, outbox, shipping, metrics."""

import gc
import logging
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Lock

import bentoml

from ctcd.contract.instance import Instance
from ctcd.contract.payload import Challenger
from ctcd.contract.spec import Contract
from ctcd.contract.traffic import Mode, TrafficPolicy
from ctcd.errors import CtcdError
from ctcd.model.served import INFO_FILE, MODEL_FOLDER, Served, load
from ctcd.serving import logs
from ctcd.serving.batch_predictor import BatchPredictor
from ctcd.serving.champion.challenger import ChallengerFollower, Running
from ctcd.serving.champion.follower import Follower, FollowState, last_fetched
from ctcd.serving.children import end_without
from ctcd.serving.loops import Loop
from ctcd.serving.metrics import Metrics
from ctcd.serving.prediction_log.outbox import Outbox
from ctcd.serving.prediction_log.shipping import ShippingProcess, ShippingThread
from ctcd.serving.predictor import Predictor
from ctcd.serving.requests.answering import Answering, answering
from ctcd.serving.traffic import Models, Split, assignment
from ctcd.settings import ModelSource, Settings

logger = logging.getLogger(__name__)

CHALLENGER_SECONDS = 10.0
"""Timeout at the start for the registry to name the challenger, if there may be one."""
ORPHAN_SECONDS = 20.0
"""Time for a worker without a supervisor to end, in addition to draining."""


class Runtime:
    """Opens and closes what a worker needs.

    Raises:
        NotFound: there is no model.
        UsageError: the model, or `traffic.toml`, does not fit the contract.
        Unreachable: the outbox cannot be opened.
    """

    def __init__(self, settings: Settings, instance: Instance, metrics: Metrics) -> None:
        contract, payload = instance.contract, instance.payload
        logs.configure(settings.log_level)
        self.metrics = metrics
        self._follower: Follower | None = None
        self._prepared = _prepared(settings, metrics)
        served = self._prepared(self._model(settings, contract))
        self.outbox = Outbox.claim(settings.outbox, max_records=settings.outbox_max_records)
        shipping = ShippingProcess if settings.ship_in_process else ShippingThread
        self._shipping = shipping(settings, instance, self.outbox, metrics)
        served_by = settings.served_by or _bento()
        self._changing = Lock()
        self.predictor = Predictor(served, self.outbox, contract, on_batch=metrics.batch, served_by=served_by)
        self.batches = BatchPredictor(
            contract, payload, self.outbox, lambda: self.predictor.models, served_by=served_by
        )
        self._challengers = self._follow_challenger(settings, instance)
        self.answering: Answering | None = None
        """Answers the requests of the queue; None unless the setting `asynchronous` says so."""
        if settings.asynchronous:
            self.answering = answering(settings, instance, self.batches, self.outbox, metrics)
        self._drain_seconds = settings.drain_seconds
        self._orphaned: Loop | None = None
        if settings.supervisor_pid is not None:
            seconds = settings.drain_seconds + ORPHAN_SECONDS
            work = partial(end_without, settings.supervisor_pid, seconds)
            self._orphaned = Loop("orphaned", work, ended=metrics.restarted)

    def _model(self, settings: Settings, contract: Contract) -> Served:
        """Return the initial model: the last fetched champion, else that of the Bento, else the first one that is fetched."""
        # BentoML runs a service in the folder with the content of its Bento.
        baked = settings.scorer_folder or Path(MODEL_FOLDER).absolute()
        if settings.model_source is ModelSource.BENTO:
            return load(baked, contract)
        fetched = last_fetched(settings.champions, contract)
        served = fetched[1] if fetched else None
        if served is None and (baked / INFO_FILE).exists():
            try:
                served = load(baked, contract)
            except CtcdError as error:
                logger.warning(
                    "the model of the Bento cannot be served, waiting for the registry's champion: %s", error
                )
        self._follower = Follower(
            settings.champions, contract, served=served, metrics=self.metrics, environment=settings.child_environment()
        )
        return served or self._follower.wait_for_first(settings.start_seconds)

    def _follow_challenger(self, settings: Settings, instance: Instance) -> ChallengerFollower | None:
        policy, contract = instance.traffic, instance.contract
        if policy is None or self._follower is None:
            return None
        change = partial(self._split, policy, contract)
        found = ChallengerFollower(settings.champions, contract, metrics=self.metrics, change=change)
        # Before serving, so that a restarted worker assigns requests to the challenger like the other workers.
        self._follower.wait_for_challenger(CHALLENGER_SECONDS)
        found.check()
        return found

    @property
    def served(self) -> Served:
        """The model that answers now."""
        return self.predictor.models.champion

    @property
    def following(self) -> FollowState | None:
        """What is known about the registry's champion; None if it is not followed."""
        return self._follower.state if self._follower else None

    @property
    def challenger(self) -> Challenger | None:
        """What is known about the challenger; None if there is none."""
        return self._challengers.information if self._challengers else None

    def _swap(self, served: Served) -> None:
        with self._changing:
            self.predictor.models = replace(self.predictor.models, champion=self._prepared(served))

    def _split(self, policy: TrafficPolicy, contract: Contract, running: Running | None) -> None:
        """Start, change or stop answering with the challenger."""
        with self._changing:
            if running is None or running.experiment.mode is Mode.SHADOW:
                self.predictor.models = Models(self.served)
            else:
                assigned = assignment(running.experiment, policy, contract)
                self.predictor.models = Split(self.served, self._prepared(running.served), assigned)

    def start(self) -> None:
        """Start to ship predictions and to follow the champion."""
        if self._orphaned:
            self._orphaned.start()
        self._shipping.start()
        if self.answering:
            self.answering.start()
        if self._follower:
            self._follower.start(self._swap)
        if self._challengers:
            self._challengers.start()
        tune_interpreter()
        logger.info("serving version %s of %s", self.served.version, self.served.info.model_name)

    def stop(self) -> None:
        """Finish current requests and ship predictions; those that the store does not accept in time stay on disk."""
        if self._orphaned:
            self._orphaned.stop()
        if self._follower:
            self._follower.stop()
        if self.answering:
            self.answering.stop()
        if self._challengers:
            self._challengers.stop()
        self.predictor.close()
        self.batches.close()
        ended = self._shipping.stop(self._drain_seconds)
        if self.outbox.refresh():
            logger.warning("predictions that stay in %s until the next start: %d", self.outbox.path, self.outbox.depth)
        if ended:  # otherwise it waits for a store that hangs, and still needs the outbox
            self.outbox.close()


def _prepared(settings: Settings, metrics: Metrics) -> Callable[[Served], Served]:
    """Return the function that adds the cache to a model, if the settings name one."""
    if not settings.cache_url.get_secret_value():
        return lambda served: served
    # Imported here, so that nothing of it is loaded without the setting.
    from ctcd.serving.cache import cached, open_cache

    cache = open_cache(settings, metrics)
    return lambda served: cached(served, cache, metrics)


def _bento() -> str | None:
    """Return the tag of the Bento that this worker runs; None outside of one."""
    context = bentoml.server_context
    return f"{context.bento_name}:{context.bento_version}" if context.bento_name else None


def tune_interpreter() -> None:
    """Tune thread switching and garbage collection of this process for serving, once everything is loaded."""
    # Switch threads after one millisecond instead of five, so that requests wait less for other threads.
    sys.setswitchinterval(0.001)
    # What is loaded now stays: the collector need not scan it again. Requests create few cycles, so it may run rarely.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)
