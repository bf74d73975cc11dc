"""The endpoint of `agent-telemetry stats --by`: what agents cost, did and achieved in a time."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from otel_agent_telemetry.clock import parse_iso
from otel_agent_telemetry.column_checks import check_time
from otel_agent_telemetry.operations.read_answers import LIMIT
from otel_agent_telemetry.service import run_schemas
from otel_agent_telemetry.service.openapi import OperationGroup, responses
from otel_agent_telemetry.service.requests import backend_of, query_parameters
from otel_agent_telemetry.service.responses import json_response
from otel_agent_telemetry.service.stats_schemas import Stats
from otel_agent_telemetry.storage.answers import DIMENSIONS, answers
from otel_agent_telemetry.storage.figure_window import begin_ns

operations = OperationGroup("reading")
_BY: Final = rf"^({'|'.join(DIMENSIONS)}|label:.+)$"
_WEEK_NS: Final = 7 * 86_400 * 1_000_000_000


class StatsParameters(BaseModel):
    """The query string of `GET /api/v1/stats`."""

    model_config = ConfigDict(extra="forbid")

    by: str = Field("agent", pattern=_BY, description="agent, model, session, repository, user, label, or label:NAME.")
    since: run_schemas.Moment | None = Field(
        None, description="Runs created since this time, 7 days ago by default; beyond 3 days, from midnight UTC on."
    )
    limit: int = Field(LIMIT, ge=1, le=1000, description="The most lines to return.")


@operations.add(
    "GET",
    "/api/v1/stats",
    summary="What agents cost, did and achieved",
    query=StatsParameters,
    responses=responses(Stats, 200, 422, 429, 503),
)
async def stats(request: Request) -> Response:
    """Return cost, tokens, turns, tools, errors, commits and lines by a dimension, the most expensive first."""
    wanted = query_parameters(request, StatsParameters)
    backend = backend_of(request)
    now_ns = backend.clock.now_ns()
    since = None if wanted.since is None else check_time("since", wanted.since)
    given_ns = now_ns - _WEEK_NS if since is None else parse_iso(since)
    since_ns = begin_ns((now_ns - given_ns) / 1e9, now_ns)
    found = await backend.read(
        lambda connection: answers(connection, wanted.by, since_ns=since_ns, at_ns=now_ns, limit=wanted.limit)
    )
    return json_response(found.to_json())
