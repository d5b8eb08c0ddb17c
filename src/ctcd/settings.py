"""The settings of all components, read from environment variables.

No other module reads a variable itself; those of MLflow and Docker are read through their libraries.
"""

import os
import re
from datetime import date, datetime
from difflib import get_close_matches
from enum import StrEnum
from getpass import getuser
from inspect import getsource
from pathlib import Path
from typing import Annotated, ClassVar, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AliasChoices, Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from ctcd import urls
from ctcd.errors import UsageError
from ctcd.files import PathIn

PREFIX = "CTCD_"
MLFLOW_SECRETS = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
"""Variables that MLflow reads itself; child processes get them as well."""
MAX_SEED = 2**32 - 1
"""Largest seed that NumPy takes."""
IN_MEMORY = "memory://"
"""The URL of a cache in the memory of each worker."""
FIRST_DAY, LAST_DAY = date(1900, 1, 1), date(2200, 12, 31)
"""Days that a stage can work for; pandas knows no day before 1677 and none after 2262."""


class Environment(StrEnum):
    """Where the system runs."""

    LOCAL = "local"
    CI = "ci"
    STAGING = "staging"
    PRODUCTION = "production"


class StageRunner(StrEnum):
    """Where Airflow runs a stage."""

    SUBPROCESS = "subprocess"
    """In a child process of the worker, in its Python environment."""
    DOCKER = "docker"
    """In a container of the worker's Docker daemon."""
    KUBERNETES = "kubernetes"
    """In a pod of the cluster of Airflow's connection `kubernetes_default`."""


class LogLevel(StrEnum):
    """Severity of a log line."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class ModelSource(StrEnum):
    """Source of the model that the service loads."""

    BENTO = "bento"
    """The model in the service's Bento; it never changes."""
    REGISTRY = "registry"
    """The registry's champion; the service loads a new one when it changes."""


