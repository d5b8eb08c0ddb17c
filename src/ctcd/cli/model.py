"""Commands about models: train, gate, promote, and what happened to each version."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctcd.cli.options import JsonOutput, KnownDay, ProfileName, Reason, Summary, Today
from ctcd.cli.output import append, emit, err, out, present, shown_progress, table
from ctcd.cli.views import show_decision, show_training
from ctcd.errors import GateRefused, UsageError
from ctcd.registry import NOT_GIVEN
from ctcd.settings import Settings, load_settings
from ctcd.stages import promotion as stages
from ctcd.stages import training
from ctcd.stages.connections import instance
from ctcd.times import moment
from ctcd.urls import run_page, version_page

if TYPE_CHECKING:
    from ctcd.promotion.page import Comparison
    from ctcd.registry.versions import RegisteredVersion


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
    if not json:
        _show_link(settings, lambda ui: run_page(ui, report.run_id))


def _show_link(settings: Settings, page: Callable[[str], str]) -> None:
    if settings.mlflow_url:
        out.print(f"MLflow: {page(settings.mlflow_url)}")


def gate(
    version: Annotated[
        str, typer.Option("--version", help="Version to judge.", show_default="that of the newest finished training")
    ] = "",
    run_id: Annotated[
        str | None, typer.Option("--run-id", help="Training run to judge, instead of a version.", show_default=False)
    ] = None,
    today: Today = None,
    without_champion: Annotated[
        str | None,
        typer.Option(
            help="Reason for deciding by the floors alone if the champion can no longer be compared; it is recorded.",
            show_default=False,
        ),
    ] = None,
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
    if without_champion is not None and not without_champion.strip():
        raise UsageError("give a reason: it becomes part of the decision", where="--without-champion")
    settings = load_settings()
    with shown_progress() as progress:
        outcome = stages.gate(
            settings,
            version=version or None,
            run_id=run_id,
            today=today,
            without_champion=without_champion,
            progress=progress,
        )
    text = Path(outcome.markdown_file).read_text(encoding="utf-8")
    if summary:
        append(summary, text)
    if json:
        # Standard error too, which is what the log of an Airflow task has.
        err.print(text, soft_wrap=True)
        emit(outcome)
    else:
        show_decision(outcome.decision)
        files = (outcome.page_file, outcome.json_file, outcome.markdown_file)
        out.print(f"written: {', '.join(files)}")
        _show_link(settings, lambda ui: version_page(ui, instance(settings).contract.name, outcome.version))
    if outcome.reasons:
        raise GateRefused("; ".join(outcome.reasons), where=f"version {outcome.version}")
    if outputs:
        append(outputs, f"version={outcome.version}\n")


def promote(
    version: Annotated[
        str, typer.Option("--version", help="Version to promote.", show_default="the newest that passed the gate")
    ] = "",
    reason: Reason = NOT_GIVEN,
    json: JsonOutput = False,
) -> None:
    """Make a version that passed the gate the champion; the current champion becomes the previous one.

    It is not deployed: see `ctcd deploy --promote`.
    """
    report = stages.promote(load_settings(), version=version or None, reason=reason)
    before = f" (before: version {report.before})" if report.before else ""
    note = before if report.changed else " (unchanged)"
    present(report, f"champion: version {report.version}{note}", json=json)


def models(json: JsonOutput = False) -> None:
    """List the versions in the registry, the newest first: verdict, promotion, rollback, aliases."""
    present(stages.models(load_settings()), _show_models, json=json)


def _show_models(versions: "list[RegisteredVersion]") -> None:
    if not versions:
        out.print("there is no version yet (run: ctcd train, then ctcd gate)")
        return
    tags = ("base_dt", "profile", "gate", "promoted_at", "rolled_back")
    table(
        f"Versions of {versions[0].model_name}",
        ("version", "alias", "trained on", "profile", "gate", "promoted", "rolled back", "run"),
        [
            (each.version, ", ".join(each.aliases), *(_moment(each.tags.get(name, "")) for name in tags), each.run_id)
            for each in versions
        ],
    )


def _moment(text: str) -> str:
    return moment(text) if text[10:11] == "T" else text


def why(
    version: Annotated[str, typer.Argument(help="Version in the registry, such as 7.")], json: JsonOutput = False
) -> None:
    """Show what the gate decided about a version, every time, and all rules of the last verdict."""
    present(stages.why(load_settings(), version), _show_decisions, json=json)


def _show_decisions(decisions: list[stages.RecordedDecision]) -> None:
    for each in decisions:
        against = f"champion {each.decision.champion}" if each.decision.champion else "no champion"
        mark = "; it was promoted by this decision" if each.promoted else ""
        out.print(
            f"decision {each.number}, {moment(each.decided_at)}, against {against}: {each.decision.status.value}{mark}"
        )
        for reason in each.decision.reasons:
            out.print(f"  {reason}")
    verdicts = [each.decision for each in decisions if each.decision.status != "already champion"]
    show_decision(verdicts[-1] if verdicts else decisions[-1].decision)


def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="Version in the registry, such as 7.", show_default=False)],
    second: Annotated[str, typer.Argument(metavar="B", help="Another version.", show_default=False)],
    html: Annotated[
        Path | None, typer.Option("--html", help="File that the page is written to, with plots.", show_default=False)
    ] = None,
    json: JsonOutput = False,
) -> None:
    """Show two versions side by side: verdicts, scores, rules, slices, data, parameters, environment, lineage.

    Each is shown as recorded in its newest decision; nothing is scored again.
    """
    present(stages.compare(load_settings(), first, second, page=html), _show_comparison, json=json)


def _show_comparison(comparison: "Comparison") -> None:
    for part in dict.fromkeys(line.part for line in comparison.lines):
        table(
            part.capitalize(),
            ("", *(f"version {version}" for version in comparison.versions)),
            [(line.what, *line.values) for line in comparison.lines if line.part == part],
        )
    out.print(comparison.note)
