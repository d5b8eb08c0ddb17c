"""A prediction log, and an S3 server for its copies."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.warehouse import SECRET, Log, S3Server
from support.warm_commands import Program, command_server


@pytest.fixture
def s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """A server with an empty bucket, and what AWS's own tools need to use it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    server = S3Server(tmp_path)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.port}")
    yield server
    server.end()


@pytest.fixture(scope="session")
def warm_program() -> Iterator[Program]:
    """What runs commands in forks of one process, which saves the imports of each."""
    with command_server() as program:
        yield program


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warm_program: Program) -> Log:
    """Three predictions on 2025-08-30, and one on the day after; days are those of UTC."""
    monkeypatch.setenv("CTCD_TIMEZONE", "UTC")
    found = Log(tmp_path / "home", warm_program())
    for number, (day, hour) in enumerate([(30, 0), (30, 12), (30, 23), (31, 0)]):
        found.add(number, datetime(2025, 8, day, hour, tzinfo=UTC))
    return found
