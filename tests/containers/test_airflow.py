"""The image of Airflow, hardened as in production."""

import json
from collections.abc import Iterator

import pytest
from support.containers import AIRFLOW, OWN, Container, started, variables

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600)]

NAME = OWN.contract.name
DAG_IDS = {
    f"{NAME}_batch_scoring",
    f"{NAME}_classification_cd",
    f"{NAME}_classification_ct",
    f"{NAME}_performance_report",
    f"{NAME}_traffic",
    "simple_dag",
}
LOGIN = "/var/lib/airflow/login.json"
SETTINGS = {
    "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
    "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": LOGIN,
    "AIRFLOW__API_AUTH__JWT_SECRET": "only-for-this-test-0123456789abcdef-0123456789abcdef-0123456789abcdef",
    "AIRFLOW_ADMIN_PASSWORD": "only-for-this-test",
}


@pytest.fixture(scope="module")
def airflow() -> Iterator[Container]:
    """Airflow's API server, with the metadata database prepared in the same container."""
    command = ("sh", "-c", "prepare-airflow && exec airflow api-server --workers 1")
    with started(AIRFLOW, *command, options=variables(SETTINGS)) as container:
        container.wait_until_healthy()
        yield container


def test_every_dag_is_listed_without_an_import_error(airflow: Container) -> None:
    """Every DAG is imported without an error, and those of the instance are named after its contract."""
    assert airflow.run("id", "-u").strip() == "10001"
    airflow.run("airflow", "dags", "reserialize")
    listed = {dag["dag_id"] for dag in json.loads(airflow.run("airflow", "dags", "list", "--output", "json"))}
    assert listed == DAG_IDS
    assert "No data found" in airflow.run("airflow", "dags", "list-import-errors", "--local")


def test_a_dag_that_cannot_be_imported_is_reported(airflow: Container) -> None:
    """The list of import errors is not always empty."""
    airflow.run("sh", "-c", "mkdir /tmp/dags && echo 'import airflow.sdk.dag, no_such_module' > /tmp/dags/broken.py")
    found = airflow.run(
        "sh", "-c", "AIRFLOW__CORE__DAGS_FOLDER=/tmp/dags airflow dags list-import-errors --local; true"
    )
    assert "no_such_module" in found


def test_provider_pools_and_login_are_set_up(airflow: Container) -> None:
    """The provider is registered, and `prepare-airflow` created the pools of the DAGs and the login."""
    assert "ctcd" in airflow.run("airflow", "providers", "list")
    pools = {pool["pool"] for pool in json.loads(airflow.run("airflow", "pools", "list", "--output", "json"))}
    assert {"promotion", "training"} <= pools
    assert airflow.run("stat", "--format=%a", LOGIN).strip() == "600"


def test_a_task_finds_the_command(airflow: Container) -> None:
    """The operators start the `ctcd` next to the Python interpreter that they run in."""
    script = "import pathlib, subprocess, sys; subprocess.run([pathlib.Path(sys.executable).with_name('ctcd'), 'config'], check=True)"
    assert "/var/lib/ctcd" in airflow.run("python", "-c", script)


def test_it_ends_at_sigterm() -> None:
    """SIGTERM ends Airflow's API server in time."""
    command = ("sh", "-c", "prepare-airflow && exec airflow api-server --workers 1")
    with started(AIRFLOW, *command, options=variables(SETTINGS)) as container:
        container.wait_until_healthy()
        code, seconds = container.stop(40)
        assert code in (0, 143)
        assert seconds < 30
