"""Commands about predictions: serve them, make them in batch, compare them with labels."""

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ctcd import urls
from ctcd.cli.options import JsonOutput, NextDay, day_option
from ctcd.cli.output import err, out, present, shown_progress, table
from ctcd.cli.views import show_batch
from ctcd.errors import UsageError, number_of
from ctcd.settings import load_settings
from ctcd.stages import deployment
from ctcd.stages import scoring as stages
from ctcd.stages.connections import instance
from ctcd.times import moment

if TYPE_CHECKING:
    from ctcd.monitoring.performance import PerformanceReport
    from ctcd.store.retention import RetentionReport
    from ctcd.store.warehouse import ExportReport


EXPORTED_DAYS = 31
"""Days that are exported by default: later than that, no label counts."""


def serve(
    host: Annotated[str | None, typer.Option(help="Address to bind to.", show_default="CTCD_HOST")] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port to bind to.", show_default="CTCD_PORT")
    ] = None,
) -> None:
    """Serve the champion from its Bento until Ctrl-C.

    If the registry does not answer or names no champion, the last known champion is served.
    """
    from ctcd.serving.launch import serve

    settings = load_settings()
    chosen = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    settings = settings.model_copy(update=chosen)
    bento = deployment.servable(settings)
    if bento.doubt:
        err.print(f"the last champion known is served: {bento.doubt}", soft_wrap=True)
    out.print(f"{bento.tag} on {urls.http_url(settings.host, settings.port)} (form to try it: /, stop: Ctrl-C)")
    raise typer.Exit(serve(bento.tag, settings))


def consume() -> None:
    """Answer the requests that a message broker delivers, with the champion, until Ctrl-C.

    CTCD_BROKER_URL names the broker. Ends in exit code 6 if it does not answer when this starts, and in 5 if
    there is no champion.
    """
    from ctcd.serving.broker import consume

    settings = load_settings()
    consume(settings, instance(settings))


def predict(
    source: Annotated[
        str,
        typer.Argument(
            help="A CSV, CSV.gz or Parquet file, or a table of the store: the features or the snapshots.",
            show_default=False,
        ),
    ] = "",
    to: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="CSV, CSV.gz or Parquet file to write; with Spark a folder of Parquet files, <source>.predictions.parquet.",
            show_default="<source>.predictions.csv",
        ),
    ] = None,
    new: Annotated[
        bool,
        typer.Option(
            "--new",
            help="Instead of a source: the newest features of each group that the champion has not scored yet, "
            "into the table of batch predictions.",
        ),
    ] = False,
    engine: Annotated[
        Literal["process", "spark"],
        typer.Option(help="Whether to score in this process or on Spark, which reads Parquet files and the store."),
    ] = "process",
    json: JsonOutput = False,
) -> None:
    """Score a file, a table, or what is new in the store, in batch with the champion.

    Only the columns that the model reads are validated; keys are copied as they are. If rows break the contract,
    nothing is scored, and <out>.rejected.csv has all of them, with line and reasons. Spark scores the other rows,
    unless the broken ones exceed the contract's max_quarantine_share. --new quarantines the broken rows and scores the
    others in any case; beyond that share it ends in exit code 3.
    """
    if new == bool(source) or (new and to):
        raise UsageError("give a SOURCE, with or without --out, or --new alone", where="predict")
    with shown_progress() as progress:
        if not new:
            present(
                stages.predict(load_settings(), source, to, engine=engine, progress=progress), show_batch, json=json
            )
            return
        report = stages.predict_new(load_settings(), engine=engine, progress=progress)
    done = f"{number_of(report.rows, 'row')} scored with version {report.model_version} into {report.table}"
    if report.quarantined:
        done += f"; quarantined, because they break the contract: {number_of(report.quarantined, 'row')}"
    present(report, done if report.model_version else "there is no champion yet: nothing was scored", json=json)


def performance(
    base_dt: NextDay = None,
    period: Annotated[
        Literal["daily", "weekly"], typer.Option("--period", help="Whether a row covers a day or a week.")
    ] = "daily",
    json: JsonOutput = False,
) -> None:
    """Compare the predictions before a day with the labels that came since, and keep the result in the store.

    Until labels are known, accuracy and macro F1 are estimated from the predicted probabilities; the error of the
    estimate is measured on the rows whose labels are known. --json adds recall and slices, each with its interval.
    """
    settings = load_settings()
    day = base_dt or settings.today()
    report = stages.performance(settings, day, period=period)
    if report.rows or json:
        present(report, lambda each: show_performance(each, period), json=json)
    else:
        out.print(f"no prediction was logged in the {'days' if period == 'daily' else 'weeks'} before {day}")


