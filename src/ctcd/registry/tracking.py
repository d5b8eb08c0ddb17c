"""The MLflow store of runs and models: connected quietly, in embedded mode without a server."""

import logging
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import mlflow
from mlflow import MlflowClient, environment_variables
from mlflow.exceptions import MlflowException, RestException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode
from mlflow.telemetry import set_telemetry_client
from sqlalchemy import create_engine, inspect, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from ctcd.contract.spec import Contract
from ctcd.errors import Unreachable, UsageError
from ctcd.settings import Settings

DEFAULTS: dict[Any, object] = {
    # Nothing is sent home, printed, or picked up from the working directory and the environment.
    environment_variables.MLFLOW_DISABLE_TELEMETRY: True,
    environment_variables.MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR: False,
    environment_variables.MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT: True,
    environment_variables.MLFLOW_RECORD_ENV_VARS_IN_MODEL_LOGGING: False,
    environment_variables.MLFLOW_UV_AUTO_DETECT: False,
    # A dead server is noticed within seconds; MLflow's own defaults take minutes.
    environment_variables.MLFLOW_HTTP_REQUEST_MAX_RETRIES: 2,
    environment_variables.MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR: 1,
    environment_variables.MLFLOW_HTTP_REQUEST_TIMEOUT: 30,
}
"""How MLflow behaves where its variables do not say otherwise."""


def connect(settings: Settings) -> MlflowClient:
    """Return a client of the configured tracking store and registry.

    In embedded mode the SQLite file is created; nothing is ever written to the working directory.

    Raises:
        Unreachable: the store does not answer or refuses us; names where, never the password.
        UsageError: the URI is of no kind that MLflow knows.
    """
    _quiet()
    uri = settings.tracking_uri
    if not _is_http(uri):
        _probe_database(uri)
    _point_at(uri)
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    with answering(uri):
        client.search_experiments(max_results=1)
    return client


@contextmanager
def answering(uri: str) -> Iterator[None]:
    """Turn what MLflow raises within into one clear line.

    Args:
        uri: the store that is talked to.

    Raises:
        Unreachable: the store does not answer or refuses us; names where, never the password.
    """
    try:
        yield
    except MlflowException as error:
        raise Unreachable(
            f"MLflow does not answer as it should: {_first_line(error)}",
            where=_place(uri),
            hint="check MLFLOW_TRACKING_URI and that the server runs this version of MLflow",
        ) from error


def experiment_id(client: MlflowClient, contract: Contract, settings: Settings) -> str:
    """Return the id of the contract's experiment, which is created or restored if need be.

    Without a server its artifacts are kept in `settings.artifacts`; a server keeps them where it is told to.
    """
    experiment = client.get_experiment_by_name(contract.name)
    if experiment is None:
        location = None if _is_http(settings.tracking_uri) else settings.artifacts.as_uri()
        try:
            created: str = client.create_experiment(contract.name, artifact_location=location)
        except MlflowException as error:
            if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
                raise
            # Another process was faster.
            return experiment_id(client, contract, settings)
        return created
    if experiment.lifecycle_stage != "active":
        client.restore_experiment(experiment.experiment_id)
    found: str = experiment.experiment_id
    return found


def git_revision(settings: Settings) -> str:
    """Return the revision of the source: of its git checkout ("-dirty" if changed), else the configured one.

    The revision of a wheel or an image is what `settings.revision` says; "unknown" if nothing is known.
    """
    if settings.revision:
        return settings.revision
    root = Path(__file__).resolve().parents[3]
    # A package installed below some unrelated checkout is no part of it.
    if not (root / ".git").exists():
        return "unknown"
    revision = _git(root, "rev-parse", "HEAD")
    if not revision:
        return "unknown"
    watched = [path for path in (root / "src", settings.contracts.resolve()) if path.is_relative_to(root)]
    dirty = _git(root, "status", "--porcelain", "--untracked-files=no", "--", *map(str, watched))
    return f"{revision}-dirty" if dirty else revision


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603 (the arguments are our own)
            ["git", "-C", str(root), *arguments],  # noqa: S607 (whichever git the user has)
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _quiet() -> None:
    for variable, value in DEFAULTS.items():
        if not variable.is_set():
            variable.set(value)
    # MLflow decided about telemetry when it was imported; nothing has been sent by then.
    set_telemetry_client()  # type: ignore[no-untyped-call] # MLflow left it untyped
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _point_at(uri: str) -> None:
    """Set MLflow's URIs, which it also writes into the environment, where our settings would then find them."""
    variables: tuple[Any, ...] = (environment_variables.MLFLOW_TRACKING_URI, environment_variables.MLFLOW_REGISTRY_URI)
    before = [(variable, variable.get_raw()) for variable in variables]
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    for variable, value in before:
        if value is None:
            variable.unset()
        else:
            variable.set(value)


def _is_http(uri: str) -> bool:
    return uri.startswith(("http://", "https://"))


def _probe_database(uri: str) -> None:
    """Ask once: MLflow itself would try for hours."""
    try:
        url = make_url(uri)
        if url.get_backend_name() == "sqlite" and url.database:
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
            _create_whole(Path(url.database))
        engine = create_engine(url)
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        raise UsageError(
            "not a tracking URI that can be used",
            where="MLFLOW_TRACKING_URI",
            hint="for example http://host:5000, or empty for the embedded store",
        ) from error
    except OSError as error:
        raise Unreachable(f"cannot create the folder: {error.strerror}", where=_place(uri)) from error
    try:
        inspect(engine).get_table_names()
    except DBAPIError as error:
        raise Unreachable(
            f"MLflow's database does not answer: {type(error.orig).__name__}",
            where=_place(uri),
            hint="check MLFLOW_TRACKING_URI",
        ) from error
    finally:
        engine.dispose()


def _create_whole(path: Path) -> None:
    """Create MLflow's SQLite file, if it is not there, under another name first.

    MLflow makes its tables one by one and cannot go on with a file that a killed process left half-made.
    """
    if path.exists():
        return
    with TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
        scratch = Path(folder) / path.name
        MlflowClient(tracking_uri=f"sqlite:///{scratch}").search_experiments(max_results=1)
        with suppress(FileExistsError):  # another process was faster: its file stays
            path.hardlink_to(scratch)


def _place(uri: str) -> str:
    """Return the part of a URI that may be shown: no user, no password, no query."""
    if _is_http(uri):
        parts = urlsplit(uri)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    url = make_url(uri)
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    return f"{url.get_backend_name()} at {url.host}:{url.port or 'default port'}/{url.database}"


def _first_line(error: MlflowException) -> str:
    if isinstance(error, RestException) or not str(error).startswith("API request to"):
        return str(error).partition("\n")[0]
    # The full text repeats the URL with whatever it holds.
    return "the request failed"
