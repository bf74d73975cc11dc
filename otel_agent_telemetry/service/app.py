"""The ASGI application: routes, guards, error responses, and the lifespan that opens the database.

`create_app(settings)` builds one. Nothing is opened before it starts; its lifespan opens the
backend and the optional gRPC receiver, and closes both.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import cache
from typing import Any, Final

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from otel_agent_telemetry.clock import Clock
from otel_agent_telemetry.config import TelemetryConfig, set_default
from otel_agent_telemetry.errors import ConfigurationError
from otel_agent_telemetry.page.live import LiveRuns
from otel_agent_telemetry.page.rendering import compile_templates, not_found_page
from otel_agent_telemetry.page.routes import PAGE_ROUTES
from otel_agent_telemetry.page.sign_in import lead_to_sign_in
from otel_agent_telemetry.service import (
    routes_alerts,
    routes_audit,
    routes_commits,
    routes_deletion,
    routes_digests,
    routes_otlp,
    routes_read,
    routes_records,
    routes_stats,
    routes_system,
    routes_write,
)
from otel_agent_telemetry.service.backend import Backend
from otel_agent_telemetry.service.guards import (
    OPEN_PATHS,
    AccessLog,
    Admission,
    AdmissionGuard,
    LoopbackHostCheck,
    RequestRates,
    RequestsAtOnce,
    is_public,
)
from otel_agent_telemetry.service.open_agent_watch import OpenAgentWatch
from otel_agent_telemetry.service.openapi import describe_service
from otel_agent_telemetry.service.otlp_intake import OtlpIntake, make_intakes
from otel_agent_telemetry.service.prometheus import ServiceMetrics
from otel_agent_telemetry.service.responses import EXCEPTION_HANDLERS, RunEncoder, json_response
from otel_agent_telemetry.service.sessions import Sessions
from otel_agent_telemetry.service.tokens import Tokens
from otel_agent_telemetry.storage.store_facts import page_secret

_TITLE: Final = "agent-telemetry"
_OPERATIONS: Final = (
    *routes_write.operations.routes,  # before the reads: `/runs/batch` would match `/runs/{event_id}`
    *routes_records.operations.routes,
    *routes_alerts.operations.routes,
    *routes_audit.operations.routes,
    *routes_stats.operations.routes,
    *routes_commits.operations.routes,
    *routes_deletion.operations.routes,
    *routes_digests.operations.routes,
    *routes_read.operations.routes,
    *routes_system.operations.routes,
    *routes_otlp.operations.routes,
)
"""The routes in the order in which they are tried."""
_DESCRIPTION: Final = (
    "Runs of agents: each stored once, whatever the order and the number of times its states are sent, and read back. "
    "Every response to a write comes after the commit that holds it. Errors are objects with one member, `detail`; "
    "after 429 and 503 the same request may be sent again after `Retry-After` seconds."
)


def create_app(settings: TelemetryConfig | None = None, *, clock: Clock | None = None) -> Starlette:
    """Return an app for these settings (default: those of the environment). Opens nothing.

    While it runs, it is the only writer of its SQLite database. Its start raises
    ConfigurationError, StoreUnavailableError or SchemaError, see `Backend.open`.
    """
    settings = settings or TelemetryConfig.from_env()
    backend = Backend(settings, clock=clock)
    metrics = ServiceMetrics(backend.writer)
    admission = Admission(
        rates=RequestRates(settings.rate_limit_rpm) if settings.rate_limit_enabled else None,
        tokens=Tokens(settings) if settings.auth_required else None,
    )
    sessions = Sessions(admission.tokens, lambda: backend.change(page_secret))
    app = Starlette(
        routes=_routes(settings),
        middleware=_guards(settings, metrics, admission, sessions),
        exception_handlers=_exception_handlers(settings),
        lifespan=_lifespan,
    )
    # Many clients do not follow the redirect of a POST; a path with a slash too many is a 404.
    app.router.redirect_slashes = False
    app.state.backend = backend
    app.state.encoder = RunEncoder(dict(settings.git_hosts))
    app.state.field_values = {}
    app.state.metrics = metrics
    app.state.sessions = sessions
    app.state.live_runs = LiveRuns()
    app.state.started_at = time.monotonic()
    app.state.otlp = make_intakes(backend, metrics.received)
    app.state.grpc = _grpc_receiver(backend, app.state.otlp.values(), admission)
    return app


def _routes(settings: TelemetryConfig) -> list[Route]:
    """Return the routes: the API's before the page's, which the settings can leave out."""
    # First come, first matched: no address of the page can hide a call of the API.
    api = [*_OPERATIONS, _openapi_route(with_auth=settings.auth_required)]
    return [*api, *PAGE_ROUTES] if settings.page else api


def _exception_handlers(settings: TelemetryConfig) -> Mapping[Any, Any]:
    """Return the handlers; with the page a browser sees a page where there is no address."""
    if not settings.page:
        return EXCEPTION_HANDLERS
    return {**EXCEPTION_HANDLERS, HTTPException: not_found_page(EXCEPTION_HANDLERS[HTTPException])}


@cache
def openapi_document(*, with_auth: bool) -> dict[str, Any]:
    """Return the OpenAPI document of the service. `with_auth`: operations require the bearer token."""
    return describe_service(
        _OPERATIONS,
        title=_TITLE,
        version=routes_system.API_VERSION,
        description=_DESCRIPTION,
        open_paths=OPEN_PATHS if with_auth else None,
    )


def _openapi_route(*, with_auth: bool) -> Route:
    """Return the route of `/openapi.json`, which is no operation of its own document."""

    async def openapi(_request: Request) -> Response:
        """Return the OpenAPI document."""
        return json_response(openapi_document(with_auth=with_auth))

    return Route("/openapi.json", openapi, include_in_schema=False)


def _guards(
    settings: TelemetryConfig, metrics: ServiceMetrics, admission: Admission, sessions: Sessions
) -> list[Middleware]:
    """Return the middlewares, the outermost first: refused requests are logged too."""
    guards = [Middleware(AccessLog, observe=metrics.observe)]
    if settings.trusted_proxies is not None:
        guards.append(Middleware(RequestsAtOnce, limit=settings.http_max_connections))
    if admission.rates is not None or admission.tokens is not None:
        guards.append(Middleware(AdmissionGuard, admission=admission, sessions=sessions, refused=lead_to_sign_in))
    if admission.tokens is None and settings.trusted_proxies is None and not is_public(settings.api_host):
        guards.append(Middleware(LoopbackHostCheck))
    return guards


def _grpc_receiver(backend: Backend, intakes: Iterable[OtlpIntake[Any, Any]], admission: Admission) -> Any:
    """Return the `GrpcReceiver`, None when it is not configured. Raises ConfigurationError without its library."""
    if backend.settings.otlp_grpc_port is None:
        return None
    # The library writes lines to stderr for each handshake that fails, and strangers decide how many do.
    set_default("GRPC_VERBOSITY", "NONE")
    try:
        # Imported only where it is used: grpc is an extra that need not be installed.
        from otel_agent_telemetry.service.otlp_grpc import GrpcReceiver
    except ImportError as missing:
        raise ConfigurationError(
            f"TELEMETRY_OTLP_GRPC_PORT is set but {missing.name} is not installed",
            hint="pip install 'otel-agent-telemetry[grpc]'",
        ) from missing
    return GrpcReceiver(backend, intakes, admission)


@asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    """Open the backend and the gRPC receiver, and close them in reverse order."""
    backend: Backend = app.state.backend
    # In a thread: an upgrade of a large database takes minutes, and the server must answer signals.
    await anyio.to_thread.run_sync(backend.open)
    open_agents = OpenAgentWatch(backend.settings)
    try:
        open_agents.start()
        if app.state.grpc is not None:
            await app.state.grpc.start()
        if backend.settings.page:
            # Beside the first requests: a start that waits for it would be slower for agents, which ask for no page.
            asyncio.get_running_loop().run_in_executor(None, compile_templates)
        yield
    finally:
        if app.state.grpc is not None:
            # Before the backend: its calls in progress still have to be committed.
            await app.state.grpc.stop()
        await anyio.to_thread.run_sync(open_agents.stop)
        await anyio.to_thread.run_sync(backend.close)
