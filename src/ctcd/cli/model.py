"""Commands about models: train, gate, promote."""

from pathlib import Path
from typing import Annotated

import typer

from ctcd.cli.options import JsonOutput, KnownDay, ProfileName, Summary, Today
from ctcd.cli.output import append, emit, out, present, shown_progress
from ctcd.cli.views import show_decision, show_training
from ctcd.errors import GateRefused, UsageError
from ctcd.settings import load_settings
from ctcd.stages import promotion as stages
from ctcd.stages import training
from ctcd.stages.connections import instance


def train(
    base_dt: KnownDay = None,
    profile: ProfileName = "fast",
    force: Annotated[bool, typer.Option("--force", help="Train again even if this training exists.")] = False,
    json: JsonOutput = False,
) -> None:
    """Train on a snapshot: every trial is a run in MLflow; the best one becomes a candidate."""
    settings = load_settings()
    with shown_progress() as progress:
        report = training.train(settings, base_dt, profile=profile, force=force, progress=progress)
    present(report, lambda trained: show_training(trained, instance(settings).contract.group.name), json=json)


def gate(
    version: Annotated[
        str, typer.Option("--version", help="Version to judge.", show_default="that of the newest finished training")
    ] = "",
    run_id: Annotated[
        str | None, typer.Option("--run-id", help="Training run to judge, instead of a version.", show_default=False)
    ] = None,
    today: Today = None,
    summary: Summary = None,
    outputs: Annotated[
        Path | None,
        typer.Option(help="File that `version=...` is appended to if the version passed.", show_default=False),
    ] = None,
    json: JsonOutput = False,
) -> None:
    """Decide whether a version may be promoted; ends in exit code 4 if it is refused. Nothing is promoted.

    The champion itself is not refused: it may be released again.
    """
    if version and run_id is not None:
        raise UsageError("give --version or --run-id, not both", where="gate")
    with shown_progress() as progress:
        outcome = stages.gate(load_settings(), version=version or None, run_id=run_id, today=today, progress=progress)
    if summary:
        append(summary, Path(outcome.markdown_file).read_text(encoding="utf-8"))
    if json:
        emit(outcome)
    else:
        show_decision(outcome.decision)
        out.print(f"written: {outcome.json_file}, {outcome.markdown_file}", soft_wrap=True)
    if outcome.reasons:
        raise GateRefused("; ".join(outcome.reasons), where=f"version {outcome.version}")
    if outputs:
        append(outputs, f"version={outcome.version}\n")


def promote(
    version: Annotated[
        str, typer.Option("--version", help="Version to promote.", show_default="the newest that passed the gate")
    ] = "",
    json: JsonOutput = False,
) -> None:
    """Make a version that passed the gate the champion; the champion so far becomes the previous one.

    It is not deployed: see `ctcd deploy --promote`.
    """
    report = stages.promote(load_settings(), version=version or None)
    if json:
        emit(report)
    else:
        before = f" (before: version {report.before})" if report.changed and report.before else ""
        out.print(f"champion: version {report.version}{before if report.changed else ' (unchanged)'}")
