"""Verbs about models: train, gate, promote, roll back."""

from typing import Annotated

import typer

from ctcd.cli.options import JsonOutput, KnownDay, ProfileName, Today
from ctcd.cli.output import emit, out, shown_progress
from ctcd.cli.views import show_decision, show_training
from ctcd.errors import GateRefused
from ctcd.settings import load_settings
from ctcd.stages import promotion as stages
from ctcd.stages import training
from ctcd.stages.connections import instance


def train(
    base_dt: KnownDay = None,
    profile: ProfileName = "fast",
    force: Annotated[bool, typer.Option("--force", help="Train again even if this training is there.")] = False,
    json: JsonOutput = False,
) -> None:
    """Train on a snapshot: every trial is a run in MLflow, the best becomes a candidate."""
    settings = load_settings()
    with shown_progress() as progress:
        report = training.train(settings, base_dt, profile=profile, force=force, progress=progress)
    if json:
        emit(report)
    else:
        show_training(report, instance(settings).contract.group.name)


def gate(
    run_id: Annotated[
        str | None, typer.Option("--run-id", help="Training run to judge.", show_default="the newest finished one")
    ] = None,
    today: Today = None,
    json: JsonOutput = False,
) -> None:
    """Decide whether a candidate may be promoted; ends in exit code 4 if it is refused."""
    with shown_progress() as progress:
        outcome = stages.gate(load_settings(), run_id=run_id, today=today, progress=progress)
    if json:
        emit(outcome)
    else:
        show_decision(outcome.decision)
        out.print(f"written: {outcome.json_file}, {outcome.markdown_file}", soft_wrap=True)
    if outcome.reasons:
        raise GateRefused("; ".join(outcome.reasons), where=f"version {outcome.version}")


def promote(
    version: Annotated[
        str | None,
        typer.Option("--version", help="Version to promote.", show_default="the newest that passed the gate"),
    ] = None,
    json: JsonOutput = False,
) -> None:
    """Make a version that has passed the gate the champion; the champion so far becomes the previous one."""
    report = stages.promote(load_settings(), version=version)
    if json:
        emit(report)
    else:
        before = f" (before: version {report.before})" if report.changed and report.before else ""
        out.print(f"champion: version {report.version}{before if report.changed else ' (it was already)'}")


def rollback(
    to: Annotated[
        str | None, typer.Option("--to", help="Version to go back to.", show_default="the previous champion")
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why; kept beside the version.")] = "not given",
    json: JsonOutput = False,
) -> None:
    """Make the previous champion the champion again; the one rolled back is never promoted again."""
    report = stages.rollback(load_settings(), to=to, reason=reason)
    if json:
        emit(report)
    else:
        out.print(f"champion: version {report.version} (rolled back: version {report.before})")
