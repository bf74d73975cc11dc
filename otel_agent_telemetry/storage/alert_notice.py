"""The JSON of a notice about an alert: what a webhook is sent, `docs/alerts.md` describes it."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

from otel_agent_telemetry.storage.alert_readings import Found
from otel_agent_telemetry.storage.alert_state import Alert

_UNITS: Final = {"cost": "USD", "tokens": "tokens", "duration": "s", "failures": "runs", "silence": "s"}


def notice_of(
    alert: Alert,
    state: str,
    *,
    address: str,
    found: Found | None = None,
    value: float | None = None,
    reason: str = "",
) -> dict[str, Any]:
    """Return the notice that an alert has opened, by what was found, or is resolved, with a value and a reason."""
    run = None if found is None else found.run
    body = {
        "id": f"{alert.id}-{state}",
        "alert": alert.id,
        "state": state,
        "rule": alert.rule,
        "about": alert.about,
        "measure": alert.measure,
        "unit": _UNITS[alert.measure],
        "subject": alert.subject,
        "value": alert.value if found is not None else value,
        "limit": alert.threshold,
        "is_lower_bound": found is not None and found.reading.unpriced,
        "opened_at": alert.opened_at,
        "resolved_at": alert.resolved_at,
        "reason": reason,
        "links": links_of(alert, address),
    }
    return body if run is None else {**body, "run_id": run.run_id, "agent_name": run.agent}


def links_of(alert: Alert, address: str) -> dict[str, str]:
    """Return the addresses of the page about an alert: the list of alerts, and its run where it has one."""
    links = {"alerts": f"{address}/alerts"}
    if alert.event_id is not None:
        links["run"] = f"{address}/runs/{quote(alert.event_id, safe='')}"
    return links
