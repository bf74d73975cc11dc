"""Endpoints that read runs: filtered pages, one run, its events and steps, distinct values."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import zip_longest
from typing import Any, Final, Literal
from urllib.parse import urlencode

import orjson
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from otel_agent_telemetry.column_checks import check_time
from otel_agent_telemetry.columns import FILTERABLE_COLUMNS, LISTED_COLUMNS
from otel_agent_telemetry.service import run_schemas, schemas
from otel_agent_telemetry.service.long_response import LongResponse
from otel_agent_telemetry.service.openapi import LINK_HEADER, LIST_HEADERS, OperationGroup, responses
from otel_agent_telemetry.service.requests import (
    backend_of,
    encoder_of,
    path_parameters,
    query_parameters,
    stored_run,
)
from otel_agent_telemetry.service.responses import RequestError, RunEncoder, json_response, raw_json_response
from otel_agent_telemetry.service.routes_commits import COMMITS_PATTERN
from otel_agent_telemetry.service.run_bodies import check_zone
from otel_agent_telemetry.service.run_schemas import Moment
from otel_agent_telemetry.status import STATUSES, canonical_status
from otel_agent_telemetry.storage.counts import count_by
from otel_agent_telemetry.storage.pages import FIRST_PART, MAX_PAGE_BYTES, rows_at_a_time
from otel_agent_telemetry.storage.queries import PLUMBING_HEADER, StoredRun, count_plumbing, page_of_runs, values_of
from otel_agent_telemetry.storage.rows import Cursor, clean_text
from otel_agent_telemetry.storage.run_filters import RunQuery
from otel_agent_telemetry.storage.steps import Page, events_of, spans_of
from otel_agent_telemetry.storage.tree_totals import tree_totals, trees_of

_TIMES: Final = (
    *("created_before", "created_after", "start_time_from", "start_time_to", "received_before", "received_after"),
)
_TEXTS: Final = tuple(name for name in FILTERABLE_COLUMNS if name not in ("status", "plumbing"))
# The greatest integer that both databases take; a greater one would be their error and not a 422.
_MAX_OFFSET: Final = 2**63 - 1
_MAX_VALUES: Final = 1000
_VALUES_CACHED_S: Final = 30.0

COUNTED_FIELDS: Final = ("agent_name", "job_type", "status")
FIELDS: Final = (*COUNTED_FIELDS, *(name for name in LISTED_COLUMNS if name not in COUNTED_FIELDS))
"""The fields of `/api/v1/metadata/{field}`. The first three cost the same at any number of runs."""

operations = OperationGroup("reading")


class RunFilters(BaseModel):
    """The query string of `GET /api/v1/runs`. An unknown name is refused, so a misspelt filter is noticed."""

    model_config = ConfigDict(extra="forbid")

    agent_name: str | None = Field(None, description="Runs of this agent.")
    status: run_schemas.StatusWord | None = Field(
        None, description=f"Runs in this status: {', '.join(STATUSES)}, or an accepted spelling."
    )
    job_type: str | None = Field(None, description="Runs of this job type.")
    run_id: str | None = Field(None, description="Runs with this run id.")
    beginning: str | None = Field(None, min_length=1, description="Runs whose run id or event id begins so.")
    trace_id: str | None = Field(None, description="Runs of this trace, 32 hex digits.")
    parent_run_id: str | None = Field(None, description="Runs inside the run with this run id.")
    host: str | None = Field(None, description="Runs of this host.")
    environment: str | None = Field(None, description="Runs of this environment.")
    service_name: str | None = Field(None, description="Runs of this `service.name`.")
    session_id: str | None = Field(None, description="Runs of this session.")
    user_id: str | None = Field(None, description="Runs of this user, as the column holds it.")
    agent_version: str | None = Field(None, description="Runs of this version of an agent.")
    change_id: str | None = Field(None, description="Runs that work on this change.")
    start_commit: str | None = Field(None, description="Runs that began on this commit.")
    model: str | None = Field(None, description="Runs whose most called model this is.")
    plumbing: bool | None = Field(None, description="Only plumbing (true), or none of it (false).")
    label: str | None = Field(None, description="Runs with this label: `name=value`.", pattern=r'^[^="]+=')
    commit: str | None = Field(
        None,
        description="Runs that made this commit, or one of several separated by commas: hashes or beginnings of them.",
        pattern=COMMITS_PATTERN,
    )
    created_before: Moment | None = Field(None, description="Created before this time, exclusive; with a zone.")
    created_after: Moment | None = Field(None, description="Created after this time, exclusive; with a zone.")
    start_time_from: Moment | None = Field(None, description="Started at this time or later; with a zone.")
    start_time_to: Moment | None = Field(None, description="Started at this time or earlier; with a zone.")
    received_before: Moment | None = Field(None, description="First received before this time, exclusive.")
    received_after: Moment | None = Field(None, description="First received after this time, exclusive.")
    tree: bool = Field(default=False, description="Add the totals of each run and the runs inside it, as `tree`.")
    limit: int = Field(100, ge=1, le=1000, description="The most runs to return.")
    offset: int = Field(0, ge=0, le=_MAX_OFFSET, description="The number of runs to skip; `cursor` is cheaper.")
    cursor: str | None = Field(None, description="The end of the previous page: from its `Link` header.")

    def to_query(self) -> RunQuery:
        """Return the storage's query. Raises RequestError 400 for an unknown status, RecordError."""
        values: dict[str, Any] = {name: clean_text(getattr(self, name)) for name in _TEXTS}
        if values["trace_id"] is not None:
            values["trace_id"] = values["trace_id"].lower()
        if self.status is not None:
            values["status"] = canonical_status(self.status)
            if values["status"] is None:
                raise RequestError(400, f"status: must be one of {', '.join(STATUSES)}, got {self.status[:40]!r}")
        for name in _TIMES:
            values[name] = _time_filter(name, getattr(self, name))
        if self.label is not None:
            name, _, value = clean_text(self.label).partition("=")
            values["label"] = (name, value)
        if self.commit is not None:
            values["commits"] = tuple(self.commit.split(","))
        if self.beginning is not None:
            values["beginning"] = clean_text(self.beginning)
        cursor = None if self.cursor is None else Cursor.from_text(self.cursor)
        return RunQuery(**values, plumbing=self.plumbing, limit=self.limit, offset=self.offset, cursor=cursor)


