"""Calls to this machine beside a proxy."""

import json
import os
import runpy
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NoReturn

import pytest
import requests
from support.airflow_stack import is_healthy
from typer import Typer

from ctcd.cli import app
from ctcd.deployment import client
from ctcd.errors import Unreachable
from ctcd.loopback import is_loopback

KEY = "k" * 40
ROOT = Path(__file__).parents[2]


@contextmanager
def server(answer: Any) -> Iterator[tuple[str, list[str]]]:
    """Yield the URL of an HTTP server on loopback and what was sent to it."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            seen.append(f"{self.path} {self.headers}")
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = _answer  # noqa: N815 - names that the library calls

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, args=(0.01,)).start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}", seen
        finally:
            listening.shutdown()


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A proxy that the environment names for every URL, and that answers by itself; yields what was sent to it."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "")
    with server({"from": "the proxy"}) as (url, seen):
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, url)
        yield seen


def test_a_probe_of_this_machine_never_uses_a_proxy(proxy: list[str]) -> None:
    """The service answers itself, and the proxy sees neither the request nor the API key."""
    with server({"from": "the service"}) as (url, seen):
        assert client.predict(url, {"a": 1}, KEY) == {"from": "the service"}
        assert client.model_info(url.replace("127.0.0.1", "localhost"), KEY) == {"from": "the service"}
    assert (len(seen), proxy) == (2, [])


def test_a_service_of_this_machine_that_is_gone_is_unreachable(proxy: list[str]) -> None:
    """A proxy that answers in its place is not taken for it."""
    with server({}) as (url, _):
        pass
    assert client.model_info(url) is None
    with pytest.raises(Unreachable):
        client.predict(url, {})
    assert proxy == []


def test_a_service_elsewhere_uses_the_proxy(proxy: list[str]) -> None:
    """Only loopback is exempt: a remote target may be reachable through the proxy alone."""
    assert client.model_info("http://api.example") == {"from": "the proxy"}
    assert len(proxy) == 1


def test_a_local_airflow_is_asked_without_a_proxy(proxy: list[str]) -> None:
    """The health of a local Airflow is requested without the proxy of the environment."""
    with server({part: {"status": "healthy"} for part in ("metadatabase", "scheduler", "dag_processor")}) as (url, _):
        assert is_healthy(url)
    with server(["another program at the port"]) as (url, _):
        assert not is_healthy(url)
    assert not is_healthy(url)
    assert proxy == []


@pytest.mark.usefixtures("proxy")
def test_a_local_airflow_uses_no_proxy_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor do its tasks, which ask its own API server, nor the server of MLflow: they inherit the exemption."""
    monkeypatch.setattr("signal.signal", lambda *_: None)  # the handlers would stay
    script = runpy.run_path(str(ROOT / "scripts" / "airflow_stack.py"))

    def store(_: object) -> NoReturn:
        raise KeyboardInterrupt(os.environ["no_proxy"])

    script["main"].__globals__["store"] = store
    script["main"]()
    assert os.environ["no_proxy"] == os.environ["NO_PROXY"] == "localhost,127.0.0.1,::1"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", "localhost,127.0.0.1,::1"),
        ("intern.example, 127.0.0.1", "intern.example,127.0.0.1,localhost,::1"),
        ("*", "*"),
    ],
)
def test_libraries_of_a_command_use_no_proxy_for_this_machine(
    proxy: list[str], monkeypatch: pytest.MonkeyPatch, given: str, expected: str
) -> None:
    """A command exempts loopback for the HTTP libraries of its process, such as MLflow's, and keeps a person's exemptions."""
    monkeypatch.setenv("no_proxy", given)
    fake = Typer()
    fake.command()(lambda: None)
    monkeypatch.setattr(app, "app", fake)
    assert app.run([]) == 0
    assert (os.environ["no_proxy"], os.environ["NO_PROXY"]) == (expected, expected)
    with server({"from": "the service"}) as (url, _):
        assert requests.get(url, timeout=5).json() == {"from": "the service"}
    assert proxy == []


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("127.8.0.1", True),
        ("::1", True),
        ("0.0.0.0", True),  # noqa: S104 - only compared
        ("10.0.0.1", False),
        ("a.localhost.example", False),
        ("", False),
    ],
)
def test_loopback_is_told_by_name_and_address(host: str, expected: bool) -> None:
    """Every address of the loopback network counts; a name that only resembles it does not."""
    assert is_loopback(host) is expected
