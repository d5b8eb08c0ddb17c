"""Commands about findings: what a monitor has found, until somebody closes it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctcd import markdown
from ctcd.cli.options import JsonOutput, Summary, epilog, group
from ctcd.cli.output import append, emit, out, present, table
from ctcd.settings import load_settings
from ctcd.stages import findings as stages
from ctcd.times import moment

if TYPE_CHECKING:
    from ctcd.monitoring.findings import Finding

findings = group("What monitors have found: list, show or close it.")
Number = Annotated[
    int, typer.Argument(metavar="NUMBER", min=1, max=2**63 - 1, help="Number of the finding.", show_default=False)
]


@findings.command("list", epilog=epilog("ctcd findings list --all"))
def list_(
    closed: Annotated[bool, typer.Option("--all", help="Show closed findings, too.")] = False,
    summary: Summary = None,
    json: JsonOutput = False,
) -> None:
    """Show the open findings, oldest first."""
    found = stages.list_findings(load_settings(), closed=closed)
    if summary:
        header = ("number", "kind", "subject", "found on", "last seen")
        rows = [(str(each.id), each.kind, each.subject, str(each.day), str(each.last_seen)) for each in found]
        lines = [f"### Findings: {len(found)}", "", *map(markdown.row, (header, ("---",) * len(header), *rows))]
        append(summary, "\n".join(lines if found else lines[:1]) + "\n")
    if json:
        emit(found)
        return
    if not found:
        out.print(f"no finding is {'on record' if closed else 'open'}")
        return
    table(
        "Findings" if closed else "Open findings",
        ("number", "kind", "subject", "found on", "last seen", "closed on", "by"),
        [
            (each.id, each.kind, each.subject, each.day, each.last_seen, each.closed_on, each.closed_by)
            for each in found
        ],
    )


@findings.command(epilog=epilog("ctcd findings show 3"))
def show(number: Number, json: JsonOutput = False) -> None:
    """Show a finding with its evidence."""
    present(stages.show_finding(load_settings(), number), _show, json=json)


@findings.command(epilog=epilog('ctcd findings close 3 --reason "the sensor was replaced"'))
def close(
    number: Number,
    reason: Annotated[str, typer.Option("--reason", help="Why it needs no attention any longer.", show_default=False)],
    by: Annotated[str, typer.Option("--by", help="Who closes it.", show_default="CTCD_ACTOR")] = "",
    json: JsonOutput = False,
) -> None:
    """Close a finding; it stays in the store, and is raised anew if it comes again."""
    done = stages.close_finding(load_settings(), number, reason=reason, by=by)
    present(done, f"finding {done.id} is closed: {done.kind}, {done.subject}", json=json)


@findings.command(epilog=epilog("ctcd findings due"))
def due(
    started: Annotated[bool, typer.Option("--started", help="Record that the training has been started.")] = False,
    outputs: Annotated[
        Path | None,
        typer.Option("--outputs", help="File that due=true or due=false is appended to.", show_default=False),
    ] = None,
    json: JsonOutput = False,
) -> None:
    """Say whether findings ask for a training today: only if the settings let them, and not during the cool-down."""
    report = stages.training_due(load_settings(), started=started)
    if outputs:
        append(outputs, f"due={str(report.due).lower()}\n")
    present(report, f"{'due' if report.due else 'not due'}: {report.why}", json=json)


def _show(finding: "Finding") -> None:
    given = {name: value for name, value in vars(finding).items() if name not in ("evidence", "new")}
    given["raised_at"] = moment(finding.raised_at)
    table(f"Finding {finding.id}", ("field", "value"), list(given.items()))
    table("Evidence", ("name", "value"), list(finding.numbers()))