class PageParameters(BaseModel):
    """The query string of a run's events and steps."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(1000, ge=1, le=10_000, description="The most items to return.")
    cursor: str | None = Field(None, description="The end of the previous page: from its `Link` header.")

    def to_page(self) -> Page:
        """Return the storage's page. Raises RecordError for a cursor that this API did not make."""
        return Page(self.limit, None if self.cursor is None else Cursor.from_text(self.cursor))


class TreeParameters(BaseModel):
    """The query string of one run."""

    tree: bool = Field(default=False, description="Add the totals of the run and the runs inside it, as `tree`.")


class FieldPath(BaseModel):
    """The path parameter of `/api/v1/metadata/{field}`."""

    field: Literal[FIELDS] = Field(description="The name of the field.")  # type: ignore[valid-type]  # a table


def _time_filter(name: str, text: str | None) -> str | None:
    """Return a time of the query string in its stored form. Raises RecordError."""
    if text is None:
        return None
    # A "+" that the client did not escape arrives as a space: 2026-01-31T12:00:00 01:00.
    head, space, zone = text.rpartition(" ")
    text = f"{head}+{zone}" if space and ":" in head and zone[:2].isdigit() and "+" not in head else text
    check_zone(name, text)
    return check_time(name, text)


@operations.add(
    "GET",
    "/api/v1/runs",
    summary="List runs, newest first",
    query=RunFilters,
    responses=responses(run_schemas.Run, 200, 400, 422, 429, 503, many=True, headers=LIST_HEADERS),
)
async def list_runs(request: Request) -> Response:
    """Return a page of runs, newest `created_at` first. The `Link` header leads to the next page while there is one.

    With `plumbing=false` the first page has a header with the number of runs of plumbing that it leaves out.
    """
    filters, encoder = query_parameters(request, RunFilters), encoder_of(request)
    query = filters.to_query()
    counts_hidden = query.plumbing is False and query.cursor is None

    def read_page(connection: Connection) -> tuple[list[bytes], StoredRun | None, dict[str, str]]:
        """Encode in the reader's thread, so that a large page does not hold up the event loop."""
        items, last = _encoded_page(connection, query, encoder, with_trees=filters.tree)
        hidden = {PLUMBING_HEADER: str(count_plumbing(connection, query))} if counts_hidden else {}
        return items, last, hidden

    items, last, hidden = await backend_of(request).read_page(read_page)
    link = _link("/api/v1/runs", filters, None if last is None else last.cursor)
    return LongResponse(items, {**link, **hidden}, backend_of(request).response_budget)


