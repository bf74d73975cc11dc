"""Endpoints by which a host finds out whether everything of its journal is here: `agent-telemetry verify`."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from otel_agent_telemetry.columns import MAX_COUNT
from otel_agent_telemetry.service import audit_schemas
from otel_agent_telemetry.service.openapi import OperationGroup, responses
from otel_agent_telemetry.service.requests import backend_of, query_parameters
from otel_agent_telemetry.service.responses import RequestError, json_response
from otel_agent_telemetry.storage.digests import day_digests, host_digests
from otel_agent_telemetry.storage.line_digests import MAX_NUMBERS, MAX_RANGES, LineRange, line_digests
from otel_agent_telemetry.storage.marks import cutoff_of, page_of_receipts, parts_cutoff_of
from otel_agent_telemetry.storage.rows import clean_text

operations = OperationGroup("verification")

_DAY: Final = r"^\d{4}-\d{2}-\d{2}$"
_MOST: Final = 10_000


class OfDay(BaseModel):
    """The query string of `GET /api/v1/digests`."""

    model_config = ConfigDict(extra="forbid")

    day: str = Field(description="A UTC day, 2026-01-31: runs whose created_at is on it.", pattern=_DAY)


class OfHost(OfDay):
    """The query string of `GET /api/v1/digests/runs`."""

    host: str = Field("", description="Runs of this host; empty: runs that name none.")
    after: int = Field(0, ge=0, le=2**63 - 1, description="Continue after this id, `next` of the page before.")
    limit: int = Field(_MOST, ge=1, le=_MOST, description="The most runs to return.")


class OfLines(BaseModel):
    """The query string of `GET /api/v1/digests/lines`."""

    model_config = ConfigDict(extra="forbid")

    ranges: str = Field(
        description=f"Writer, first and last number of each range, all separated by spaces: at most {MAX_RANGES} "
        f"ranges and {MAX_NUMBERS} numbers.",
        max_length=8_000,  # MAX_RANGES of the longest writers, and well below the limit of a head
    )
    since: str = Field("", description="Only lines whose time is not before this one.", max_length=64)


class ReceiptPage(BaseModel):
    """The query string of `GET /api/v1/deletions`."""

    model_config = ConfigDict(extra="forbid")

    after: str = Field("", description="Continue after this event_id, `next` of the page before.")
    limit: int = Field(_MOST, ge=1, le=_MOST, description="The most receipts to return.")


@operations.add(
    "GET",
    "/api/v1/digests",
    summary="Count and digest of the runs of a day, by host",
    query=OfDay,
    responses=responses(audit_schemas.DayDigests, 200, 422, 429, 503),
)
async def digests(request: Request) -> Response:
    """Return for each host how many runs it has on a day, and one digest of all of them.

    A run's digest is of the columns that its state alone decides; the digest of a set is their sum.
    """
    day = query_parameters(request, OfDay).day
    hosts = await backend_of(request).read(lambda connection: day_digests(connection, day))
    return json_response({"day": day, "hosts": [host._asdict() for host in hosts]})


@operations.add(
    "GET",
    "/api/v1/digests/runs",
    summary="Digest of each run of a host on a day",
    query=OfHost,
    responses=responses(audit_schemas.RunDigests, 200, 422, 429, 503),
)
async def digests_of_runs(request: Request) -> Response:
    """Return the runs of one host on one day with what orders their states and their digests."""
    wanted = query_parameters(request, OfHost)
    runs = await backend_of(request).read(
        lambda connection: host_digests(connection, wanted.day, wanted.host, after=wanted.after, limit=wanted.limit)
    )
    return json_response(
        {
            "runs": [[run.event_id, run.status, run.updated_at, run.digest] for run in runs],
            "next": runs[-1].id if len(runs) == wanted.limit else None,
        }
    )


@operations.add(
    "GET",
    "/api/v1/digests/lines",
    summary="Counts and digests of events and steps, by writer and range of numbers",
    query=OfLines,
    responses=responses(audit_schemas.LineDigests, 200, 422, 429, 503),
)
async def digests_of_lines(request: Request) -> Response:
    """Return for each range of a writer's lines how many events and steps are stored, and one digest of all.

    A step has the number of its last line. The digest of a range is the sum of those of its lines, modulo 2^60.
    """
    wanted = query_parameters(request, OfLines)
    ranges = _ranges_of(wanted.ranges)
    found = await backend_of(request).read(
        lambda connection: line_digests(connection, ranges, since=clean_text(wanted.since))
    )
    return json_response({"ranges": [[one.events, one.steps, f"{one.digest:015x}"] for one in found]})


def _ranges_of(text: str) -> list[LineRange]:
    """Return the ranges of a query string. Raises RequestError 422."""
    words = text.split(" ")
    try:
        triples = zip(words[::3], words[1::3], words[2::3], strict=True)
        ranges = [LineRange(clean_text(writer), int(first), int(last)) for writer, first, last in triples]
    except ValueError:
        raise RequestError(422, "ranges: must be a writer and two numbers each, separated by spaces") from None
    if len(ranges) > MAX_RANGES or not all(0 <= one.first <= one.last <= MAX_COUNT for one in ranges):
        raise RequestError(422, f"ranges: must be at most {MAX_RANGES}, each from a number to one that is not less")
    if sum(one.last - one.first + 1 for one in ranges) > MAX_NUMBERS:
        raise RequestError(422, f"ranges: must have at most {MAX_NUMBERS} numbers together")
    return ranges


@operations.add(
    "GET",
    "/api/v1/deletions",
    summary="Receipts of deleted runs, and the cut-off of retention",
    query=ReceiptPage,
    responses=responses(audit_schemas.Deletions, 200, 422, 429, 503),
)
async def deletions(request: Request) -> Response:
    """Return what is left of deleted runs: their ids, when they were deleted, and by which token."""
    wanted = query_parameters(request, ReceiptPage)
    page, cutoff, parts_cutoff = await backend_of(request).read(lambda connection: _page(connection, wanted))
    names = ("event_id", "run_id", "deleted_at", "deleted_by")
    return json_response(
        {
            "cutoff": None if cutoff is None else cutoff.cutoff,
            "parts_cutoff": parts_cutoff,
            "deleted": [{name: getattr(receipt, name) for name in names} for receipt in page],
            "next": page[-1].event_id if len(page) == wanted.limit else None,
        }
    )


def _page(connection: Connection, wanted: ReceiptPage) -> tuple[list[Any], Any, str | None]:
    """Return one page of receipts, and the cut-offs of the database."""
    page = page_of_receipts(connection, after=wanted.after, limit=wanted.limit)
    return page, cutoff_of(connection), parts_cutoff_of(connection)
