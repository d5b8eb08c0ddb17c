"""Settings come from the environment, typed, and refuse what cannot be meant."""

import pytest

from ctcd.errors import UsageError
from ctcd.settings import PLACEHOLDERS, Settings, load_settings

SERVER = "mysql+pymysql://trainer:{password}@db.internal:3306/mlops"


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
        ("CTCD_SNAPSHOT_KEEP_DAYS", "soon", "valid integer"),
        ("CTCD_ENVIRONMENT", "moon", "local"),
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


@pytest.mark.parametrize("password", sorted(PLACEHOLDERS))
@pytest.mark.parametrize("environment", ["staging", "production"])
def test_a_placeholder_password_is_refused_outside_local_use(
    monkeypatch: pytest.MonkeyPatch, environment: str, password: str
) -> None:
    """A password that everybody knows is fine on a laptop and refused where it matters."""
    monkeypatch.setenv("FEATURE_STORE_URL", SERVER.format(password=password))
    assert load_settings().store_url
    monkeypatch.setenv("CTCD_ENVIRONMENT", environment)
    with pytest.raises(UsageError, match="placeholder password"):
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
