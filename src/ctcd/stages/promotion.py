"""Stages of a promotion: the gate, and the champion's alias."""

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
    version: str | None = None,
    run_id: str | None = None,
    today: date | None = None,
    progress: Progress = silent,
) -> "GateOutcome":
    """Let the gate decide about a version or a training run, by default the newest finished one; nothing is promoted.

    Raises:
        NotFound: the version or run does not exist.
    """
    from ctcd.promotion.gate import gate
    from ctcd.promotion.policy import load_policy

    found, registry = instance(settings), open_registry(settings)
    return gate(
        registry,
        settings,
        found.contract,
        load_policy(found.promotion_policy),
        run_id=registry.info(version).run_id if version else run_id,
        today=today,
        progress=progress,
    )


def promote(settings: Settings, *, version: str | None = None) -> "Move":
    """Make a version the champion, by default the newest one that the gate has passed.

    Raises:
        NotFound: the gate has passed no version yet.
        GateRefused: the gate has not passed that version, or not against the current champion.
    """
    registry = open_registry(settings)
    return registry.promote(version or registry.newest_passed())
