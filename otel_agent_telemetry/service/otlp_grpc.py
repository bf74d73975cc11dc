"""The OTLP/gRPC receiver (OTLP 1.x specification): the same spans and responses as over HTTP, on its own port.

Off unless `TELEMETRY_OTLP_GRPC_PORT` is set; needs the extra `grpc`. Requests that cannot be
stored now are UNAVAILABLE, which exporters retry; invalid ones are INVALID_ARGUMENT, which
they do not. The library decompresses, and stops at the size limit. A call without the token
is refused before its message is read.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NoReturn

import anyio
import grpc
import grpc.aio

from otel_agent_telemetry.errors import ConfigurationError, SchemaError, StoreUnavailableError
from otel_agent_telemetry.otel.receiver import Received
from otel_agent_telemetry.service.backend import Backend
from otel_agent_telemetry.service.guards import RequestRates, TokenCheck, log_access
from otel_agent_telemetry.service.otlp_parsing import extract_runs, parse_protobuf, store_received
from otel_agent_telemetry.service.prometheus import ServiceMetrics
from otel_agent_telemetry.service.responses import INTERNAL_ERROR, OverloadedError, RequestError

_log = logging.getLogger(__name__)
_EXPORT: Final = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
# A smaller body is parsed sooner than a thread would take it over; a larger one would hold up the loop.
_LARGE_BODY: Final = 32 << 10
_STOP_TIMEOUT_S: Final = 10.0

_Context = grpc.aio.ServicerContext[bytes, bytes]


class GrpcReceiver:
    """Listens from `start` to `stop`, in the event loop that called `start`."""

    def __init__(
        self,
        backend: Backend,
        metrics: ServiceMetrics,
        *,
        token: TokenCheck | None = None,
        rates: RequestRates | None = None,
    ) -> None:
        self._backend = backend
        self._metrics = metrics
        self._token = token
        self._rates = rates
        self._server: grpc.aio.Server | None = None
        self.address = ""
        """`host:port` that it listens on; "" while it does not."""

    async def start(self) -> None:
        """Bind the port and listen. Raises ConfigurationError when it cannot be bound."""
        settings = self._backend.settings
        server = grpc.aio.server(
            handlers=[_OneMethod(self._export, self._token)],
            options=[
                ("grpc.max_receive_message_length", settings.api_max_body_bytes),
                # By default gRPC lets two services share a port, each with half of the calls.
                ("grpc.so_reuseport", int(settings.api_workers > 1)),
            ],
        )
        self.address = _bind(server, settings.api_host, settings.otlp_grpc_port or 0)
        await server.start()
        self._server = server
        _log.warning("receiving OTLP over gRPC at %s", self.address)

    async def stop(self) -> None:
        """Refuse new calls, finish those in progress, close the port. Idempotent. Takes up to 10 s."""
        if self._server is not None:
            await self._server.stop(_STOP_TIMEOUT_S)
            self._server = None
            self.address = ""

    async def _export(self, body: bytes, context: _Context) -> bytes:
        """Handle one call: respond, or abort with the code of what failed; log it either way."""
        started_at, code = time.perf_counter(), grpc.StatusCode.OK
        try:
            return await self._respond(body, _client_of(context))
        except Exception as problem:  # the outer edge: every failure has a code
            code, detail = _status_of(problem)
            await context.abort(code, detail)
        # `abort` raises, so the log line is written on the way out of both branches.
        finally:
            log_access(_client_of(context), "GRPC", _EXPORT, code.name, time.perf_counter() - started_at)

    async def _respond(self, body: bytes, client: str) -> bytes:
        """Return the encoded response after the commit that holds the spans."""
        if self._rates is not None and (wait_s := self._rates.hit(client).wait_s):
            raise OverloadedError("too many requests a minute from this address", retry_after_s=wait_s)
        with self._backend.body_budget.reserve() as reservation:
            # The library has read the message by now; the reservation bounds how many are held while they wait.
            reservation.grow(len(body))
            received = await self._parse(body)
            response = await store_received(received, self._backend, self._metrics.spans)
        encoded: bytes = response.SerializeToString()
        return encoded

    async def _parse(self, body: bytes) -> Received:
        """Return the spans of a message; a large one is parsed in another thread."""

        def parse() -> Received:
            """Return the runs in the request."""
            return extract_runs(self._backend.settings, parse_protobuf(body))

        return parse() if len(body) < _LARGE_BODY else await anyio.to_thread.run_sync(parse)


class _OneMethod(grpc.GenericRpcHandler):
    """Routes `Export`, the only method; takes bytes, so that what does not parse gets a code of this module."""

    def __init__(self, export: Callable[[bytes, _Context], Awaitable[bytes]], token: TokenCheck | None) -> None:
        self._export: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(export)
        self._refuse: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(_refuse_call)
        self._token = token

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        """Return the handler of a call; None, which is UNIMPLEMENTED, for any other method."""
        if self._token is not None and not self._token.matches(_authorization(handler_call_details)):
            # By a handler, not by None: that would be UNIMPLEMENTED, and nobody would look for a missing token.
            return self._refuse
        return self._export if handler_call_details.method == _EXPORT else None


def _authorization(call: grpc.HandlerCallDetails) -> Sequence[bytes]:
    """Return every `authorization` value of the call's metadata."""
    values = [value for name, value in call.invocation_metadata or () if name == "authorization"]
    return [value if isinstance(value, bytes) else value.encode() for value in values]


async def _refuse_call(_body: bytes, context: _Context) -> NoReturn:
    """Abort a call that has no valid token."""
    log_access(_client_of(context), "GRPC", _EXPORT, grpc.StatusCode.UNAUTHENTICATED.name, 0.0)
    await context.abort(grpc.StatusCode.UNAUTHENTICATED, "a bearer token is needed")
    raise AssertionError  # abort raises; the type checker does not know it


def _bind(server: grpc.aio.Server, host: str, port: int) -> str:
    """Bind the port (0: any free one) and return `host:port`. Raises ConfigurationError."""
    # An IPv6 address without brackets would be read as a host and a port.
    name = f"[{host}]" if ":" in host else host
    try:
        return f"{name}:{server.add_insecure_port(f'{name}:{port}')}"
    except RuntimeError:
        raise ConfigurationError(
            f"listening for OTLP over gRPC on {name}:{port}: the address is taken or cannot be bound",
            hint="Set TELEMETRY_OTLP_GRPC_PORT to another port, or end what listens there.",
        ) from None


def _status_of(problem: Exception) -> tuple[grpc.StatusCode, str]:
    """Return the code and the text for an exception."""
    if isinstance(problem, (OverloadedError, StoreUnavailableError, SchemaError)):
        return grpc.StatusCode.UNAVAILABLE, str(problem)
    if isinstance(problem, RequestError):
        return grpc.StatusCode.INVALID_ARGUMENT, str(problem)
    _log.error("internal error while serving a request: %s", type(problem).__name__, exc_info=problem)
    return grpc.StatusCode.INTERNAL, INTERNAL_ERROR


def _client_of(context: _Context) -> str:
    """Return the client's address without its port, from `ipv4:127.0.0.1:4711`, `ipv6:%5B::1%5D:4711`."""
    return str(context.peer()).partition(":")[2].rpartition(":")[0].replace("%5B", "").replace("%5D", "") or "unknown"
