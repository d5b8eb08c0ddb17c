"""Settings come from the environment, typed, and refuse what cannot be meant."""

import os
import re
import subprocess
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import SecretStr
from sqlalchemy import make_url

from ctcd import settings, urls
from ctcd.cli.app import run
from ctcd.errors import UsageError
from ctcd.settings import MLFLOW_SECRETS, Settings, descriptions, load_settings, parse_day, variable
from ctcd.urls import PLACEHOLDERS

ROOT = Path(__file__).parents[2]

SERVER = "mysql+pymysql://trainer:{password}@db.internal:3306/mlops"
URLS = ("MLFLOW_TRACKING_URI", "CTCD_MLFLOW_UI", "CTCD_DEPLOY_URL")
MALFORMED = (
    "http://[::1",
    "http://127.0.0.1:99999",
    "http://host:port",
    "http://",
    "https://:80",
    "http://a b",
    "http:///x",
)
PATHS = [
    name for name, field in Settings.model_fields.items() if {field.annotation, *get_args(field.annotation)} & {Path}
]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FEATURE_STORE_URL", "MLFLOW_TRACKING_URI", "CTCD_HOME", "CTCD_ENVIRONMENT"):
        monkeypatch.delenv(name, raising=False)


def test_the_defaults_are_embedded_and_bind_to_loopback() -> None:
    """Without any variable the store and the tracking store are local files and the service binds to loopback."""
    settings = load_settings()
    assert settings.store_url.startswith("sqlite:///")
    assert settings.tracking_uri.startswith("sqlite:///")
    assert settings.host == "127.0.0.1"


