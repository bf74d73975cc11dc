"""What is answered when something cannot be done: one shape, one table.

Every error is `{"detail": text}` (contract, "HTTP service"). The text says what was tried and
which rule broke; a statement, a password or a stack never is in it. At the OTLP endpoint it
is what that specification wants, a google.rpc.Status in the request's encoding.

    RequestError            its own status      the request breaks a rule of HTTP or of ours
    RecordError             422                 a field of the body breaks a rule of the model
    StoreUnavailableError   503, Retry-After    the database cannot keep it now
    SchemaError             503, Retry-After    nor can it until somebody has looked after it
    other StorageError      422                 the database refuses a value, and will again
    anything else           500                 a bug; logged, never described
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from google.rpc import code_pb2
from google.rpc.status_pb2 import Status
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Scope

from otel_agent_telemetry.errors import (
    AgentTelemetryError,
    RecordError,
    SchemaError,
    StorageError,
    StoreUnavailableError,
)

_log = logging.getLogger(__name__)
_RETRY_AFTER_S: Final = 2
_MAX_VALUE: Final = 80
_NOT_ALLOWED: Final = 405
_METHODS: Final = ("GET", "PATCH", "POST")
OTLP_PATH: Final = "/v1/traces"
PROTOBUF: Final = "application/x-protobuf"
_CODES: Final = {
    400: code_pb2.INVALID_ARGUMENT,
    401: code_pb2.UNAUTHENTICATED,
    405: code_pb2.UNIMPLEMENTED,
    408: code_pb2.DEADLINE_EXCEEDED,
    413: code_pb2.RESOURCE_EXHAUSTED,
    415: code_pb2.INVALID_ARGUMENT,
    422: code_pb2.INVALID_ARGUMENT,
    429: code_pb2.RESOURCE_EXHAUSTED,
    500: code_pb2.INTERNAL,
    503: code_pb2.UNAVAILABLE,
}


class RequestError(AgentTelemetryError):
    """The request is answered with this status; the message becomes its `detail`."""

    def __init__(self, status: int, message: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})


class OverloadedError(RequestError):
    """More waits than may wait: 503, the sender tries again."""

    def __init__(self, message: str, *, retry_after_s: int = 1) -> None:
        super().__init__(503, message, headers={"Retry-After": str(retry_after_s)})


def problem_answer(scope: Scope, status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """The answer to the request of this scope that something cannot be done."""
    text = detail.encode("utf-8", "replace").decode()
    body, kind = orjson.dumps({"detail": text}), "application/json"
    if scope["path"] == OTLP_PATH:
        problem = Status(code=_CODES.get(status, code_pb2.UNKNOWN), message=text)
        if Headers(scope=scope).get("content-type", "").startswith(PROTOBUF):
            body, kind = problem.SerializeToString(), PROTOBUF
        else:
            body = orjson.dumps({"code": problem.code, "message": text, "detail": text})
    return Response(body, status, media_type=kind, headers=dict(headers or {}))


def register(app: FastAPI) -> None:
    """Make the app answer so."""
    app.add_exception_handler(RequestError, _request_error)
    app.add_exception_handler(RecordError, _record_error)
    app.add_exception_handler(StorageError, _storage_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(Exception, _bug)


def answer_to(scope: Scope, problem: Exception) -> Response:
    """The answer that an exception means."""
    return problem_answer(scope, *_meaning(problem))


def _meaning(problem: Exception) -> tuple[int, str, Mapping[str, str] | None]:
    """Status, detail and headers."""
    if isinstance(problem, RequestError):
        return problem.status, str(problem), problem.headers
    if isinstance(problem, (StoreUnavailableError, SchemaError)):
        _log.warning("a request is answered 503: %s", problem)
        detail = f"the runs cannot be kept or read now: {problem}"
        return 503, detail, {"Retry-After": str(_RETRY_AFTER_S)}
    if isinstance(problem, (RecordError, StorageError)):
        return 422, str(problem), None
    if isinstance(problem, RequestValidationError):
        return 422, "; ".join(map(_sentence, problem.errors())), None
    if isinstance(problem, HTTPException):
        return problem.status_code, str(problem.detail), problem.headers
    _log.error("the service failed at a request: %s", type(problem).__name__, exc_info=problem)
    return 500, "the service failed at this; its log says why", None


def _sentence(error: Mapping[str, object]) -> str:
    """One finding of pydantic: where, which rule, and what was given, shortened."""
    place = error.get("loc")
    where = ".".join(str(part) for part in place[1:]) if isinstance(place, tuple) else ""
    given = error.get("input")
    shown = f", got {given[:_MAX_VALUE]!r}" if isinstance(given, str) else ""
    return f"{where}: {error.get('msg', 'is not valid')}{shown}"


async def _request_error(request: Request, problem: Exception) -> Response:
    return answer_to(request.scope, problem)


_record_error = _storage_error = _validation_error = _bug = _request_error


async def _http_exception(request: Request, problem: Exception) -> Response:
    answer = answer_to(request.scope, problem)
    if answer.status_code == _NOT_ALLOWED:
        answer.headers["Allow"] = ", ".join(_allowed(request))
    return answer


def _allowed(request: Request) -> list[str]:
    """The methods that the path takes (RFC 9110, 10.2.1); the router names those of one route alone."""
    routes, scope = request.app.routes, request.scope
    return [
        method
        for method in _METHODS
        if any(route.matches({**scope, "method": method})[0] is Match.FULL for route in routes)
    ]
