"""Notices about runs and tasks go to a webhook, whose failure concerns no run."""

import logging

import pytest
from airflow.sdk import Variable

from ctcd.airflow import notices


@pytest.mark.parametrize(
    "url", ["http://[::1", "http://127.0.0.1:99999/hook", "http://127.0.0.1/a b", "ftp://host", "http://"]
)
def test_a_webhook_that_is_no_url_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, url: str
) -> None:
    """A mistake in the variable does not fail a callback; the log names the variable, never the URL, which may be secret."""
    monkeypatch.setattr(Variable, "get", lambda *_, **__: url)
    with caplog.at_level(logging.WARNING, notices.__name__):
        notices._send({"event": "run succeeded"})
    assert [each.getMessage() for each in caplog.records] == ["the variable alert_webhook is not an HTTP URL"]
