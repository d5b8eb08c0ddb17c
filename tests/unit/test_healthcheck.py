"""The health check of the images, against a real server."""

import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

HEALTHCHECK = Path(__file__).parents[2] / "docker" / "healthcheck.py"
ANSWERS = {
    "/ready": (200, b"ready"),
    "/full": (503, b"the outbox is full"),
    "/moved": (307, b""),
    "/closed": (401, b"no key"),
    "/well": (200, b'{"scheduler": {"status": "healthy"}, "triggerer": {"status": null}}'),
    "/ill": (200, b'{"scheduler": {"status": "unhealthy"}}'),
}


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status, body = ANSWERS[self.path]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def check(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(  # noqa: S603 - the repository's own program
        # A proxy that the health check must not use.
        [sys.executable, str(HEALTHCHECK), *arguments],
        env={"http_proxy": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(("path", "components"), [("/ready", []), ("/well", ["scheduler"])])
def test_a_healthy_service_passes(address: str, path: str, components: list[str]) -> None:
    """Status 200 is enough; with components, each of the named ones has to be healthy."""
    assert check(address + path, *components).returncode == 0


@pytest.mark.parametrize(
    ("path", "components", "problem"),
    [
        ("/full", [], "status 503"),
        ("/moved", [], "status 307"),
        ("/closed", ["scheduler"], "status 401"),
        ("/ill", ["scheduler"], "not healthy: scheduler"),
        ("/well", ["scheduler", "triggerer"], "not healthy: triggerer"),
        ("/well", ["dag_processor"], "not healthy: dag_processor"),
        ("/ready", ["scheduler"], "the response is not JSON"),
    ],
)
def test_an_unhealthy_service_fails(address: str, path: str, components: list[str], problem: str) -> None:
    """The exit code is 1 and the reason is printed on one line."""
    done = check(address + path, *components)
    assert (done.returncode, done.stderr.strip()) == (1, problem)


def test_a_service_that_does_not_respond_fails() -> None:
    """The exit code is 1 if nothing listens on the port."""
    done = check("http://127.0.0.1:9/ready")
    assert done.returncode == 1
    assert "refused" in done.stderr
