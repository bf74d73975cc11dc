"""The OTLP/gRPC receiver (OTLP 1.x specification): the same spans, the same answers, on a port of its own.

Off unless `TELEMETRY_OTLP_GRPC_PORT` is set; needs the extra `grpc`. Requests that cannot be
kept now are UNAVAILABLE, which is what senders repeat; what breaks a rule is
INVALID_ARGUMENT, which they do not. The library decompresses, and stops at the size limit.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent import futures
from typing import Final

import grpc

from otel_agent_telemetry.delivery.quiet import quietly
from otel_agent_telemetry.errors import ConfigurationError, StorageError
from otel_agent_telemetry.service.backend import Backend
from otel_agent_telemetry.service.guards import RequestRates, TokenCheck, log_access
from otel_agent_telemetry.service.otlp_requests import request_of_protobuf, told, understood
from otel_agent_telemetry.service.problems import OverloadedError, RequestError
from otel_agent_telemetry.service.prometheus import ServiceFigures
from otel_agent_telemetry.storage.batch import WriteBatch

_log = logging.getLogger(__name__)
_EXPORT: Final = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_THREADS: Final = 8
_STOP_S: Final = 10.0


class GrpcReceiver:
    """Listens from `start` to `stop`, in threads of its own."""

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
        self._server: grpc.Server | None = None
        self.address = ""
        """Where it listens, `host:port`; "" while it does not."""

    def start(self) -> None:
        """Begin to listen. Idempotent. Raises ConfigurationError when the port cannot be bound."""
        if self._server is not None:
            return
        settings = self._backend.settings
        server = grpc.server(
            futures.ThreadPoolExecutor(_THREADS, thread_name_prefix="agent-telemetry-grpc"),
            handlers=[_OneMethod(self._export)],
            options=[
                ("grpc.max_receive_message_length", settings.api_max_body_bytes),
                ("grpc.so_reuseport", int(settings.api_workers > 1)),
            ],
        )
        self.address = _bind(server, settings.api_host, settings.otlp_grpc_port or 0)
        server.start()
        self._server = server
        _log.warning("receiving OTLP over gRPC at %s", self.address)

    def stop(self) -> None:
        """Take no new request, answer those that are here, end. Idempotent. Blocks a few seconds at most."""
        if self._server is not None:
            self._server.stop(_STOP_S).wait()
            self._server = None
            self.address = ""

    def _export(self, body: bytes, context: grpc.ServicerContext) -> bytes:
        began, code = time.perf_counter(), grpc.StatusCode.OK
        try:
            with quietly():
                return self._answer(body, context)
        except Exception as problem:  # every error has its code
            code, detail = _refusal(problem)
            context.abort(code, detail)  # raises
        finally:
            log_access(_client_of(context), "GRPC", _EXPORT, code.name, time.perf_counter() - began)

    def _answer(self, body: bytes, context: grpc.ServicerContext) -> bytes:
        self._admit(context)
        received = understood(self._backend.settings, request_of_protobuf(body))
        if received.nodes:
            self._backend.write_and_wait(WriteBatch(received.records, (), received.nodes))
        answer: bytes = told(received, self._figures.spans).SerializeToString()
        return answer

    def _admit(self, context: grpc.ServicerContext) -> None:
        """Raise _NotKnownError without the token, OverloadedError beyond the rate."""
        if self._rates is not None and (wait_s := self._rates.take(_client_of(context)).wait_s):
            raise OverloadedError("too many requests a minute from this address", retry_after_s=wait_s)
        given = [value for name, value in context.invocation_metadata() if name == "authorization"]
        if self._token is not None and not self._token.knows([_as_bytes(value) for value in given]):
            raise _NotKnownError


class _NotKnownError(Exception):
    """The token is missing or wrong."""


class _OneMethod(grpc.GenericRpcHandler):
    """Routes the one method there is; bytes in and out, so that what does not parse is ours to answer."""

    def __init__(self, export: Callable[[bytes, grpc.ServicerContext], bytes]) -> None:
        self._handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(export)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        """The handler; None, which is UNIMPLEMENTED, for any other method."""
        return self._handler if handler_call_details.method == _EXPORT else None


def _bind(server: grpc.Server, host: str, port: int) -> str:
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
    if isinstance(problem, _NotKnownError):
        return grpc.StatusCode.UNAUTHENTICATED, "a bearer token is needed"
    if isinstance(problem, (OverloadedError, StorageError)):
        return grpc.StatusCode.UNAVAILABLE, str(problem)
    if isinstance(problem, RequestError):
        return grpc.StatusCode.INVALID_ARGUMENT, str(problem)
    _log.error("the service failed at a request: %s", type(problem).__name__, exc_info=problem)
    return grpc.StatusCode.INTERNAL, "the service failed at this; its log says why"


def _client_of(context: grpc.ServicerContext) -> str:
    """The client's address without its port: `ipv4:127.0.0.1:4711`, `ipv6:%5B::1%5D:4711`."""
    return str(context.peer()).partition(":")[2].rpartition(":")[0].replace("%5B", "").replace("%5D", "") or "unknown"


def _as_bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()
