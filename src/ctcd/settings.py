"""The settings of every part, from the environment. Nothing else reads it."""

import os
from datetime import date, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from ctcd.errors import UsageError

if TYPE_CHECKING:
    from sqlalchemy import URL

PREFIX = "CTCD_"
PLACEHOLDERS = frozenset(
    {"", "changeme", "changethis", "example", "mlops", "password", "placeholder", "root", "secret"}
)
"""Secrets that everybody knows, compared in lower case."""


class Environment(StrEnum):
    """Where the system runs."""

    LOCAL = "local"
    CI = "ci"
    STAGING = "staging"
    PRODUCTION = "production"


class StageRunner(StrEnum):
    """Where Airflow runs a stage."""

    SUBPROCESS = "subprocess"
    """In a process of the worker, in its environment."""
    DOCKER = "docker"
    """In a container, on the worker's Docker."""
    KUBERNETES = "kubernetes"
    """In a pod of kubectl's cluster."""


class LogLevel(StrEnum):
    """How severe a log line is."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class ModelSource(StrEnum):
    """Where the service takes its model from."""

    BENTO = "bento"
    """The one in its Bento, for as long as it runs."""
    REGISTRY = "registry"
    """The registry's champion: whenever that changes, the service changes to it."""


class Settings(BaseSettings):
    """Typed settings; each is read from `CTCD_<NAME>` or the variable named beside it.

    The defaults are the embedded mode: a SQLite file and a local MLflow store below `home`, no server.

    Raises:
        pydantic.ValidationError: a value is out of range, or a placeholder secret is used outside local use and CI.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", populate_by_name=True)

    environment: Environment = Field(default=Environment.LOCAL, description="where the system runs")
    contracts: Path = Field(default=Path("contracts"), description="folder of the instance: contract and policies")
    home: Path = Field(default=Path("var"), description="folder for everything that the embedded mode writes")
    feature_store_url: SecretStr = Field(
        default=SecretStr(""),
        validation_alias=AliasChoices("FEATURE_STORE_URL", f"{PREFIX}FEATURE_STORE_URL"),
        description="SQLAlchemy URL of the feature store; empty: a SQLite file in home",
    )
    mlflow_tracking_uri: SecretStr = Field(
        default=SecretStr(""),
        validation_alias=AliasChoices("MLFLOW_TRACKING_URI", f"{PREFIX}MLFLOW_TRACKING_URI"),
        description="MLflow tracking and registry URI; empty: a SQLite file in home",
    )
    timezone: str = Field(default="Asia/Seoul", description="zone in which a day begins and ends")
    snapshot_months: Annotated[int, Field(ge=1, le=120)] = Field(
        default=1, description="months of labels that a training snapshot reaches back"
    )
    snapshot_keep_days: Annotated[int, Field(ge=1, le=366)] = Field(
        default=7, description="days that the snapshot table keeps"
    )
    ingest_chunk_rows: Annotated[int, Field(ge=1)] = Field(default=20_000, description="rows read and written at once")
    seed: int = Field(default=42, description="seed of the split, of training and of the bootstrap")
    threads: Annotated[int, Field(ge=-1)] = Field(default=-1, description="threads for training; -1: one for each core")
    stage_runner: StageRunner = Field(
        default=StageRunner.SUBPROCESS,
        description="where Airflow runs stages: in a process of the worker, in a container, or in a pod",
    )
    stage_image: str = Field(default="", description="image of the containers and pods that stages run in")
    stage_network: str = Field(default="host", description="Docker network of those containers")
    stage_volume: str = Field(
        default="",
        description="volume that those containers mount, as NAME:PATH with the home below PATH, if the worker is itself in"
        " a container; empty: the folder of the home",
    )
    stage_namespace: str = Field(default="", description="Kubernetes namespace of those pods; empty: kubectl's")
    stage_claim: str = Field(default="", description="claim of the volume that those pods have as their home")
    training_cron: str = Field(default="0 3 * * *", description="when Airflow trains, in the configured zone")
    report_cron: str = Field(
        default="0 6 * * *", description="when Airflow reports performance, in the configured zone"
    )
    batch_cron: str = Field(default="*/30 * * * *", description="when Airflow scores in batch, in the configured zone")
    revision: str = Field(default="", description="source revision, where there is no git checkout to ask: in an image")
    host: str = Field(default="127.0.0.1", description="address that the service binds to")
    port: Annotated[int, Field(ge=1, le=65535)] = Field(default=3000, description="port that the service binds to")
    workers: Annotated[int, Field(ge=1)] = Field(default=1, description="worker processes of the service")
    log_level: LogLevel = Field(default=LogLevel.INFO, description="least severe log line of the service")
    tracing: bool = Field(default=False, description="whether the service makes OpenTelemetry spans")
    scorer_folder: Path | None = Field(
        default=None, description="folder of the scorer that the service loads; empty: the one in its Bento"
    )
    model_source: ModelSource = Field(
        default=ModelSource.REGISTRY,
        description="registry: the service follows the registry's champion; bento: it stays with the model in its Bento",
    )
    follow_seconds: Annotated[float, Field(ge=0.1, le=3_600)] = Field(
        default=1, description="seconds between two looks at the registry"
    )
    api_keys: SecretStr = Field(
        default=SecretStr(""),
        description="keys that clients may give, separated by commas; empty: none is asked for, which only local use allows",
    )
    metrics_keys: SecretStr = Field(
        default=SecretStr(""), description="keys for the metrics page, separated by commas; empty: the API's keys"
    )
    metrics_folder: Path | None = Field(
        default=None,
        validation_alias=AliasChoices("PROMETHEUS_MULTIPROC_DIR", f"{PREFIX}METRICS_FOLDER"),
        description="where the workers of a service count together; BentoML sets it",
    )
    request_max_bytes: Annotated[int, Field(ge=1_024)] = Field(default=65_536, description="largest request body")
    batch_max_bytes: Annotated[int, Field(ge=1_024)] = Field(
        default=16_777_216, description="largest body of a batch request"
    )
    request_seconds: Annotated[float, Field(gt=0)] = Field(default=10, description="longest time for one request")
    outbox_max_records: Annotated[int, Field(ge=1)] = Field(
        default=100_000, description="predictions that one worker holds for a store that is away before it answers 503"
    )
    outbox_batch: Annotated[int, Field(ge=1)] = Field(
        default=50,
        description="predictions sent to the store in one transaction; up to forty times as many if many wait",
    )
    ship_in_process: bool = Field(
        default=True,
        description="whether each worker's predictions are sent to the store by a process of their own; if not, by a thread,"
        " which saves memory and costs requests some of their time",
    )
    drain_seconds: Annotated[float, Field(ge=0)] = Field(
        default=10, description="longest time that a worker spends on sending its predictions before it ends"
    )
    start_seconds: Annotated[float, Field(gt=0)] = Field(
        default=60, description="longest time that the service may take to be ready"
    )
    deploy_folder: Path = Field(default=Path("deploy"), description="folder with the files of the deployment targets")
    deploy_host: str = Field(
        default="", description="Docker host of the target compose, such as ssh://user@host; empty: this machine"
    )
    deploy_proxy_image: str = Field(
        default="haproxy:3.0-bookworm", description="image of the proxy that the target compose puts in front"
    )
    deploy_url: str = Field(
        default="", description="where clients reach what is deployed; empty: at the host and port that it binds to"
    )

    @field_validator("timezone")
    @classmethod
    def _zone_exists(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"{value!r} is not an IANA time zone such as Asia/Seoul") from error
        return value

    @field_validator("feature_store_url")
    @classmethod
    def _url_is_one(cls, value: SecretStr) -> SecretStr:
        text = value.get_secret_value()
        if text:
            try:
                backend = _url(text).get_backend_name()
            except ValueError as error:
                raise ValueError(
                    "not an SQLAlchemy URL such as mysql+pymysql://user:password@host:3306/mlops"
                ) from error
            if backend not in ("sqlite", "mysql", "mariadb"):
                raise ValueError(f"{backend!r} is not one of sqlite, mysql, mariadb")
        return value

    @model_validator(mode="after")
    def _refuse_placeholder_secrets(self) -> Self:
        if self.environment in (Environment.LOCAL, Environment.CI):
            return self
        url = _url(self.store_url)
        if url.get_backend_name() == "sqlite":
            raise ValueError(f"FEATURE_STORE_URL: {self.environment} needs a database server, not a SQLite file")
        if (url.password or "").lower() in PLACEHOLDERS:
            raise ValueError(f"FEATURE_STORE_URL: a placeholder password is refused in {self.environment}")
        return self

    @property
    def store_url(self) -> str:
        """URL of the feature store, with its password: never print it."""
        return self.feature_store_url.get_secret_value() or f"sqlite:///{self.home.resolve() / 'store.db'}"

    @property
    def tracking_uri(self) -> str:
        """URI of the MLflow store, with its password if it has one: never print it."""
        return self.mlflow_tracking_uri.get_secret_value() or f"sqlite:///{self.home.resolve() / 'mlflow.db'}"

    @property
    def artifacts(self) -> Path:
        """Folder of MLflow artifacts in embedded mode."""
        return self.home.resolve() / "mlartifacts"

    @property
    def reports(self) -> Path:
        """Folder of decisions and reports."""
        return self.home.resolve() / "reports"

    @property
    def scorers(self) -> Path:
        """Folder of the scorers that were fetched from the registry."""
        return self.home.resolve() / "scorers"

    @property
    def bentoml_home(self) -> Path:
        """BentoML's model and Bento store."""
        return self.home.resolve() / "bentoml"

    @property
    def outbox(self) -> Path:
        """Folder of the predictions that are not in the store yet."""
        return self.home.resolve() / "outbox"

    @property
    def service_url(self) -> str:
        """Where clients reach the service."""
        return self.deploy_url.rstrip("/") or f"http://{self.host}:{self.port}"

    @property
    def client_key(self) -> str:
        """Key that our own probes give the service: the first of those that it takes, or empty."""
        return self.api_keys.get_secret_value().partition(",")[0].strip()

    @property
    def deployment(self) -> Path:
        """File with what is deployed as a process of this machine."""
        return self.home.resolve() / "deployment.json"

    @property
    def trainings(self) -> Path:
        """Folder of trainings whose trials run in processes of their own; on several machines it has to be shared."""
        return self.home.resolve() / "trainings"

    @property
    def champions(self) -> Path:
        """Folder of the models that a service fetched from the registry, and of what it knows about the champion."""
        return self.home.resolve() / "champions"

    @property
    def logs(self) -> Path:
        """Folder of the logs of processes that we start."""
        return self.home.resolve() / "logs"

    def environment_variables(self) -> dict[str, str]:
        """Return the variables that give another process these settings, whatever folder it runs in; some are secret."""
        secrets = {name for name, value in self if isinstance(value, SecretStr)}
        values = self.model_dump(mode="json", exclude_none=True, exclude=secrets) | {
            "contracts": self.contracts.resolve(),
            "home": self.home.resolve(),
        }
        values |= {name: getattr(self, name).get_secret_value() for name in ("api_keys", "metrics_keys")}
        if self.scorer_folder is not None:
            values["scorer_folder"] = self.scorer_folder.resolve()
        return {f"{PREFIX}{name.upper()}": str(value) for name, value in values.items()} | {
            "FEATURE_STORE_URL": _anchored(self.store_url),
            "MLFLOW_TRACKING_URI": _anchored(self.tracking_uri),
        }

    def child_environment(self) -> dict[str, str]:
        """Return the environment of this process with these settings in it, for a child process."""
        return {**os.environ, **self.environment_variables()}

    def today(self) -> date:
        """Return the day it is in the configured zone."""
        return datetime.now(ZoneInfo(self.timezone)).date()


