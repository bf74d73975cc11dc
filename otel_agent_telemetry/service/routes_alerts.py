"""Endpoints of alerts: the rules with what is open and was, and the dry run of the rules over the past."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from otel_agent_telemetry.clock import parse_iso
from otel_agent_telemetry.column_checks import check_time
from otel_agent_telemetry.operations.alert_history import alerts_of_past
from otel_agent_telemetry.operations.alert_report import alert_report, past_json, rule_json
from otel_agent_telemetry.service import alert_schemas, run_schemas
from otel_agent_telemetry.service.openapi import OperationGroup, responses
from otel_agent_telemetry.service.requests import backend_of, query_parameters
from otel_agent_telemetry.service.responses import json_response

operations = OperationGroup("reading")


class DryRunParameters(BaseModel):
    """The query string of `GET /api/v1/alerts/test`."""

    model_config = ConfigDict(extra="forbid")

    since: run_schemas.Moment = Field(description="Alerts that were open at this time or later; with a zone.")


@operations.add(
    "GET",
    "/api/v1/alerts",
    summary="Rules of alerts, and the alerts that are open and that were",
    responses=responses(alert_schemas.Alerts, 200, 429, 503),
)
async def alerts(request: Request) -> Response:
    """Return the rules in force, what is wrong with their file, and the alerts."""
    backend = backend_of(request)
    report = await backend.read(lambda connection: alert_report(connection, backend.alerts.file))
    return json_response(report.to_json())


@operations.add(
    "GET",
    "/api/v1/alerts/test",
    summary="When the rules would have opened an alert",
    query=DryRunParameters,
    responses=responses(alert_schemas.DryRun, 200, 422, 429, 503),
)
async def dry_run(request: Request) -> Response:
    """Return the alerts that the rules in force would have opened. Reads every run since then."""
    since = check_time("since", query_parameters(request, DryRunParameters).since)
    backend = backend_of(request)
    rules = backend.alerts.file.rules.rules
    now_ns = backend.clock.now_ns()
    found: list[Any] = await backend.read_page(
        lambda connection: alerts_of_past(connection, rules, since_ns=parse_iso(since or ""), now_ns=now_ns)
    )
    return json_response({"rules": [rule_json(rule) for rule in rules], "alerts": [past_json(one) for one in found]})
