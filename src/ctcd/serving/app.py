"""The BentoML service: the handlers of its routes, and the middleware around them."""

import asyncio
import sys
from typing import Any

import bentoml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from ctcd.contract.instance import Instance
from ctcd.serving.http import connection
from ctcd.serving.http.api_keys import Guard
from ctcd.serving.http.handlers import Handlers
from ctcd.serving.http.middleware import RequestMiddleware, RequestRecorder
from ctcd.serving.http.routes import ASYNCHRONOUS, BY_NAME, ROUTES, Route
from ctcd.serving.logs import RequestLog
from ctcd.serving.metrics import Metrics
from ctcd.settings import Settings

TIMEOUT = "TimeoutMiddleware"
"""Keeps a timer for each request until it would have fired; our handlers enforce the time limit themselves."""
TRACING = "OpenTelemetryMiddleware"


class _Request(bentoml.IODescriptor):  # type: ignore[misc] # BentoML's SDK has no types
    """Passes the request on unparsed, so that its body is read, validated and refused in one place."""

    __root_input__ = True

    @classmethod
    async def from_http_request(cls, request: Request, serde: object) -> Request:  # noqa: ARG003 - the signature is BentoML's
        return request


class _LeanService(bentoml.Service):  # type: ignore[misc] # BentoML's SDK has no types
    """A BentoML service without the middleware that is more expensive than a prediction."""

    dropped: tuple[str, ...] = (TIMEOUT, TRACING)
    limiter: connection.ConnectionLimiter
    """Limits the connections of a worker."""

    def to_asgi(self, is_main: bool = True) -> Starlette:
        app: Starlette = super().to_asgi(is_main)
        app.user_middleware = [
            middleware
            for middleware in app.user_middleware
            if getattr(middleware.cls, "__name__", "") not in self.dropped
        ]
        # A redirect would name the host that the client said.
        app.router.redirect_slashes = False
        connection.install(self.limiter)
        return app


class _TracedService(_LeanService):
    dropped = (TIMEOUT,)


def _api(route: Route, handlers: Handlers) -> Any:
    """Return the BentoML API of a route."""

    async def answer(_service: object, request: Request) -> Response:
        return await handlers.of(route)(request)

    answer.__name__ = route.name  # BentoML's name of the API
    return bentoml.api(route=route.path, input_spec=_Request, output_spec=_Request)(answer)


def make_service(settings: Settings, instance: Instance) -> Any:
    """Return the BentoML service; it opens model and outbox when a worker starts.

    Raises:
        UsageError: an API key is invalid, or there is none outside of local use.
    """
    contract, payload = instance.contract, instance.payload
    counters = Metrics(settings.metrics_folder)
    log = RequestLog(lambda: sys.stdout, enabled=settings.log_level in ("debug", "info"))
    guard = Guard(settings)
    routes = (*ROUTES, *(ASYNCHRONOUS if settings.asynchronous else ()))
    recorder = RequestRecorder(counters, log, lambda: handlers.runtime.served.version)
    handlers = Handlers(contract, payload, counters, settings, keyed=guard.requires_key(BY_NAME["predict"].path))

    class PredictionService:
        def __init__(self) -> None:
            # Imported here, because BentoML's supervisor imports this module too, and needs neither model nor store.
            from ctcd.serving.runtime import Runtime

            handlers.runtime = Runtime(settings, instance, counters)

        @bentoml.on_startup  # type: ignore[untyped-decorator] # as above
        def start(self) -> None:
            handlers.runtime.start()

        @bentoml.on_shutdown  # type: ignore[untyped-decorator] # as above
        async def stop(self) -> None:
            await asyncio.to_thread(handlers.runtime.stop)
            log.flush()

        def __is_ready__(self) -> bool:
            return handlers.runtime.outbox.usable()

    for route in routes:
        if route.method == "POST":
            setattr(PredictionService, route.name, _api(route, handlers))
    service = bentoml.service(
        name=contract.name,
        service_class=_TracedService if settings.tracing else _LeanService,
        workers=settings.workers,
        http={"host": settings.host, "port": settings.port},
        # Our own cost a fraction of BentoML's.
        metrics={"enabled": False},
        logging={"access": {"enabled": False}},
    )(PredictionService)
    service.limiter = connection.ConnectionLimiter(settings, recorder, counters.connections)
    service.mount_asgi_app(handlers.mounted(routes))
    service.add_asgi_middleware(
        RequestMiddleware,
        guard=guard,
        recorder=recorder,
        direct={route.path: handlers.of(route) for route in routes if route.direct},
    )
    return service
