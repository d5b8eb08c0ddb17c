"""Connection to MLflow's tracking store and model registry; embedded mode needs no server."""

import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from inspect import isfunction
from pathlib import Path
from shlex import quote
from typing import Any, TypeVar, cast
from urllib.parse import unquote, urlsplit

import mlflow
import requests
from mlflow import MlflowClient, environment_variables
from mlflow.entities import Experiment
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    INVALID_PARAMETER_VALUE,
    RESOURCE_ALREADY_EXISTS,
    RESOURCE_DOES_NOT_EXIST,
    ErrorCode,
)
from mlflow.telemetry import set_telemetry_client
from sqlalchemy import create_engine, inspect
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from ctcd.contract.spec import Contract
from ctcd.errors import NotFound, Unreachable, UsageError
from ctcd.files import leftovers, locked, replacing
from ctcd.settings import Settings
from ctcd.urls import masked, parse, sqlite_url

C = TypeVar("C", bound=type)
R = TypeVar("R")

_NOT_FOUND = frozenset({ErrorCode.Name(RESOURCE_DOES_NOT_EXIST), ErrorCode.Name(INVALID_PARAMETER_VALUE)})
"""Codes with which MLflow says that something that was asked for does not exist, or cannot exist under such a name."""

DEFAULTS: dict[Any, object] = {
    # MLflow sends no telemetry, prints nothing, and reads nothing from the working directory or the environment.
    environment_variables.MLFLOW_DISABLE_TELEMETRY: True,
    environment_variables.MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR: False,
    environment_variables.MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT: True,
    environment_variables.MLFLOW_RECORD_ENV_VARS_IN_MODEL_LOGGING: False,
    environment_variables.MLFLOW_UV_AUTO_DETECT: False,
    # Detect a dead server within seconds; MLflow's own defaults take minutes.
    environment_variables.MLFLOW_HTTP_REQUEST_MAX_RETRIES: 2,
    environment_variables.MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR: 1,
    environment_variables.MLFLOW_HTTP_REQUEST_TIMEOUT: 30,
}
"""Values of MLflow's environment variables, where they are not set."""


def connect(settings: Settings) -> MlflowClient:
    """Return a client of the configured tracking store and registry.

    In embedded mode the SQLite file is created if it is missing. Nothing is written to the working directory.

    Raises:
        Unreachable: the store does not answer or denies access; the message names the store, never the password.
        UsageError: MLflow does not support this kind of URI.
    """
    _quiet()
    uri = _for_mlflow(settings.tracking_uri)
    if not _is_http(uri):
        _probe_database(uri)
    _point_at(uri)
    with mlflow_errors(uri):
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        client.search_experiments(max_results=1)
    return client


@contextmanager
def mlflow_errors(uri: str) -> Iterator[None]:
    """Translate MLflow's exceptions from the store at `uri` into one-line errors.

    Raises:
        NotFound: a run, a model or an artifact does not exist, such as one that `mlflow gc` has removed.
        Unreachable: the store does not answer or denies access; the message names the store, never the password.
    """
    try:
        yield
    except DBAPIError as error:  # of statements that MLflow does not translate, such as those that create tables
        raise _of_database(error, uri) from error
    except (MlflowException, requests.RequestException) as error:  # the latter of requests for artifacts
        code = getattr(error, "error_code", type(error).__name__)
        if code == ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
            raise NotFound(
                "a run, model or artifact does not exist any more",
                where=masked(uri),
                hint="if it was deleted by mistake, restore MLflow's database and artifacts from a backup",
            ) from error
        if isinstance(error.__cause__, DBAPIError):
            raise _of_database(error.__cause__, uri) from error
        # Of a request without an answer, too, MLflow says INTERNAL_ERROR: what happened is the exception behind its own.
        reason = error.__cause__ or error.__context__ if isinstance(error, MlflowException) else error
        if isinstance(reason, requests.ConnectionError | requests.Timeout):
            what, check = f"MLflow cannot be reached: {type(reason).__name__}", "that the server runs"
        else:
            what, check = (
                f"MLflow does not answer as it should: {code}",
                "that the server runs this version of MLflow",
            )
        raise Unreachable(what, where=masked(uri), hint=f"check MLFLOW_TRACKING_URI and {check}") from error


def translate_mlflow_errors(kind: C) -> C:
    """Decorate a class with an MLflow `client`: every public method raises MLflow's exceptions as `mlflow_errors` does."""
    for name, method in vars(kind).items():
        if isfunction(method) and not name.startswith("_"):
            setattr(kind, name, _translated(method))
    return kind


