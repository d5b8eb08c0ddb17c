"""Commands about predictions that are in an outbox because the store does not have them."""

from pathlib import Path
from typing import Annotated

import typer

from ctcd.cli.options import JsonOutput, epilog, group
from ctcd.cli.output import emit, out, present, table
from ctcd.errors import DataRefused, Unreachable, number_of
from ctcd.settings import load_settings
from ctcd.stages import outbox as stages
from ctcd.times import moment

outbox = group("Predictions that the store does not have: list, retry or export them.")


@outbox.command("list", epilog=epilog("ctcd outbox list --json"))
def list_(json: JsonOutput = False) -> None:
    """Show what the outboxes hold: predictions that wait, and dead letters with their reasons."""
    report = stages.list_outboxes(load_settings())
    if json:
        emit(report)
        return
    table("Waiting for the store", ("outbox", "predictions"), list(report.waiting.items()))
    table(
        "Dead letters",
        ("outbox", "number", "reason", "request ids", "model version", "made at", "bytes"),
        [
            (
                each.outbox,
                each.number,
                each.reason,
                " ".join(each.request_ids),
                each.model_version,
                each.created_at and moment(each.created_at),
                each.size,
            )
            for each in report.letters
        ],
    )
    for name, reason in report.unusable.items():
        out.print(f"{name}: {reason}")
    for path in report.moved_aside:
        out.print(f"{path}: moved aside by the service, which could not use it")


@outbox.command(epilog=epilog("ctcd outbox retry"))
def retry(json: JsonOutput = False) -> None:
    """Send the dead letters to the store again; ends in exit code 3 if it still refuses some."""
    report = stages.retry(load_settings())
    present(report, f"{number_of(report.sent, 'dead letter')} sent to the store", json=json)
    _require_all(report.unusable)
    if report.left:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in report.left.items())
        raise DataRefused(
            f"dead letters that are left: {reasons}",
            where="outbox",
            hint="correct the store, or keep them in a file: ctcd outbox export FILE --remove",
        )


@outbox.command(epilog=epilog("ctcd outbox export dead-letters.jsonl --remove"))
def export(
    to: Annotated[
        Path, typer.Argument(metavar="FILE", dir_okay=False, help="JSON Lines file to write.", show_default=False)
    ],
    remove: Annotated[
        bool, typer.Option("--remove", help="Delete them from the outboxes once the file is written.")
    ] = False,
    json: JsonOutput = False,
) -> None:
    """Write the dead letters to a file, with the values of their predictions; only you may read it."""
    report = stages.export(load_settings(), to, remove=remove)
    done = "written and removed" if report.removed else "written"
    present(report, f"{number_of(report.letters, 'dead letter')} {done}: {report.path}", json=json)
    _require_all(report.unusable)


def _require_all(unusable: dict[str, str]) -> None:
    if unusable:
        files = "; ".join(f"{name}: {reason}" for name, reason in unusable.items())
        raise Unreachable(
            f"skipped: {files}",
            where="outbox",
            hint="the service repairs or replaces such files at its next start, or within a minute",
        )
