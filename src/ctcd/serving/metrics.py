"""Metrics of the service for Prometheus, of all workers together."""

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from ctcd.errors import shown

logger = logging.getLogger(__name__)

CONTENT_TYPE = CONTENT_TYPE_LATEST
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
PARTS = ("challenger", "follower", "orphaned", "outbox-depth", "poller", "requests", "shadow", "shipper", "shipping")
"""Threads and child processes of a worker that are restarted when they end."""


class Metrics:
    """The metrics of one worker.

    Args:
        folder: folder in which all processes of a service keep their metrics; None: there is this process only.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._registry = registry = CollectorRegistry()
        self._children: dict[tuple[Any, ...], Any] = {}
        counter, histogram = partial(Counter, registry=registry), partial(Histogram, registry=registry)
        gauge = partial(Gauge, registry=registry)
        self._requests = counter("ctcd_requests", "Answered requests", ["route", "status"])
        self._seconds = histogram(
            "ctcd_request_seconds", "Time to answer a request", ["route", "variant"], buckets=SECONDS
        )
        self._predictions = counter(
            "ctcd_predictions", "Predictions that were given", ["prediction", "model_version", "variant"]
        )
        self._batch = histogram(
            "ctcd_batch_rows", "Requests scored and logged together", buckets=(1, 2, 4, 8, 16, 32, 64, 128)
        )
        self._connections = gauge("ctcd_connections", "Open connections", multiprocess_mode="livesum")
        self._depth = gauge(
            "ctcd_outbox_records", "Predictions on disk that are not in the store yet", multiprocess_mode="livesum"
        )
        self._age = gauge(
            "ctcd_outbox_age_seconds",
            "How long the oldest prediction has waited that the store did not accept in the last attempt; 0 if it accepted all",
            multiprocess_mode="livemax",
        )
        self._dead_letters = gauge(
            "ctcd_outbox_dead_letters",
            "Predictions that the store refuses while it accepts others, and records that cannot be read",
            multiprocess_mode="livesum",
        )
        self._moved_aside = gauge(
            "ctcd_outbox_files_moved_aside",
            "Files that could not be used as outboxes and were moved aside",
            multiprocess_mode="livemax",
        )
        self._shipped = counter("ctcd_outbox_shipped", "Predictions that the store has accepted")
        self._failures = counter("ctcd_outbox_failures", "Batches that the store did not accept")
        self._waiting = gauge(
            "ctcd_requests_waiting", "Asynchronous requests that have no answer yet", multiprocess_mode="livemostrecent"
        )
        self._waited = gauge(
            "ctcd_requests_age_seconds",
            "How long the oldest asynchronous request has waited for its answer; 0 if none waits",
            multiprocess_mode="livemostrecent",
        )
        self._restarts = counter(
            "ctcd_restarts", "Threads and child processes that ended and were started again", ["part"]
        )
        for part in PARTS:  # so that the first restart is an increase
            self._restarts.labels(part)
        self._swaps = counter("ctcd_model_swaps", "New champions, by outcome", ["outcome"])
        self._challengers = counter("ctcd_challenger_swaps", "New challengers, by outcome", ["outcome"])
        self._late = counter(
            "ctcd_challenger_late_changes",
            "Changes of a challenger's traffic that a worker made after they took effect, and ends it learned of late",
        )
        for outcome in ("swapped", "refused"):
            self._swaps.labels(outcome)
            self._challengers.labels(outcome)
        self._shadowed = counter(
            "ctcd_shadow_rows",
            "Rows for the challenger to score in the shadow of the champion, by outcome",
            ["outcome"],
        )
        for outcome in ("logged", "failed", "dropped"):
            self._shadowed.labels(outcome)
        self._cached = counter("ctcd_cache_rows", "Rows looked up in the cache, by outcome", ["outcome"])
        for outcome in ("hit", "miss"):
            self._cached.labels(outcome)
        self._cache_failures = counter("ctcd_cache_failures", "Times that the cache failed or did not answer in time")
        self._followed = gauge(
            "ctcd_registry_followed",
            "1 if the registry answered the last poll for its champion, 0 if it did not or is not followed",
            multiprocess_mode="livemostrecent",
        )

    def request(self, route: str, status: int, seconds: float, variant: str = "") -> None:
        """Count a request; for the variant, see `Trace`."""
        self._of(self._requests, route, status).inc()
        self._of(self._seconds, route, variant).observe(seconds)

    def predicted(self, prediction: str, model_version: str, variant: str, rows: int = 1) -> None:
        """Count predictions of one class."""
        self._of(self._predictions, prediction, model_version, variant).inc(rows)

    def _of(self, metric: Any, *labels: object) -> Any:
        """Return the child of a metric with these labels; looking it up in the metric costs more than counting."""
        key = (metric, *labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = metric.labels(*labels)
        return child

    def batch(self, rows: int) -> None:
        """Record how many rows were scored together."""
        self._batch.observe(rows)

    def connections(self, number: int) -> None:
        """Record how many connections are open."""
        self._connections.set(number)

    def depth(self, predictions: int) -> None:
        """Record how many predictions are not in the store yet."""
        self._depth.set(predictions)

    def shipped(self, predictions: int) -> None:
        """Count predictions that the store has accepted."""
        self._shipped.inc(predictions)

    def waiting(self, seconds: float) -> None:
        """Record how long the oldest prediction has waited that the store does not accept; 0 if it accepts all."""
        self._age.set(seconds)

    def dead_lettered(self, predictions: int) -> None:
        """Record how many dead letters there are in total."""
        self._dead_letters.set(predictions)

    def moved_aside(self, files: int) -> None:
        """Record how many files could not be used as outboxes and were moved aside."""
        self._moved_aside.set(files)

    def requests_waiting(self, requests: int, seconds: float) -> None:
        """Record how many asynchronous requests have no answer, and how long the oldest of them has waited."""
        self._waiting.set(requests)
        self._waited.set(seconds)

    def ship_failed(self) -> None:
        """Count a batch that the store did not accept."""
        self._failures.inc()

    def restarted(self, part: str) -> None:
        """Count a thread or child process that ended and is started again."""
        self._restarts.labels(part).inc()

    def swapped(self) -> None:
        """Count a new champion that answers now."""
        self._swaps.labels("swapped").inc()

    def swap_refused(self) -> None:
        """Count a new champion that was refused."""
        self._swaps.labels("refused").inc()

    def challenger_swapped(self) -> None:
        """Count a new challenger that may see requests now."""
        self._challengers.labels("swapped").inc()

    def challenger_refused(self) -> None:
        """Count a new challenger that was refused."""
        self._challengers.labels("refused").inc()

    def challenger_late(self) -> None:
        """Count a change of a challenger's traffic that this worker made after it took effect, or its late end."""
        self._late.inc()

    def shadowed(self, outcome: Literal["logged", "failed", "dropped"], rows: int) -> None:
        """Count rows of a shadow: scored and logged, failed to be scored, or left out as it is late or cannot log."""
        self._shadowed.labels(outcome).inc(rows)

    def cached(self, hits: int, misses: int) -> None:
        """Count rows that were looked up in the cache."""
        self._of(self._cached, "hit").inc(hits)
        self._of(self._cached, "miss").inc(misses)

    def cache_failed(self) -> None:
        """Count a failure of the cache."""
        self._cache_failures.inc()

    def followed(self, reachable: bool) -> None:
        """Record whether the registry answered the last poll."""
        self._followed.set(reachable)

    def page(self, model: str) -> bytes:
        """Return the metrics in Prometheus' text format; see `labelled`."""
        return generate_latest(self.labelled(model))

    def labelled(self, model: str) -> CollectorRegistry:
        """Return the metrics as of now: of all processes that share the folder, otherwise of this one.

        Args:
            model: name of the model, a label of every metric, so that one Prometheus can tell several services apart.
        """
        everything = CollectorRegistry()
        if self._folder is None:
            everything.register(_Labelled(self._registry, model))
        else:
            _drop_dead_gauges(self._folder)
            everything.register(_Labelled(_ReadableFiles(None, self._folder), model))
        return everything


