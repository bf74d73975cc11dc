"""Endpoints that write runs. Each answers after the commit that holds what it was told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any, Final, Generic, TypeVar

import anyio
from fastapi import APIRouter, Request, Response

from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.columns import check_column
from otel_agent_telemetry.errors import RecordError
from otel_agent_telemetry.service import schemas
from otel_agent_telemetry.service.backend import Backend
from otel_agent_telemetry.service.bisect import keep
from otel_agent_telemetry.service.problems import RequestError
from otel_agent_telemetry.service.request_body import json_of, read_body
from otel_agent_telemetry.service.responses import json_answer
from otel_agent_telemetry.service.run_bodies import link_of, patch_of, record_of
from otel_agent_telemetry.service.run_changes import associate, patch_run
from otel_agent_telemetry.storage.store import WriteBatch, WriteResult

T = TypeVar("T")

MAX_BATCH: Final = 10_000
_LARGE_BODY: Final = 128 << 10
_STATUS_OF: Final = {"inserted": "created", "updated": "updated", "duplicate": "duplicate"}
_ANY_RUN: Final = "run"
_SHOWN_ID: Final = 80

router = APIRouter(tags=["runs"])


def backend_of(request: Request) -> Backend:
    """The backend of the app that got the request."""
    backend: Backend = request.app.state.backend
    return backend


@asynccontextmanager
async def parsed_body(request: Request, parse: Callable[[Any], T]) -> AsyncIterator[T]:
    """What `parse` makes of the JSON body, which counts as held until the block ends.

    Large ones are parsed in another thread, so that others are served meanwhile.
    """
    backend = backend_of(request)
    with backend.held.holding() as hold:
        body = await read_body(request, hold, max_bytes=backend.settings.api_max_body_bytes)
        if len(body) < _LARGE_BODY:
            yield parse(json_of(request, body))
        else:
            yield await anyio.to_thread.run_sync(lambda: parse(json_of(request, body)))


def known_event_id(text: str) -> str:
    """The event id of a path in its one form. Raises RequestError 404: what is no UUID names no run."""
    try:
        return str(check_column("event_id", text))
    except RecordError:
        raise no_such_run(text) from None


def no_such_run(event_id: str) -> RequestError:
    """404 for a run that is not here."""
    return RequestError(404, f"no run has the event_id {event_id[:80]!r}")


@router.post(
    "/api/v1/runs",
    status_code=201,
    summary="Keep one state of a run",
    responses=schemas.answers(schemas.RunKept, 201, 400, 413, 415, 422, 429, 503),
    openapi_extra=schemas.body("RunState"),
)
async def create_run(request: Request) -> Response:
    """A run's start, a later state or its end: the same call, any number of times, in any order.

    Of two states of one `event_id` the later stands, and an end is never undone. Fields that
    are no columns of a run are kept in its `context_json`.
    """
    async with parsed_body(request, record_of) as record:
        result = await backend_of(request).write(WriteBatch((record,)))
    status = _STATUS_OF[result.outcomes[0]]
    if status == "duplicate":
        said = "this state, or a later one, is stored already"
        return json_answer({"status": status, "event_id": record.event_id, "message": said}, 201)
    return json_answer({"status": status, "event_id": record.event_id, "run_id": record.run_id}, 201)


@router.post(
    "/api/v1/runs/batch",
    summary="Keep up to 10,000 states of runs",
    responses=schemas.answers(schemas.BatchKept, 200, 400, 413, 415, 422, 429, 503),
    openapi_extra=schemas.body("RunState", many=True),
)
async def create_runs(request: Request) -> Response:
    """Every good item is kept, in one transaction; a bad one is told in `errors` and fails nobody else."""
    async with parsed_body(request, partial(_items_of, parse=record_of)) as items:
        result = await items.keep(backend_of(request), WriteBatch)
    return json_answer(
        {
            "inserted": result.count("inserted"),
            "updated": result.count("updated"),
            "duplicates": result.count("duplicate"),
            "errors": items.errors,
            "total": items.total,
        }
    )


@dataclass(slots=True)
class _Items(Generic[T]):
    """An array's good items with their index, and what is wrong with the others."""

    body: Sequence[Any]
    good: list[tuple[int, T]]
    errors: list[dict[str, Any]]

    @property
    def total(self) -> int:
        return len(self.body)

    async def keep(self, backend: Backend, batch_of: Callable[[list[T]], WriteBatch]) -> WriteResult:
        """The result for the good items; those that the database refuses join the errors. Raises as `write` does."""
        result, refused = await keep(backend.write, self.good, lambda pairs: batch_of([item for _, item in pairs]))
        for (index, _), reason in refused:
            self.refuse(index, reason)
        self.errors.sort(key=itemgetter("index"))
        return result

    def refuse(self, index: int, reason: str) -> None:
        item = self.body[index]
        told = item.get("event_id") if isinstance(item, dict) else None
        event_id = told[:_SHOWN_ID] if isinstance(told, str) else None
        self.errors.append({"index": index, "event_id": event_id, "reason": _plain(reason)})


