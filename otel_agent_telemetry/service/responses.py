"""Responses: JSON bodies, stored runs encoded straight from their columns, and errors in one shape.

A page of a hundred runs is a few thousand values; building models of them and validating
those again would cost more than reading them did. JSON columns are stored as text and go
into the response as they are, after a check that they are JSON.

Every error is `{"detail": text}` (contract, "HTTP service"). The text names the operation
and the rule that was broken; it never holds a statement, a password or a stack trace. At
the paths of OTLP the body is a google.rpc.Status in the encoding of the request, as its
specification requires.

    RequestError            its own status      the request breaks a rule of HTTP or of this API
    RecordError             422                 a field of the body breaks a rule of the model
    StoreUnavailableError   503, Retry-After    the database cannot store or read now
    SchemaError             503, Retry-After    nor can it until an operator has upgraded it
    other StorageError      422                 the database refuses a value, and will again
    anything else           500                 an internal error; logged, not described
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final

import orjson
from google.rpc import code_pb2
from google.rpc.status_pb2 import Status
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from otel_agent_telemetry.columns import COLUMNS, FLAG_COLUMNS, JSON_COLUMNS
from otel_agent_telemetry.errors import (
    AgentTelemetryError,
    RecordError,
    SchemaError,
    StorageError,
    StoreUnavailableError,
)
from otel_agent_telemetry.storage.queries import StoredRun
from otel_agent_telemetry.storage.tree_totals import TreeTotals
from otel_agent_telemetry.urls import commit_url, repo_url

_column_values: Final = attrgetter(*COLUMNS)
_CACHED_URLS: Final = 1024


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response whose body is `value` as JSON."""
    return raw_json_response(orjson.dumps(value), status, headers)


