"""The ASGI app. `create_app(settings)` makes one; its lifespan opens the database and closes it.

The description of the service: FastAPI's, with the bodies that the endpoints read themselves.

A shorter way to the endpoints that take most requests.

They read their request themselves, so matching a route, solving its dependencies and the
stacks around that, which cost about as much as all the rest of a single write, give them
nothing. Answers, errors and the description are those of the same endpoint on the long way.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from otel_agent_telemetry.clock import Clock
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.errors import ConfigurationError
from otel_agent_telemetry.service import problems, routes_read, routes_system, routes_traces, routes_write
from otel_agent_telemetry.service.backend import Backend
from otel_agent_telemetry.service.guards import (
    OPEN_PATHS,
    AccessLog,
    BearerToken,
    LocalNames,
    RateLimit,
    RequestRates,
    TokenCheck,
    is_local_name,
)
from otel_agent_telemetry.service.problems import answer_to
from otel_agent_telemetry.service.prometheus import ServiceFigures
from otel_agent_telemetry.service.responses import RunEncoder
from otel_agent_telemetry.service.schemas import BODIES

_Call = tuple[str, str]
"""Method and path."""

DIRECT: Final = frozenset({("POST", "/api/v1/runs"), ("POST", "/v1/traces")})


class DirectRoutes:
    """Innermost of the middlewares: calls the endpoints of `routes` whose request matches exactly."""

    def __init__(self, app: ASGIApp, *, routes: Mapping[_Call, APIRoute]) -> None:
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the endpoint, or let the app find one."""
        route = self._routes.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if route is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = route
        request = Request(scope, receive, send)
        try:
            answer = await route.endpoint(request)
        except Exception as problem:  # every error has its answer
            answer = answer_to(scope, problem)
        await answer(scope, receive, send)


def direct_routes(routes: Iterable[BaseRoute]) -> dict[_Call, APIRoute]:
    """Those of the routes that go the short way."""
    return {
        call: route
        for route in routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
        if (call := (method, route.path)) in DIRECT
    }


_REFERENCE = "#/components/schemas/{model}"


def describe_as_served(app: FastAPI, *, with_auth: bool) -> None:
    """Make `/openapi.json` complete."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _description(app, with_auth=with_auth)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way


def _description(app: FastAPI, *, with_auth: bool) -> dict[str, Any]:
    described = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    _, bodies = models_json_schema([(model, "validation") for model in BODIES], ref_template=_REFERENCE)
    components = described.setdefault("components", {})
    components.setdefault("schemas", {}).update(bodies.get("$defs", {}))
    if with_auth:
        components["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
        described["security"] = [{"bearer": []}]
        for path in OPEN_PATHS:
            described["paths"][path]["get"]["security"] = []
    return described


_ABOUT = (
    "Runs of agents: kept once, whatever the order and the number of times they are told, and read back. "
    "Every answer to a write comes after the commit that holds it. Errors are objects with one member, `detail`; "
    "on 429 and 503 the same request may be sent again after `Retry-After` seconds."
)


def create_app(settings: TelemetryConfig | None = None, *, clock: Clock | None = None) -> FastAPI:
    """An app for these settings (default: the environment's). Touches nothing before it starts.

    While it runs it is the one writer of its SQLite database. Starting raises
    ConfigurationError, StoreUnavailableError or SchemaError, see `backend.Backend.open`.
    """
    settings = settings or TelemetryConfig.from_env()
    backend = Backend(settings, clock=clock)
    app = FastAPI(
        title="agent-telemetry",
        version=routes_system.API_VERSION,
        description=_ABOUT,
        lifespan=_lifespan,
        docs_url=None,  # those pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # our own work makes no spans
    )
    app.state.backend = backend
    app.state.encoder = RunEncoder(dict(settings.git_hosts))
    app.state.field_values = {}
    app.state.figures = ServiceFigures(backend.writer)
    app.state.began = time.monotonic()
    for routes in (routes_write, routes_read, routes_system, routes_traces):
        app.include_router(routes.router)
    problems.register(app)
    describe_as_served(app, with_auth=settings.api_auth_enabled)
    token = TokenCheck(settings.api_auth_token or "") if settings.api_auth_enabled else None
    rates = RequestRates(settings.rate_limit_rpm) if settings.rate_limit_enabled else None
    _guard(app, settings, token, rates)
    app.state.grpc = _grpc_receiver(backend, app.state.figures, token, rates)
    return app


def _guard(app: FastAPI, settings: TelemetryConfig, token: TokenCheck | None, rates: RequestRates | None) -> None:
    """The last one added stands outermost."""
    app.add_middleware(DirectRoutes, routes=direct_routes([*routes_write.router.routes, *routes_traces.router.routes]))
    if token is None and settings.trusted_proxies is None and is_local_name(settings.api_host):
        app.add_middleware(LocalNames)
    if token is not None:
        app.add_middleware(BearerToken, token=token)
    if rates is not None:
        app.add_middleware(RateLimit, rates=rates)
    app.add_middleware(AccessLog, observe=app.state.figures.observe)


def _grpc_receiver(
    backend: Backend, figures: ServiceFigures, token: TokenCheck | None, rates: RequestRates | None
) -> Any:
    """The `GrpcReceiver` when one is asked for, else None. Raises ConfigurationError without its library."""
    if backend.settings.otlp_grpc_port is None:
        return None
    try:
        from otel_agent_telemetry.service.otlp_grpc import GrpcReceiver
    except ImportError as missing:
        raise ConfigurationError(
            f"TELEMETRY_OTLP_GRPC_PORT is set but {missing.name} is not installed",
            hint="pip install 'otel-agent-telemetry[grpc]'",
        ) from missing
    return GrpcReceiver(backend, figures, token=token, rates=rates)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    backend: Backend = app.state.backend
    await anyio.to_thread.run_sync(backend.open)
    try:
        if app.state.grpc is not None:
            await app.state.grpc.start()
        yield
    finally:
        if app.state.grpc is not None:
            await app.state.grpc.stop()
        await anyio.to_thread.run_sync(backend.close)
