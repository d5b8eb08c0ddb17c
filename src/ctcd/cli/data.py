"""Commands about data and settings."""

from datetime import date
from pathlib import Path
from typing import Annotated

import typer
from pydantic import SecretStr

from ctcd.cli.options import MAX_ROWS, JsonOutput, KnownDay, NewDay, day_option
from ctcd.cli.output import emit, out, present, shown_progress, table
from ctcd.cli.views import show_ingest, show_snapshot, show_synthetic, show_validation
from ctcd.settings import MAX_SEED, Settings, descriptions, load_settings
from ctcd.stages import data as stages
from ctcd.stages.connections import instance
from ctcd.urls import masked


def generate(
    folder: Annotated[Path, typer.Argument(file_okay=False, help="Folder to write the raw tables to.")] = Path(
        "var/synthetic"
    ),
    rows: Annotated[int, typer.Option(min=1, max=MAX_ROWS, help="Rows of each table.")] = 20_000,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Seed; the same seed writes the same files.")] = 42,
    end: Annotated[date | None, day_option("--end", help="Last day of the data.", default="today")] = None,
    error_rate: Annotated[float, typer.Option(min=0, max=0.5, help="Share of rows that break the contract.")] = 0.005,
    json: JsonOutput = False,
) -> None:
    """Write synthetic raw tables that follow the contract, with a known share of injected errors."""
    from ctcd.derived import synthetic

    settings = load_settings()
    report = synthetic.write(
        instance(settings).contract, folder, rows=rows, seed=seed, end=end or settings.today(), error_rate=error_rate
    )
    present(report, show_synthetic, json=json)


def ingest(
    source: Annotated[
        Path, typer.Argument(help="A folder of raw tables, or one of them: CSV, CSV.gz or Parquet.", show_default=False)
    ],
    replace: Annotated[
        bool, typer.Option("--replace", help="First remove all rows of these tables from the store.")
    ] = False,
    json: JsonOutput = False,
) -> None:
    """Load raw tables into the feature store; rows that break the contract are quarantined with the reason."""
    with shown_progress() as progress:
        report = stages.ingest(load_settings(), source, replace=replace, progress=progress)
    present(report, show_ingest, json=json)


def migrate() -> None:
    """Bring the feature store's schema up to date."""
    created = stages.migrate(load_settings())
    if created:
        out.print(f"created again, without the rows that they had: {', '.join(created)}")
    out.print("the schema is up to date")


def snapshot(
    base_dt: NewDay = None,
    months: Annotated[
        int | None,
        typer.Option(min=1, max=120, help="Months of labels to include.", show_default="CTCD_SNAPSHOT_MONTHS"),
    ] = None,
    json: JsonOutput = False,
) -> None:
    """Take the training snapshot of a day: features joined to the labels of the months before it."""
    settings = load_settings()
    report = stages.snapshot(settings, base_dt or settings.today(), months=months)
    present(report, lambda taken: show_snapshot(taken, instance(settings).contract.group.name), json=json)


def validate(base_dt: KnownDay = None, json: JsonOutput = False) -> None:
    """Check a snapshot against the contract; ends in exit code 3, with every broken rule shown, if it breaks it."""
    from ctcd.contract.validation import ContractBroken

    try:
        report = stages.validate_snapshot(load_settings(), base_dt)
    except ContractBroken as broken:
        present(broken.report, show_validation, json=json)
        raise
    present(report, show_validation, json=json)


def config(json: JsonOutput = False) -> None:
    """Show the settings in force and where each comes from; secrets are masked.

    The environment variable of a setting is CTCD_ and its name in upper case, such as CTCD_HOST.
    """
    settings = load_settings()
    shown = {name: _masked(name, settings) for name in Settings.model_fields}
    if json:
        emit(shown)
        return
    meanings = descriptions()
    rows = [
        (name, str(value), "set" if name in settings.model_fields_set else "default", meanings[name])
        for name, value in shown.items()
    ]
    table("Settings", ("setting", "value", "from", "what it is"), rows)


def _masked(name: str, settings: Settings) -> object:
    resolved = {"feature_store_url": settings.store_url, "mlflow_tracking_uri": settings.tracking_uri}
    if name in resolved:
        return masked(resolved[name])
    value = getattr(settings, name)
    if isinstance(value, SecretStr):
        return "********" if value.get_secret_value() else ""
    return value
