"""Running the app: the socket, the signals, the end.

The order of starting is what makes a refusal clear: the database first (another writer? not
ours?), then the port, then the lock file says where this service answers. SIGTERM and SIGINT
end it: no new connection, every request that was accepted is answered, what waits is
written, and the process ends with 0.
"""

from __future__ import annotations

import logging
import signal
import socket
from typing import Final

import uvicorn
from fastapi import FastAPI

from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.errors import ConfigurationError
from otel_agent_telemetry.service.app import create_app
from otel_agent_telemetry.service.backend import Backend, check_settings
from otel_agent_telemetry.storage.store import Store

_log = logging.getLogger(__name__)
_GRACEFUL_S: Final = 20
_KEEP_ALIVE_S: Final = 75
_BACKLOG: Final = 2048
_MAX_CONNECTIONS: Final = 4096
_GRPC_PORT: Final = "TELEMETRY_OTLP_GRPC_PORT"
_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - names, not a binding


def serve(settings: TelemetryConfig) -> None:
    """Serve until a signal ends it. Blocks; for the main thread.

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
            bound(settings.api_host, settings.otlp_grpc_port, setting=_GRPC_PORT).close()
        listener = bound(settings.api_host, settings.api_port)
        url = address_of(settings, listener)
        backend.announce(url)
        _run(app, settings, listener, saying=f"serving {backend.database} at {url}")
    finally:
        backend.close()


def bound(host: str, port: int, *, setting: str = "--host or --port") -> socket.socket:
    """A listening socket. Raises ConfigurationError that names the setting."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, UnicodeError) as problem:  # a name that no host can have
        raise ConfigurationError(
            f"listening on {host}:{port}: {getattr(problem, 'strerror', None) or problem}",
            hint=f"Give another {setting}, or end what listens there.",
        ) from None


def address_of(settings: TelemetryConfig, listener: socket.socket) -> str:
    """The URL at which processes of this machine reach the service."""
    host, port = settings.api_host, listener.getsockname()[1]
    host = _EVERYWHERE.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _options(settings: TelemetryConfig) -> dict[str, object]:
    return {
        "access_log": False,
        "log_config": None,
        "server_header": False,
        "lifespan": "on",
        "ws": "none",
        "timeout_keep_alive": _KEEP_ALIVE_S,
        "timeout_graceful_shutdown": _GRACEFUL_S,
        "limit_concurrency": _MAX_CONNECTIONS,
        "proxy_headers": settings.trusted_proxies is not None,
        "forwarded_allow_ips": settings.trusted_proxies or "",
    }


def _run(app: FastAPI, settings: TelemetryConfig, listener: socket.socket, *, saying: str) -> None:
    server = uvicorn.Server(uvicorn.Config(app, **_options(settings)))  # type: ignore[arg-type]  # a table
    before = {number: signal.signal(number, server.handle_exit) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        _log.warning("%s", saying)
        server.run(sockets=[listener])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        listener.close()
    if not server.started and not server.should_exit:
        raise ConfigurationError("the service did not start; the lines above say why")


def _serve_with_workers(settings: TelemetryConfig) -> None:
    """Several processes on one port, each with a writer of its own.

    What would make each of them refuse is found here, where it can be said in one line.
    Their settings come from the environment, so the base directory is handed down.
    """
    check_settings(settings)
    database = _made_ready(settings)
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


def _made_ready(settings: TelemetryConfig) -> str:
    """The database's name, once it has the current schema: no worker finds another one at it."""
    store = Store(settings)
    try:
        store.open()
    finally:
        store.close()
    return store.name
