"""Stages of a promotion: the gate, and the champion's alias."""

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from ctcd.progress import Progress, silent
from ctcd.settings import Settings
from ctcd.stages.connections import instance, open_registry, require_confirmed

if TYPE_CHECKING:
    from ctcd.promotion.decision import Decision
    from ctcd.promotion.gate import GateOutcome
    from ctcd.promotion.page import Comparison
    from ctcd.registry.versions import Move, RegisteredVersion


def gate(
    settings: Settings,
    *,
    version: str | None = None,
    run_id: str | None = None,
    today: date | None = None,
    without_champion: str | None = None,
    progress: Progress = silent,
) -> "GateOutcome":
    """Let the gate decide about a version or a training run, by default the newest finished one; nothing is promoted.

    Raises:
        NotFound: the version or run does not exist, or what the champion is compared with.
    """
    from functools import partial

    from ctcd.monitoring.since import drift_since
    from ctcd.monitoring.tolerances import load_tolerances
    from ctcd.promotion.gate import gate
    from ctcd.promotion.policy import load_policy
    from ctcd.training.runs import TrainingRuns

    found, registry = instance(settings), open_registry(settings)
    return gate(
        registry,
        settings,
        found.contract,
        load_policy(found),
        request=found.payload.request,
        run_id=registry.info(version).run_id if version else run_id,
        today=today,
        without_champion=without_champion,
        drift=partial(
            drift_since,
            find_reference=TrainingRuns(registry.client, found.contract, settings).reference,
            contract=found.contract,
            limits=load_tolerances(found).drift,
        ),
        progress=progress,
    )


def promote(settings: Settings, *, version: str | None = None, reason: str = "") -> "Move":
    """Make a version the champion, by default the newest one that the gate has passed. The reason is recorded.

    Raises:
        NotFound: the gate has passed no version yet.
        GateRefused: the gate has not passed that version, or not against the current champion; or, in production, the
            contract has drafts.
    """
    require_confirmed(settings)
    registry = open_registry(settings)
    return registry.promote(version or registry.newest_passed(), reason=reason)


def models(settings: Settings) -> "list[RegisteredVersion]":
    """Return all versions in the registry, the newest first."""
    return open_registry(settings).versions()


def compare(settings: Settings, first: str, second: str, *, page: Path | None = None) -> "Comparison":
    """Return two versions side by side, as their newest decisions have them; with `page`, write it as HTML too.

    Raises:
        NotFound: a version does not exist, or the gate has not judged it.
        UsageError: the page cannot be written.
    """
    from ctcd.files import write_text, writing_to
    from ctcd.html_report import render
    from ctcd.promotion.page import compare, comparison_page, read_judged

    registry = open_registry(settings)
    both = [read_judged(registry.decisions(version)[-1]) for version in (first, second)]
    comparison = compare(*both)
    if page is not None:
        with writing_to(page):
            write_text(page, render(comparison_page(comparison, both, instance(settings).contract.name)))
    return comparison


@dataclass(frozen=True, kw_only=True)
class RecordedDecision:
    """A decision of the gate on record.

    Args:
        number: its number among the decisions about the version, from 1.
        decided_at: when, ISO 8601, UTC.
        promoted: whether it is the decision that promoted the version.
    """

    number: int
    decided_at: str
    promoted: bool
    decision: "Decision"


def why(settings: Settings, version: str) -> list[RecordedDecision]:
    """Return all decisions of the gate about a version, the oldest first.

    Raises:
        NotFound: the version does not exist, or the gate has not judged it.
    """
    import json

    from ctcd.promotion.decision import from_json
    from ctcd.registry.versions import PROMOTED_BY

    registry = open_registry(settings)
    promoted_by = registry.info(version).tags.get(PROMOTED_BY)
    return [
        RecordedDecision(
            number=content["number"],
            decided_at=content["decided_at"],
            promoted=str(content["number"]) == promoted_by,
            decision=from_json(content),
        )
        for content in map(json.loads, registry.decisions(version))
    ]
