"""The api image, as it is to run."""

import json
import secrets
from http.client import HTTPConnection
from typing import Any

import pytest
from support.containers import API, CT, Container, configuration, docker, started, variables
from support.instance import CONTRACT
from support.serving import EXAMPLE

pytestmark = [pytest.mark.containers, pytest.mark.timeout(300)]

PUBLISHED = "--publish=127.0.0.1:0:3000"
KEY = secrets.token_hex(16)
DRAIN_SECONDS = 5


def ask(container: Container, method: str, path: str, body: Any = None, key: str = KEY) -> tuple[int, Any]:
    connection = HTTPConnection("127.0.0.1", container.port(3000), timeout=20)
    connection.request(method, path, json.dumps(body), {"Content-Type": "application/json", "X-API-Key": key})
    answer = connection.getresponse()
    told = json.loads(answer.read())
    connection.close()
    return answer.status, told


def test_it_answers_and_logs_and_ends_in_time(mariadb: tuple[Container, str], network: str) -> None:
    """Read-only and without rights it gets healthy, predicts, logs to MariaDB, and ends within its time to drain."""
    url = mariadb[1]
    docker("run", "--rm", f"--network={network}", f"--env=FEATURE_STORE_URL={url}", CT, "ctcd", "migrate")
    settings = variables({"FEATURE_STORE_URL": url, "CTCD_API_KEYS": KEY, "CTCD_DRAIN_SECONDS": str(DRAIN_SECONDS)})
    with started(API, options=[*settings, f"--network={network}", PUBLISHED]) as api:
        api.wait_until_healthy()
        assert api.run("id", "-u").strip() == "10001"
        status, told = ask(api, "POST", "/predict", {"data": EXAMPLE})
        assert (status, told["predict"] in CONTRACT.classes) == (200, True)
        assert told["model_version"] == configuration(API)["Labels"]["ctcd.model-version"]
        assert ask(api, "POST", "/predict", {"data": EXAMPLE}, key="wrong")[0] == 401
        code, seconds = api.stop(30)
        assert (code, seconds < DRAIN_SECONDS + 10) == (0, True)
    query = f"SELECT model_version FROM {CONTRACT.predictions_table} WHERE request_id = '{told['request_id']}'"  # noqa: S608 - both are our own
    credentials = [f"--user={CONTRACT.name}", f"--password={url.split(':')[2].split('@')[0]}"]
    assert mariadb[0].run("mariadb", *credentials, "--skip-column-names", "--execute", query, "mlops").strip() == "1"


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        ("CTCD_API_KEYS", "no API key in production"),
        ("FEATURE_STORE_URL", "production needs a database server, not a SQLite file"),
    ],
)
def test_it_does_not_start_without_what_production_needs(missing: str, told: str) -> None:
    """Without an API key or a database server the image ends at once, with a reason."""
    given = {"CTCD_API_KEYS": KEY, "FEATURE_STORE_URL": "mysql+pymysql://someone:long-enough@mariadb/mlops"}
    del given[missing]
    with started(API, options=variables(given)) as api:
        docker("wait", api.name, seconds=60)
        assert api.inspect()["State"]["ExitCode"] != 0
        assert told in api.logs()


def test_it_begins_with_its_own_model_while_the_registry_is_away() -> None:
    """Told to follow a registry that does not answer, it serves the model in it, and says so."""
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
        assert ask(api, "POST", "/predict", {"data": EXAMPLE})[0] == 200
        status, info = ask(api, "GET", "/model-info")
        assert (status, info["following"]) == (200, True)
        assert info["run_id"] == configuration(API)["Labels"]["ctcd.model-run"]


def test_nothing_can_be_written_but_its_volume_and_its_scratch_space() -> None:
    """The root is read-only; code, model and programs cannot be changed from within."""
    with started(API, "sleep", "60") as api:
        script = "for f in /srv/bento/x /opt/packages/x /etc/x /x; do touch $f 2>/dev/null && echo $f; done; touch /tmp/x && echo ok"
        assert api.run("sh", "-c", f"{script}; touch /var/lib/ctcd/x && echo ok").split() == ["ok", "ok"]