class Settings(BaseSettings):
    """Typed settings; each is read from `CTCD_<NAME>`, unless it declares another variable.

    The defaults select the embedded mode: a SQLite file and a local MLflow store in `home`, without any server.

    Raises:
        pydantic.ValidationError: a value is invalid, or a placeholder secret is used in staging or production.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", populate_by_name=True)

    environment: Environment = Environment.LOCAL
    """Environment that the system runs in."""
    contracts: Path = Path("contracts")
    """Folder of the instance, with its contract and policies."""
    home: Path = Path("var")
    """Folder of all files that the embedded mode writes."""
    feature_store_url: SecretStr = Field(
        default=SecretStr(""), validation_alias=AliasChoices("FEATURE_STORE_URL", f"{PREFIX}FEATURE_STORE_URL")
    )
    """SQLAlchemy URL of the feature store; empty: a SQLite file in home."""
    mlflow_tracking_uri: SecretStr = Field(
        default=SecretStr(""), validation_alias=AliasChoices("MLFLOW_TRACKING_URI", f"{PREFIX}MLFLOW_TRACKING_URI")
    )
    """MLflow tracking and registry URI; empty: a SQLite file in home."""
    mlflow_ui: str = ""
    """URL of MLflow's UI for the links in Airflow; empty: the tracking URI, if it is a server's."""
    timezone: str = "Asia/Seoul"
    """IANA time zone that dates refer to."""
    snapshot_months: Annotated[int, Field(ge=1, le=120)] = 1
    """Length of a training snapshot's label window, in months."""
    snapshot_keep_days: Annotated[int, Field(ge=1, le=366)] = 7
    """Days for which training snapshots are kept."""
    log_keep_months: Annotated[int, Field(ge=2, le=1_200)] | None = None
    """Whole months for which the prediction log keeps its rows, besides this one; labels count for 31 days; empty:
    forever."""
    ingest_chunk_rows: Annotated[int, Field(ge=1, le=10_000_000)] = 20_000
    """Rows that ingest reads and writes at a time."""
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] = 42
    """Random seed of the split, the training and the bootstrap."""
    threads: Annotated[int, Field(ge=-1, le=1_024)] = -1
    """Threads for training; -1: one per core."""
    stage_runner: StageRunner = StageRunner.SUBPROCESS
    """Where Airflow runs stages: in a child process of the worker, a container, or a pod."""
    stage_image: str = ""
    """Image of the containers and pods that run stages."""
    stage_network: str = "host"
    """Docker network of the containers that run stages."""
    stage_volume: str = ""
    """Volume that the containers mount if the worker itself runs in a container, as NAME:PATH, where home is in PATH;
    empty: the folder home."""
    stage_namespace: str = ""
    """Kubernetes namespace of the pods that run stages; empty: that of the connection."""
    stage_claim: str = ""
    """Persistent volume claim that the pods mount as home."""
    training_cron: str = "0 3 * * *"
    """Cron schedule of training, in the configured time zone."""
    report_cron: str = "0 6 * * *"
    """Cron schedule of performance reports, in the configured time zone."""
    train_on_findings: bool = False
    """Let findings of drift and of performance start a training."""
    cool_down_days: Annotated[int, Field(ge=1, le=366)] = 7
    """Days after a training that a finding started in which none starts another."""
    batch_cron: str = "*/30 * * * *"
    """Cron schedule of batch scoring, in the configured time zone."""
    traffic_cron: str = "*/15 * * * *"
    """Cron schedule of judging a challenger, in the configured time zone."""
    revision: str = ""
    """Source revision where there is no git checkout, as in an image."""
    actor: str = Field(default="", validation_alias=AliasChoices(f"{PREFIX}ACTOR", "GITHUB_ACTOR"))
    """Who promotes, deploys, rolls back and closes findings; empty: the user of the operating system."""
    served_by: Annotated[str, Field(max_length=500)] = ""
    """Value of `served_by` in the prediction log, such as an image digest; empty: the tag of the Bento, or the source
    revision in batch scoring and for a message broker."""
    host: str = "127.0.0.1"
    """Address that the service listens on."""
    port: Annotated[int, Field(ge=1, le=65535)] = 3000
    """Port that the service listens on."""
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    """Number of worker processes of the service."""
    log_level: LogLevel = LogLevel.INFO
    """Lowest severity that the service logs."""
    tracing: bool = False
    """Record OpenTelemetry spans in the service."""
    scorer_folder: Path | None = None
    """Folder of the scorer that the service loads; empty: the one in its Bento."""
    model_source: ModelSource = ModelSource.REGISTRY
    """`registry`: follow the registry's champion; `bento`: serve the model in the Bento."""
    follow_seconds: Annotated[float, Field(ge=0.1, le=3_600)] = 1
    """Seconds between two checks of the registry."""
    api_keys: SecretStr = SecretStr("")
    """API keys that clients may use, separated by commas; empty: none required, in local use only."""
    metrics_keys: SecretStr = SecretStr("")
    """API keys for the metrics page, separated by commas; empty: those of the API."""
    metrics_folder: Path | None = Field(
        default=None, validation_alias=AliasChoices("PROMETHEUS_MULTIPROC_DIR", f"{PREFIX}METRICS_FOLDER")
    )
    """Folder in which the workers of a service share their metrics; set by BentoML."""
    supervisor_pid: Annotated[int, Field(ge=1, le=1 << 22)] | None = None
    """Process id of the supervisor of a service, without which its workers end; set by the supervisor."""
    request_max_bytes: Annotated[int, Field(ge=1_024, le=1 << 30)] = 65_536
    """Maximum size of a request body in bytes."""
    batch_max_bytes: Annotated[int, Field(ge=1_024, le=1 << 30)] = 16_777_216
    """Maximum size of a batch request's body in bytes."""
    request_seconds: Annotated[float, Field(gt=0, le=3_600)] = 10
    """Timeout of a request in seconds."""
    header_seconds: Annotated[float, Field(gt=0, le=3_600)] = 10
    """Timeout for receiving the headers of a request, and for a client to read a part of a response, in seconds."""
    max_connections: Annotated[int, Field(ge=2, le=1_000_000)] = 1_000
    """Maximum number of connections of a worker; fewer if it may open fewer files."""
    max_connections_per_address: Annotated[int, Field(ge=1, le=1_000_000)] = 500
    """Maximum number of connections of a worker from one address; at most half of all."""
    outbox_max_records: Annotated[int, Field(ge=1, le=100_000_000)] = 100_000
    """Predictions that a worker buffers while the store is down before it responds with 503."""
    outbox_batch: Annotated[int, Field(ge=1, le=10_000)] = 50
    """Predictions sent to the store per transaction; up to forty times as many if there is a backlog."""
    asynchronous: bool = False
    """Enable asynchronous requests with `POST /predictions`."""
    requests_max: Annotated[int, Field(ge=1, le=10_000_000)] = 10_000
    """Maximum number of stored asynchronous requests, including answered ones; further requests get 503."""
    requests_max_bytes: Annotated[int, Field(ge=1_024, le=1 << 40)] = 268_435_456
    """Total size of these requests and answers in bytes above which further requests get 503."""
    requests_keep_seconds: Annotated[float, Field(ge=1, le=31_536_000)] = 86_400
    """Seconds after which the answer to an asynchronous request expires."""
    requests_lease_seconds: Annotated[float, Field(ge=1, le=86_400)] = 60
    """Seconds after which another worker takes an asynchronous request that has no answer."""
    upload_max_bytes: Annotated[int, Field(ge=1_024, le=1 << 40)] = 536_870_912
    """Maximum size of a file for `POST /predictions/files` in bytes, a Parquet file also once it is decompressed."""
    upload_max_rows: Annotated[int, Field(ge=1, le=10_000_000)] = 1_000_000
    """Maximum number of rows of such a file."""
    broker_url: SecretStr = SecretStr("")
    """URL of the message broker whose requests `ctcd consume` answers: redis://, rediss://, kafka://, amqp:// or
    amqps://."""
    consumer_metrics_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Port of the metrics page of `ctcd consume`, at the address that the service listens on; empty: no page."""
    ship_in_process: bool = True
    """Send each worker's predictions to the store from a separate process instead of a thread; a thread saves memory
    but slows requests down."""
    drain_seconds: Annotated[float, Field(ge=0, le=3_600)] = 10
    """Maximum seconds that a worker spends on sending its predictions before it exits."""
    start_seconds: Annotated[float, Field(gt=0, le=3_600)] = 180
    """Maximum seconds until the service is ready."""
    cache_url: SecretStr = SecretStr("")
    """Cache of predictions: memory://, or the URL of a Valkey or Redis server such as redis://host:6379/0; empty:
    none."""
    cache_seconds: Annotated[float, Field(ge=0.1, le=31_536_000)] = 300
    """Seconds after which a cached answer expires."""
    cache_entries: Annotated[int, Field(ge=1, le=10_000_000)] = 10_000
    """Maximum number of cached answers per worker, with memory://."""
    deploy_folder: Path = Path("deploy")
    """Folder with the files of the deployment targets."""
    deploy_host: str = ""
    """Docker host of the target compose, such as ssh://user@host; empty: this machine."""
    deploy_proxy_image: str = "haproxy:3.0-bookworm"
    """Image of the reverse proxy of the target compose."""
    deploy_url: str = ""
    """URL of the deployed service for clients; empty: the host and port that it listens on."""
    warehouse: str = ""
    """Folder that the prediction log is exported to, or its URL, such as s3://bucket/predictions; empty: none."""
    bigquery: str = ""
    """Table of BigQuery that exports to gs:// are loaded into, as project.data_set.table; empty: none."""

    artifacts: ClassVar[PathIn] = PathIn("home", "mlartifacts")
    """Folder of MLflow artifacts in embedded mode."""
    reports: ClassVar[PathIn] = PathIn("home", "reports")
    """Folder of decisions and reports."""
    scorers: ClassVar[PathIn] = PathIn("home", "scorers")
    """Folder of scorers downloaded from the registry."""
    outbox: ClassVar[PathIn] = PathIn("home", "outbox")
    """Folder of predictions that have not been sent to the store yet."""
    requests: ClassVar[PathIn] = PathIn("home", "requests/queue.db")
    """File of asynchronous requests and their answers."""
    deployment: ClassVar[PathIn] = PathIn("home", "deployment.json")
    """File with the state of the deployment to a process on this machine."""
    trainings: ClassVar[PathIn] = PathIn("home", "trainings")
    """Folder of distributed trainings, shared by their machines."""
    champions: ClassVar[PathIn] = PathIn("home", "champions")
    """Folder of models that a service downloaded from the registry, and of its record of the champion."""
    logs: ClassVar[PathIn] = PathIn("home", "logs")
    """Folder of the logs of child processes."""

    @field_validator("contracts", "home", "scorer_folder", "metrics_folder", "deploy_folder", mode="before")
    @classmethod
    def _empty_is_not_set(cls, value: object, info: ValidationInfo) -> object:
        # An empty path would be the current folder.
        return cls.model_fields[str(info.field_name)].get_default() if value == "" else value

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
                backend = urls.parse(text).get_backend_name()
            except ValueError as error:
                raise ValueError(f"{error} (such as mysql+pymysql://user:password@host:3306/mlops)") from error
            if backend not in ("sqlite", "mysql", "mariadb"):
                raise ValueError(f"{backend!r} is not one of sqlite, mysql, mariadb")
        return value

    @field_validator("broker_url")
    @classmethod
    def _broker_is_one(cls, value: SecretStr) -> SecretStr:
        text = value.get_secret_value()
        if text and urlsplit(text).scheme not in ("redis", "rediss", "kafka", "amqp", "amqps"):
            raise ValueError(
                "not a URL such as redis://host:6379/0, kafka://host:9092 or amqp://user:password@host:5672"
            )
        return value

    @field_validator("mlflow_tracking_uri", "mlflow_ui", "deploy_url", "deploy_host")
    @classmethod
    def _server_is_one(cls, value: str | SecretStr, info: ValidationInfo) -> str | SecretStr:
        text = value if isinstance(value, str) else value.get_secret_value()
        ssh = info.field_name == "deploy_host"
        # MLflow and Docker have other kinds of addresses too, and say themselves which of them they know.
        other = info.field_name in ("mlflow_tracking_uri", "deploy_host") and "://" in text
        if not text or (other and not text.startswith(("http", "ssh"))):
            return value
        if not urls.is_url(text, *(("ssh",) if ssh else ("http", "https"))):
            raise ValueError(f"not a URL such as {'ssh://user@host' if ssh else 'https://host:5000'}")
        return value

    @field_validator("bigquery")
    @classmethod
    def _table_is_one(cls, value: str) -> str:
        if value and not re.fullmatch(r"[\w-]+\.\w+\.[\w-]+", value, re.ASCII):
            raise ValueError("not a table such as project.data_set.table")
        return value

    @field_validator("cache_url")
    @classmethod
    def _cache_is_one(cls, value: SecretStr) -> SecretStr:
        text = value.get_secret_value()
        if text not in ("", IN_MEMORY) and not urls.is_url(text, "redis", "rediss"):
            raise ValueError(f"neither {IN_MEMORY} nor a URL such as redis://host:6379/0")
        return value

    @field_validator("host")
    @classmethod
    def _host_is_one(cls, value: str) -> str:
        url = urls.http_url(value, 1)
        if not urls.is_url(url, "http") or urlsplit(url).hostname != value.lower():
            raise ValueError(f"{value!r} is neither a name nor an address such as 127.0.0.1")
        return value

    @field_validator("contracts", "home", "scorer_folder", "metrics_folder", "deploy_folder")
    @classmethod
    def _path_is_text(cls, value: Path | None) -> Path | None:
        try:
            str(value and value.resolve()).encode()
        except UnicodeEncodeError as error:
            raise ValueError("the path is not UTF-8; rename its folder") from error
        return value

    @field_validator("*")
    @classmethod
    def _holds_no_secret(cls, value: object) -> object:
        if isinstance(value, str) and urls.shows_secret(value):  # a `SecretStr` is never shown
            raise ValueError("it is shown, so it must not hold a password or token")
        return value

    @model_validator(mode="after")
    def _refuse_placeholder_secrets(self) -> Self:
        if self.environment in (Environment.LOCAL, Environment.CI):
            return self
        if self.store_url.startswith("sqlite"):
            raise ValueError(f"FEATURE_STORE_URL: {self.environment} needs a database server, not a SQLite file")
        if not urls.secrets_in(self.store_url):
            raise ValueError(f"FEATURE_STORE_URL: a password is required in {self.environment}")
        secrets = {variable(name): value.get_secret_value() for name, value in self if isinstance(value, SecretStr)}
        for name, text in (secrets | {name: os.environ.get(name, "") for name in MLFLOW_SECRETS}).items():
            try:
                found = urls.secrets_in(text) if "://" in text else [key for key in text.split(",") if key.strip()]
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
            if any(urls.is_placeholder(secret) for secret in found):
                raise ValueError(f"{name}: a placeholder password or key is refused in {self.environment}")
        return self

    @property
    def store_url(self) -> str:
        """URL of the feature store; contains the password, so never print it."""
        return self.feature_store_url.get_secret_value() or urls.sqlite_url(self.home.resolve() / "store.db")

    @property
    def tracking_uri(self) -> str:
        """URI of the MLflow store; may contain a password, so never print it."""
        return self.mlflow_tracking_uri.get_secret_value() or urls.sqlite_url(self.home.resolve() / "mlflow.db")

    @property
    def mlflow_url(self) -> str:
        """URL of MLflow's UI, without a password; empty if there is none."""
        parts = urlsplit(self.mlflow_ui or self.tracking_uri)
        place = parts.netloc.rpartition("@")[2]
        return f"{parts.scheme}://{place}{parts.path}".rstrip("/") if parts.scheme in ("http", "https") else ""

    @property
    def who(self) -> str:
        """Who promotes, deploys, rolls back and closes findings: the setting actor, else the user of the operating system."""
        if self.actor:
            return self.actor
        try:
            return getuser()
        except (KeyError, OSError):  # a container may have no name for its user
            return f"uid {os.getuid()}"

    @property
    def bentoml_home(self) -> Path:
        """Folder of BentoML's model and Bento store.

        Raises:
            UsageError: the path contains something that BentoML would expand as an environment variable.
        """
        folder = self.home.resolve() / "bentoml"
        if os.path.expandvars(folder) != str(folder):
            raise UsageError(f"{self.home}: BentoML would expand the variable in it", where=f"{PREFIX}HOME")
        return folder

    @property
    def service_url(self) -> str:
        """URL of the service for clients."""
        return self.deploy_url.rstrip("/") or urls.http_url(self.host, self.port)

    @property
    def client_key(self) -> str:
        """API key for our own probes: the first of `api_keys`, or empty."""
        return self.api_keys.get_secret_value().partition(",")[0].strip()

    @property
    def service(self) -> Path:
        """Folder of runtime files of the service at this host and port."""
        return self.home.resolve() / "services" / f"{self.host}-{self.port}".replace(":", "_")

    def environment_variables(self) -> dict[str, str]:
        """Return environment variables that give a process in any folder these settings; some are secret."""
        secrets = {name for name, value in self if isinstance(value, SecretStr)}
        values = self.model_dump(mode="json", exclude_none=True, exclude=secrets) | {
            "contracts": self.contracts.resolve(),
            "home": self.home.resolve(),
        }
        values |= {name: getattr(self, name).get_secret_value() for name in ("api_keys", "cache_url", "metrics_keys")}
        if self.scorer_folder is not None:
            values["scorer_folder"] = self.scorer_folder.resolve()
        return {f"{PREFIX}{name.upper()}": str(value) for name, value in values.items()} | {
            "FEATURE_STORE_URL": _anchored(self.store_url),
            "MLFLOW_TRACKING_URI": _anchored(self.tracking_uri),
        }

    def child_environment(self) -> dict[str, str]:
        """Return this process's environment with these settings, for a child process."""
        return {**os.environ, **self.environment_variables()}

    @property
    def zone(self) -> ZoneInfo:
        """The configured time zone."""
        return ZoneInfo(self.timezone)

    def today(self) -> date:
        """Return the current date in the configured time zone."""
        return datetime.now(self.zone).date()


