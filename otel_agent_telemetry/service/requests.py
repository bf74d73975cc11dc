"""What the endpoints share: the app's parts, parameters, bodies, and the run that a path names.

An endpoint takes Starlette's `Request` and reads from it with these functions. Each of them
raises `RequestError` or `RecordError`, which `responses` turns into a response.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import anyio
from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from otel_agent_telemetry.column_checks import check_column
from otel_agent_telemetry.errors import RecordError
from otel_agent_telemetry.service.backend import Backend
from otel_agent_telemetry.service.guards import ADMITTED_AS, client_of
from otel_agent_telemetry.service.request_body import decode_json, read_body
from otel_agent_telemetry.service.responses import RequestError, RunEncoder
from otel_agent_telemetry.storage.queries import StoredRun, find_run

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

_LARGE_BODY: Final = 128 << 10
"""Bytes from which a JSON body is parsed in another thread, so that the event loop serves others meanwhile."""
_MAX_SHOWN: Final = 80
_MAX_ERRORS: Final = 10


def backend_of(request: Request) -> Backend:
    """Return the backend of the app that received the request."""
    backend: Backend = request.app.state.backend
    return backend


def token_name_of(request: Request) -> str:
    """Return the name of the token that the request came with; "" where none was asked for."""
    return str(request.scope.get(ADMITTED_AS, ""))


def encoder_of(request: Request) -> RunEncoder:
    """Return the app's encoder of stored runs."""
    encoder: RunEncoder = request.app.state.encoder
    return encoder


def query_parameters(request: Request, model: type[M]) -> M:
    """Return the query string as `model`. Of a repeated name the last value counts. Raises RequestError 422."""
    return _validated(model, dict(request.query_params))


def path_parameters(request: Request, model: type[M]) -> M:
    """Return the parameters of the path as `model`. Raises RequestError 422."""
    return _validated(model, request.path_params)


def _validated(model: type[M], values: Mapping[str, Any]) -> M:
    """Return the values as a model. Raises RequestError 422 with the rules that are broken, at most ten."""
    try:
        return model.model_validate(values)
    except ValidationError as problem:
        errors = problem.errors()
        named = "; ".join(_describe(error) for error in errors[:_MAX_ERRORS])
        more = f"; and {len(errors) - _MAX_ERRORS} more" if len(errors) > _MAX_ERRORS else ""
        raise RequestError(422, named + more) from None


def _describe(error: Mapping[str, Any]) -> str:
    """Return pydantic's error as text: the parameter, the rule, and the start of the value."""
    name = ".".join(str(part) for part in error["loc"])[:_MAX_SHOWN]
    value = error.get("input")
    shown = f", got {value[:_MAX_SHOWN]!r}" if isinstance(value, str) else ""
    return f"{name}: {error['msg']}{shown}"


def event_id_of(request: Request) -> str:
    """Return the path's `event_id` as it is stored: a UUID in lower case, any other text as it is.

    Runs of databases of version 7 can have one that is no UUID.
    """
    text = str(request.path_params["event_id"])
    try:
        return str(check_column("event_id", text))
    except RecordError:
        return text


def run_not_found(event_id: str) -> RequestError:
    """Return the 404 for an `event_id` that no stored run has."""
    return RequestError(404, f"run not found: no run has the event_id {event_id[:_MAX_SHOWN]!r}")


async def stored_run(request: Request) -> StoredRun:
    """Return the run that the path names. Raises RequestError 404, StorageError."""
    event_id = event_id_of(request)
    run = await backend_of(request).read(lambda connection: find_run(connection, event_id=event_id))
    if run is None:
        raise run_not_found(request.path_params["event_id"])
    return run


@asynccontextmanager
async def parsed_body(request: Request, parse: Callable[[Any], T]) -> AsyncIterator[T]:
    """Yield what `parse` returns for the JSON body; its bytes count as held until the block ends.

    Raises RequestError as `read_body` and `decode_json` do, and whatever `parse` raises.
    """
    backend = backend_of(request)
    with backend.body_budget.reserve(client_of(request.scope)) as reservation:
        body = await read_body(request, reservation, max_bytes=backend.settings.api_max_body_bytes)
        # Handing a small body to a thread would cost more than parsing it.
        if len(body) < _LARGE_BODY:
            yield parse(decode_json(request, body))
        else:
            yield await anyio.to_thread.run_sync(lambda: parse(decode_json(request, body)))
