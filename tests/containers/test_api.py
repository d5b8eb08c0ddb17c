"""The api image, hardened as in production."""

import json
import secrets
from http.client import HTTPConnection
from typing import Any

import pytest
from support.containers import API, CT, OWN, OWN_EXAMPLE, Container, configuration, docker, started, variables

pytestmark = [pytest.mark.containers, pytest.mark.timeout(300)]

PUBLISHED = "--publish=127.0.0.1:0:3000"
KEY = secrets.token_hex(16)
DRAIN_SECONDS = 5


def ask(container: Container, method: str, path: str, body: Any = None, key: str = KEY) -> tuple[int, Any]:
    """Send a request; return status and body of the response."""
    connection = HTTPConnection("127.0.0.1", container.port(3000), timeout=20)
    connection.request(method, path, json.dumps(body), {"Content-Type": "application/json", "X-API-Key": key})
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    return response.status, answer


def test_it_answers_and_logs_and_ends_in_time(mariadb: tuple[Container, str], network: str) -> None:
    """Hardened, it becomes healthy, predicts, logs to MariaDB, and ends within its drain time."""
    url = mariadb[1]
    docker("run", "--rm", f"--network={network}", f"--env=FEATURE_STORE_URL={url}", CT, "ctcd", "migrate")
    settings = variables({"FEATURE_STORE_URL": url, "CTCD_API_KEYS": KEY, "CTCD_DRAIN_SECONDS": str(DRAIN_SECONDS)})
    with started(API, options=[*settings, f"--network={network}", PUBLISHED]) as api:
        api.wait_until_healthy()
        assert api.run("id", "-u").strip() == "10001"
        status, answer = ask(api, "POST", "/predict", {"data": OWN_EXAMPLE})
        assert (status, answer["predict"] in OWN.contract.classes) == (200, True)
        assert answer["model_version"] == configuration(API)["Labels"]["ctcd.model-version"]
        assert ask(api, "POST", "/predict", {"data": OWN_EXAMPLE}, key="wrong")[0] == 401
        code, seconds = api.stop(30)
        assert (code, seconds < DRAIN_SECONDS + 10) == (0, True)
    query = f"SELECT model_version FROM {OWN.contract.predictions_table} WHERE request_id = '{answer['request_id']}'"  # noqa: S608 - neither comes from outside
    credentials = ["--user=ctcd", f"--password={url.split(':')[2].split('@')[0]}"]
    assert mariadb[0].run("mariadb", *credentials, "--skip-column-names", "--execute", query, "mlops").strip() == "1"


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("CTCD_API_KEYS", "no API key in production"),
        ("FEATURE_STORE_URL", "production needs a database server, not a SQLite file"),
    ],
)
def test_it_does_not_start_without_what_production_needs(missing: str, message: str) -> None:
    """Without an API key or a database server the container ends at once and logs the reason."""
    given = {"CTCD_API_KEYS": KEY, "FEATURE_STORE_URL": "mysql+pymysql://someone:long-enough@mariadb/mlops"}
    del given[missing]
    with started(API, options=variables(given)) as api:
        docker("wait", api.name, seconds=60)
        assert api.inspect()["State"]["ExitCode"] != 0
        assert message in api.logs()


def test_it_starts_with_its_own_model_while_the_registry_is_unreachable() -> None:
    """Set to follow a registry that does not answer, it serves the model of its Bento and reports that."""
    settings = variables(
        {
            "CTCD_ENVIRONMENT": "ci",
            "CTCD_MODEL_SOURCE": "registry",
            "MLFLOW_TRACKING_URI": "http://127.0.0.1:9",
            "CTCD_DRAIN_SECONDS": "1",
        }
    )
    with started(API, options=[*settings, PUBLISHED]) as api:
        api.wait_until_healthy()
        assert ask(api, "POST", "/predict", {"data": OWN_EXAMPLE})[0] == 200
        status, info = ask(api, "GET", "/model-info")
        assert (status, info["following"]) == (200, True)
        assert info["run_id"] == configuration(API)["Labels"]["ctcd.model-run"]


def test_only_its_volume_and_tmp_are_writable() -> None:
    """Code, model and programs cannot be changed from within the container."""
    with started(API, "sleep", "60") as api:
        script = "for f in /srv/bento/x /opt/packages/x /etc/x /x; do touch $f 2>/dev/null && echo $f; done; touch /tmp/x && echo ok"
        assert api.run("sh", "-c", f"{script}; touch /var/lib/ctcd/x && echo ok").split() == ["ok", "ok"]
