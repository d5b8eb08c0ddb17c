"""The worst bodies that a client can send, against a valid batch of the same size on the same running service."""

import json
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
from pydantic import SecretStr
from support.hostile import hostile_bodies
from support.network import free_port
from support.serving import model_info, save_model, small_scorer

from benchmarks.instance import CONTRACT, INSTANCE, PAYLOAD
from benchmarks.repeating import repeating
from ctcd.cli.output import table
from ctcd.deployment import bento
from ctcd.serving.launch import running
from ctcd.settings import ModelSource, Settings
from ctcd.store.migrations import upgrade

PAUSE = 0.005
"""Seconds between two requests to /livez."""


@dataclass(frozen=True, kw_only=True)
class HostileResult:
    """One body.

    Args:
        body: what is wrong with it.
        megabytes: its size, millions of bytes.
        status: HTTP status of the answer.
        seconds: time of the answer.
        times_valid: `seconds` as a multiple of the time of a valid batch of the largest size.
        livez_ms: longest answer of /livez meanwhile, milliseconds.
        grown_mib: by how much the worker's memory has grown at most, MiB.
    """

    body: str
    megabytes: float
    status: int
    seconds: float
    times_valid: float
    livez_ms: float
    grown_mib: float


def run(_data: Path | None) -> list[HostileResult]:
    """Send each body once; the first result is the valid batch."""
    example = {column.name: column.example for column in (CONTRACT.group, *CONTRACT.model_inputs)}
    lists = [column.name for column in CONTRACT.model_inputs if column.list_of]
    with TemporaryDirectory(prefix="ctcd-bench-") as folder:
        settings = _settings(Path(folder))
        size = settings.batch_max_bytes
        row = json.dumps(example).encode().ljust((size - 12) // PAYLOAD.max_rows - 1)
        valid = b'{"data":[' + b",".join([row] * PAYLOAD.max_rows) + b"]}"
        bodies = {"valid": valid} | hostile_bodies(example, (lists or list(example))[0], size)
        tag = bento.build(model_info(CONTRACT), Path(folder) / "model", settings, INSTANCE).tag
        with running(tag, settings) as service:
            [worker] = [
                each
                for each in psutil.Process(service.process.pid).children(recursive=True)
                if "_bentoml_impl.worker.service" in each.cmdline()
            ]
            _send(settings.port, b'{"data":[%s]}' % row)  # warm-up
            measured = {name: _measure(settings.port, worker, body) for name, body in bodies.items()}
    results = [
        HostileResult(
            body=name,
            megabytes=len(bodies[name]) / 1e6,
            times_valid=each["seconds"] / measured["valid"]["seconds"],
            **each,
        )
        for name, each in measured.items()
    ]
    table(
        "Hostile batches (baseline: a valid one of the same size); targets: 2 s, /livez 100 ms, 400 MiB",
        ("body", "MB", "status", "seconds", "times valid", "/livez ms", "MiB more"),
        [
            (
                each.body,
                round(each.megabytes, 1),
                each.status,
                round(each.seconds, 2),
                round(each.times_valid, 2),
                round(each.livez_ms),
                round(each.grown_mib),
            )
            for each in results
        ],
    )
    return results


def _settings(home: Path) -> Settings:
    save_model(small_scorer(contract=CONTRACT), home / "model", model_info(CONTRACT), CONTRACT)
    store = f"sqlite:///{home / 'store.db'}"
    upgrade(store, INSTANCE.migrations)
    return Settings(
        home=home, port=free_port(), feature_store_url=SecretStr(store), model_source=ModelSource.BENTO, drain_seconds=5
    )


def _send(port: int, body: bytes) -> int:
    connection = HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request("POST", "/predict_batch", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


def _measure(port: int, worker: psutil.Process, body: bytes) -> dict[str, Any]:
    before = worker.memory_info().rss
    with _watching(port, worker) as seen:
        began = time.perf_counter()
        status = _send(port, body)
        seconds = time.perf_counter() - began
    return {
        "status": status,
        "seconds": seconds,
        "livez_ms": seen["livez"] * 1_000,
        "grown_mib": (seen["rss"] - before) / 2**20,
    }


@contextmanager
def _watching(port: int, worker: psutil.Process) -> Iterator[dict[str, float]]:
    """Ask /livez all the time; yield its longest answer, seconds, and the worker's largest memory, bytes."""
    seen, connection = {"livez": 0.0, "rss": 0.0}, HTTPConnection("127.0.0.1", port, timeout=120)

    def look() -> None:
        began = time.perf_counter()
        connection.request("GET", "/livez")
        connection.getresponse().read()
        seen["livez"] = max(seen["livez"], time.perf_counter() - began)
        seen["rss"] = max(seen["rss"], worker.memory_info().rss)

    with closing(connection), repeating(look, pause=PAUSE):
        yield seen
