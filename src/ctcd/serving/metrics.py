"""What the service counts, for Prometheus; all workers together."""

from pathlib import Path
from typing import Any

import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

CONTENT_TYPE = CONTENT_TYPE_LATEST
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """The counters of one worker.

    Args:
        folder: where the workers of a service keep their counters, if there are several.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._registry = CollectorRegistry()
        self._children: dict[tuple[Any, ...], Any] = {}
        self._requests = Counter("ctcd_requests", "Requests answered", ["route", "status"], registry=self._registry)
        self._seconds = Histogram(
            "ctcd_request_seconds", "Time to the answer", ["route"], buckets=SECONDS, registry=self._registry
        )
        self._predictions = Counter(
            "ctcd_predictions", "Predictions", ["prediction", "model_version"], registry=self._registry
        )
        self._batch = Histogram(
            "ctcd_batch_rows",
            "Requests scored and logged together",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128),
            registry=self._registry,
        )
        self._depth = Gauge(
            "ctcd_outbox_records",
            "Predictions on disk that are not in the store yet",
            multiprocess_mode="livesum",
            registry=self._registry,
        )
        self._age = Gauge(
            "ctcd_outbox_age_seconds",
            "Age of the oldest prediction that the store did not take the last time; 0 if it took all",
            multiprocess_mode="livemax",
            registry=self._registry,
        )
        self._put_aside = Gauge(
            "ctcd_outbox_put_aside",
            "Predictions that the store refuses for what they hold",
            multiprocess_mode="livesum",
            registry=self._registry,
        )
        self._shipped = Counter("ctcd_outbox_shipped", "Predictions that the store has taken", registry=self._registry)
        self._failures = Counter("ctcd_outbox_failures", "Batches that the store did not take", registry=self._registry)

        self._swaps = Counter(
            "ctcd_model_swaps", "New champions, by what became of them", ["outcome"], registry=self._registry
        )
        for outcome in ("swapped", "refused"):
            self._swaps.labels(outcome)
        self._followed = Gauge(
            "ctcd_registry_followed",
            "1 if the registry answered when it was last asked for its champion, 0 if not or if it is not followed",
            multiprocess_mode="livemostrecent",
            registry=self._registry,
        )

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._of(self._requests, route, status).inc()
        self._of(self._seconds, route).observe(seconds)

    def predicted(self, prediction: str, model_version: str, rows: int = 1) -> None:
        """Count predictions of one class."""
        self._of(self._predictions, prediction, model_version).inc(rows)

    def _of(self, metric: Any, *labels: object) -> Any:
        """Return the child of a metric with these labels; to ask the metric for it costs more than to count."""
        key = (metric, *labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = metric.labels(*labels)
        return child

    def batch(self, rows: int) -> None:
        """Note how many rows were scored together."""
        self._batch.observe(rows)

    def depth(self, records: int) -> None:
        """Note how many predictions are not in the store yet."""
        self._depth.set(records)

    def shipped(self, records: int) -> None:
        """Count predictions that the store has taken."""
        self._shipped.inc(records)

    def waiting(self, seconds: float) -> None:
        """Note how old the oldest prediction is that the store does not take; 0 if it takes all."""
        self._age.set(seconds)

    def put_aside(self, records: int) -> None:
        """Note how many predictions are put aside."""
        self._put_aside.set(records)

    def ship_failed(self) -> None:
        """Count a batch that the store did not take."""
        self._failures.inc()

    def swapped(self) -> None:
        """Count a new champion that answers now."""
        self._swaps.labels("swapped").inc()

    def swap_refused(self) -> None:
        """Count a new champion that was refused."""
        self._swaps.labels("refused").inc()

    def followed(self, well: bool) -> None:
        """Note whether the registry answered."""
        self._followed.set(well)

    def page(self) -> bytes:
        """Return everything in Prometheus' text format: of all workers if they share a folder, else of this one."""
        if self._folder is None:
            return generate_latest(self._registry)
        _forget_the_dead(self._folder)
        everything = CollectorRegistry()
        MultiProcessCollector(everything, self._folder)  # type: ignore[no-untyped-call] # prometheus_client types it only in part
        return generate_latest(everything)


def _forget_the_dead(folder: Path) -> None:
    """Drop the gauges of workers that were killed; their counters stay."""
    for path in folder.glob("gauge_live*_*.db"):
        pid = int(path.stem.rpartition("_")[2])
        if not psutil.pid_exists(pid):
            mark_process_dead(pid, folder)  # type: ignore[no-untyped-call] # as above
