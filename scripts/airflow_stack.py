"""Runs Airflow with the DAGs of `dags/` on this machine until Ctrl-C; `make airflow` calls it.

The feature store is that of FEATURE_STORE_URL if it names a MariaDB server; otherwise a private server with synthetic data,
which is discarded at the end. Airflow's metadata database is that of AIRFLOW__DATABASE__SQL_ALCHEMY_CONN, otherwise a private
PostgreSQL server, which is discarded too. With `--workers` tasks run in workers of the Celery executor, each with a home of its
own, as on several machines; their broker is that of AIRFLOW__CELERY__BROKER_URL, otherwise a private Redis server.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from pydantic import SecretStr
from sqlalchemy import make_url
from support import postgres, redis
from support.airflow_stack import END_SECONDS, Celery, running
from support.mariadb import database, private_server

from ctcd.cli.output import explained, out
from ctcd.contract.instance import load_instance
from ctcd.deployment.target import TargetName
from ctcd.derived import synthetic
from ctcd.errors import Unreachable
from ctcd.serving.launch import require_free_port
from ctcd.settings import PREFIX, Settings, bypass_proxies_for_loopback, load_settings
from ctcd.stages import data, deployment

ROOT = Path(__file__).parents[1]
ROWS, MONTHS = 20_000, 8


@contextmanager
def store(settings: Settings) -> Iterator[Settings]:
    """Yield settings whose feature store is a MariaDB server with tables."""
    if make_url(settings.store_url).get_backend_name() != "sqlite":
        yield settings
        return
    contract = load_instance(settings.contracts).contract
    out.print("starting a private MariaDB server with synthetic data (set FEATURE_STORE_URL for one of your own)")
    with private_server() as server, database(server) as url:
        url_text = SecretStr(url.render_as_string(hide_password=False))
        filled = settings.model_copy(update={"feature_store_url": url_text, "snapshot_months": MONTHS})
        data.migrate(filled)
        raw = settings.home / "airflow" / "raw"
        synthetic.write(contract, raw, rows=ROWS, seed=settings.seed, end=settings.today(), months=MONTHS)
        data.ingest(filled, raw)
        yield filled


@contextmanager
def metadata() -> Iterator[str]:
    """Yield the SQLAlchemy URL of Airflow's metadata database."""
    given = os.environ.get("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN")
    if given:
        yield given
        return
    with postgres.private_server() as url:
        yield url.render_as_string(hide_password=False)


@contextmanager
def mlflow(settings: Settings, port: int) -> Iterator[str]:
    """Yield the URL of MLflow's UI: of the server that the settings name, else of one for the local store."""
    uri = settings.tracking_uri
    if not uri.startswith("sqlite:"):
        yield uri
        return
    log = settings.home / "airflow" / "logs" / "mlflow.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--workers", "1"]
    command += ["--artifacts-destination", str(settings.artifacts.resolve())]
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own command
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            # Its jobs, which nothing here uses, would run in eight more processes.
            env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        # The group: the server leaves its workers to themselves.
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def celery(settings: Settings, count: int) -> Iterator[Celery | None]:
    """Yield so many workers, which share nothing but the folder of trainings; None: there are to be none."""
    if not count:
        yield None
        return
    settings.trainings.mkdir(parents=True, exist_ok=True)
    workers = {}
    for number in range(1, count + 1):
        home = worker_home(settings, number)
        home.mkdir(parents=True, exist_ok=True)
        shared = home / settings.trainings.name
        if not shared.is_symlink():
            shared.symlink_to(settings.trainings.resolve())
        workers[f"worker-{number}"] = {f"{PREFIX}HOME": str(home.resolve())}
    given = os.environ.get("AIRFLOW__CELERY__BROKER_URL")
    if given:
        yield Celery(broker=given, workers=workers)
        return
    with redis.own_server() as server:
        yield Celery(broker=server.url, workers=workers)


def worker_home(settings: Settings, number: int) -> Path:
    """Return the home of a worker, counted from 1."""
    return settings.home / "airflow" / f"worker-{number}" / "home"


def main(
    port: Annotated[
        int, typer.Option(min=1, max=65534, help="Port of UI and REST API; MLflow takes the next one.")
    ] = 8080,
    workers: Annotated[
        int, typer.Option(min=0, max=8, help="Workers of the Celery executor; 0: the scheduler runs the tasks.")
    ] = 0,
) -> None:
    """Run Airflow until Ctrl-C."""
    # Both: a shell that starts this in the background lets it ignore SIGINT.
    signals = (signal.SIGINT, signal.SIGTERM)

    def interrupt(*_: object) -> None:
        for number in signals:  # a second one would leave behind what the first one is ending
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in signals:
        signal.signal(number, interrupt)
    bypass_proxies_for_loopback()  # the processes below inherit it
    settings = load_settings()
    for each in range(port, port + (2 if settings.tracking_uri.startswith("sqlite:") else 1)):
        require_free_port("127.0.0.1", each, where="Airflow", another="choose another: make airflow PORT=8090")
    try:
        with (
            store(settings) as filled,
            metadata() as url,
            mlflow(settings, port + 1) as runs,
            celery(settings, workers) as outside,
        ):
            connection = make_url(filled.store_url).set(drivername="mariadb").render_as_string(hide_password=False)
            environment = filled.child_environment() | {"AIRFLOW_CONN_FEATURE_STORE": connection}
            if not filled.mlflow_url:
                environment["CTCD_MLFLOW_UI"] = runs
            if outside:
                # Each would have a local store of its own.
                environment["MLFLOW_TRACKING_URI"] = runs
            # Tasks reach the store through the connection only.
            del environment["FEATURE_STORE_URL"]
            try:
                with running(
                    settings.home / "airflow",
                    ROOT / "dags",
                    port=port,
                    database=url,
                    environment=environment,
                    celery=outside,
                ) as stack:
                    out.print(f"Airflow: {stack.url} (user {stack.user}, password {stack.password})")
                    out.print(f"MLflow: {runs}")
                    name = load_instance(settings.contracts).contract.name
                    out.print(f"trigger {name}_classification_ct; a promoted model is deployed to")
                    out.print(f"{settings.service_url}; logs: {stack.logs}; stop: Ctrl-C")
                    while not (failure := stack.failure()):
                        time.sleep(0.2)
                    raise Unreachable(failure, where="Airflow")
            finally:
                # With workers the first one deploys.
                home = worker_home(settings, 1) if outside else filled.home
                deployment.stop(filled.model_copy(update={"home": home}), target=TargetName.PROCESS)
    except KeyboardInterrupt:
        out.print("stopped")


if __name__ == "__main__":
    with explained():
        typer.run(main)
