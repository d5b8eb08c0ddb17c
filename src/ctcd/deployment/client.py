"""A client of the service's HTTP API."""

import json
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request

from ctcd.errors import DeploymentBroken, Unreachable
from ctcd.loopback import opener
from ctcd.serving.http.routes import API_KEY_HEADER, BY_NAME

SECONDS = 10.0
"""Timeout of one request."""


def model_info(url: str, key: str = "") -> dict[str, Any] | None:
    """Return the answer to `GET /model-info`, or None if nothing answers at the URL.

    Raises:
        DeploymentBroken: the answer is an error, or not a JSON object.
    """
    try:
        return _call(f"{url}{BY_NAME['model_info'].path}", None, key)
    except Unreachable:
        return None


def predict(url: str, row: dict[str, Any], key: str = "") -> dict[str, Any]:
    """Return the answer to `POST /predict` for a row.

    Raises:
        Unreachable: nothing answers at the URL.
        DeploymentBroken: the service refuses the row, or its answer is not a JSON object.
    """
    return _call(f"{url}{BY_NAME['predict'].path}", {"data": row}, key)


def _call(url: str, body: dict[str, Any] | None, key: str) -> dict[str, Any]:
    headers = {"Content-Type": "application/json"} | ({API_KEY_HEADER: key} if key else {})
    data = None if body is None else json.dumps(body).encode()
    try:
        with opener(url).open(Request(url, data, headers), timeout=SECONDS) as response:  # noqa: S310 - our own service
            answer = json.loads(response.read())
    except HTTPError as error:
        with error:
            raise DeploymentBroken(f"it answers {error.code}", where=url) from error
    except (OSError, HTTPException) as error:
        raise Unreachable(f"nothing answers: {type(error).__name__}", where=url, hint="deploy it") from error
    except ValueError as error:
        raise DeploymentBroken("its answer is not JSON", where=url) from error
    if not isinstance(answer, dict):
        raise DeploymentBroken("its answer is not a JSON object", where=url)
    return answer
