"""The stages from raw tables to a promoted model, one after the other, in one process."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from contracts.features import CONTRACT
from credit_score import stages
from credit_score.errors import NotFound
from credit_score.progress import Progress, silent
from credit_score.settings import Settings

if TYPE_CHECKING:
    from credit_score.promotion.gate import GateOutcome
    from credit_score.promotion.registry import Move
    from credit_score.store.ingest import IngestReport
    from credit_score.store.snapshot import SnapshotReport
    from credit_score.training.report import TrainingReport

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class PipelineReport:
    """What each stage reported.

    Args:
        ingest: rows in and put aside.
        snapshot: the training snapshot.
        training: split, trials and the winner.
        gate: the decision.
        promotion: the registry's aliases; None if the gate refused.
        seconds: wall time of each stage.
    """

    ingest: "IngestReport"
    snapshot: "SnapshotReport"
    training: "TrainingReport"
    gate: "GateOutcome"
    promotion: "Move | None"
    seconds: dict[str, float]


def run(settings: Settings, source: Path, *, profile: str, progress: Progress = silent) -> PipelineReport:
    """Run every stage on raw tables: a snapshot of all their months, taken on the last day that has a label."""
    from credit_score.promotion.decision import Status

    clock = _Clock()
    ingested = clock("ingest", lambda: stages.ingest(settings, source, progress=progress))
    first, last = labelled_days(settings)
    months = (last.year - first.year) * 12 + last.month - first.month + 1
    snapshot = clock("snapshot", lambda: stages.snapshot(settings, last, months=months))
    clock("validate", lambda: stages.validate(settings, last))
    training = clock("train", lambda: stages.train(settings, last, profile=profile, progress=progress))
    # The last day of the data plays today: raw tables of a year ago are not out of date here.
    gate = clock("gate", lambda: stages.gate(settings, run_id=training.run_id, today=last, progress=progress))
    promotion = None
    if gate.status is not Status.REFUSE:
        promotion = clock("promote", lambda: stages.promote(settings, version=gate.version))
    return PipelineReport(
        ingest=ingested, snapshot=snapshot, training=training, gate=gate, promotion=promotion, seconds=clock.seconds
    )


def labelled_days(settings: Settings) -> tuple[date, date]:
    """Return the first and the last day that has a label.

    Raises:
        NotFound: there are no labels.
    """
    from credit_score.store.snapshot import earliest_label_date, latest_label_date

    store = stages.open_store(settings)
    first, last = earliest_label_date(store, CONTRACT), latest_label_date(store, CONTRACT)
    if first is None or last is None:
        raise NotFound("there are no labels", where=CONTRACT.labels_table, hint="run: credit-score ingest")
    return first, last


class _Clock:
    """Runs stages and keeps the wall time of each."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __call__(self, stage: str, work: Callable[[], T]) -> T:
        began = time.monotonic()
        result = work()
        self.seconds[stage] = time.monotonic() - began
        return result
