"""What is answered when something cannot be done: one shape, one table.

Every error is `{"detail": text}` (contract, "HTTP service"). The text says what was tried and
which rule broke; a statement, a password or a stack never is in it.

    RequestError        its own status        the request breaks a rule of HTTP or of ours
    RecordError         422                   a field of the body breaks a rule of the model
    StorageError        503, Retry-After      the database cannot keep it now
    anything else       500                   a bug; logged, never described
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from otel_agent_telemetry.errors import AgentTelemetryError, RecordError, StorageError

_log = logging.getLogger(__name__)
_RETRY_AFTER_S: Final = 2
_MAX_VALUE: Final = 80
_NOT_ALLOWED: Final = 405
_METHODS: Final = ("GET", "HEAD", "PATCH", "POST")


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


def problem_answer(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """`{"detail": …}` with a status."""
    body = orjson.dumps({"detail": detail.encode("utf-8", "replace").decode()})
    return Response(body, status, media_type="application/json", headers=dict(headers or {}))


def register(app: FastAPI) -> None:
    """Make the app answer so."""
    app.add_exception_handler(RequestError, _request_error)
    app.add_exception_handler(RecordError, _record_error)
    app.add_exception_handler(StorageError, _storage_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(Exception, _bug)


def answer_to(problem: Exception) -> Response:
    """The answer that an exception means."""
    if isinstance(problem, RequestError):
        return problem_answer(problem.status, str(problem), problem.headers)
    if isinstance(problem, RecordError):
        return problem_answer(422, str(problem))
    if isinstance(problem, StorageError):
        return _store_is_away(problem)
    if isinstance(problem, RequestValidationError):
        return problem_answer(422, "; ".join(map(_sentence, problem.errors())))
    if isinstance(problem, HTTPException):
        return problem_answer(problem.status_code, str(problem.detail), problem.headers)
    _log.error("the service failed at a request: %s", type(problem).__name__, exc_info=problem)
    return problem_answer(500, "the service failed at this; its log says why")


def _store_is_away(problem: StorageError) -> Response:
    _log.warning("a request is answered 503: %s", problem)
    detail = f"the runs cannot be kept or read now: {problem}"
    return problem_answer(503, detail, {"Retry-After": str(_RETRY_AFTER_S)})


def _sentence(error: Mapping[str, object]) -> str:
    """One finding of pydantic: where, which rule, and what was given, shortened."""
    place = error.get("loc")
    where = ".".join(str(part) for part in place[1:]) if isinstance(place, tuple) else ""
    given = error.get("input")
    shown = f", got {given[:_MAX_VALUE]!r}" if isinstance(given, str) else ""
    return f"{where}: {error.get('msg', 'is not valid')}{shown}"


async def _request_error(_request: Request, problem: Exception) -> Response:
    return answer_to(problem)


_record_error = _storage_error = _validation_error = _bug = _request_error


async def _http_exception(request: Request, problem: Exception) -> Response:
    answer = answer_to(problem)
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
