"""Commands of an audit: compute answers again, and show what was in service when and who changed it."""

from datetime import date
from typing import TYPE_CHECKING, Annotated

import typer

from ctcd.cli.options import MAX_ROWS, JsonOutput, moment_option
from ctcd.cli.output import out, present, shown_progress, table
from ctcd.errors import GateRefused, NotFound, UsageError, number_of
from ctcd.settings import load_settings
from ctcd.stages import audit as stages
from ctcd.times import moment

if TYPE_CHECKING:
    from ctcd.scoring.replay import ReplayReport

SHOWN_DIFFERENCES = 20

From = Annotated[date | None, moment_option("--from", help="First day or time.", default="no limit")]
To = Annotated[date | None, moment_option("--to", help="Last day, or the time that ends it.", default="no limit")]


def replay(
    requests: Annotated[
        list[str] | None,
        typer.Argument(help="Request ids; that of a batch stands for all of its rows.", show_default=False),
    ] = None,
    begin: From = None,
    end: To = None,
    sample: Annotated[
        int | None,
        typer.Option(
            "--sample", min=1, max=MAX_ROWS, help="Maximum number of answers, drawn at random.", show_default=False
        ),
    ] = None,
    json: JsonOutput = False,
) -> None:
    """Compute logged answers again, each with the version that gave it; compare class, confidence and probabilities.

    Ends in exit code 4 if an answer differs by more than 1e-9, and in exit code 5 if one cannot be computed, because
    its version is gone.
    """
    chosen = begin is not None or end is not None or sample is not None
    if bool(requests) == chosen:
        raise UsageError("give request ids, or a period (--from, --to) or --sample", where="replay")
    with shown_progress() as progress:
        report = stages.replay(
            load_settings(), requests=requests or (), begin=begin, end=end, sample=sample, progress=progress
        )
    present(report, _show_replay, json=json)
    if report.different:
        raise GateRefused(f"{report.different:,} of {report.answers:,} answers are not what their version computes")
    if report.not_computed:
        problem = next(each.problem for each in report.versions if each.problem)
        raise NotFound(f"{report.not_computed:,} of {report.answers:,} answers cannot be computed again: {problem}")


def _show_replay(report: "ReplayReport") -> None:
    table(
        f"{number_of(report.answers, 'answer')} computed again in {report.seconds:.1f} s",
        ("version", "run", "answers", "equal", "different", "without all probabilities", "problem"),
        [
            (
                each.model_version,
                each.run_id or "(not logged)",
                each.answers,
                each.equal,
                each.different,
                each.partial,
                each.problem,
            )
            for each in report.versions
        ],
    )
    if report.differences:
        shown = report.differences[:SHOWN_DIFFERENCES]
        table(
            f"Differences, the first {len(shown):,} of {len(report.differences):,} (all with --json)",
            ("request", "version", "what", "logged", "computed"),
            [
                (each.request_id, each.model_version, each.field, repr(each.logged), repr(each.computed))
                for each in shown
            ],
        )


def history(
    begin: Annotated[
        date | None, moment_option("--from", help="First day or time.", default="seven days before the end")
    ] = None,
    end: Annotated[
        date | None, moment_option("--to", help="Last day, or the time that ends the period.", default="now")
    ] = None,
    at: Annotated[
        date | None, moment_option("--at", help="One second, instead of a period.", default="a period")
    ] = None,
    json: JsonOutput = False,
) -> None:
    """Show which version answered when, and who promoted, deployed or rolled back what, when and why.

    Which version answered is read from the prediction log. Times are shown in UTC, and options take them as shown.
    """
    if at is not None and (begin is not None or end is not None):
        raise UsageError("--at is a second, and needs no --from and --to", where="history")
    present(stages.history(load_settings(), begin=begin, end=end, at=at), _show_history, json=json)


def _show_history(report: stages.HistoryReport) -> None:
    answered = f"answered from {moment(report.begin)} to {moment(report.end)}"
    if report.answering:
        table(
            f"What {answered}",
            ("from", "to", "version", "variant", "run", "served by", "answers"),
            [
                (
                    moment(each.first),
                    moment(each.last),
                    each.model_version,
                    each.variant,
                    each.run_id,
                    each.served_by,
                    each.answers,
                )
                for each in report.answering
            ],
        )
    else:
        out.print(f"nothing {answered}")
    if not report.answering and report.last_before:
        last = report.last_before
        out.print(f"the last answer before is of {moment(last.last)}, by version {last.model_version}")
    if report.changes:
        table(
            "Who changed what",
            ("when", "what", "version", "before", "where", "by", "why"),
            [
                (
                    moment(each.at),
                    each.what,
                    each.version,
                    each.before,
                    " ".join((each.target, each.artifact)).strip(),
                    each.by,
                    each.why,
                )
                for each in report.changes
            ],
        )
    else:
        out.print("no change of what is in service is on record")
    champion = f"version {report.champion}" if report.champion else "none on record"
    out.print(f"champion at the end: {champion}")
    for target, version in sorted(report.deployed.items()):
        out.print(f"deployed at {target}: version {version}")
