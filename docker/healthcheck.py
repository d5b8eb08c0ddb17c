#!/usr/bin/env python3
"""Health check for Docker: exit code 0 if a URL answers 200.

usage: healthcheck URL [COMPONENT...]

With components, the response must be JSON that reports each of them as healthy, in the format of Airflow's health endpoint.
"""

import json
import sys
from http.client import HTTPConnection
from urllib.parse import urlsplit

SECONDS = 4.0


def problem(url: str, components: list[str]) -> str | None:
    """Return why the service is unhealthy, or None."""
    parts = urlsplit(url)
    # Not urllib.request, which would use the proxy of the environment.
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
            status = json.loads(body)
        except ValueError:
            return "the response is not JSON"
        unhealthy = [name for name in components if (status.get(name) or {}).get("status") != "healthy"]
        if unhealthy:
            return f"not healthy: {', '.join(unhealthy)}"
    return None


if __name__ == "__main__":
    if found := problem(sys.argv[1], sys.argv[2:]):
        sys.exit(found)
