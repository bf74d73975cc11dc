"""The OTLP/gRPC receiver (OTLP 1.x specification): the same spans, the same answers, on a port of its own.

Off unless `TELEMETRY_OTLP_GRPC_PORT` is set; needs the extra `grpc`. Requests that cannot be
kept now are UNAVAILABLE, which is what senders repeat; what breaks a rule is
INVALID_ARGUMENT, which they do not. The library decompresses, and stops at the size limit.
Who has no token is refused before a request is read any further.
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
from otel_agent_telemetry.service.otlp_parsing import kept, request_of_protobuf, understood
from otel_agent_telemetry.service.problems import OverloadedError, RequestError
from otel_agent_telemetry.service.prometheus import ServiceFigures

_log = logging.getLogger(__name__)
_EXPORT: Final = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_LARGE_BODY: Final = 32 << 10
_STOP_S: Final = 10.0

_Context = grpc.aio.ServicerContext[bytes, bytes]


class GrpcReceiver:
    """Listens from `start` to `stop`, in the event loop that called it."""

    def __init__(
        self,
        backend: Backend,
        figures: ServiceFigures,
        *,
        token: TokenCheck | None = None,
        rates: RequestRates | None = None,
    ) -> None:
        self._backend = backend
        self._figures = figures
        self._token = token
        self._rates = rates
        self._server: grpc.aio.Server | None = None
        self.address = ""
        """Where it listens, `host:port`; "" while it does not."""

    async def start(self) -> None:
        """Begin to listen. Raises ConfigurationError when the port cannot be bound."""
        settings = self._backend.settings
        server = grpc.aio.server(
            handlers=[_OneMethod(self._export, self._token)],
            options=[
                ("grpc.max_receive_message_length", settings.api_max_body_bytes),
                ("grpc.so_reuseport", int(settings.api_workers > 1)),
            ],
        )
        self.address = _bind(server, settings.api_host, settings.otlp_grpc_port or 0)
        await server.start()
        self._server = server
        _log.warning("receiving OTLP over gRPC at %s", self.address)

    async def stop(self) -> None:
        """Take no new request, answer those that are here, end. Idempotent. Takes a few seconds at most."""
        if self._server is not None:
            await self._server.stop(_STOP_S)
            self._server = None
            self.address = ""

    async def _export(self, body: bytes, context: _Context) -> bytes:
        began, code = time.perf_counter(), grpc.StatusCode.OK
        try:
            return await self._answer(body, _client_of(context))
        except Exception as problem:  # every error has its code
            code, detail = _refusal(problem)
            await context.abort(code, detail)
        finally:
            log_access(_client_of(context), "GRPC", _EXPORT, code.name, time.perf_counter() - began)

    async def _answer(self, body: bytes, client: str) -> bytes:
        if self._rates is not None and (wait_s := self._rates.take(client).wait_s):
            raise OverloadedError("too many requests a minute from this address", retry_after_s=wait_s)
        with self._backend.held.holding() as hold:
            hold.grow(len(body))
            received = await self._received(body)
            answer = await kept(received, self._backend.write, self._figures.spans)
        encoded: bytes = answer.SerializeToString()
        return encoded

    async def _received(self, body: bytes) -> Received:
        def parsed() -> Received:
            return understood(self._backend.settings, request_of_protobuf(body))

        return parsed() if len(body) < _LARGE_BODY else await anyio.to_thread.run_sync(parsed)


class _OneMethod(grpc.GenericRpcHandler):
    """Routes the one method there is; bytes in and out, so that what does not parse is ours to answer."""

    def __init__(self, export: Callable[[bytes, _Context], Awaitable[bytes]], token: TokenCheck | None) -> None:
        self._export: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(export)
        self._refuse: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(_ask_for_token)
        self._token = token

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        """The handler; None, which is UNIMPLEMENTED, for any other method."""
        if self._token is not None and not self._token.knows(_authorization(handler_call_details)):
            return self._refuse
        return self._export if handler_call_details.method == _EXPORT else None


def _authorization(call: grpc.HandlerCallDetails) -> Sequence[bytes]:
    given = [value for name, value in call.invocation_metadata or () if name == "authorization"]
    return [value if isinstance(value, bytes) else value.encode() for value in given]


async def _ask_for_token(_body: bytes, context: _Context) -> NoReturn:
    log_access(_client_of(context), "GRPC", _EXPORT, grpc.StatusCode.UNAUTHENTICATED.name, 0.0)
    await context.abort(grpc.StatusCode.UNAUTHENTICATED, "a bearer token is needed")
    raise AssertionError  # abort raises


def _bind(server: grpc.aio.Server, host: str, port: int) -> str:
    name = f"[{host}]" if ":" in host else host
    try:
        return f"{name}:{server.add_insecure_port(f'{name}:{port}')}"
    except RuntimeError:
        raise ConfigurationError(
            f"listening for OTLP over gRPC on {name}:{port}: the address is taken or cannot be bound",
            hint="Set TELEMETRY_OTLP_GRPC_PORT to another port, or end what listens there.",
        ) from None


def _refusal(problem: Exception) -> tuple[grpc.StatusCode, str]:
    """The code and the text that an exception means."""
    if isinstance(problem, (OverloadedError, StoreUnavailableError, SchemaError)):
        return grpc.StatusCode.UNAVAILABLE, str(problem)
    if isinstance(problem, RequestError):
        return grpc.StatusCode.INVALID_ARGUMENT, str(problem)
    _log.error("the service failed at a request: %s", type(problem).__name__, exc_info=problem)
    return grpc.StatusCode.INTERNAL, "the service failed at this; its log says why"


def _client_of(context: _Context) -> str:
    """The client's address without its port: `ipv4:127.0.0.1:4711`, `ipv6:%5B::1%5D:4711`."""
    return str(context.peer()).partition(":")[2].rpartition(":")[0].replace("%5B", "").replace("%5D", "") or "unknown"