def _url(text: str) -> "URL":
    """Parse an SQLAlchemy URL.

    Raises:
        ValueError: it is none.
    """
    # Imported here: the settings of an embedded store need no SQLAlchemy, and shell completion does not wait for it.
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(text)
    except ArgumentError as error:
        raise ValueError("not an SQLAlchemy URL") from error


def _anchored(url: str) -> str:
    """Return a URL whose SQLite file, if it names one, is an absolute path."""
    if not url.startswith("sqlite"):
        return url
    parsed = _url(url)
    if not parsed.database or parsed.database == ":memory:":
        return url
    return parsed.set(database=str(Path(parsed.database).resolve())).render_as_string(hide_password=False)


def load_settings(**given: object) -> Settings:
    """Return the settings that the environment gives; those given here count instead of the environment's.

    Raises:
        UsageError: a variable has a value that cannot be used; names variable and rule, never the value of a secret.
    """
    try:
        return Settings(**given)  # type: ignore[arg-type] # pydantic checks them
    except ValidationError as error:
        problems = []
        for problem in error.errors(include_input=False):
            variable = str(problem["loc"][0]) if problem["loc"] else ""
            if variable and variable == variable.lower():
                variable = f"{PREFIX}{variable.upper()}"
            message = problem["msg"].removeprefix("Value error, ")
            problems.append(f"{variable}: {message}" if variable else message)
        raise UsageError("; ".join(problems), where="environment") from error
