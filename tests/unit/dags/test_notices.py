"""Notices about runs and tasks go to a webhook, whose failure concerns no run."""

import logging
from types import SimpleNamespace
from typing import Any

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


class Task:
    """Stands for a task instance whose command has reported."""

    task_id, map_index, try_number = "daily", -1, 1

    def __init__(self, report: Any) -> None:
        self.report = report

    def xcom_pull(self, **_: Any) -> Any:
        return self.report


FOUND = [{"kind": "drift", "subject": "age", "new": True}, {"kind": "labels", "subject": "labels", "new": False}]


@pytest.mark.parametrize(
    ("report", "new", "said"),
    [
        ({"findings": FOUND}, True, ["drift: age"]),
        ({"findings": FOUND}, False, ["drift: age", "labels: labels"]),
        ({"findings": FOUND[1:]}, True, None),
        ({}, False, None),
        (None, True, None),
    ],
)
def test_a_finding_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, report: Any, new: bool, said: list[str] | None
) -> None:
    """By its kind and subject, when it is raised; a task that has raised none says nothing, not even in the log."""
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(notices, "_send", sent.append)
    run = SimpleNamespace(dag_id="d", run_id="r", conf={"base_dt": "2025-08-31"})
    context: Any = {"dag_run": run, "ti": Task(report)}
    with caplog.at_level(logging.INFO, notices.__name__):
        notices.notice("findings raised", lambda given: notices.findings(given, new=new))(context)
    assert [each["about"] for each in sent] == ([said] if said else [])
    assert len(caplog.records) == len(sent)
