"""What DAG files read asks for no secret; what stages read does."""

import pytest

from ctcd.airflow.dag_settings import dag_settings
from ctcd.errors import UsageError
from ctcd.settings import load_settings


def test_schedules_and_days_are_read_without_a_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """In production without a feature store the stages are refused, and the schedule is there."""
    monkeypatch.setenv("CTCD_ENVIRONMENT", "production")
    monkeypatch.setenv("CTCD_TRAINING_CRON", "5 4 * * *")
    monkeypatch.delenv("FEATURE_STORE_URL", raising=False)
    with pytest.raises(UsageError, match="FEATURE_STORE_URL"):
        load_settings()
    assert dag_settings().training_cron == "5 4 * * *"


def test_a_setting_that_makes_no_sense_is_refused_here_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A zone that does not exist is named when DAG files are read."""
    monkeypatch.setenv("CTCD_TIMEZONE", "Nowhere/Town")
    with pytest.raises(UsageError, match="TIMEZONE"):
        dag_settings()
