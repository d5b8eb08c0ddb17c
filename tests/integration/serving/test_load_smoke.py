"""The load test passes a service that meets its service levels."""

import json
import time
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from load.service_levels import Measured
from support.load import Guarded, wait
from support.load_test import smoke

pytestmark = pytest.mark.integration


def test_the_service_passes(guarded: Guarded, tmp_path: Path) -> None:
    """Exit code 0, an HTML report, a JSON summary, and a baseline for the next run; an idle connection outlives all of it."""
    reports = tmp_path / "reports"
    place = urlsplit(guarded.service.url)
    with closing(HTTPConnection(place.hostname or "", place.port)) as idle:
        idle.request("GET", "/livez")
        idle.getresponse().read()
        began = time.monotonic()
        done = smoke(guarded.service.url, reports, guarded.key)
        wait(lambda: time.monotonic() - began > 5.5)  # uvicorn by itself would close it after 5
        idle.request("GET", "/livez")
        assert idle.getresponse().status == 200
    assert done.returncode == 0, done.stdout + done.stderr
    verdict = json.loads((reports / "smoke.json").read_text())
    measured = Measured.model_validate(verdict["measured"])
    assert verdict["passed"]
    assert measured.requests > 50
    assert measured.failures == 0
    assert "<html" in (reports / "smoke.html").read_text()[:2_000].lower()
    assert len(list(reports.glob("baseline-smoke-*.json"))) == 1
    assert guarded.key not in "".join(path.read_text() for path in reports.iterdir())
