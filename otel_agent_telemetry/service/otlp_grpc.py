"""The OTLP/gRPC receiver (OTLP 1.x specification): the same requests and responses as over HTTP, on its own port.

Off unless `TELEMETRY_OTLP_GRPC_PORT` is set; needs the extra `grpc`. Requests that cannot be
stored now are UNAVAILABLE, which exporters retry; invalid ones are INVALID_ARGUMENT, which
they do not. The library decompresses, and stops at the size limit.

A call is admitted as a request over HTTP is, before its message is read: the method is served as
one with a stream of requests, of which the first is the message. On the wire the two are the
same, but the library reads the message of a unary call before anybody is asked.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio

from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.errors import ConfigurationError, SchemaError, StoreUnavailableError
from otel_agent_telemetry.service.backend import Backend
from otel_agent_telemetry.service.client_addresses import counted_client, forwarded_client, trusted_proxies
from otel_agent_telemetry.service.guards import Admission, log_access
from otel_agent_telemetry.service.otlp_intake import RESPONSE_WITHIN_S, OtlpIntake
from otel_agent_telemetry.service.otlp_parsing import parse_protobuf
from otel_agent_telemetry.service.responses import INTERNAL_ERROR, OverloadedError, RequestError
from otel_agent_telemetry.service.tokens import WRITE

_log = logging.getLogger(__name__)
_STOP_TIMEOUT_S: Final = 10.0
_READ_TIMEOUT_S: Final = 30.0
_PART_OF_DEADLINE: Final = 0.8
_PLACES: Final = 16
_PLACES_A_CLIENT: Final = 4
_SHARE_OF_DESCRIPTORS: Final = 4
"""A fourth of what the process may open is for connections of gRPC."""
_DESCRIPTORS_UNKNOWN: Final = 4096
_CODES: Final = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    408: grpc.StatusCode.UNAVAILABLE,
    429: grpc.StatusCode.UNAVAILABLE,  # RESOURCE_EXHAUSTED is retried only with details that say when
}

_Context = grpc.aio.ServicerContext[bytes, bytes]


class GrpcReceiver:
    """Listens from `start` to `stop`, in the event loop that called `start`."""

    def __init__(self, backend: Backend, intakes: Iterable[OtlpIntake[Any, Any]], admission: Admission) -> None:
        self._backend = backend
        self._intakes = tuple(intakes)
        self._admission = admission
        self._places = _ReadingPlaces()
        self._trusted = trusted_proxies(backend.settings)
        self._server: grpc.aio.Server | None = None
        self.address = ""
        """`host:port` that it listens on; "" while it does not."""

    async def start(self) -> None:
        """Bind the port and listen. Raises ConfigurationError when it cannot be bound."""
        settings = self._backend.settings
        server = grpc.aio.server(
            handlers=[_Methods({intake.signal.method: partial(self._export, intake) for intake in self._intakes})],
            options=[
                ("grpc.max_receive_message_length", settings.api_max_body_bytes),
                # By default gRPC lets two services share a port, each with half of the calls.
                ("grpc.so_reuseport", int(settings.api_workers > 1)),
                *_connection_limits(settings),
            ],
        )
        self.address = _bind(server, settings)
        await server.start()
        self._server = server
        _log.warning("receiving OTLP over gRPC at %s", self.address)

    async def stop(self) -> None:
        """Refuse new calls, finish those in progress, close the port. Idempotent. Takes up to 10 s."""
        if self._server is not None:
            await self._server.stop(_STOP_TIMEOUT_S)
            self._server = None
            self.address = ""

    async def _export(self, intake: OtlpIntake[Any, Any], messages: AsyncIterator[bytes], context: _Context) -> bytes:
        """Handle one call: respond, or abort with the code of what failed; log it either way."""
        started_at, code = time.perf_counter(), grpc.StatusCode.OK
        try:
            return await self._respond(intake, messages, context)
        except Exception as problem:  # the outer edge: every failure has a code
            code, detail = _status_of(problem)
            await context.abort(code, detail)
        # `abort` raises, so the log line is written on the way out of both branches.
        finally:
            duration_s = time.perf_counter() - started_at
            log_access(self._address_of(context), "GRPC", intake.signal.method, code.name, duration_s)

    async def _respond(self, intake: OtlpIntake[Any, Any], messages: AsyncIterator[bytes], context: _Context) -> bytes:
        """Return the encoded response after the commit that holds the items."""
        client = counted_client(self._address_of(context))
        # Before a byte of the message is read, as over HTTP.
        refusal = self._admission.check(client, _metadata_of(context, "authorization"), WRITE).refusal
        if refusal is not None:
            raise RequestError(refusal.status, refusal.detail, headers=refusal.headers)
        with self._backend.body_budget.reserve(client) as reservation:
            # How large the message is, only the library knows until it has read it: so few are read at once.
            with self._places.take(client):
                body = await _read(messages)
                reservation.grow(len(body))
            response = await intake.export(body, parse_protobuf, within_s=_time_for(context))
        encoded: bytes = response.SerializeToString()
        return encoded

    def _address_of(self, context: _Context) -> str:
        """Return the address of the client: of one behind a trusted proxy, that which the proxy names."""
        forwarded = b",".join(_metadata_of(context, "x-forwarded-for")).decode("latin-1")
        return forwarded_client(_peer_of(context), forwarded, self._trusted)


class _ReadingPlaces:
    """Bounds the messages that are being read: 16 at once, 4 for each client."""

    def __init__(self) -> None:
        self._by_client: Counter[str] = Counter()

    @contextmanager
    def take(self, client: str) -> Iterator[None]:
        """Hold a place. Raises OverloadedError when there is none."""
        if self._by_client[client] >= _PLACES_A_CLIENT or self._by_client.total() >= _PLACES:
            raise OverloadedError("too many requests at once")
        self._by_client[client] += 1
        try:
            yield
        finally:
            self._by_client[client] -= 1
            if not self._by_client[client]:  # clients come and go: the table must not grow with them
                del self._by_client[client]


async def _read(messages: AsyncIterator[bytes]) -> bytes:
    """Return the message of a call. Raises RequestError 400 without one, 408 when it is not there within 30 s."""
    try:
        async with asyncio.timeout(_READ_TIMEOUT_S):
            return await anext(messages)
    except StopAsyncIteration:
        raise RequestError(400, "the call has no message") from None
    except TimeoutError:
        raise RequestError(408, f"the message did not arrive within {_READ_TIMEOUT_S:g} s") from None


class _Methods(grpc.GenericRpcHandler):
    """Routes the calls by the path of their method; takes bytes: what does not parse gets a code of this module."""

    def __init__(self, exports: Mapping[str, Callable[[AsyncIterator[bytes], _Context], Awaitable[bytes]]]) -> None:
        self._handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            method: grpc.stream_unary_rpc_method_handler(export) for method, export in exports.items()
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        """Return the handler of a call; None, which is UNIMPLEMENTED, for any other method."""
        return self._handlers.get(handler_call_details.method)


def _time_for(context: _Context) -> float:
    """Return the seconds in which a call is answered: most of what the client waits, where that is little."""
    waits_s = context.time_remaining()
    return RESPONSE_WITHIN_S if waits_s is None else min(RESPONSE_WITHIN_S, waits_s * _PART_OF_DEADLINE)


def _connection_limits(settings: TelemetryConfig) -> list[tuple[str, int]]:
    """Return the library's options for the limits that `connection_limits` has over HTTP.

    The library has no number of connections for each address. So there is one for all together,
    which leaves descriptors for HTTP and the database whatever happens on this port.
    """
    return [
        ("grpc.max_allowed_incoming_connections", _descriptors() // _SHARE_OF_DESCRIPTORS),
        ("grpc.server_handshake_timeout_ms", int(settings.http_head_timeout_s * 1000)),
        ("grpc.max_connection_idle_ms", int(settings.http_idle_timeout_s * 1000)),
        ("grpc.max_concurrent_streams", settings.http_max_connections),
        ("grpc.max_metadata_size", settings.http_max_head_bytes),
        ("grpc.absolute_max_metadata_size", settings.http_max_head_bytes),
    ]


def _descriptors() -> int:
    """Return how many files and sockets this process may have open."""
    try:
        import resource
    except ImportError:  # Windows
        return _DESCRIPTORS_UNKNOWN
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return limit if limit != resource.RLIM_INFINITY else _DESCRIPTORS_UNKNOWN


def _bind(server: grpc.aio.Server, settings: TelemetryConfig) -> str:
    """Bind the port (0: any free one), with TLS where there is a certificate, and return `host:port`.

    Raises ConfigurationError.
    """
    host, port = settings.api_host, settings.otlp_grpc_port or 0
    # An IPv6 address without brackets would be read as a host and a port.
    name = f"[{host}]" if ":" in host else host
    try:
        if settings.tls_certificate is None or settings.tls_key is None:
            return f"{name}:{server.add_insecure_port(f'{name}:{port}')}"
        credentials = _credentials(settings.tls_certificate, settings.tls_key)
        return f"{name}:{server.add_secure_port(f'{name}:{port}', credentials)}"
    except RuntimeError:
        raise ConfigurationError(
            f"listening for OTLP over gRPC on {name}:{port}: the address is taken or cannot be bound",
            hint="Set TELEMETRY_OTLP_GRPC_PORT to another port, or end what listens there.",
        ) from None


def _credentials(certificate: Path, key: Path) -> grpc.ServerCredentials:
    """Return credentials that follow the files: those of a new connection are the ones that stand there then."""
    used = _pair(certificate, key)

    def current() -> grpc.ServerCertificateConfiguration | None:
        """Return the new pair, None where it is the one in use. Called by the library for each connection."""
        nonlocal used
        try:
            pair = _pair(certificate, key)
        except OSError:  # being replaced just now
            return None
        if pair == used:
            return None
        used = pair
        return grpc.ssl_server_certificate_configuration([pair])

    first = grpc.ssl_server_certificate_configuration([used])
    return grpc.dynamic_ssl_server_credentials(first, current)  # type: ignore[arg-type]  # None is documented


def _pair(certificate: Path, key: Path) -> tuple[bytes, bytes]:
    """Return the content of both files, the key first. Raises OSError."""
    return key.read_bytes(), certificate.read_bytes()


def _status_of(problem: Exception) -> tuple[grpc.StatusCode, str]:
    """Return the code and the text for an exception."""
    if isinstance(problem, (OverloadedError, StoreUnavailableError, SchemaError)):
        return grpc.StatusCode.UNAVAILABLE, str(problem)
    if isinstance(problem, RequestError):
        return _CODES.get(problem.status, grpc.StatusCode.INVALID_ARGUMENT), str(problem)
    _log.error("internal error while serving a request: %s", type(problem).__name__, exc_info=problem)
    return grpc.StatusCode.INTERNAL, INTERNAL_ERROR


def _peer_of(context: _Context) -> str:
    """Return the peer's address without its port, from `ipv4:127.0.0.1:4711`, `ipv6:%5B::1%5D:4711`."""
    return str(context.peer()).partition(":")[2].rpartition(":")[0].replace("%5B", "").replace("%5D", "") or "unknown"


def _metadata_of(context: _Context, wanted: str) -> list[bytes]:
    """Return every value of a name in the call's metadata."""
    values = [value for name, value in context.invocation_metadata() or () if name == wanted]
    return [value if isinstance(value, bytes) else value.encode() for value in values]
