"""The page of alerts, `/alerts`: what is open, what was, and the rules that are in force."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from otel_agent_telemetry.alert_rules import amount_text
from otel_agent_telemetry.operations.alert_report import alert_report
from otel_agent_telemetry.page.rendering import render
from otel_agent_telemetry.service.requests import backend_of


async def show_alerts(request: Request) -> Response:
    """Return the alerts that are open and that were, the rules, and what is wrong with their file."""
    backend = backend_of(request)
    report = await backend.read(lambda connection: alert_report(connection, backend.alerts.file))
    values = {"report": report, "amount_text": amount_text, "has_webhook": backend.settings.alerts_url is not None}
    return await render(request, "alerts.html", values)
