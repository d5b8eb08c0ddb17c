"""Who may request what, as a literal list: everything that is not on it is refused, whatever the method, path or key."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from starlette.testclient import TestClient
from support.serving import OPEN_PATHS, empty_store, pinned, served

from ctcd.serving.http.api_keys import Guard
from ctcd.serving.http.routes import ASYNCHRONOUS, ROUTES
from ctcd.settings import Settings

FILES = "/static_content/"
"""Below it are the files of the page, and nothing else."""
WITH_API_KEY = {"/predict", "/predict_batch", "/metadata", "/model-info"}
WITH_METRICS_KEY = {"/metrics"}
WITH_API_KEY_IF_ASYNCHRONOUS = {
    "/predictions",
    "/predictions/{request_id}",
    "/predictions/files",
    "/predictions/files/{request_id}",
    "/predictions/files/{request_id}/result",
    "/predictions/files/{request_id}/rejected",
}
KEY, SCRAPER, WRONG = "api-8rZ1old7fK2mQ9xV4tB", "scraper-4jT7vX1nM8aE5uR0", "wrong-key-0123456789"

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY")
KNOWN = {*OPEN_PATHS, *WITH_API_KEY, *WITH_METRICS_KEY}
OTHERS = {
    *(variant for path in KNOWN - {"/"} for variant in (f"{path}/", path.upper(), f"/{path}", f"{path}x", f"{path}/x", path[1:])),
    *(f"{path}/..{other}" for path in ("/livez", "/docs.json") for other in WITH_API_KEY),
    *(f"{path}{end}" for path in WITH_API_KEY for end in ("?", "%00", ";", "#", " ", ".json", "/livez")),
    *(f"{FILES.rstrip('/')}{end}" for end in ("", "s/a.css", ".css", "%2f..")),
    *("/redoc", "/openapi.json", "/schema.json", "/favicon.ico", "/robots.txt", "/.well-known/security.txt", "/health"),
    *("/ping", "/status", "/version", "/info", "/debug", "/debug/pprof", "/admin", "/config", "/env", "/api", "/v1/predict", ""),
}  # fmt: skip
"""Paths of no route: near those that there are, or common elsewhere."""


def guarded(home: Path, model: Path | None = None) -> Settings:
    keys = {"api_keys": SecretStr(KEY), "metrics_keys": SecretStr(SCRAPER)}
    return pinned(home, model, ship_in_process=False, **keys)


@pytest.fixture(scope="module")
def service(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A service whose clients and scraper have keys of their own."""
    with served(empty_store(guarded(tmp_path_factory.mktemp("home"), model_folder))) as client:
        yield client


def status(service: TestClient, method: str, path: str, headers: dict[str, str], query: str = "") -> int:
    """Send a request as it is, where an HTTP client would tidy up its path; return the status of the answer."""
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    scope: dict[str, Any] = {
        "type": "http", "http_version": "1.1", "method": method, "path": path, "raw_path": path.encode(), "root_path": "",
        "scheme": "http", "query_string": query.encode(), "headers": pairs, "client": ("127.0.0.1", 1), "server": ("a", 80),
    }  # fmt: skip
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    assert service.portal
    service.portal.call(service.app, scope, receive, send)
    return int(sent[0]["status"])


def test_every_route_is_on_one_of_the_lists() -> None:
    """A new route is written down here, with who may request it."""
    assert {route.path for route in ROUTES} == KNOWN
    assert {route.path for route in ASYNCHRONOUS} == WITH_API_KEY_IF_ASYNCHRONOUS


