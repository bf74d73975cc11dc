"""Endpoints by which a host finds out whether everything of its journal is here: `agent-telemetry verify`."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from otel_agent_telemetry.service import audit_schemas
from otel_agent_telemetry.service.openapi import OperationGroup, responses
from otel_agent_telemetry.service.requests import backend_of, query_parameters
from otel_agent_telemetry.service.responses import json_response
from otel_agent_telemetry.storage.digests import day_digests, host_digests
from otel_agent_telemetry.storage.marks import cutoff_of, page_of_receipts

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
    "/api/v1/deletions",
    summary="Receipts of deleted runs, and the cut-off of retention",
    query=ReceiptPage,
    responses=responses(audit_schemas.Deletions, 200, 422, 429, 503),
)
async def deletions(request: Request) -> Response:
    """Return what is left of deleted runs: their ids, when they were deleted, and by which token."""
    wanted = query_parameters(request, ReceiptPage)
    page, cutoff = await backend_of(request).read(lambda connection: _page(connection, wanted))
    names = ("event_id", "run_id", "deleted_at", "deleted_by")
    return json_response(
        {
            "cutoff": None if cutoff is None else cutoff.cutoff,
            "deleted": [{name: getattr(receipt, name) for name in names} for receipt in page],
            "next": page[-1].event_id if len(page) == wanted.limit else None,
        }
    )


def _page(connection: Connection, wanted: ReceiptPage) -> tuple[list[Any], Any]:
    return page_of_receipts(connection, after=wanted.after, limit=wanted.limit), cutoff_of(connection)