def _encoded_page(
    connection: Connection, query: RunQuery, encoder: RunEncoder, *, with_trees: bool
) -> tuple[list[bytes], StoredRun | None]:
    """Return the runs of a page as JSON, and the last one while others follow.

    Some 2 MiB of rows are in memory beside it.

    Fewer runs than `limit` may fit into `MAX_PAGE_BYTES`; the next page then begins after the last that did.
    """
    encoded: list[bytes] = []
    size, part, last = 0, FIRST_PART, None
    while True:
        # Whether a next page exists is learnt from one row more, without counting the rows.
        wanted = min(part, query.limit + 1 - len(encoded))
        runs = page_of_runs(connection, replace(query, limit=wanted))
        trees = trees_of(connection, [run.record for run in runs]) if with_trees else []
        for run, tree in zip_longest(runs, trees):
            # One run is always on the page, however large: without it a client would never get past that run.
            if len(encoded) == query.limit or size > MAX_PAGE_BYTES:
                return encoded, last
            encoded.append(encoder.encode(run, tree))
            size, last = size + len(encoded[-1]) + 1, run
        if len(runs) < wanted or last is None:
            return encoded, None
        query = replace(query, cursor=last.cursor, offset=0)
        part = rows_at_a_time(size, len(encoded))


def _link(path: str, filters: BaseModel, last: Cursor | None) -> dict[str, str]:
    """Return the `Link` header for the page after `last`; empty when there is none."""
    if last is None:
        return {}
    # The cursor replaces the offset: both together would skip rows of the next page again.
    given = filters.model_dump(exclude_none=True, exclude={"cursor", "offset"}, exclude_defaults=True)
    return {"Link": f'<{path}?{urlencode({**given, "cursor": last.to_text()})}>; rel="next"'}


@operations.add(
    "GET",
    "/api/v1/runs/{event_id}",
    summary="One run",
    path_parameters=run_schemas.EventIdPath,
    query=TreeParameters,
    responses=responses(run_schemas.Run, 200, 404, 422, 429, 503),
)
async def read_run(request: Request) -> Response:
    """Return every column of a run; with `tree=true` what it and the runs inside it used together, too."""
    wants_tree = query_parameters(request, TreeParameters).tree
    run = await stored_run(request)
    tree = None
    if wants_tree:
        tree = await backend_of(request).read(lambda connection: tree_totals(connection, run.record))
    return raw_json_response(encoder_of(request).encode(run, tree))


@operations.add(
    "GET",
    "/api/v1/runs/{event_id}/commit-url",
    summary="The web address of the run's commit",
    path_parameters=run_schemas.EventIdPath,
    responses=responses(schemas.CommitUrl, 200, 404, 422, 429, 503),
)
async def read_commit_url(request: Request) -> Response:
    """Return the web address of the commit; null where it cannot be built."""
    record = (await stored_run(request)).record
    return json_response({"commit_url": encoder_of(request).commit_url(record.git_repo, record.git_commit_hash)})


