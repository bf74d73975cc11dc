"""Endpoints that read runs: filtered pages, one run, what happened in it, what values there are."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from otel_agent_telemetry.columns import FILTERABLE_COLUMNS, LISTED_COLUMNS, check_time
from otel_agent_telemetry.service import schemas
from otel_agent_telemetry.service.problems import RequestError
from otel_agent_telemetry.service.responses import json_answer, raw_answer
from otel_agent_telemetry.service.routes_write import backend_of, known_event_id, no_such_run
from otel_agent_telemetry.service.run_bodies import check_zone
from otel_agent_telemetry.status import STATUSES, canonical_status
from otel_agent_telemetry.storage.counts import count_by
from otel_agent_telemetry.storage.queries import RunQuery, StoredRun, find_run, page_of_runs, values_of
from otel_agent_telemetry.storage.rows import Cursor, clean_text
from otel_agent_telemetry.storage.steps import Page, events_of, spans_of

_TIMES: Final = ("created_before", "created_after", "start_time_from", "start_time_to")
_TEXTS: Final = tuple(name for name in FILTERABLE_COLUMNS if name != "status")
_MAX_OFFSET: Final = 2**63 - 1
_MAX_VALUES: Final = 1000
_VALUES_KEPT_S: Final = 30.0

COUNTED_FIELDS: Final = ("agent_name", "job_type", "status")
FIELDS: Final = (*COUNTED_FIELDS, *(name for name in LISTED_COLUMNS if name not in COUNTED_FIELDS))
"""What `/api/v1/metadata/{field}` knows. The first three cost the same at any number of runs."""

router = APIRouter(tags=["reading"])


class RunFilters(BaseModel):
    """The query of `GET /api/v1/runs`; a name that is not known is refused, not ignored."""

    model_config = ConfigDict(extra="forbid")

    agent_name: str | None = Field(None, description="Runs of this agent.")
    status: schemas.StatusWord | None = Field(
        None, description=f"Runs in this status: {', '.join(STATUSES)}, or a known spelling."
    )
    job_type: str | None = Field(None, description="Runs of this job type.")
    run_id: str | None = Field(None, description="Runs with this run id.")
    trace_id: str | None = Field(None, description="Runs of this trace, 32 hex digits.")
    parent_run_id: str | None = Field(None, description="Runs inside the run with this run id.")
    created_before: schemas.Moment | None = Field(None, description="Created before this time, exclusive; with a zone.")
    created_after: schemas.Moment | None = Field(None, description="Created after this time, exclusive; with a zone.")
    start_time_from: schemas.Moment | None = Field(None, description="Started at this time or later; with a zone.")
    start_time_to: schemas.Moment | None = Field(None, description="Started at this time or earlier; with a zone.")
    limit: int = Field(100, ge=1, le=1000, description="At most so many runs.")
    offset: int = Field(0, ge=0, le=_MAX_OFFSET, description="Skip so many; `cursor` is cheaper.")
    cursor: str | None = Field(None, description="Where the page before ended: from its `Link` header.")


class PageOf(BaseModel):
    """The query of what happened in a run."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(1000, ge=1, le=10_000, description="At most so many.")
    cursor: str | None = Field(None, description="Where the page before ended: from its `Link` header.")

    @property
    def page(self) -> Page:
        """Raises RecordError for a cursor that none of ours is."""
        return Page(self.limit, None if self.cursor is None else Cursor.from_text(self.cursor))


def query_of(filters: RunFilters) -> RunQuery:
    """The query that filters mean. Raises RequestError 400 for a status that is none, RecordError."""
    values: dict[str, Any] = {name: clean_text(getattr(filters, name)) for name in _TEXTS}
    if values["trace_id"] is not None:
        values["trace_id"] = values["trace_id"].lower()
    if filters.status is not None:
        values["status"] = canonical_status(filters.status)
        if values["status"] is None:
            raise RequestError(400, f"status: must be one of {', '.join(STATUSES)}, got {filters.status[:40]!r}")
    for name in _TIMES:
        values[name] = _moment(name, getattr(filters, name))
    cursor = None if filters.cursor is None else Cursor.from_text(filters.cursor)
    return RunQuery(**values, limit=filters.limit, offset=filters.offset, cursor=cursor)


def _moment(name: str, text: str | None) -> str | None:
    """A time of a query; a plus that was not escaped arrived as a blank."""
    if text is None:
        return None
    head, blank, zone = text.rpartition(" ")
    text = f"{head}+{zone}" if blank and ":" in head and zone[:2].isdigit() and "+" not in head else text
    check_zone(name, text)
    return check_time(name, text)


@router.get(
    "/api/v1/runs",
    summary="List runs, newest first",
    responses=schemas.answers(list[schemas.Run], 200, 400, 422, 429, 503, headers=schemas.LINK_HEADER),
)
async def list_runs(request: Request, filters: Annotated[RunFilters, Query()]) -> Response:
    """A page of runs, newest `created_at` first. The `Link` header leads to the next one while there is more."""
    backend = backend_of(request)
    query = query_of(filters)
    one_more = replace(query, limit=query.limit + 1)

    def page(connection: Any) -> tuple[bytes, StoredRun | None]:
        found = page_of_runs(connection, one_more)
        body, shown = request.app.state.encoder.page(found[: query.limit])
        return body, found[shown - 1] if shown < len(found) else None

    body, last = await backend.read(page)
    return raw_answer(body, headers=_link("/api/v1/runs", filters, None if last is None else last.cursor))