def parse_day(text: str) -> date:
    """Return the day of a date in ISO 8601.

    Raises:
        UsageError: it is not a calendar date, or not between `FIRST_DAY` and `LAST_DAY`.
    """
    try:
        day = datetime.strptime(text, "%Y-%m-%d").date()  # noqa: DTZ007 - a day has no time zone
    except (TypeError, ValueError) as error:
        raise UsageError(f"{text!r} is not a calendar date such as 2025-08-31") from error
    if not FIRST_DAY <= day <= LAST_DAY:
        raise UsageError(f"{day} is not between {FIRST_DAY} and {LAST_DAY}")
    return day


def _anchored(url: str) -> str:
    """Return a URL with an absolute path if it is that of a SQLite file."""
    if not url.startswith("sqlite"):
        return url
    parsed = urls.parse(url)
    if not parsed.database or parsed.database == ":memory:":
        return url
    return parsed.set(database=str(Path(parsed.database).resolve())).render_as_string(hide_password=False)


def descriptions() -> dict[str, str]:
    """Return the description of each setting: its docstring, which pydantic would otherwise parse at every start, in 40 ms."""
    found = re.findall(r'^    (\w+): .*?\n    """(.*?)"""', getsource(Settings), re.MULTILINE | re.DOTALL)
    return {name: " ".join(text.split()) for name, text in found}


