"""Verbs about the champion at work: build its Bento, serve it, score with it."""

from pathlib import Path
from typing import Annotated

import typer

from ctcd.cli.options import JsonOutput
from ctcd.cli.output import emit, out, shown_progress
from ctcd.cli.views import show_batch
from ctcd.settings import load_settings
from ctcd.stages import deployment, scoring


def build(
    version: Annotated[
        str | None, typer.Option("--version", help="Version to build.", show_default="the champion")
    ] = None,
    json: JsonOutput = False,
) -> None:
    """Build the Bento of the champion, or of another version."""
    report = deployment.build(load_settings(), version=version)
    if json:
        emit(report)
    else:
        out.print(f"{report.tag}{' (it was there already)' if report.reused else ''}: {report.path}", soft_wrap=True)


def serve(
    host: Annotated[str | None, typer.Option(help="Address to bind to.", show_default="the setting host")] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port to bind to.", show_default="the setting port")
    ] = None,
) -> None:
    """Serve the champion from its Bento until Ctrl-C."""
    from ctcd.serving.launch import serve

    settings = load_settings()
    chosen = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    settings = settings.model_copy(update=chosen)
    bento = deployment.build(settings)
    out.print(f"{bento.tag} on http://{settings.host}:{settings.port} (API page: /, stop: Ctrl-C)", highlight=False)
    raise typer.Exit(serve(bento.tag, settings))


def predict(
    source: Annotated[
        str,
        typer.Argument(
            help="A CSV, CSV.gz or Parquet file, or a table of the store: the features or the snapshots.",
            show_default=False,
        ),
    ],
    to: Annotated[
        Path | None,
        typer.Option(
            "--out",
            dir_okay=False,
            help="CSV, CSV.gz or Parquet file to write.",
            show_default="<source>.predictions.csv",
        ),
    ] = None,
    json: JsonOutput = False,
) -> None:
    """Score a file or a table in batch with the champion."""
    with shown_progress() as progress:
        report = scoring.predict(load_settings(), source, to, progress=progress)
    if json:
        emit(report)
    else:
        show_batch(report)