def _translated(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        with mlflow_errors(self.client.tracking_uri):
            return method(self, *args, **kwargs)

    return call


def unless_missing(request: Callable[..., R], *arguments: Any) -> R | None:
    """Return the result of a request to MLflow, or None if what it asks for does not exist."""
    try:
        return request(*arguments)
    except MlflowException as error:
        if error.error_code not in _NOT_FOUND:
            raise
        return None


@contextmanager
def unless_exists() -> Iterator[None]:
    """Ignore the error of the block if what it creates exists already, such as from another process."""
    try:
        yield
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise


def active_experiment(client: MlflowClient, name: str, artifact_location: str | None = None) -> Experiment:
    """Return an experiment, which is created or restored if necessary."""
    found = client.get_experiment_by_name(name)
    if found is None:
        with unless_exists():
            client.create_experiment(name, artifact_location=artifact_location)
        found = cast("Experiment", client.get_experiment_by_name(name))
    if found.lifecycle_stage != "active":
        client.restore_experiment(found.experiment_id)
    return found


def experiment_id(client: MlflowClient, contract: Contract, settings: Settings) -> str:
    """Return the id of the contract's experiment, which is created or restored if necessary.

    Without a server, its artifacts are stored in `settings.artifacts`; a server uses its own artifact store.

    Raises:
        NotFound: without a server, the folder of its artifacts does not exist any more, as after moving the home.
    """
    location = None
    if not _is_http(settings.tracking_uri):
        settings.artifacts.mkdir(parents=True, exist_ok=True)
        location = settings.artifacts.as_uri()
    experiment = active_experiment(client, contract.name, location)
    require_artifacts(experiment, settings)
    return str(experiment.experiment_id)


def require_artifacts(experiment: Experiment, settings: Settings) -> None:
    """Check that artifacts are where MLflow's database says: it has the absolute path, and a moved home another one.

    Raises:
        NotFound: their folder does not exist here.
    """
    parts = urlsplit(experiment.artifact_location)
    folder = Path(unquote(parts.path))
    if parts.scheme == "file" and folder != settings.artifacts and not folder.is_dir():
        old, new = quote(str(folder)), quote(str(settings.artifacts))
        raise NotFound(
            "MLflow's artifacts are missing here; was CTCD_HOME moved?",
            where=str(folder),
            hint=f"move it back, or link its new place: mkdir -p {quote(str(folder.parent))} && ln -s {new} {old}",
        )


def _quiet() -> None:
    for variable, value in DEFAULTS.items():
        if not variable.is_set():
            variable.set(value)
    # MLflow set up telemetry when it was imported; nothing has been sent yet.
    set_telemetry_client()  # type: ignore[no-untyped-call] # MLflow does not annotate it
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # The traceback of an error of the database, which is then raised, too.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def _point_at(uri: str) -> None:
    """Set MLflow's URIs, but restore the environment variables that it sets too: our settings would read them."""
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
    """Connect to MLflow's database once: MLflow itself would retry for hours."""
    try:
        url = parse(uri)
        if url.get_backend_name() == "sqlite" and url.database and url.database != ":memory:":
            with mlflow_errors(uri):
                _create_whole(Path(url.database))
        engine = create_engine(url, hide_parameters=True)
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError, ValueError) as error:
        raise UsageError(
            "is not a supported tracking URI",
            where="MLFLOW_TRACKING_URI",
            hint="for example http://host:5000, or empty for the embedded store",
        ) from error
    except OSError as error:
        raise Unreachable(f"cannot create the folder: {error.strerror}", where=masked(uri)) from error
    try:
        inspect(engine).get_table_names()
    except DBAPIError as error:
        raise _of_database(error, uri) from error
    except Exception as error:  # a driver raises anything for an option or a way to log in
        raise UsageError(
            f"MLflow's database cannot be used: {type(error).__name__}",
            where=masked(uri),
            hint="correct the options of MLFLOW_TRACKING_URI",
        ) from error
    finally:
        engine.dispose()


def _of_database(error: DBAPIError, uri: str) -> Unreachable:
    cause = error.orig
    # SQLite's own texts, such as "database or disk is full", hold no values; those of servers may.
    if isinstance(cause, sqlite3.Error):
        reason, check = str(cause), "the file and its disk"
    else:
        reason, check = type(cause).__name__, "MLFLOW_TRACKING_URI"
    return Unreachable(f"MLflow's database does not answer: {reason}", where=masked(uri), hint=f"check {check}")


def _for_mlflow(uri: str) -> str:
    """Return a URI of which MLflow makes no folder: it takes the URL of a SQLite file for a path, escapes and all."""
    return uri.replace("sqlite:", "sqlite+pysqlite:", 1) if uri.startswith("sqlite:") and "%" in uri else uri


def _create_whole(path: Path) -> None:
    """Create MLflow's SQLite file if it is missing or empty, under a temporary name first; another process waits for that.

    MLflow creates its tables one by one and cannot continue with the incomplete file that a killed process leaves.
    """
    path = path.resolve()  # the lock is the same, whatever link leads to the file
    if _is_filled(path):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_name(f".{path.name}.lock")):
        if _is_filled(path):
            return
        for left in leftovers(path):
            left.unlink()
        with replacing(path) as unfinished:
            MlflowClient(tracking_uri=_for_mlflow(sqlite_url(unfinished))).search_experiments(max_results=1)


def _is_filled(path: Path) -> bool:
    """Return whether there is a database: for SQLite, an empty file is a new one."""
    return path.exists() and path.stat().st_size > 0
