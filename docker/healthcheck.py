#!/usr/bin/env python3
"""Says whether a service is well, for Docker: exit code 0 if a URL answers 200.

usage: healthcheck URL [COMPONENT...]

With components the answer is JSON, and each of them has to be healthy in it, as Airflow's monitor says it.
"""

import json
import sys
from http.client import HTTPConnection
from urllib.parse import urlsplit

SECONDS = 4.0


def problem(url: str, components: list[str]) -> str | None:
    """Return what is wrong, or None."""
    parts = urlsplit(url)
    # Not urllib.request: it would ask the proxy of the environment.
    connection = HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=SECONDS)
    try:
        connection.request("GET", parts.path or "/")
        response = connection.getresponse()
        body = response.read()
    except OSError as error:
        return str(error)
    finally:
        connection.close()
    if response.status != 200:
        return f"status {response.status}"
    if components:
        try:
            told = json.loads(body)
        except ValueError:
            return "the answer is no JSON"
        ill = [name for name in components if (told.get(name) or {}).get("status") != "healthy"]
        if ill:
            return f"not healthy: {', '.join(ill)}"
    return None


if __name__ == "__main__":
    said = problem(sys.argv[1], sys.argv[2:])
    if said:
        sys.exit(said)
