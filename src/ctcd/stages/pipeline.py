"""All stages from raw tables to a promoted model, in one process."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ctcd.errors import NotFound
from ctcd.progress import Progress, silent
from ctcd.settings import Settings
from ctcd.stages import data, promotion
from ctcd.stages import training as trainings
from ctcd.stages.connections import instance, open_store

if TYPE_CHECKING:
    from ctcd.promotion.gate import GateOutcome
    from ctcd.registry.versions import Move
    from ctcd.store.ingest import IngestReport
    from ctcd.store.snapshot import SnapshotReport
    from ctcd.training.summary import TrainingReport

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class PipelineReport:
    """The reports of all stages, and the wall time of each; nothing is promoted if the gate refused."""

    ingest: "IngestReport"
    snapshot: "SnapshotReport"
    training: "TrainingReport"
    gate: "GateOutcome"
    promotion: "Move | None"
    seconds: dict[str, float]


def run(settings: Settings, source: Path, *, profile: str, progress: Progress = silent) -> PipelineReport:
    """Run all stages on raw tables, with a snapshot of all their months on the last day that has a label.

    The store holds the rows of these tables afterwards and no others.
    """
    from ctcd.promotion.decision import Status

    clock = Clock()
    ingested = clock("ingest", lambda: data.ingest(settings, source, replace=True, progress=progress))
    first, last = labelled_days(settings)
    months = (last.year - first.year) * 12 + last.month - first.month + 1
    snapshot = clock("snapshot", lambda: data.snapshot(settings, last, months=months))
    valid = clock("validate", lambda: data.valid_snapshot(settings, last))
    training = clock(
        "train", lambda: trainings.train(settings, last, profile=profile, progress=progress, snapshot=valid)
    )
    # Decided as of the last day of the data, so that old raw tables do not count as outdated.
    gate = clock("gate", lambda: promotion.gate(settings, run_id=training.run_id, today=last, progress=progress))
    promoted = None
    if gate.status is not Status.REFUSE:
        promoted = clock("promote", lambda: promotion.promote(settings, version=gate.version))
    return PipelineReport(
        ingest=ingested, snapshot=snapshot, training=training, gate=gate, promotion=promoted, seconds=clock.seconds
    )


def labelled_days(settings: Settings) -> tuple[date, date]:
    """Return the first and the last day that has a label.

    Raises:
        NotFound: there are no labels.
    """
    from ctcd.store.snapshot import label_dates

    contract = instance(settings).contract
    first, last = label_dates(open_store(settings), contract)
    if first is None or last is None:
        raise NotFound("there are no labels", where=contract.labels_table, hint="run: ctcd ingest")
    return first, last


class Clock:
    """Runs stages and records their wall time in seconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __call__(self, stage: str, work: Callable[[], T]) -> T:
        """Run a stage and return its result."""
        began = time.monotonic()
        result = work()
        self.seconds[stage] = time.monotonic() - began
        return result
