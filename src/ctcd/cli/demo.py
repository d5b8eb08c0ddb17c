"""The demo: every stage once, embedded, with a summary of what happened."""

import socket
import time
from datetime import date
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer
from pydantic import SecretStr

from ctcd.cli.monitor import show_monitored
from ctcd.cli.options import MAX_ROWS, ProfileName
from ctcd.cli.output import out, shown_progress, table
from ctcd.cli.views import show_decision, show_ingest, show_next, show_snapshot, show_training, with_contracts
from ctcd.deployment import client
from ctcd.errors import GateRefused, Unreachable
from ctcd.settings import MAX_SEED, Settings, load_settings
from ctcd.stages import data as data_stages
from ctcd.stages import deployment, pipeline, scoring
from ctcd.stages.connections import instance
from ctcd.urls import sqlite_url

LOGGED_SECONDS = 120.0
"""Timeout for a prediction to reach the store, in seconds."""


def demo(
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", exists=True, help="Folder of raw tables, or the one table.", show_default="synthetic data"
        ),
    ] = None,
    profile: ProfileName = "fast",
    rows: Annotated[int, typer.Option(min=1_000, max=MAX_ROWS, help="Rows of synthetic data.")] = 20_000,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Seed of the synthetic data.")] = 42,
) -> None:
    """Run every stage once, embedded: ingest, train, gate, promote, serve, predict. It needs no server and no Docker."""
    began, clock = time.monotonic(), pipeline.Clock()
    settings = _embedded(data)
    with shown_progress() as progress:
        source = data or clock("synthetic data", lambda: _synthetic(settings, rows, seed))
        report = pipeline.run(settings, source, profile=profile, progress=progress)
    contract = instance(settings).contract
    show_ingest(report.ingest)
    show_snapshot(report.snapshot, contract.group.name)
    show_training(report.training, contract.group.name)
    show_decision(report.gate.decision)
    out.print(f"evidence: {report.gate.page_file}")
    if find_spec("great_expectations"):  # an optional dependency
        day = date.fromisoformat(report.snapshot.base_dt)
        # The data of another demo may be quite different.
        show_monitored(clock("monitor", lambda: data_stages.monitor_data(settings, day, accept_change=True)))
    else:
        out.print("the data monitor is left out: it needs Great Expectations, which make install installs")
    if report.gate.reasons:
        raise GateRefused("; ".join(report.gate.reasons), where=f"version {report.gate.version}")
    with shown_progress() as progress:
        tag = clock("build", lambda: deployment.build(settings).tag)
        question, answer, logged = clock("serve", lambda: _ask(settings, tag, progress))
    table("Registry", ("model", "version", "alias"), [(contract.name, report.gate.version, "champion")])
    table(
        f"Request: POST /predict to {tag}", ("field", "value"), [(name, str(value)) for name, value in question.items()]
    )
    table("Answer", ("field", "value"), [(name, str(value)) for name, value in answer.items()])
    out.print(f"rows of {contract.predictions_table} with this request id: {logged}")
    _show_seconds({**report.seconds, **clock.seconds}, time.monotonic() - began)
    _show_next(settings)


def _embedded(data: Path | None) -> Settings:
    """Return settings with a home of its own for each contract and source of data."""
    settings = load_settings()
    # The store of another contract has another history of migrations; folders in different places have the same name.
    source = f"{data.resolve().name}-{sha256(bytes(data.resolve())).hexdigest()[:8]}" if data else "synthetic"
    name = f"{instance(settings).contract.slug}-{source}"
    embedded = {"feature_store_url": SecretStr(""), "mlflow_tracking_uri": SecretStr("")}
    return settings.model_copy(update={**embedded, "home": settings.home / "demo" / name, "host": "127.0.0.1"})


def _synthetic(settings: Settings, rows: int, seed: int) -> Path:
    from ctcd.derived import synthetic

    folder = settings.home / "raw"
    synthetic.write(instance(settings).contract, folder, rows=rows, seed=seed, end=settings.today())
    return folder


def _show_seconds(seconds: dict[str, float], total: float) -> None:
    rest = total - sum(seconds.values())
    rows = [*seconds.items(), ("imports, start and output", rest), ("all", total)]
    table("Time", ("stage", "seconds"), [(stage, f"{each:.1f}") for stage, each in rows])


def _ask(settings: Settings, tag: str, progress: Any) -> tuple[dict[str, Any], dict[str, Any], int]:
    """Serve a Bento on a free port, send one prediction over HTTP and wait for its row in the log.

    Returns:
        the row sent, the answer, and the number of rows in the log with its request id.
    """
    from ctcd.serving.launch import running

    question: dict[str, Any] = instance(settings).payload.row.model_json_schema()["examples"][0]
    with socket.socket() as probe:  # only now: until the service listens, the port may go to any connection
        probe.bind((settings.host, 0))
        settings = settings.model_copy(update={"port": probe.getsockname()[1]})
    with running(tag, settings, progress=progress) as service:
        answer = client.predict(service.url, question, settings.client_key)
        logged = _wait_for_log(settings, answer["request_id"])
    return question, answer, logged


def _wait_for_log(settings: Settings, request_id: str) -> int:
    deadline = time.monotonic() + LOGGED_SECONDS
    while time.monotonic() < deadline:
        logged = len(scoring.logged_predictions(settings, request_id))
        if logged:
            return logged
        time.sleep(0.1)
    raise Unreachable(
        f"prediction {request_id} did not reach the log", where=instance(settings).contract.predictions_table
    )


def _show_next(settings: Settings) -> None:
    home = settings.home
    prefix = f"{with_contracts(settings.contracts)}CTCD_HOME={quote(str(home))}"
    uri = quote(sqlite_url(home / "mlflow.db"))
    table_name = instance(settings).contract.features_table
    commands = {
        "serve the champion; a form to try it at http://127.0.0.1:3000/": f"{prefix} .venv/bin/ctcd serve",
        "MLflow at http://127.0.0.1:5000/": f".venv/bin/mlflow ui --backend-store-uri {uri}",
        "score a table in batch": f"{prefix} .venv/bin/ctcd predict {table_name} --out scores.csv",
        "what answered when, and who changed it": f"{prefix} .venv/bin/ctcd history",
        "compute logged answers again": f"{prefix} .venv/bin/ctcd replay --sample 10",
        "pages about data, model and predictions": f"{prefix} .venv/bin/ctcd report",
        "what monitors have found": f"{prefix} .venv/bin/ctcd findings list",
        "all commands": ".venv/bin/ctcd --help",
    }
    show_next(commands)
