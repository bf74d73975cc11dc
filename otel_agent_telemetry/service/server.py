"""Running the app under uvicorn: listening socket, signals, shutdown.

The order of the start makes each failure clear: first the database (does another process
write it? is its schema known?), then the port, then the URL goes into the lock file. SIGTERM
and SIGINT end the service: no new connection, a response to every accepted request, a commit
of what waits, exit status 0.
"""

from __future__ import annotations

import logging
import signal
import socket
from typing import Final

import uvicorn
from starlette.applications import Starlette

from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.errors import ConfigurationError
from otel_agent_telemetry.service.app import create_app
from otel_agent_telemetry.service.backend import Backend, check_settings
from otel_agent_telemetry.service.connection_limits import limited_protocol
from otel_agent_telemetry.storage.pricing import load_prices
from otel_agent_telemetry.storage.store import Store

_log = logging.getLogger(__name__)
_SHUTDOWN_TIMEOUT_S: Final = 20
_BACKLOG: Final = 2048
_MAX_CONNECTIONS: Final = 4096
_GRPC_PORT: Final = "TELEMETRY_OTLP_GRPC_PORT"
_ANY_ADDRESS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - names, not a binding


def serve(settings: TelemetryConfig) -> None:
    """Serve until SIGTERM or SIGINT. Blocks; must run in the main thread.

    Raises ConfigurationError (the port cannot be bound, settings do not fit), StorageError.
    """
    if settings.api_workers > 1 and settings.database_url:
        _serve_with_workers(settings)
        return
    app = create_app(settings)
    backend: Backend = app.state.backend
    backend.open()
    try:
        if settings.otlp_grpc_port is not None:
            # Tried before anything is announced; the receiver itself binds inside the running app.
            bound(settings.api_host, settings.otlp_grpc_port, setting=_GRPC_PORT).close()
        listener = bound(settings.api_host, settings.api_port)
        url = address_of(settings, listener)
        backend.announce(url)
        # Here rather than in the thread of the first request that shows a cost.
        load_prices()
        _run(app, settings, listener, message=f"serving {backend.database} at {url}")
    finally:
        backend.close()


def bound(host: str, port: int, *, setting: str = "--host or --port") -> socket.socket:
    """Return a listening socket. Raises ConfigurationError that names the setting."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, UnicodeError) as problem:  # a name that is no valid host name
        raise ConfigurationError(
            f"listening on {host}:{port}: {getattr(problem, 'strerror', None) or problem}",
            hint=f"Give another {setting}, or end what listens there.",
        ) from None


def address_of(settings: TelemetryConfig, listener: socket.socket) -> str:
    """Return the URL at which processes of this machine reach the service."""
    host, port = settings.api_host, listener.getsockname()[1]
    host = _ANY_ADDRESS.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _options(settings: TelemetryConfig) -> dict[str, object]:
    """Return uvicorn's options."""
    return {
        "access_log": False,
        "log_config": None,
        "server_header": False,
        "lifespan": "on",
        "ws": "none",
        "http": limited_protocol(settings),
        "timeout_keep_alive": settings.http_idle_timeout_s,
        "timeout_graceful_shutdown": _SHUTDOWN_TIMEOUT_S,
        "limit_concurrency": _MAX_CONNECTIONS,
        "proxy_headers": settings.trusted_proxies is not None,
        "forwarded_allow_ips": settings.trusted_proxies or "",
    }


def _run(app: Starlette, settings: TelemetryConfig, listener: socket.socket, *, message: str) -> None:
    """Serve on an open socket until a signal; log `message` once. Raises ConfigurationError when the start fails."""
    server = uvicorn.Server(uvicorn.Config(app, **_options(settings)))  # type: ignore[arg-type]  # a table
    # uvicorn handles signals only while it serves; these also cover the start of the app
    previous = {number: signal.signal(number, server.handle_exit) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        _log.warning("%s", message)
        server.run(sockets=[listener])
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        listener.close()
    if not server.started and not server.should_exit:
        raise ConfigurationError("the service did not start; the log lines above have the cause")


def _serve_with_workers(settings: TelemetryConfig) -> None:
    """Serve with several processes on one port, each with its own writer; for PostgreSQL. Blocks.

    Whatever would make every worker fail is checked here first, so that it is reported once.
    Workers read their settings from the environment, so the base directory is exported to it.
    """
    check_settings(settings)
    database = _prepare_database(settings)
    with bound(settings.api_host, settings.api_port) as free:
        url, port = address_of(settings, free), free.getsockname()[1]
    settings.hand_down()
    _log.warning("serving %s by %d processes at %s", database, settings.api_workers, url)
    uvicorn.run(
        "otel_agent_telemetry.service.app:create_app",
        factory=True,
        host=settings.api_host,
        port=port,
        workers=settings.api_workers,
        **_options(settings),  # type: ignore[arg-type]  # a table
    )


def _prepare_database(settings: TelemetryConfig) -> str:
    """Create or upgrade the database and return its name; workers then find it current and do not compete for it."""
    store = Store(settings)
    try:
        store.open()
    finally:
        store.close()
    return store.name
