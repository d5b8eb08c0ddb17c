"""What a running service says."""

import json
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from ctcd.errors import DeploymentBroken, Unreachable

SECONDS = 10.0
"""Longest time for one answer."""
HEADER = "X-API-Key"
"""Header that carries a client's key."""


def model_info(url: str, key: str = "") -> dict[str, Any] | None:
    """Return what `GET /model-info` answers, or None if nothing answers there.

    Raises:
        DeploymentBroken: something answers, but not what was asked.
    """
    try:
        return _call(f"{url}/model-info", None, key)
    except Unreachable:
        return None


def predict(url: str, row: dict[str, Any], key: str = "") -> dict[str, Any]:
    """Return what `POST /predict` answers for a row.

    Raises:
        Unreachable: nothing answers.
        DeploymentBroken: it refuses the row, or answers what is no JSON.
    """
    return _call(f"{url}/predict", {"data": row}, key)


def _call(url: str, body: dict[str, Any] | None, key: str) -> dict[str, Any]:
    headers = {"Content-Type": "application/json"} | ({HEADER: key} if key else {})
    data = None if body is None else json.dumps(body).encode()
    try:
        with urlopen(Request(url, data, headers), timeout=SECONDS) as response:  # noqa: S310 - our own service
            answer = json.loads(response.read())
    except HTTPError as error:
        with error:
            raise DeploymentBroken(f"it answers {error.code}", where=url) from error
    except (OSError, HTTPException) as error:
        raise Unreachable(f"nothing answers: {type(error).__name__}", where=url, hint="deploy it") from error
    except ValueError as error:
        raise DeploymentBroken("it answers what is no JSON", where=url) from error
    if not isinstance(answer, dict):
        raise DeploymentBroken("it answers another kind of JSON", where=url)
    return answer