def show_performance(report: "PerformanceReport", period: str) -> None:
    """Show a row for each model and period, and the findings."""
    from ctcd.monitoring.performance import UNKNOWABLE, with_share

    rows = [
        (
            row.first_day,
            row.model_version,
            row.run_id[:8],
            row.predictions,
            with_share(row.labelled, row.predictions).replace(" ", "\n"),  # the intervals need the width
            _with_interval(row.accuracy, row.accuracy_low, row.accuracy_high),
            _with_interval(row.macro_f1, row.macro_f1_low, row.macro_f1_high),
            row.estimated_accuracy,
            row.accuracy_error,
        )
        for row in report.rows
    ]
    table(
        f"Performance, {period}",
        (
            *("from", "version", "run", "predictions", "labelled", "accuracy (95 %)", "macro F1 (95 %)"),
            *("estimated accuracy", "its error"),
        ),
        rows,
    )
    if report.joined_by is None:
        out.print(UNKNOWABLE)
    for finding in report.findings:
        out.print(f"finding {finding.id}: {finding.subject}")


def _with_interval(score: float | None, low: float | None, high: float | None) -> str:
    return "" if score is None or low is None or high is None else f"{score:.3f} ({low:.3f}-{high:.3f})"


def export(
    folder: Annotated[
        str,
        typer.Argument(
            help="Folder, or URL such as s3://bucket/predictions or gs://bucket/predictions.",
            show_default="CTCD_WAREHOUSE",
        ),
    ] = "",
    base_dt: Annotated[
        date | None,
        day_option("--base-dt", help="Day after the last exported one.", default="today in the configured time zone"),
    ] = None,
    days: Annotated[int, typer.Option("--days", min=1, max=36_525, help="Number of days to export.")] = EXPORTED_DAYS,
    sql: Annotated[
        Literal["duckdb", "bigquery"] | None,
        typer.Option("--sql", help="Instead: print the SQL with which this warehouse loads what was exported."),
    ] = None,
    into: Annotated[
        str, typer.Option("--into", help="Table of the warehouse, with --sql.", show_default="the log's name")
    ] = "",
    json: JsonOutput = False,
) -> None:
    """Copy the prediction log to a data warehouse: a Parquet file for each day, in a folder or a bucket.

    Days that are complete there are not written again, so the command can be repeated at any time. If
    CTCD_BIGQUERY names a table, files in Google Cloud Storage are loaded into it.
    """
    settings = load_settings()
    if (into and not sql) or (sql and (json or base_dt or days != EXPORTED_DAYS)):
        raise UsageError("--sql is given alone or with --into, for all that was exported", where="export")
    if sql:
        out.print(stages.warehouse_statements(settings, folder, table=into, dialect=sql), end="")
        return
    with shown_progress() as progress:
        report = stages.export(settings, base_dt or settings.today(), folder, days=days, progress=progress)
    present(report, _show_exported, json=json)


def _show_exported(report: "ExportReport") -> None:
    when = {True: "now", False: "earlier", None: "no"}
    rows = [(day.day, day.rows, day.file, when[day.written], when[day.loaded]) for day in report.days]
    table(f"Predictions in {report.folder}", ("day", "rows", "file", "written", "loaded"), rows)


def retain(
    partition: Annotated[
        bool,
        typer.Option(
            "--partition", help="First give the log of a MariaDB partitions by month; a killed run is continued."
        ),
    ] = False,
    json: JsonOutput = False,
) -> None:
    """Delete the months of the prediction log that CTCD_LOG_KEEP_MONTHS no longer keeps.

    With partitions this takes a moment, however many rows there are, and partitions for the next months are added.
    Ends in exit code 6 if the log is in use: run it again.
    """
    with shown_progress() as progress:
        report = stages.retain(load_settings(), partition=partition, progress=progress)
    present(report, _show_retained, json=json)


def _show_retained(report: "RetentionReport") -> None:
    kept = f"{report.table}: kept since {report.first_month}" if report.first_month else f"{report.table}: all is kept"
    changes = [f"rows deleted: {report.deleted:,}"]
    if report.partitioned:
        names = (("dropped", report.dropped), ("added", report.added))
        changes = [*(f"partitions {what}: {', '.join(which) or 'none'}" for what, which in names), *changes]
    out.print("; ".join([kept, *changes]))


def lookup(
    request_id: Annotated[str, typer.Argument(help="Request id: a field of the answer, and its header X-Request-ID.")],
    json: JsonOutput = False,
) -> None:
    """Show the answer to a request: when it was given, by which version, and for which features."""
    present(stages.lookup(load_settings(), request_id), _show_logged, json=json)


def _show_logged(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        shown = row | {"created_at": moment(row["created_at"], "microseconds")}
        table(f"Request {row['request_id']}", ("field", "value"), [(name, str(value)) for name, value in shown.items()])
