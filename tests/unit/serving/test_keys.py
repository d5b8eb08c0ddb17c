"""Only clients with a valid key are answered, and no key is logged."""

from base64 import urlsafe_b64encode
from pathlib import Path
from random import Random
from typing import Any

import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient
from support.instance import INSTANCE
from support.network import free_port
from support.serving import EXAMPLE, OPEN_PATHS, served

from ctcd.errors import UsageError
from ctcd.serving import launch
from ctcd.serving.app import make_service
from ctcd.serving.http import problems
from ctcd.serving.http.api_keys import Keyring
from ctcd.serving.http.routes import ROUTES
from ctcd.settings import Environment, Settings

STYLES = "/static_content/swagger-ui.css"
OLD, NEW, SCRAPER = "old-7fK2mQ9xV4tB8rZ1", "new-3hP6wS0dL5yG9cN2", "scraper-4jT7vX1nM8aE5uR0"


def guarded(settings: Settings, **more: Any) -> Settings:
    return settings.model_copy(update={"api_keys": SecretStr(f"{OLD}, {NEW}"), **more})


def statuses(client: TestClient, key: str | None) -> dict[str, int]:
    headers = {} if key is None else {"X-API-Key": key}
    bodies: dict[str, Any] = {"/predict": {"data": EXAMPLE}, "/predict_batch": {"data": [EXAMPLE]}, "/metadata": {}}
    methods = {route.path: route.method for route in ROUTES} | dict.fromkeys(("/nowhere", STYLES), "GET")
    return {
        path: client.request(method, path, json=bodies.get(path), headers=headers).status_code
        for path, method in methods.items()
    }


@pytest.mark.slow
def test_a_guarded_route_needs_a_key_and_accepts_every_valid_one(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both keys of a rotation work; others, or none, do not. Probes and documentation are open."""
    with served(guarded(settings)) as client:
        for key in (OLD, NEW):
            found = statuses(client, key)
            assert found.pop("/nowhere") == 404
            assert set(found.values()) == {200}
        for wrong in (None, "", OLD[:-1], OLD + "x", f"{OLD},{NEW}"):
            for path, status in statuses(client, wrong).items():
                assert status == (200 if path in (*OPEN_PATHS, STYLES) else 401), path
        problem = client.post("/predict", json={"data": EXAMPLE}, headers={"X-API-Key": "wrong-key-0123456789"})
        assert problem.headers["content-type"] == problems.MEDIA_TYPE
        assert problem.headers["www-authenticate"] == "ApiKey"
        assert problem.headers["x-request-id"]
        not_ascii = client.post("/predict", json={"data": EXAMPLE}, headers={"X-API-Key": b"\xfc" * 20})
        assert not_ascii.status_code == 401
        page = client.get("/metrics", headers={"X-API-Key": OLD}).text
        assert 'ctcd_requests_total{model="machine_condition",route="/predict",status="401"}' in page
    written = capsys.readouterr()
    for key in (OLD, NEW, "wrong-key-0123456789"):
        assert key not in page + problem.text + written.out + written.err


@pytest.mark.slow
def test_the_metrics_can_have_keys_of_their_own(settings: Settings) -> None:
    """A client's key then does not open the metrics, and a metrics key opens nothing else."""
    with served(guarded(settings, metrics_keys=SecretStr(SCRAPER))) as client:
        assert statuses(client, SCRAPER)["/metrics"] == 200
        assert statuses(client, SCRAPER)["/predict"] == 401
        assert statuses(client, OLD)["/metrics"] == 401
        assert statuses(client, OLD)["/predict"] == 200


def test_without_keys_everything_is_open_for_local_use(client: TestClient) -> None:
    """A key that is sent nevertheless is ignored."""
    for key in (None, OLD):
        assert set(statuses(client, key).values()) == {200, 404}


@pytest.mark.parametrize("environment", [Environment.STAGING, Environment.PRODUCTION])
def test_outside_local_use_a_key_is_required(settings: Settings, environment: Environment) -> None:
    """Neither the service nor its launcher starts without one; the error says how to get one."""
    bare = settings.model_copy(update={"environment": environment, "port": free_port()})
    with pytest.raises(UsageError, match=r"CTCD_API_KEYS: no API key in .*openssl rand"):
        make_service(bare, INSTANCE)
    with pytest.raises(UsageError, match="no API key"):
        launch.serve("machine_condition:v7", bare)
    make_service(guarded(bare), INSTANCE)


@pytest.mark.parametrize(
    "keys",
    [
        "short",
        f"{OLD},short",
        "changeme",
        "ключ-ключ-ключ-ключ",
        "a" * 64,
        "abc" * 20,
        "changeme-changeme-123",
        "0123456789" * 5,
        "mysecretpassword",
        "abcdefghijklmnop",
        "my-company-api-key",
        "0123456789abcdef",
        "0123456789ABCDEF",
        "zyxwvutsrqponmlk9876543210",
        "test-api-key-0001",
        "swordfish-0123456789-swordfish",
        "password12345678",
    ],
)
@pytest.mark.parametrize("variable", ["CTCD_API_KEYS", "CTCD_METRICS_KEYS"])
def test_an_invalid_key_is_refused_without_being_shown(keys: str, variable: str) -> None:
    """Too short, too easy to guess, a well-known placeholder, or not ASCII; of requests and of metrics."""
    with pytest.raises(UsageError, match=f"{variable}: a key") as refused:
        Keyring(SecretStr(keys), variable)
    assert keys not in str(refused.value)


@pytest.mark.slow
def test_random_keys_are_accepted() -> None:
    """Ten thousand keys of 16 random bytes, in each usual spelling."""
    for seed in range(10_000):
        content = Random(seed).randbytes(16)  # noqa: S311 - the same in each run
        for key in (urlsafe_b64encode(content).decode().rstrip("="), content.hex()):
            Keyring(SecretStr(key), "CTCD_API_KEYS")


def test_a_key_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every key is compared, by digests of one length and by the comparison made for it, also after one has matched."""
    lengths: list[tuple[int, int]] = []

    def compare(given: bytes, known: bytes) -> bool:
        lengths.append((len(given), len(known)))
        return given == known

    monkeypatch.setattr("ctcd.serving.http.api_keys.hmac.compare_digest", compare)
    ring = Keyring(SecretStr(f"{OLD},{NEW}"), "X")
    for key, good in ((OLD, True), (NEW, True), ("x", False), ("y" * 1_000, False)):
        assert ring.knows(key.encode()) is good
    assert lengths == [(32, 32)] * 8


def test_keys_reach_a_child_process_and_are_not_shown(tmp_path: Path) -> None:
    """The service's process gets them through its environment; the settings do not show them."""
    settings = guarded(Settings(home=tmp_path))
    assert settings.child_environment()["CTCD_API_KEYS"] == f"{OLD}, {NEW}"
    assert OLD not in repr(settings)
