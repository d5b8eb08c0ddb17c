"""Opens an issue about a failed load test, or comments on the one that is open.

Reads GITHUB_API_URL, GITHUB_REPOSITORY, GITHUB_TOKEN, RUN_URL and SUMMARY, the table of measurements, from the environment.
"""

import json
import os
import sys
from typing import Any
from urllib.error import URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

LABEL = "load-regression"
TITLE = "Load test exceeds its limits"
SECONDS = 30.0


def call(method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """Call GitHub's REST API and return the decoded response."""
    url = f"{os.environ['GITHUB_API_URL']}/repos/{os.environ['GITHUB_REPOSITORY']}/{path}"
    headers = {
        "Accept": "application/vnd.github+json",
        "Authorization": f"Bearer {os.environ['GITHUB_TOKEN']}",
        "Content-Type": "application/json",
    }
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(url, data, headers, method=method), timeout=SECONDS) as response:  # noqa: S310 - GitHub's API
        return json.load(response)


def main() -> None:
    """Open the issue, or comment on it."""
    text = f"{os.environ['SUMMARY']}\n\nRun: {os.environ['RUN_URL']}"
    found = call("GET", f"issues?state=open&labels={quote(LABEL)}&per_page=1")
    if found:
        number = found[0]["number"]
        call("POST", f"issues/{number}/comments", {"body": text})
        sys.stdout.write(f"added to issue {number}\n")
    else:
        number = call("POST", "issues", {"title": TITLE, "body": text, "labels": [LABEL]})["number"]
        sys.stdout.write(f"opened issue {number}\n")


if __name__ == "__main__":
    try:
        main()
    except URLError as error:
        sys.exit(f"error: {os.environ['GITHUB_API_URL']}: {error}")
