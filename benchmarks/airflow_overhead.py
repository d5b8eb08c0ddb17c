"""The overhead of Airflow in continuous training: the same stages as commands, and as tasks of the DAG."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from sqlalchemy import URL
from support.mariadb import database, server

from benchmarks.instance import CONTRACT
from ctcd.cli.output import table
from ctcd.derived import synthetic
from ctcd.settings import Settings, load_settings
from ctcd.stages import data as stages

DAG, ROWS, MONTHS = f"{CONTRACT.name}_classification_ct", 20_000, 8
PROFILE = "baseline"
ROUNDS = 2


@dataclass(frozen=True, kw_only=True)
class AirflowOverhead:
    """Continuous training without and with Airflow, on the same data; the faster of two rounds.

    Args:
        rows: rows of the raw tables.
        cli_seconds: wall time of the commands, run one after the other: the baseline.
        dag_seconds: wall time of `dag.test()`, which runs the same commands.
        tasks: tasks that ran.
        times_cli: `dag_seconds` by `cli_seconds`.
        seconds_a_task: overhead of Airflow per task.
    """

    rows: int
    cli_seconds: float
    dag_seconds: float
    tasks: int
    times_cli: float
    seconds_a_task: float


def run(data: Path | None) -> list[Any]:
    """Measure both ways on the tables in `data`, or on synthetic rows, each in a database of its own."""
    with tempfile.TemporaryDirectory(prefix="ctcd-bench-") as folder, server() as url:
        commands, dags = [], []
        for number in range(ROUNDS):
            with database(url) as first:
                commands.append(_cli(_filled(first, Path(folder) / f"cli-{number}", data)))
            with database(url) as second:
                dags.append(_dag(_filled(second, Path(folder) / f"dag-{number}", data), second))
    # Other processes on the machine can only add time, so the minimum is the best estimate.
    cli, dag = min(commands), min(dags, key=lambda one: float(one["seconds"]))
    result = AirflowOverhead(
        rows=ROWS,
        cli_seconds=cli,
        dag_seconds=dag["seconds"],
        tasks=dag["tasks"],
        times_cli=dag["seconds"] / cli,
        seconds_a_task=(dag["seconds"] - cli) / dag["tasks"],
    )
    table(
        "Continuous training in Airflow (baseline: the same commands run one after the other)",
        ("rows", "commands s", "DAG s", "DAG / commands", "tasks", "added s per task"),
        [
            (
                result.rows,
                round(result.cli_seconds, 1),
                round(result.dag_seconds, 1),
                round(result.times_cli, 2),
                result.tasks,
                round(result.seconds_a_task, 2),
            )
        ],
    )
    return [result]


def _filled(url: URL, home: Path, data: Path | None) -> Settings:
    """Return settings of a home and a store of their own, with raw tables."""
    settings = load_settings().model_copy(
        update={
            "home": home,
            "feature_store_url": SecretStr(url.render_as_string(hide_password=False)),
            "mlflow_tracking_uri": SecretStr(""),
            "snapshot_months": MONTHS,
        }
    )
    stages.migrate(settings)
    if data is None:
        synthetic.write(CONTRACT, home / "raw", rows=ROWS, seed=settings.seed, end=settings.today(), months=MONTHS)
    stages.ingest(settings, data or home / "raw")
    return settings


def _cli(settings: Settings) -> float:
    day = ["--base-dt", settings.today().isoformat()]
    began = time.monotonic()
    # In this process, as the DAG's SQL runs in the worker's.
    stages.snapshot(settings, settings.today())
    for command in ("validate", "monitor"):
        _run(settings, [command, *day])
    prepared = _run(settings, ["training", "prepare", *day, "--profile", PROFILE])
    for index in range(len(prepared["trials"])):
        _run(settings, ["training", "trial", prepared["training"], "--index", str(index)])
    trained = _run(settings, ["training", "finish", prepared["training"]])
    judged = _run(settings, ["gate", "--run-id", trained["run_id"]])
    _run(settings, ["promote", "--version", judged["version"]])
    return time.monotonic() - began


def _run(settings: Settings, arguments: Sequence[str]) -> dict[str, Any]:
    command = [str(Path(sys.executable).with_name("ctcd")), *arguments, "--json"]
    done = subprocess.run(command, env=settings.child_environment(), stdout=subprocess.PIPE, check=True)  # noqa: S603 - our own command
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def _dag(settings: Settings, url: URL) -> dict[str, Any]:
    connection = url.set(drivername="mariadb").render_as_string(hide_password=False)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.airflow_overhead"],
        env=settings.child_environment()
        | {"AIRFLOW_CONN_FEATURE_STORE": connection, "AIRFLOW_VAR_MODEL_VERSION": PROFILE},
        stdout=subprocess.PIPE,
        check=True,
    )
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def _child() -> None:
    """Run the DAG in this process, after a first run has paid the one-time costs."""
    from support.dag_runs import prepare, run_dag

    prepare()
    run_dag("simple_dag")
    began = time.monotonic()
    done = run_dag(DAG)
    seconds = time.monotonic() - began
    if done.state != "success":
        raise RuntimeError(f"the run is {done.state}: {done.tasks}")
    ran = sum(state == "success" for state in done.tasks.values())
    sys.stdout.write("\n" + json.dumps({"seconds": seconds, "tasks": ran}) + "\n")


if __name__ == "__main__":
    _child()
