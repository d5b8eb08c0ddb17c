"""What is said when a run or a task ends: one structured line, and a call of a webhook if one is set."""

import json
import logging
import urllib.request
from collections.abc import Callable
from typing import Any

from airflow.sdk import Context, Variable
from airflow.sdk.log import redact  # type: ignore[attr-defined] # it masks Airflow's own logs

from ctcd.airflow.dates import base_dt

WEBHOOK = "alert_webhook"
"""Name of the Airflow variable with the URL that notices are sent to; without it, none are."""
_SECONDS = 5.0
_LONGEST = 500

logger = logging.getLogger(__name__)


def notice(event: str) -> Callable[[Context], None]:
    """Return a callback that logs an event as one line of JSON and sends it to the webhook.

    A webhook that does not answer is logged, and fails nothing.
    """

    def say(context: Context) -> None:
        content = _content(event, context)
        logger.info("%s", json.dumps(content))
        _send(content)

    return say


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
        # Our errors name no secret and no person; in a foreign one what Airflow knows as secret is masked, and it is cut.
        content["error"] = str(redact(str(error)))[:_LONGEST]
    return content


def _send(content: dict[str, Any]) -> None:
    url = Variable.get(WEBHOOK, default=None)
    if not url:
        return
    if not url.startswith(("https://", "http://")):
        logger.warning("the variable %s is not an HTTP URL", WEBHOOK)
        return
    request = urllib.request.Request(  # noqa: S310 - HTTP only, as checked above
        url, data=json.dumps(content).encode(), headers={"Content-Type": "application/json"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS):  # noqa: S310 - as above
            pass
    except OSError as error:
        # Not the error's text: it may show the URL, which may be secret.
        logger.warning("the webhook does not answer: %s", type(error).__name__)