@pytest.mark.slow
def test_asynchronous_routes_need_the_key_of_the_api(model_folder: Path, tmp_path: Path) -> None:
    """Without a key, with a wrong one and with that of the scraper every method is refused; the key of the API opens them."""
    settings = guarded(tmp_path, model_folder).model_copy(update={"asynchronous": True})
    paths = [path.replace("{request_id}", str(UUID(int=7))) for path in sorted(WITH_API_KEY_IF_ASYNCHRONOUS)]
    with served(empty_store(settings)) as service:
        for key in (None, WRONG, SCRAPER):
            headers = {"X-API-Key": key} if key else {}
            assert {status(service, method, path, headers) for path, method in product(paths, METHODS)} == {401}
        for path in paths:
            assert {status(service, method, path, {"X-API-Key": KEY}) for method in ("GET", "POST")} & {400, 404, 415}


@pytest.mark.slow
@pytest.mark.parametrize("key", [None, WRONG, "scope"])
def test_what_is_not_open_is_refused(service: TestClient, key: str | None) -> None:
    """Without a key, with a wrong one and with that of another scope: every path and method but those of the open list."""
    let_through = []
    for path, method in product(sorted((KNOWN | OTHERS) - set(OPEN_PATHS)), METHODS):
        other = KEY if path in WITH_METRICS_KEY else SCRAPER
        headers = {} if key is None else {"X-API-Key": other if key == "scope" else key}
        if (found := status(service, method, path, headers)) != 401:
            let_through.append((method, path, found))
    assert let_through == []


@pytest.mark.parametrize("path", sorted(KNOWN))
def test_the_key_of_its_scope_opens_a_route(service: TestClient, path: str) -> None:
    """A route accepts the key of its scope, so the refusals of the other tests are due to the key; open paths need none."""
    headers = {} if path in OPEN_PATHS else {"X-API-Key": SCRAPER if path in WITH_METRICS_KEY else KEY}
    assert {status(service, method, path, headers) for method in ("GET", "POST")} & {200, 400, 415}
    assert 401 not in {status(service, method, path, headers) for method in METHODS}


def test_a_key_counts_in_its_header_only(service: TestClient) -> None:
    """In a URL or a cookie it would be logged, or sent by a page of somebody else; each way to accept one is a way to guess one."""
    other = (
        "Authorization",
        "Proxy-Authorization",
        "Cookie",
        "X-API-Keys",
        "API-Key",
        "ApiKey",
        "X-Api",
        "X-API-Token",
    )
    names = (*other, "X-Auth-Token", "X-Access-Token", "Token", "Key", "X-Key", "X-API_Key", "X-Forwarded-API-Key")
    shapes = ("{}", "Bearer {}", "ApiKey {}", "Token {}", "X-API-Key={}", "key={}")
    given = [{name: shape.format(KEY)} for name, shape in product(names, shapes)]
    given += [{"X-API-Key": shape.format(KEY)} for shape in (*shapes[1:], " {}", "{} ", '"{}"', "{0},{0}")]
    assert [headers for headers in given if status(service, "POST", "/predict", headers) != 401] == []
    assert status(service, "POST", "/predict", {}, query=f"X-API-Key={KEY}&api_key={KEY}") == 401


@pytest.mark.parametrize("path", [f"{FILES}..{path}" for path in sorted(KNOWN - {"/"})] + [FILES, f"{FILES}nothing"])
def test_below_the_files_of_the_page_is_nothing_else(service: TestClient, path: str) -> None:
    """No path leads from there to a route."""
    assert {status(service, method, path, {}) for method in METHODS} <= {404, 405}


NEAR = st.tuples(st.sampled_from(sorted(KNOWN | WITH_API_KEY_IF_ASYNCHRONOUS)), st.text(max_size=10)).map("".join)
"""A known path, or one that begins like it."""


@given(path=st.one_of(NEAR, st.text(max_size=30), st.from_regex(r"/[a-z_.-]{1,20}(/[a-z]{0,9})?", fullmatch=True)))
def test_no_other_path_is_open(path: str) -> None:
    """Whatever a path is, without a key only those of the list are let through."""
    guard = Guard(guarded(Path("unused")))
    is_open = path in OPEN_PATHS or path.startswith(FILES)
    assert (guard.check(path, []) is None) == is_open