def variable(name: str) -> str:
    """Return the environment variable of a setting."""
    alias = Settings.model_fields[name].validation_alias
    return str(alias.choices[0]) if isinstance(alias, AliasChoices) else f"{PREFIX}{name.upper()}"


def _refuse_unknown_variables() -> None:
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    for name in sorted(os.environ):
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            close = get_close_matches(name.upper(), known, n=1)
            hint = f"did you mean {close[0]}?" if close else "ctcd config lists all settings"
            raise UsageError(f"{name} is not a setting", where="environment", hint=hint)


def load_settings(**given: object) -> Settings:
    """Return the settings from the environment; `given` values override it.

    Raises:
        UsageError: a variable is no setting or has an invalid value; names variable and rule, never a secret's value.
    """
    _refuse_unknown_variables()
    try:
        return Settings(**given)  # type: ignore[arg-type] # pydantic checks them
    except ValidationError as error:
        problems = []
        for problem in error.errors(include_input=False):
            name = str(problem["loc"][0]) if problem["loc"] else ""
            message = problem["msg"].removeprefix("Value error, ")
            shown = variable(name) if name in Settings.model_fields else name
            problems.append(f"{shown}: {message}" if shown else message)
        raise UsageError("; ".join(problems), where="environment") from error


def bypass_proxies_for_loopback() -> None:
    """Exempt this machine from the proxies of the environment, for all HTTP libraries of this process and its children."""
    given = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    hosts = [host for each in given.split(",") if (host := each.strip())]
    if "*" not in hosts:
        hosts = list(dict.fromkeys([*hosts, "localhost", "127.0.0.1", "::1"]))
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(hosts)
