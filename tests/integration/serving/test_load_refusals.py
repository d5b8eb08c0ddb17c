"""The load test refuses a service that misses a service level: one that it stands in for, so that no clock decides."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from load.__main__ import machine
from load.service_levels import Measured
from support.instance import CONTRACT
from support.load_test import smoke

pytestmark = pytest.mark.integration

ANSWER = json.dumps({"predict": CONTRACT.classes[0], "confidence": 0.5, "model_version": "1"}).encode()

BEFORE = Measured(
    shape="smoke",
    requests=400,
    failures=0,
    requests_per_second=80.0,
    p50_ms=100.0,
    p95_ms=300.0,
    p99_ms=400.0,
    max_ms=400.0,
    errors={},
)


@contextmanager
def planted(*, delay: float = 0.0, fails_each: int = 0) -> Iterator[str]:
    """Run a service that is slow, or that fails every n-th request; yield its URL."""
    asked = iter(range(1, 10**9))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            time.sleep(delay)
            self.send_response(500 if fails_each and next(asked) % fails_each == 0 else 200)
            self.send_header("Content-Length", str(len(ANSWER)))
            self.send_header("X-Model-Version", "1")
            self.end_headers()
            self.wfile.write(ANSWER)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("fault", "rule"), [({"delay": 0.7}, "p95_ms"), ({"fails_each": 20}, "failures")], ids=["slow", "failing"]
)
def test_a_service_that_exceeds_a_limit_is_refused(tmp_path: Path, fault: dict[str, Any], rule: str) -> None:
    """Exit code 1, and the summary names the limit; a better baseline stays."""
    kept = tmp_path / f"baseline-smoke-{machine()}.json"
    kept.write_text(BEFORE.model_dump_json())
    with planted(**fault) as url:
        done = smoke(url, tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    findings = json.loads((tmp_path / "smoke.json").read_text())["findings"]
    broken = {each["rule"] for each in findings if each["value"] > each["limit"] and each["better"] == "lower"}
    assert rule in broken
    assert "NOT MET" in done.stdout
    assert rule != "p95_ms" or "p95_ms against the baseline" in broken
    assert Measured.model_validate_json(kept.read_text()) == BEFORE