def _link(path: str, filters: BaseModel, last: Cursor | None) -> dict[str, str]:
    """The header that leads behind a page's last row; none when nothing is there."""
    if last is None:
        return {}
    given = filters.model_dump(exclude_none=True, exclude={"cursor", "offset"}, exclude_defaults=True)
    return {"Link": f'<{path}?{urlencode({**given, "cursor": last.to_text()})}>; rel="next"'}


@router.get(
    "/api/v1/runs/{event_id}",
    summary="One run",
    responses=schemas.answers(schemas.Run, 200, 404, 422, 429, 503),
)
async def read_run(request: Request, event_id: schemas.EventId) -> Response:
    """Every column of a run."""
    return raw_answer(request.app.state.encoder.encode(await _found(request, event_id)))


async def _found(request: Request, event_id: str) -> StoredRun:
    known = known_event_id(event_id)
    run = await backend_of(request).read(lambda connection: find_run(connection, event_id=known))
    if run is None:
        raise no_such_run(event_id)
    return run


@router.get(
    "/api/v1/runs/{event_id}/commit-url",
    summary="Where the run's commit can be seen",
    responses=schemas.answers(schemas.CommitUrl, 200, 404, 422, 429, 503),
)
async def read_commit_url(request: Request, event_id: schemas.EventId) -> Response:
    """The web address of the commit; null where it cannot be built."""
    record = (await _found(request, event_id)).record
    return json_answer({"commit_url": request.app.state.encoder.commit_url(record.git_repo, record.git_commit_hash)})


@router.get(
    "/api/v1/runs/{event_id}/repo-url",
    summary="Where the run's repository can be seen",
    responses=schemas.answers(schemas.RepoUrl, 200, 404, 422, 429, 503),
)
async def read_repo_url(request: Request, event_id: schemas.EventId) -> Response:
    """The web address of the repository; null where it cannot be built."""
    record = (await _found(request, event_id)).record
    return json_answer({"repo_url": request.app.state.encoder.repo_url(record.git_repo)})


@router.get(
    "/api/v1/runs/{event_id}/events",
    summary="What happened in a run",
    responses=schemas.answers(list[schemas.Event], 200, 404, 422, 429, 503, headers=schemas.LINK_HEADER),
)
async def read_events(request: Request, event_id: schemas.EventId, filters: Annotated[PageOf, Query()]) -> Response:
    """The run's events that came over OTLP, oldest first, those of its steps included.

    The `Link` header leads to the next page while there is more.
    """
    known, page = (await _found(request, event_id)).record.event_id, filters.page
    found = await backend_of(request).read(lambda connection: events_of(connection, known, page))
    return json_answer(found, headers=_link(f"/api/v1/runs/{known}/events", filters, found.next_cursor))


@router.get(
    "/api/v1/runs/{event_id}/spans",
    summary="The steps of a run",
    responses=schemas.answers(list[schemas.Step], 200, 404, 422, 429, 503, headers=schemas.LINK_HEADER),
)
async def read_spans(request: Request, event_id: schemas.EventId, filters: Annotated[PageOf, Query()]) -> Response:
    """The run's child spans that came over OTLP, in order of their start.

    The `Link` header leads to the next page while there is more.
    """
    known, page = (await _found(request, event_id)).record.event_id, filters.page
    found = await backend_of(request).read(lambda connection: spans_of(connection, known, page))
    return json_answer(found, headers=_link(f"/api/v1/runs/{known}/spans", filters, found.next_cursor))


@router.get(
    "/api/v1/metadata",
    summary="Agents and job types there are",
    responses=schemas.answers(schemas.Metadata, 200, 429, 503),
)
async def read_metadata(request: Request) -> Response:
    """Distinct agent names and job types with their number of runs; costs the same at any number of runs."""
    counts = await backend_of(request).read(
        lambda connection: {
            "agent_names": count_by(connection, "agent_name"),
            "job_types": count_by(connection, "job_type"),
        }
    )
    return json_answer(counts)


@router.get(
    "/api/v1/metadata/{field}",
    summary="The values of one field",
    responses=schemas.answers(schemas.FieldValues, 200, 422, 429, 503),
)
async def read_values(
    request: Request,
    field: Annotated[Literal[FIELDS], Path(description="Which field.")],  # type: ignore[valid-type]  # a table
) -> Response:
    """The distinct values of a field, at most 1000 of them, in order.

    Other fields than agent name, job type and status are looked up in the runs, at most every 30 s.
    """
    return json_answer(await _values(request, field))


async def _values(request: Request, field: str) -> dict[str, Any]:
    backend, kept = backend_of(request), request.app.state.field_values
    if field in COUNTED_FIELDS:
        values = list(await backend.read(lambda connection: count_by(connection, field)))
    elif field in kept and time.monotonic() - kept[field][0] < _VALUES_KEPT_S:
        values = kept[field][1]
    else:
        values = await backend.read(lambda connection: values_of(connection, field, limit=_MAX_VALUES + 1))
        kept[field] = (time.monotonic(), values)
    return {"field": field, "values": values[:_MAX_VALUES], "truncated": len(values) > _MAX_VALUES}