class _Labelled(Collector):
    """Adds the label `model` when metrics are read, so that counting does not have to."""

    def __init__(self, metrics: Collector, model: str) -> None:
        self._metrics, self._model = metrics, model

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics with the label."""
        for metric in self._metrics.collect():
            metric.samples = [each._replace(labels={**each.labels, "model": self._model}) for each in metric.samples]
            yield metric


class _ReadableFiles(MultiProcessCollector):
    """Collects the metrics of a folder without those of files that are damaged, or that a process is about to make."""

    def __init__(self, registry: CollectorRegistry | None, folder: Path) -> None:
        super().__init__(registry, folder)  # type: ignore[no-untyped-call] # prometheus_client types it only in part
        self._files = [str(path) for path in sorted(folder.glob("*.db")) if self._is_readable(path)]

    def _is_readable(self, path: Path) -> bool:
        try:
            self.merge([str(path)], accumulate=False)  # type: ignore[no-untyped-call] # as above
        except Exception as error:  # noqa: BLE001 - its bytes may be anything
            logger.warning("the metrics in %s are left out: %s", path, shown(error))
            return False
        return True

    def collect(self) -> Any:
        """Return the metrics."""
        return self.merge(self._files)  # type: ignore[no-untyped-call] # as above


def _drop_dead_gauges(folder: Path) -> None:
    """Drop the gauges of processes that were killed; their counters stay."""
    for path in folder.glob("gauge_live*_*.db"):
        pid = int(path.stem.rpartition("_")[2])
        if not psutil.pid_exists(pid):
            mark_process_dead(pid, folder)  # type: ignore[no-untyped-call] # as above
