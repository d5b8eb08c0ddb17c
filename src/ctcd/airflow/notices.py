"""Notices about runs and tasks that ended: one structured log line each, and a call of a webhook if one is set."""

import json
import logging
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from typing import Any

from airflow.sdk import Context, Variable
from airflow.sdk.exceptions import AirflowException
from airflow.sdk.log import redact  # type: ignore[attr-defined] # it masks Airflow's own logs

from ctcd.airflow.dates import base_dt
from ctcd.errors import shown
from ctcd.loopback import opener
from ctcd.urls import is_url

WEBHOOK = "alert_webhook"
"""Airflow variable with the URL that notices are sent to; without it, none are sent."""
_TIMEOUT_SECONDS = 5.0
_MAX_CHARACTERS = 500

logger = logging.getLogger(__name__)


def notice(event: str, about: Callable[[Context], list[Any]] | None = None) -> Callable[[Context], None]:
    """Return a callback that logs an event as one line of JSON and sends it to the webhook.

    If the webhook does not answer, a warning is logged; the task or run is not affected. With `about`, the content has
    its list, as `about`, and where that is empty nothing is logged or sent.
    """

    def callback(context: Context) -> None:
        content = _content(event, context)
        if about is not None:
            content["about"] = about(context)
            if not content["about"]:
                return
        logger.info("%s", json.dumps(content))
        _send(content)

    return callback


def findings(context: Context, *, new: bool) -> list[str]:
    """Return the findings in the report of a task, or those that it has raised: kind and subject."""
    task = context["ti"]
    report = task.xcom_pull(task_ids=task.task_id, map_indexes=task.map_index)
    found = report.get("findings", ()) if isinstance(report, dict) else ()
    return [f"{each['kind']}: {each['subject']}" for each in found if each["new"] or not new]


def _content(event: str, context: Context) -> dict[str, Any]:
    run = context["dag_run"]
    content: dict[str, Any] = {
        "event": event,
        "dag": run.dag_id,
        "run": run.run_id,
        "base_dt": base_dt(run).isoformat(),
    }
    task = context.get("ti")
    if task is not None and event.startswith("task"):
        content |= {"task": task.task_id, "map_index": task.map_index, "try": task.try_number}
    error = context.get("exception")
    if error is not None:
        # Airflow's errors and ours contain no personal data, and what Airflow knows to be secret is masked.
        text = str(error) if isinstance(error, (str, AirflowException)) else shown(error)
        content["error"] = str(redact(text))[:_MAX_CHARACTERS]
    return content


def _send(content: dict[str, Any]) -> None:
    url = Variable.get(WEBHOOK, default=None)
    if not url:
        return
    if not is_url(url, "https", "http"):
        logger.warning("the variable %s is not an HTTP URL", WEBHOOK)
        return
    request = urllib.request.Request(  # noqa: S310 - HTTP only, as checked above
        url, data=json.dumps(content).encode(), headers={"Content-Type": "application/json"}, method="POST"
    )
    try:
        with opener(url).open(request, timeout=_TIMEOUT_SECONDS):
            pass
    except (OSError, HTTPException) as error:
        # Not the error's text: it may contain the URL, which may be secret.
        logger.warning("the webhook does not answer: %s", type(error).__name__)
