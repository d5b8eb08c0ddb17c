"""Stages of a promotion: the gate, promotion and rollback."""

from datetime import date
from typing import TYPE_CHECKING

from ctcd.progress import Progress, silent
from ctcd.settings import Settings
from ctcd.stages.connections import instance, open_registry

if TYPE_CHECKING:
    from ctcd.promotion.gate import GateOutcome
    from ctcd.registry.versions import Move


def gate(
    settings: Settings,
    *,
    run_id: str | None = None,
    base_dt: date | None = None,
    today: date | None = None,
    progress: Progress = silent,
) -> "GateOutcome":
    """Let the gate decide about a training run, by default the newest finished one; see `ctcd.promotion.gate.gate`."""
    from ctcd.promotion.gate import gate
    from ctcd.promotion.policy import load_policy

    found = instance(settings)
    return gate(
        open_registry(settings),
        settings,
        found.contract,
        load_policy(found.promotion_policy),
        run_id=run_id,
        base_dt=base_dt,
        today=today,
        progress=progress,
    )


def judge(settings: Settings, *, version: str | None = None, progress: Progress = silent) -> "GateOutcome":
    """Let the gate decide about a version, by default the one of the newest finished training."""
    if version is None:
        return gate(settings, progress=progress)
    registry = open_registry(settings)
    run_id = registry.info(version).run_id
    return gate(settings, run_id=run_id, progress=progress)


def promote(settings: Settings, *, version: str | None = None) -> "Move":
    """Make a version the champion, by default the newest one that the gate has passed.

    Raises:
        NotFound: the gate has passed no version yet.
        GateRefused: the gate has not passed that version, or not against the current champion.
    """
    registry = open_registry(settings)
    return registry.promote(version or registry.newest_passed())


def rollback(settings: Settings, *, to: str | None = None, reason: str = "") -> "Move":
    """Make the previous champion, or a given earlier one, the champion again."""
    registry = open_registry(settings)
    return registry.rollback(to, reason=reason)
