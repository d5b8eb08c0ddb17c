"""The image for training, hardened as in production."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from support.containers import CT, HARDENED, Container, docker, started, variables

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600)]

HOME = "/var/lib/ctcd"
ROWS = 8_000


@pytest.fixture
def ctcd(mariadb: tuple[Container, str], network: str, volume: str) -> Callable[..., Any]:
    """Run a command in a container of its own, on a shared home and MariaDB, and return its report."""
    settings = variables({"CTCD_ENVIRONMENT": "ci", "FEATURE_STORE_URL": mariadb[1]})
    options = [*HARDENED, *settings, f"--network={network}", f"--volume={volume}:{HOME}"]

    def run(*arguments: str, json_output: bool = True) -> Any:
        more = ["--json"] if json_output else []
        done = docker("run", "--rm", *options, CT, "ctcd", *arguments, *more)
        return json.loads(done.stdout) if json_output else done.stdout

    return run


def test_a_pipeline_runs_against_mariadb(ctcd: Callable[..., Any]) -> None:
    """From raw tables to a champion and its Bento, each command in a container of its own."""
    ctcd("migrate", json_output=False)
    ctcd("generate", f"{HOME}/raw", "--rows", str(ROWS), json_output=False)
    ingested = ctcd("ingest", f"{HOME}/raw")
    assert all(table["written"] > 0 for table in ingested["tables"])
    day = ctcd("snapshot", "--months", "8")["base_dt"]
    assert ctcd("validate", "--base-dt", day)["rows"] > 0
    assert ctcd("monitor", "--base-dt", day)["passed"]
    run_id = ctcd("train", "--profile", "baseline", "--base-dt", day)["run_id"]
    outcome = ctcd("gate", "--run-id", run_id)
    assert outcome["reasons"] == []
    assert ctcd("promote", "--version", outcome["version"])["version"] == "1"
    assert ctcd("build")["tag"].endswith(":v1")


def test_a_command_ends_at_sigterm() -> None:
    """SIGTERM reaches the command, so that it need not be killed."""
    with started(CT, "python", "-c", "import signal; signal.pause()") as container:
        assert container.run("id", "-u").strip() == "10001"
        code, seconds = container.stop(20)
        assert (code, seconds < 5) == (143, True)


def test_it_is_healthy_if_its_settings_are_valid() -> None:
    """The health check runs `config`, which fails if a setting is invalid."""
    with started(CT, "sleep", "120", options=["--health-interval=2s"]) as container:
        container.wait_until_healthy()
    wrong = variables({"CTCD_PORT": "many"})
    assert docker("run", "--rm", *HARDENED, *wrong, CT, "ctcd", "config", check=False).returncode == 2