def raw_json_response(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response whose body is JSON already."""
    return Response(body, status, media_type="application/json", headers=dict(headers or {}))


class RunEncoder:
    """Encodes stored runs as the API shows them. Safe under threads."""

    def __init__(self, git_hosts: Mapping[str, str]) -> None:
        self._repo_url = lru_cache(maxsize=_CACHED_URLS)(lambda repo: repo_url(repo, hosts=git_hosts))
        self._commit_url = lru_cache(maxsize=_CACHED_URLS)(lambda repo, sha: commit_url(repo, sha, hosts=git_hosts))

    def encode(self, run: StoredRun, tree: TreeTotals | None = None) -> bytes:
        """Return one run: every column, `id`, `commit_url`, `repo_url`; JSON columns as the values they hold.

        With `tree` the totals of the run and the runs inside it, too.
        """
        record = run.record
        members: dict[str, Any] = {"id": run.id, **dict(zip(COLUMNS, _column_values(record), strict=True))}
        for name in JSON_COLUMNS:
            if (text := members[name]) is not None:
                members[name] = _embedded(text)
        for name in FLAG_COLUMNS:
            # SQLite has no booleans: the flags are stored as 0 and 1.
            members[name] = bool(members[name])
        members["commit_url"] = self.commit_url(record.git_repo, record.git_commit_hash)
        members["repo_url"] = self.repo_url(record.git_repo)
        if tree is not None:
            members["tree"] = tree
        return orjson.dumps(members)

    def repo_url(self, repo: str | None) -> str | None:
        """Return `urls.repo_url`, cached: the runs of a page come from a few repositories."""
        return None if repo is None else self._repo_url(repo)

    def commit_url(self, repo: str | None, sha: str | None) -> str | None:
        """Return `urls.commit_url`, cached."""
        return None if repo is None or sha is None else self._commit_url(repo, sha)


def _embedded(text: str) -> Any:
    """Return a column's JSON text as a member of a response; text that is not JSON stays text."""
    with contextlib.suppress(ValueError):
        # A Fragment goes into the body unchecked, so the text is parsed first and the value dropped.
        orjson.loads(text)
        return orjson.Fragment(text)
    return text


_log = logging.getLogger(__name__)
_RETRY_AFTER_S: Final = 2
_METHOD_NOT_ALLOWED: Final = 405
_METHODS: Final = ("GET", "HEAD", "PATCH", "POST", "DELETE")
OTLP_PATHS: Final = frozenset({"/v1/traces", "/v1/logs", "/v1/metrics"})
PROTOBUF: Final = "application/x-protobuf"
INTERNAL_ERROR: Final = "internal error; the log of the service has the cause"
_RPC_CODES: Final = {
    400: code_pb2.INVALID_ARGUMENT,
    401: code_pb2.UNAUTHENTICATED,
    403: code_pb2.PERMISSION_DENIED,
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
    """A request that cannot be served: `status` and `headers` of the response; the message is its `detail`."""

    def __init__(self, status: int, message: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})


class OverloadedError(RequestError):
    """A queue or memory limit is reached: 503, and the client tries again after `retry_after_s` seconds."""

    def __init__(self, message: str, *, retry_after_s: int = 1) -> None:
        super().__init__(503, message, headers={"Retry-After": str(retry_after_s)})


def error_response(scope: Scope, status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error response in the shape that the scope's path uses."""
    # A detail may quote a lone surrogate of the request, which no encoding of a response can hold.
    text = detail.encode("utf-8", "replace").decode()
    body, media_type = orjson.dumps({"detail": text}), "application/json"
    if scope["path"] in OTLP_PATHS:
        rpc_status = Status(code=_RPC_CODES.get(status, code_pb2.UNKNOWN), message=text)
        if Headers(scope=scope).get("content-type", "").startswith(PROTOBUF):
            body, media_type = rpc_status.SerializeToString(), PROTOBUF
        else:
            body = orjson.dumps({"code": rpc_status.code, "message": text, "detail": text})
    return Response(body, status, media_type=media_type, headers=dict(headers or {}))


def status_of(problem: Exception) -> tuple[int, str, Mapping[str, str] | None]:
    """Return status, detail and headers for an exception; log what an operator must see."""
    if isinstance(problem, RequestError):
        return problem.status, str(problem), problem.headers
    # Before StorageError, their base: these may pass, so clients must keep the runs and come again.
    if isinstance(problem, (StoreUnavailableError, SchemaError)):
        _log.warning("responding 503 to a request: %s", problem)
        detail = f"the runs cannot be stored or read now: {problem}"
        return 503, detail, {"Retry-After": str(_RETRY_AFTER_S)}
    if isinstance(problem, (RecordError, StorageError)):
        return 422, str(problem), None
    if isinstance(problem, HTTPException):
        return problem.status_code, str(problem.detail), problem.headers
    _log.error("internal error while serving a request: %s", type(problem).__name__, exc_info=problem)
    return 500, INTERNAL_ERROR, None


async def _handle(request: Request, problem: Exception) -> Response:
    """Return the response for an exception that an endpoint raised."""
    return error_response(request.scope, *status_of(problem))


async def _handle_http_exception(request: Request, problem: Exception) -> Response:
    """Return the response for an exception of the router: no such path, or not with this method."""
    if not isinstance(problem, HTTPException) or problem.status_code != _METHOD_NOT_ALLOWED:
        return await _handle(request, problem)
    allowed = {"Allow": ", ".join((*_allowed_methods(request), "OPTIONS"))}
    # OPTIONS asks what a path takes (RFC 9110, 9.3.7); a browser's preflight gets no permission from it.
    if request.method == "OPTIONS":
        return Response(None, 204, headers=allowed)
    return error_response(request.scope, problem.status_code, str(problem.detail), allowed)


def _allowed_methods(request: Request) -> list[str]:
    """Return every method that the path takes (RFC 9110, 10.2.1); the router names those of one route alone."""
    routes, scope = request.app.routes, request.scope
    return [
        method
        for method in _METHODS
        if any(route.matches({**scope, "method": method})[0] is Match.FULL for route in routes)
    ]


EXCEPTION_HANDLERS: Final[Mapping[Any, Any]] = {
    RequestError: _handle,
    RecordError: _handle,
    StorageError: _handle,
    HTTPException: _handle_http_exception,
    Exception: _handle,
}
"""Exception → handler, as Starlette takes them."""
