"""The broker of docker/compose.yaml, run with this machine's Redis: its entry point and its health check."""

import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from redis import Redis
from redis.exceptions import AuthenticationError
from support.airflow_client import ROOT, eventually
from support.network import free_port

pytestmark = pytest.mark.celery
PASSWORD = "mkBroker4Tz8Lw1Qs"


def test_the_broker_answers_only_who_knows_the_password(tmp_path: Path) -> None:
    """It starts with the password of its environment, which is in no command line, keeps what it is sent, and is healthy."""
    service: dict[str, Any] = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]["redis"]
    port = free_port()

    def here(command: str) -> str:
        return command.replace("$$", "$").replace("/tmp/", f"{tmp_path}/").replace("/data", str(tmp_path))  # noqa: S108 - of the container

    *shell, script = service["entrypoint"]
    environment = {"PATH": os.environ["PATH"], "REDIS_PASSWORD": PASSWORD}
    command = [*shell, f"{here(script)} --bind 127.0.0.1 --port {port}"]
    kind, check = service["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    check = here(check).replace("redis-cli", f"redis-cli -p {port}")

    def healthy(given: dict[str, str]) -> bool:
        done = subprocess.run(["/bin/sh", "-c", check], env=given, capture_output=True, check=False)  # noqa: S603 - our own
        return done.returncode == 0

    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:  # noqa: S603 - our own
        try:
            assert eventually(lambda: healthy(environment) or None)
            assert not healthy(environment | {"REDIS_PASSWORD": "another"})
            with Redis(port=port) as stranger, pytest.raises(AuthenticationError):
                stranger.ping()
            with Redis(port=port, password=PASSWORD) as scheduler:
                scheduler.rpush("default", "a task")
                assert scheduler.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            running = psutil.Process(process.pid)
            assert PASSWORD not in shlex.join(running.cmdline())
            assert "REDIS_PASSWORD" not in running.environ()
        finally:
            process.terminate()
    assert any(b"a task" in each.read_bytes() for each in tmp_path.rglob("*.aof"))