@pytest.mark.parametrize(
    ("variable", "value", "rule"),
    [
        ("FEATURE_STORE_URL", "not a url", "SQLAlchemy URL"),
        ("FEATURE_STORE_URL", "postgresql://a:b@host/db", "postgresql"),
        ("CTCD_TIMEZONE", "Mars/Olympus", "IANA time zone"),
        ("CTCD_PORT", "0", "greater than or equal to 1"),
        ("CTCD_BIGQUERY", "data.log", "not a table such as project.data_set.table"),
        ("CTCD_BIGQUERY", "project.data.log`; DROP", "not a table such as project.data_set.table"),
        ("CTCD_SNAPSHOT_KEEP_DAYS", "soon", "valid integer"),
        ("CTCD_ENVIRONMENT", "moon", "local"),
        *((name, url, "not a URL such as http") for name in URLS for url in MALFORMED),
        ("MLFLOW_TRACKING_URI", "mlruns", "not a URL such as http"),
        ("CTCD_DEPLOY_URL", "ssh://ct@host", "not a URL such as http"),
        ("CTCD_DEPLOY_HOST", "ssh://[::1", "not a URL such as ssh"),
        ("CTCD_DEPLOY_HOST", "ssh://", "not a URL such as ssh"),
        ("CTCD_DEPLOY_HOST", "ssh://host:99999", "not a URL such as ssh"),
        ("CTCD_DEPLOY_HOST", "host", "not a URL such as ssh"),
        ("CTCD_HOST", "a b", "neither a name nor an address"),
        ("CTCD_HOST", "http://127.0.0.1", "neither a name nor an address"),
        *((variable(name), "/x/\udcff", "not UTF-8") for name in PATHS),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_with_variable_and_rule(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, rule: str
) -> None:
    """An unusable value ends in one line that names the variable and the rule."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(UsageError) as refused:
        load_settings()
    assert variable in str(refused.value)
    assert rule in str(refused.value)
    assert variable not in URLS or value not in str(refused.value)  # a password may be in it


def test_the_port_of_a_link_may_be_chosen_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stack names the published port of MLflow, which is 0 where Docker chooses one."""
    monkeypatch.setenv("CTCD_MLFLOW_UI", "http://127.0.0.1:0")
    assert load_settings().mlflow_ui == "http://127.0.0.1:0"


def test_a_home_in_a_folder_that_is_not_utf8_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative home is in the working directory, whose name counts too."""
    (tmp_path / "\udcff").mkdir()
    monkeypatch.chdir(tmp_path / "\udcff")
    with pytest.raises(UsageError, match="not UTF-8"):
        load_settings()


@pytest.mark.parametrize("password", sorted(PLACEHOLDERS))
@pytest.mark.parametrize("environment", ["staging", "production"])
def test_a_placeholder_password_is_refused_outside_local_use(
    monkeypatch: pytest.MonkeyPatch, environment: str, password: str
) -> None:
    """A password that everybody knows is fine on a laptop and refused where it matters."""
    monkeypatch.setenv("FEATURE_STORE_URL", SERVER.format(password=password))
    assert load_settings().store_url
    monkeypatch.setenv("CTCD_ENVIRONMENT", environment)
    with pytest.raises(UsageError, match="a placeholder password"):
        load_settings()


def test_production_needs_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded SQLite store is refused in production."""
    monkeypatch.setenv("CTCD_ENVIRONMENT", "production")
    with pytest.raises(UsageError, match="SQLite"):
        load_settings()


def test_today_is_that_of_the_zone() -> None:
    """Where it is 26 hours later it is always another day."""
    late, early = (Settings(timezone=zone).today() for zone in ("Pacific/Kiritimati", "Etc/GMT+12"))
    assert late > early


def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the settings' text nor an error about them shows a password."""
    monkeypatch.setenv("FEATURE_STORE_URL", SERVER.format(password="hunter2-strong"))
    assert "hunter2" not in repr(load_settings())
    monkeypatch.setenv("FEATURE_STORE_URL", "postgresql://a:hunter2-strong@host/db")
    with pytest.raises(UsageError) as refused:
        load_settings()
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_number_has_bounds(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """No setting takes infinity, NaN, or a number beyond its bounds, of which it has two."""
    kind = Settings.model_fields[name].annotation
    if not {kind, *get_args(kind)} & {int, float}:
        return
    for value in ("inf", "-inf", "nan", "1e400", "-2", "9" * 30):
        monkeypatch.setenv(variable(name), value)
        with pytest.raises(UsageError, match=variable(name)):
            load_settings()


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("CTCD_PROT", "CTCD_PORT"),
        ("CTCD_API_KEY", "CTCD_API_KEYS"),
        ("ctcd_snapshot_month", "CTCD_SNAPSHOT_MONTHS"),
        ("CTCD_QQQ", "ctcd config"),
    ],
)
def test_an_unknown_variable_is_refused_with_the_nearest_name(
    monkeypatch: pytest.MonkeyPatch, name: str, hint: str
) -> None:
    """A misspelled setting would have no effect; its value, which may be a secret, is not repeated."""
    monkeypatch.setenv(name, "hunter2")
    with pytest.raises(UsageError, match=rf"{name} is not a setting \(.*{hint}") as refused:
        load_settings()
    assert "hunter2" not in str(refused.value)


@pytest.mark.slow
def test_all_that_the_repository_sets_are_settings() -> None:
    """Compose files, manifests, images, workflows and scripts set no variable that the engine would refuse."""
    files = subprocess.run(  # noqa: S603 - git
        ["git", "-C", str(ROOT), "ls-files"],  # noqa: S607 - the user's own
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    named = {
        name
        for file in files
        if not file.startswith(("tests/unit", "tests/integration/cli", "CHANGELOG")) and (ROOT / file).is_file()
        for name in re.findall(r"\bCTCD_[A-Z_]+\b", (ROOT / file).read_text(errors="ignore"))
    }
    assert {name for name in named if name.removeprefix("CTCD_").lower() not in Settings.model_fields} == set()


SECRETS = [name for name, field in Settings.model_fields.items() if field.annotation is SecretStr]
KEY = "kJ8Zq2mLx0vB7nRtY4wE"
"""A password that is none of the placeholders."""
PLACES = (
    "mysql+pymysql://ct:{}@db/mlops",
    "mysql+pymysql://ct@db/mlops?password={}",
    "mysql+pymysql://db/mlops?user=ct&passwd={}",
    "mysql+pymysql://ct@db/mlops?charset=utf8mb4&ssl_key_password={}",
    "http://ct:{}@mlflow:5000",
    "https://{}@mlflow:5000/path",
    "https://mlflow:5000/path?token={}",
    "redis://:{}@cache:6379/0",
)
"""Places of a URL that hold a secret."""


@pytest.mark.parametrize("name", PATHS)
def test_an_empty_path_is_one_that_is_not_set(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that a workflow sets to nothing does not select the current folder."""
    monkeypatch.setenv("CTCD_" + name.upper(), "")
    assert getattr(load_settings(), name) == Settings.model_fields[name].get_default()


def test_every_setting_is_described() -> None:
    """`ctcd config` shows for each setting the docstring below it, in one line."""
    found = descriptions()
    assert set(found) >= set(Settings.model_fields)
    assert found["stage_claim"] == "Persistent volume claim that the pods mount as home."
    assert [text for text in found.values() if "\n" in text or not text.endswith(".")] == []


def test_the_secret_settings_are_known() -> None:
    """A new secret is added to this test's list after a look at what it is used for."""
    assert SECRETS == [
        "feature_store_url",
        "mlflow_tracking_uri",
        "api_keys",
        "metrics_keys",
        "broker_url",
        "cache_url",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("place", PLACES)
def test_no_secret_is_shown_by_config(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, place: str
) -> None:
    """Wherever a URL, or any secret setting, holds a secret, neither `config` nor an error message shows it."""
    if (name in ("cache_url", "broker_url")) != place.startswith("redis") or (
        name == "feature_store_url" and place.startswith("http")
    ):
        return
    monkeypatch.setenv(variable(name), place.format(KEY))
    for arguments in (["config"], ["config", "--json"], ["snapshot", "--json"]):
        run(arguments)
    shown = capsys.readouterr()
    assert KEY not in shown.out + shown.err + repr(load_settings())


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("environment", ["staging", "production"])
def test_a_placeholder_is_refused_wherever_it_is(monkeypatch: pytest.MonkeyPatch, environment: str, place: str) -> None:
    """Outside of local use no place of the store's URL, of MLflow's or of the cache's may hold a placeholder."""
    monkeypatch.setenv("CTCD_ENVIRONMENT", environment)
    monkeypatch.setenv("FEATURE_STORE_URL", PLACES[0].format(KEY))
    names = {"http": "MLFLOW_TRACKING_URI", "https": "MLFLOW_TRACKING_URI", "redis": "CTCD_CACHE_URL"}
    name = names.get(place.partition(":")[0], "FEATURE_STORE_URL")
    monkeypatch.setenv(name, place.format(KEY))
    load_settings()
    for placeholder in ("changeme", "ChangeMe-1", "12345678", "secret"):
        monkeypatch.setenv(name, place.format(placeholder))
        with pytest.raises(UsageError, match=f"{name}: a placeholder"):
            load_settings()


@pytest.mark.parametrize(
    "place",
    [
        "http://ct:p@{}@mlflow:5000",
        "redis://:p@{}@cache:6379/0",
        "mysql+pymysql://ct:p@{}@db/mlops",
        "mysql+pymysql://ct:p@{}/x@db/mlops",
    ],
)
def test_no_part_of_a_password_is_taken_for_the_host(place: str) -> None:
    """An @ in a password that is not escaped ends it for SQLAlchemy, so that the rest would be shown as the host."""
    url = place.format(KEY)
    assert urls.masked(url) == urls.HIDDEN
    with pytest.raises(ValueError, match="written as %40") as refused:
        urls.secrets_in(url)
    assert KEY not in str(refused.value)
    assert urls.secrets_in(url.replace("p@", "p%40"))[0].startswith(f"p@{KEY}")


def test_a_broker_of_several_hosts_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in production, where the secrets of all URLs are looked at, and in messages, which show the first host."""
    monkeypatch.setenv("CTCD_ENVIRONMENT", "production")
    monkeypatch.setenv("FEATURE_STORE_URL", PLACES[0].format(KEY))
    monkeypatch.setenv("CTCD_BROKER_URL", "kafka://host:9092,host2:9092")
    assert urls.masked(load_settings().broker_url.get_secret_value()) == "kafka://host:9092"
    monkeypatch.setenv("CTCD_BROKER_URL", "redis://host:port")
    with pytest.raises(UsageError, match="CTCD_BROKER_URL: not"):
        load_settings()


@pytest.mark.parametrize("name", ["api_keys", "metrics_keys"])
def test_a_placeholder_among_keys_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """One placeholder is enough, wherever it is in the list."""
    monkeypatch.setenv("CTCD_ENVIRONMENT", "production")
    monkeypatch.setenv("FEATURE_STORE_URL", PLACES[0].format(KEY))
    monkeypatch.setenv(variable(name), f"{KEY}, changeme-changeme")
    with pytest.raises(UsageError, match=f"{variable(name)}: a placeholder"):
        load_settings()


@pytest.mark.parametrize("name", MLFLOW_SECRETS)
def test_a_placeholder_that_only_mlflow_reads_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Child processes get it like our own settings; in local use it is accepted."""
    monkeypatch.setenv(name, "changeme")
    load_settings()
    monkeypatch.setenv("CTCD_ENVIRONMENT", "production")
    monkeypatch.setenv("FEATURE_STORE_URL", PLACES[0].format(KEY))
    with pytest.raises(UsageError, match=f"{name}: a placeholder"):
        load_settings()
    monkeypatch.setenv(name, KEY)
    load_settings()


def test_a_server_without_a_password_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that lets everybody in is for local use."""
    monkeypatch.setenv("CTCD_ENVIRONMENT", "production")
    monkeypatch.setenv("FEATURE_STORE_URL", "mysql+pymysql://ct@db/mlops")
    with pytest.raises(UsageError, match="FEATURE_STORE_URL: a password is required"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CTCD_DEPLOY_URL", "https://ct:{}@api"),
        ("CTCD_DEPLOY_URL", "https://api/?token={}"),
        ("CTCD_DEPLOY_HOST", "ssh://ct:{}@host"),
        ("CTCD_WAREHOUSE", "s3://bucket/log?endpoint_override=http%3A%2F%2Fct%3A{}%40host"),
        ("CTCD_WAREHOUSE", "s3://bucket/log?endpoint_override=ct:{}@host:9000&scheme=http"),
        ("CTCD_WAREHOUSE", "s3-x://ct:{}@bucket/log"),
        ("CTCD_WAREHOUSE", "s3://bucket/log?X-Amz-Signature={}"),
        ("CTCD_WAREHOUSE", "abfs://container@account.dfs.core.windows.net/log?sv=2024-11-04&sig={}"),
        ("CTCD_WAREHOUSE", "s3://bucket/log?endpoint_override=ct%3A{}%40host%3A9000&scheme=http"),
        ("CTCD_MLFLOW_UI", "https://mlflow/?key={}"),
        *(
            ("CTCD_MLFLOW_UI", f"https://mlflow/?{option}={{}}")
            for option in ("pwd", "Passphrase", "client_secret", "X-Amz-Credential", "api_key", "ApiKey", "auth")
        ),
        ("CTCD_STAGE_IMAGE", "docker-daemon://ct:{}@host/image"),
    ],
)
def test_what_is_shown_holds_no_secret(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """Addresses are in messages, so that no setting but a secret can hold a password, not even in the option of a URL."""
    monkeypatch.setenv(name, value.format(KEY))
    with pytest.raises(UsageError, match=f"{name}: it is shown") as refused:
        load_settings()
    assert KEY not in str(refused.value)
    monkeypatch.setenv(name, "ssh://ct@host" if name == "CTCD_DEPLOY_HOST" else "https://api")
    load_settings()


@pytest.mark.parametrize(
    "value",
    [
        *(
            "host/image:v1@sha256:0a1b",
            "ssh://ct@host",
            "ftp://host/?passive=1",
            "gs://bucket/log?credential_kind=none",
        ),
        *("s3://bucket/log?endpoint_override=host%3A9000&scheme=http", "who@host: me", "/a:b@c/d"),
    ],
)
def test_what_is_no_secret_is_not_taken_for_one(value: str) -> None:
    """Digests, users without a password, and options that are only named alike."""
    assert not urls.shows_secret(value)


@pytest.mark.parametrize(
    ("host", "url"),
    [("127.0.0.1", "http://127.0.0.1:3000"), ("::1", "http://[::1]:3000"), ("api.example", "http://api.example:3000")],
)
def test_the_services_url_is_one_whatever_its_host(host: str, url: str) -> None:
    """An address with colons is in brackets."""
    assert Settings(host=host).service_url == url


@example(home="what?")
@example(home="50%25")
@given(home=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20))
def test_a_store_is_in_its_home_whatever_the_name(home: str) -> None:
    """The URLs of the embedded stores lead to their files, for every name of a folder."""
    settings = Settings(home=Path("/homes") / home)
    assert make_url(settings.store_url).database == str(settings.home.resolve() / "store.db")
    assert make_url(settings.tracking_uri).database == str(settings.home.resolve() / "mlflow.db")


@pytest.mark.parametrize("day", ["0001-01-01", "1899-12-31", "2201-01-01", "9999-12-31", "2025-02-29", "today", ""])
def test_a_day_that_no_stage_can_work_for_is_refused(day: str) -> None:
    """A day beyond what pandas can calculate with is refused like one that does not exist."""
    with pytest.raises(UsageError, match=r"2025-08-31|not between"):
        parse_day(day)


@pytest.mark.parametrize(
    ("given", "who"),
    [
        ({"CTCD_ACTOR": "Ann", "GITHUB_ACTOR": "Bob"}, "Ann"),
        ({"GITHUB_ACTOR": "Bob"}, "Bob"),
        ({"LOGNAME": "Carl"}, "Carl"),
    ],
)
def test_who_changes_what_is_in_service_is_known(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], who: str
) -> None:
    """By the setting, by GitHub, else by the operating system."""
    for name in ("CTCD_ACTOR", "GITHUB_ACTOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert load_settings().who == who


def test_a_user_without_a_name_is_known_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container."""
    monkeypatch.delenv("GITHUB_ACTOR", raising=False)

    def nobody() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr(settings, "getuser", nobody)
    assert load_settings().who == f"uid {os.getuid()}"
