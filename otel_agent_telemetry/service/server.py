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
import ssl
from collections.abc import Callable
from typing import Any, Final

import uvicorn
from starlette.applications import Starlette

from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.errors import ConfigurationError
from otel_agent_telemetry.service.app import create_app
from otel_agent_telemetry.service.backend import Backend, check_settings
from otel_agent_telemetry.service.connection_limits import limited_protocol
from otel_agent_telemetry.service.guards import is_public
from otel_agent_telemetry.storage.pricing import load_prices
from otel_agent_telemetry.storage.store import Store

_log = logging.getLogger(__name__)
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2 those without CBC, whose padding LUCKY13 (CVE-2013-0169) measures; TLS 1.3 has no others."""
_SHUTDOWN_TIMEOUT_S: Final = 20
_BACKLOG: Final = 2048
_MAX_CONNECTIONS: Final = 4096
_GRPC_PORT: Final = "TELEMETRY_OTLP_GRPC_PORT"
_ANY_ADDRESS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - names, not a binding


def serve(settings: TelemetryConfig, *, listening: Callable[[str], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT. Blocks; must run in the main thread.

    `listening` is called with the URL once connections to it are accepted; not with several
    workers. Raises ConfigurationError (the port cannot be bound, settings do not fit), StorageError.
    """
    if settings.api_workers > 1 and settings.database_url:
        _serve_with_workers(settings)
        return
    check_certificate(settings)
    app = create_app(settings)
    backend: Backend = app.state.backend
    backend.open()
    try:
        if settings.otlp_grpc_port is not None:
            # Tried before anything is announced; the receiver itself binds inside the running app.
            bound(settings.api_host, settings.otlp_grpc_port, setting=_GRPC_PORT).close()
        listener = bound(settings.api_host, settings.api_port)
        # The port as it was bound: 0 in the settings means any free one.
        url = address_of(settings, listener)
        backend.announce(url)
        # Here rather than in the thread of the first request that shows a cost.
        load_prices()
        message = _start_message(settings, backend.database, url, listener.getsockname()[1])
        if listening is not None:
            listening(url)
        _run(app, settings, listener, message=message)
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
    scheme = "https" if settings.tls_certificate else "http"
    return f"{scheme}://{_joined(_ANY_ADDRESS.get(host, host), port)}"


def _joined(host: str, port: int) -> str:
    """Return `host:port`, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _start_message(settings: TelemetryConfig, database: str, url: str, port: int) -> str:
    """Return the line of the start: what is served, at which URL, and the address that is bound."""
    return f"serving {database} at {url} (listening on {_joined(settings.api_host or '0.0.0.0', port)})"  # noqa: S104


def _log_start(message: str, settings: TelemetryConfig) -> None:
    """Log that the service has started, whatever the level of the log is, and who may use it."""
    _log.setLevel(logging.INFO)  # of this module alone: one line a start
    _log.info("%s", message)
    if not settings.auth_required and is_public(settings.api_host):
        _log.warning(
            "TELEMETRY_API_AUTH_ENABLED is false: everybody who reaches %s reads and writes the runs", settings.api_host
        )


def _options(settings: TelemetryConfig) -> dict[str, object]:
    """Return uvicorn's options."""
    return {
        "access_log": False,
        "log_config": None,
        # A stranger need not know which server, and so which faults, to try.
        "server_header": False,
        "lifespan": "on",
        "ws": "none",
        "http": limited_protocol(settings),
        "timeout_keep_alive": settings.http_idle_timeout_s,
        "timeout_graceful_shutdown": _SHUTDOWN_TIMEOUT_S,
        "limit_concurrency": _MAX_CONNECTIONS,
        "proxy_headers": settings.trusted_proxies is not None,
        "forwarded_allow_ips": settings.trusted_proxies or "",
        **_tls_options(settings),
    }


def _tls_options(settings: TelemetryConfig) -> dict[str, object]:
    """Return uvicorn's options for HTTPS; none without a certificate."""
    if settings.tls_certificate is None or settings.tls_key is None:
        return {}
    files = {"ssl_certfile": str(settings.tls_certificate), "ssl_keyfile": str(settings.tls_key)}
    return {**files, "ssl_ciphers": _CIPHERS}


def check_certificate(settings: TelemetryConfig) -> None:
    """Raise ConfigurationError when the certificate and key cannot be used."""
    if settings.tls_certificate is None or settings.tls_key is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.tls_certificate, settings.tls_key, password="")
    except OSError as problem:  # ssl.SSLError is one
        raise ConfigurationError(
            f"TELEMETRY_TLS_CERTIFICATE, TELEMETRY_TLS_KEY: {settings.tls_certificate}, {settings.tls_key}: "
            f"{problem.strerror or type(problem).__name__}",
            hint="Give the certificate chain and its key, without a password, as PEM files that the service can read.",
        ) from None


def _read_certificate_again(config: uvicorn.Config, settings: TelemetryConfig) -> None:
    """Use the certificate that the files hold now for new connections; keep the old one when they cannot be used."""
    if config.ssl is None or settings.tls_certificate is None:
        return
    try:
        # Checked first on a context of its own: half a change must not reach the one in use.
        check_certificate(settings)
        config.ssl.load_cert_chain(settings.tls_certificate, settings.tls_key)
        _log.info("the certificate has been read again")
    except (ConfigurationError, OSError) as problem:
        _log.error("the certificate cannot be used, the old one stays: %s", problem)


def _run(app: Starlette, settings: TelemetryConfig, listener: socket.socket, *, message: str) -> None:
    """Serve on an open socket until a signal; log `message` once. Raises ConfigurationError when the start fails."""
    config = uvicorn.Config(app, **_options(settings))  # type: ignore[arg-type]  # a table
    server = uvicorn.Server(config)
    # uvicorn handles signals only while it serves; these also cover the start of the app
    previous: dict[int, Any] = {
        number: signal.signal(number, server.handle_exit) for number in (signal.SIGTERM, signal.SIGINT)
    }
    if hasattr(signal, "SIGHUP"):
        previous[signal.SIGHUP] = signal.signal(signal.SIGHUP, lambda *_: _read_certificate_again(config, settings))
    try:
        _log_start(message, settings)
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
    check_certificate(settings)
    database = _prepare_database(settings)
    # Tried once and closed again: workers that cannot bind would be started anew without end.
    with bound(settings.api_host, settings.api_port) as free:
        url, port = address_of(settings, free), free.getsockname()[1]
    settings.hand_down()
    _log_start(_start_message(settings, f"{database} by {settings.api_workers} processes", url, port), settings)
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