def _items_of(body: Any, *, parse: Callable[[Any], T]) -> _Items[T]:
    """The items of a batch. Raises RecordError, RequestError 413."""
    if not isinstance(body, list):
        raise RecordError("body", "must be an array")
    if len(body) > MAX_BATCH:
        raise RequestError(413, f"a batch may have {MAX_BATCH} items, this one has {len(body)}; send less at once")
    items: _Items[T] = _Items(body, [], [])
    for index, item in enumerate(body):
        try:
            items.good.append((index, parse(item)))
        except RecordError as problem:
            items.refuse(index, str(problem))
    return items


def _plain(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


@router.patch(
    "/api/v1/runs/{event_id}",
    summary="Set fields of a run",
    responses=schemas.answers(schemas.RunPatched, 200, 400, 404, 413, 415, 422, 429, 503),
    openapi_extra=schemas.body("RunPatch"),
)
async def update_run(request: Request, event_id: schemas.EventId) -> Response:
    """For corrections, such as closing a run that will never end by itself. Sets `updated_at`."""
    async with parsed_body(request, patch_of) as fields:
        backend, known = backend_of(request), known_event_id(event_id)
        now_ns = backend.clock.now_ns()
        changed = await backend.change(lambda connection: patch_run(connection, known, fields, now_ns=now_ns))
    if changed is None:
        raise no_such_run(event_id)
    if isinstance(changed, RecordError):
        raise changed
    return json_answer({"event_id": known, "updated": changed.different, "fields_updated": sorted(fields)})


@router.post(
    "/api/v1/runs/{event_id}/associate-commit",
    summary="Associate a commit with a run",
    responses=schemas.answers(schemas.CommitAssociated, 200, 400, 404, 413, 415, 422, 429, 503),
    openapi_extra=schemas.body("CommitBody"),
)
async def associate_commit(request: Request, event_id: schemas.EventId) -> Response:
    """The commit shows in the run from now on; a late state of the run does not erase it."""
    backend, known = backend_of(request), known_event_id(event_id)
    now_ns = backend.clock.now_ns()
    async with parsed_body(request, partial(link_of, run_id=_ANY_RUN, now_iso=iso_utc(now_ns))) as told:
        record = await backend.change(lambda connection: associate(connection, known, told, now_ns=now_ns))
    if record is None:
        raise no_such_run(event_id)
    return json_answer(
        {"status": "success", "event_id": known, "run_id": record.run_id, "commit_hash": told.commit_hash}
    )


@router.post(
    "/api/v1/commits",
    summary="Associate commits with runs by run_id",
    responses=schemas.answers(schemas.CommitsKept, 200, 400, 413, 415, 422, 429, 503),
    openapi_extra=schemas.body("CommitOfRun", many=True),
)
async def associate_commits(request: Request) -> Response:
    """For runs that may not have arrived yet: `pending` ones show as soon as their run is here.

    Of two commits of one run the later `associated_at` shows. The same again changes nothing.
    """
    backend = backend_of(request)
    parse = partial(link_of, now_iso=iso_utc(backend.clock.now_ns()))
    async with parsed_body(request, partial(_items_of, parse=parse)) as items:
        result = await items.keep(backend, lambda links: WriteBatch((), links))
    linked = sum(result.linked)
    return json_answer(
        {"linked": linked, "pending": len(result.linked) - linked, "errors": items.errors, "total": items.total}
    )