@operations.add(
    "GET",
    "/api/v1/runs/{event_id}/repo-url",
    summary="The web address of the run's repository",
    path_parameters=run_schemas.EventIdPath,
    responses=responses(schemas.RepoUrl, 200, 404, 422, 429, 503),
)
async def read_repo_url(request: Request) -> Response:
    """Return the web address of the repository; null where it cannot be built."""
    record = (await stored_run(request)).record
    return json_response({"repo_url": encoder_of(request).repo_url(record.git_repo)})


@operations.add(
    "GET",
    "/api/v1/runs/{event_id}/events",
    summary="The events of a run",
    path_parameters=run_schemas.EventIdPath,
    query=PageParameters,
    responses=responses(schemas.Event, 200, 404, 422, 429, 503, many=True, headers=LINK_HEADER),
)
async def read_events(request: Request) -> Response:
    """Return the run's events that came over OTLP, oldest first, those of its steps included.

    The `Link` header leads to the next page while there is one.
    """
    parameters = query_parameters(request, PageParameters)
    event_id, page = (await stored_run(request)).record.event_id, parameters.to_page()
    events = await backend_of(request).read_page(lambda connection: events_of(connection, event_id, page))
    link = _link(f"/api/v1/runs/{event_id}/events", parameters, events.next_cursor)
    return LongResponse(map(orjson.dumps, events), link, backend_of(request).response_budget)


@operations.add(
    "GET",
    "/api/v1/runs/{event_id}/spans",
    summary="The steps of a run",
    path_parameters=run_schemas.EventIdPath,
    query=PageParameters,
    responses=responses(schemas.Step, 200, 404, 422, 429, 503, many=True, headers=LINK_HEADER),
)
async def read_spans(request: Request) -> Response:
    """Return the run's child spans that came over OTLP, in order of their start.

    The `Link` header leads to the next page while there is one.
    """
    parameters = query_parameters(request, PageParameters)
    event_id, page = (await stored_run(request)).record.event_id, parameters.to_page()
    spans = await backend_of(request).read_page(lambda connection: spans_of(connection, event_id, page))
    link = _link(f"/api/v1/runs/{event_id}/spans", parameters, spans.next_cursor)
    return LongResponse(map(orjson.dumps, spans), link, backend_of(request).response_budget)


@operations.add(
    "GET",
    "/api/v1/metadata",
    summary="The known agents and job types",
    responses=responses(schemas.Metadata, 200, 429, 503),
)
async def read_metadata(request: Request) -> Response:
    """Return agent names and job types with their number of runs; costs the same at any number of runs."""
    counts = await backend_of(request).read(
        lambda connection: {
            "agent_names": count_by(connection, "agent_name"),
            "job_types": count_by(connection, "job_type"),
        }
    )
    return json_response(counts)


@operations.add(
    "GET",
    "/api/v1/metadata/{field}",
    summary="The values of one field",
    path_parameters=FieldPath,
    responses=responses(schemas.FieldValues, 200, 422, 429, 503),
)
async def read_values(request: Request) -> Response:
    """Return the distinct values of a field, at most 1000 of them, sorted.

    Fields other than agent name, job type and status are read from the runs, at most every 30 s.
    """
    field = path_parameters(request, FieldPath).field
    values = await _distinct_values(request, field)
    return json_response({"field": field, "values": values[:_MAX_VALUES], "truncated": len(values) > _MAX_VALUES})


async def _distinct_values(request: Request, field: str) -> list[str]:
    """Return the values from the counts, from the app's cache, or from the runs; one more than are shown."""
    backend, cached = backend_of(request), request.app.state.field_values
    # Reading distinct values takes a scan of all runs, so a page that asks for each field must not repeat it.
    if field in COUNTED_FIELDS:
        return list(await backend.read(lambda connection: count_by(connection, field)))
    if field in cached and time.monotonic() - cached[field][0] < _VALUES_CACHED_S:
        values: list[str] = cached[field][1]
        return values
    values = await backend.read(lambda connection: values_of(connection, field, limit=_MAX_VALUES + 1))
    cached[field] = (time.monotonic(), values)
    return values
