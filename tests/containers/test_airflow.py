"""The image of Airflow, as it is to run."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.containers import AIRFLOW, Container, started, variables

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600)]

DAGS = Path(__file__).parents[2] / "dags"
LOGIN = "/var/lib/airflow/login.json"
SETTINGS = {
    "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
    "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": LOGIN,
    "AIRFLOW__API_AUTH__JWT_SECRET": "only-for-this-test-0123456789abcdef-0123456789abcdef-0123456789abcdef",
    "AIRFLOW_ADMIN_PASSWORD": "only-for-this-test",
}


@pytest.fixture(scope="module")
def airflow() -> Iterator[Container]:
    """Airflow's API server on a metadata database that was prepared in the same container."""
    command = ("sh", "-c", "prepare-airflow && exec airflow api-server --workers 1")
    with started(AIRFLOW, *command, options=variables(SETTINGS)) as container:
        container.wait_until_healthy()
        yield container


def test_every_dag_is_listed_without_an_import_error(airflow: Container) -> None:
    """What the image holds is imported as a whole: every file of `dags/`, no error."""
    assert airflow.run("id", "-u").strip() == "10001"
    airflow.run("airflow", "dags", "reserialize")
    listed = {dag["dag_id"] for dag in json.loads(airflow.run("airflow", "dags", "list", "--output", "json"))}
    assert listed == {path.stem for path in DAGS.glob("*.py")}
    assert "No data found" in airflow.run("airflow", "dags", "list-import-errors", "--local")


def test_a_dag_that_cannot_be_imported_is_noticed(airflow: Container) -> None:
    """The list of import errors is one that can be other than empty."""
    airflow.run("sh", "-c", "mkdir /tmp/dags && echo 'import airflow.sdk.dag, no_such_module' > /tmp/dags/broken.py")
    found = airflow.run(
        "sh", "-c", "AIRFLOW__CORE__DAGS_FOLDER=/tmp/dags airflow dags list-import-errors --local; true"
    )
    assert "no_such_module" in found


def test_our_connection_type_and_pools_are_there(airflow: Container) -> None:
    """The provider is registered, and what prepares the database made the pools of our DAGs and the login."""
    assert "ctcd" in airflow.run("airflow", "providers", "list")
    pools = {pool["pool"] for pool in json.loads(airflow.run("airflow", "pools", "list", "--output", "json"))}
    assert {"promotion", "training"} <= pools
    assert airflow.run("stat", "--format=%a", LOGIN).strip() == "600"


def test_a_task_finds_the_command(airflow: Container) -> None:
    """Our operators start the `ctcd` that stands beside the Python that they run in."""
    script = "import pathlib, subprocess, sys; subprocess.run([pathlib.Path(sys.executable).with_name('ctcd'), 'config'], check=True)"
    assert "/var/lib/ctcd" in airflow.run("python", "-c", script)


def test_it_ends_when_it_is_told_to() -> None:
    """SIGTERM ends Airflow's API server in time."""
    command = ("sh", "-c", "prepare-airflow && exec airflow api-server --workers 1")
    with started(AIRFLOW, *command, options=variables(SETTINGS)) as container:
        container.wait_until_healthy()
        code, seconds = container.stop(40)
        assert code in (0, 143)
        assert seconds < 30
