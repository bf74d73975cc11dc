"""The endpoint of `agent-telemetry audit`: figures over all runs."""

from __future__ import annotations

import time
from dataclasses import asdict

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from otel_agent_telemetry.column_checks import check_time
from otel_agent_telemetry.operations.audit_report import figures_of
from otel_agent_telemetry.service import audit_schemas, run_schemas
from otel_agent_telemetry.service.openapi import OperationGroup, responses
from otel_agent_telemetry.service.requests import backend_of, query_parameters
from otel_agent_telemetry.service.responses import json_response

operations = OperationGroup("reading")


class AuditParameters(BaseModel):
    """The query string of `GET /api/v1/audit`."""

    model_config = ConfigDict(extra="forbid")

    since: run_schemas.Moment | None = Field(None, description="Count runs created from this time on; with a zone.")
    top: int = Field(10, ge=1, le=1000, description="The most agents, and open runs, to return.")
    days: int = Field(30, ge=1, le=36_501, description="The most days to return.")


@operations.add(
    "GET",
    "/api/v1/audit",
    summary="Figures over all runs",
    query=AuditParameters,
    responses=responses(audit_schemas.Audit, 200, 422, 429, 503),
)
async def audit(request: Request) -> Response:
    """Return runs by agent, status and day, the runs open longest, and the size of the database. Reads every run."""
    wanted = query_parameters(request, AuditParameters)
    since = None if wanted.since is None else check_time("since", wanted.since)
    figures = await backend_of(request).read(
        lambda connection: figures_of(connection, since=since, top=wanted.top, days=wanted.days, now_ns=time.time_ns())
    )
    return json_response(asdict(figures))
