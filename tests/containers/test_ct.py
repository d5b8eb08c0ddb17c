"""The image for training, as it is to run."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from support.containers import CT, HARDENED, Container, docker, started, variables

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600)]

HOME = "/var/lib/ctcd"
ROWS = 8_000


@pytest.fixture
def verb(mariadb: tuple[Container, str], network: str, volume: str) -> Callable[..., Any]:
    """Run a verb in a container of its own, on a shared home and MariaDB, and return its report."""
    settings = variables({"CTCD_ENVIRONMENT": "ci", "FEATURE_STORE_URL": mariadb[1]})
    options = [*HARDENED, *settings, f"--network={network}", f"--volume={volume}:{HOME}"]

    def run(*arguments: str, json_output: bool = True) -> Any:
        more = ["--json"] if json_output else []
        done = docker("run", "--rm", *options, CT, "ctcd", *arguments, *more)
        return json.loads(done.stdout) if json_output else done.stdout

    return run


def test_a_pipeline_runs_against_mariadb(verb: Callable[..., Any]) -> None:
    """From raw tables to a champion and its Bento, each verb in a container of its own."""
    verb("migrate", json_output=False)
    verb("generate", f"{HOME}/raw", "--rows", str(ROWS), json_output=False)
    ingested = verb("ingest", f"{HOME}/raw")
    assert all(table["written"] > 0 for table in ingested["tables"])
    day = verb("snapshot", "--months", "8")["base_dt"]
    assert verb("validate", "--base-dt", day)["rows"] > 0
    assert verb("monitor", "--base-dt", day)["passed"]
    run_id = verb("train", "--profile", "baseline", "--base-dt", day)["run_id"]
    outcome = verb("gate", "--run-id", run_id)
    assert outcome["reasons"] == []
    assert verb("promote", "--version", outcome["version"])["version"] == "1"
    assert verb("build")["tag"].endswith(":v1")


def test_a_verb_is_told_to_end() -> None:
    """SIGTERM reaches the verb; it does not have to be killed."""
    with started(CT, "python", "-c", "import signal; signal.pause()") as container:
        assert container.run("id", "-u").strip() == "10001"
        code, seconds = container.stop(20)
        assert (code, seconds < 5) == (143, True)


def test_it_is_well_if_its_settings_can_be_used() -> None:
    """The health check runs `config`, which ends with an error if a setting is wrong."""
    with started(CT, "sleep", "120", options=["--health-interval=2s"]) as container:
        container.wait_until_healthy()
    wrong = variables({"CTCD_PORT": "many"})
    assert docker("run", "--rm", *HARDENED, *wrong, CT, "ctcd", "config", check=False).returncode == 2
