"""Everything that depends on a route follows the table of routes."""

import inspect
import re
from typing import Any

import pytest
from starlette.testclient import TestClient
from support.instance import CONTRACT, INSTANCE, PAYLOAD
from support.serving import EXAMPLE, OPEN_PATHS

from ctcd.serving.app import make_service
from ctcd.serving.http import openapi
from ctcd.serving.http.handlers import Handlers
from ctcd.serving.http.routes import ASYNCHRONOUS, BY_PATH, ROUTES, STATIC, Access, Route, access
from ctcd.settings import Settings

BODIES: dict[str, Any] = {"/predict": {"data": EXAMPLE}, "/predict_batch": {"data": [EXAMPLE]}}
each_route = pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)


def counted(client: TestClient, route: Route, status: int) -> float:
    """Return how many answers of a route with a status the metrics page counts."""
    label = re.escape(f'ctcd_requests_total{{model="machine_condition",route="{route.path}",status="{status}"}} ')
    found = re.search(f"^{label}(.*)$", client.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_only_probes_and_the_description_of_the_api_are_open() -> None:
    """Every other path needs a key, unknown ones too; the metrics can have keys of their own."""
    assert {route.path for route in ROUTES if route.access is Access.OPEN} == set(OPEN_PATHS)
    assert {route.path for route in ROUTES if route.access is Access.METRICS} == {"/metrics"}
    assert access(f"{STATIC}swagger-ui.css") is Access.OPEN
    for path in ("/nowhere", "/predict/", "/Predict", "//", "/livez/x", STATIC.rstrip("/"), "/docs.json/"):
        assert access(path) is Access.API


def test_every_path_and_name_has_one_route() -> None:
    """A second route would be ignored silently."""
    every = (*ROUTES, *ASYNCHRONOUS)
    assert len(BY_PATH) == len({route.name for route in every}) == len(every)


@each_route
def test_a_route_is_answered_counted_and_described(client: TestClient, route: Route) -> None:
    """By its method with 200, by any other with 405, both under its own label; its document is what the table says."""
    before = counted(client, route, 200), counted(client, route, 405)
    response = client.request(route.method, route.path, json=BODIES.get(route.path))
    assert response.status_code == 200
    other = "GET" if route.method == "POST" else "POST"
    assert client.request(other, route.path).status_code == 405
    # The metrics page counts itself: the two requests for it that `counted` has made so far.
    own = 2.0 if route.path == "/metrics" else 0.0
    assert (counted(client, route, 200), counted(client, route, 405)) == (before[0] + 1 + own, before[1] + 1)
    described = openapi.document(CONTRACT, PAYLOAD)["paths"].get(route.path)
    assert (described is not None) == bool(route.summary)
    if described:
        [(method, operation)] = described.items()
        assert (method.upper(), operation["operationId"], operation["summary"]) == (
            route.method,
            route.name,
            route.summary,
        )
        assert ("security" in operation) == ("401" in operation["responses"]) == (route.path not in OPEN_PATHS)
        assert set(operation["responses"]) - {"200", "401"} == {str(status) for status in route.errors}
        assert ("requestBody" in operation) == bool(route.request)
        [content] = operation["responses"]["200"]["content"]
        assert response.headers["content-type"].startswith(content)
        if route.response:
            getattr(PAYLOAD, route.response).model_validate_json(response.content, strict=True)


@each_route
def test_a_route_has_a_handler_unless_bentoml_answers_it(route: Route) -> None:
    """And only a POST route may go past BentoML, whose own handling it would otherwise have."""
    handler = getattr(Handlers, route.name, None)
    assert (handler is None) == route.builtin
    assert handler is None or inspect.iscoroutinefunction(handler)
    assert not route.direct or (route.method == "POST" and not route.builtin)


def test_every_post_route_is_an_api_of_bentoml(settings: Settings) -> None:
    """BentoML's own clients and tools know the routes by these names."""
    apis = make_service(settings, INSTANCE).apis
    assert {api.name: api.route for api in apis.values()} == {
        route.name: route.path for route in ROUTES if route.method == "POST"
    }


def test_probes_and_metrics_are_not_logged() -> None:
    """Requests of probes and metrics leave no line in the log, which would hide those of clients."""
    assert {route.path for route in ROUTES if not route.logged} == {"/livez", "/healthz", "/readyz", "/metrics"}
