"""Stages of findings: what monitors have found, and closing it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ctcd.settings import Settings
from ctcd.stages.connections import instance, open_store

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from ctcd.contract.spec import Contract
    from ctcd.monitoring.findings import Finding, TrainingDue


def list_findings(settings: Settings, *, closed: bool = False) -> "tuple[Finding, ...]":
    """Return the open findings, with `closed` all of them, oldest first."""
    from ctcd.monitoring.findings import list_findings

    return list_findings(open_store(settings), instance(settings).contract, closed=closed)


def show_finding(settings: Settings, number: int) -> "Finding":
    """Return a finding."""
    from ctcd.monitoring.findings import find

    return find(open_store(settings), instance(settings).contract, number)


def close_finding(settings: Settings, number: int, *, reason: str, by: str) -> "Finding":
    """Close a finding in the name of `by`, by default that of whoever runs this, and return it."""
    from ctcd.monitoring.findings import close_finding

    contract = instance(settings).contract
    return close_finding(
        open_store(settings), contract, number, reason=reason, by=by or settings.who, day=settings.today()
    )


def training_due(settings: Settings, *, started: bool = False) -> "TrainingDue":
    """Return whether findings ask for a training today, which the settings have to allow; `started` records that it is."""
    from datetime import timedelta

    from ctcd.monitoring.findings import TrainingDue, training_due

    if not settings.train_on_findings:
        return TrainingDue(due=False, why="findings start no training: the setting train_on_findings is off")
    return training_due(
        open_store(settings),
        instance(settings).contract,
        settings.today(),
        cool_down=timedelta(days=settings.cool_down_days),
        started=started,
    )


def record_refusal(
    settings: Settings, store: "Engine", contract: "Contract", command: str, broken: Mapping[str, int]
) -> None:
    """Raise the finding that a command has refused a snapshot; `broken` has the rows that break each rule."""
    from ctcd.monitoring.findings import Kind, raise_finding

    raise_finding(store, contract, kind=Kind.SNAPSHOT, subject=f"ctcd {command}", evidence=broken, day=settings.today())
