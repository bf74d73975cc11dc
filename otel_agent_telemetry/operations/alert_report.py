"""The rules of alerts and what came of them, for the command, the API and the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection

from otel_agent_telemetry.alert_file import AlertFile, read_alert_file
from otel_agent_telemetry.alert_rules import Rule
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.operations.alert_history import PastAlert
from otel_agent_telemetry.storage.alert_state import Alert, notice_problems, open_alerts, past_alerts

SHOWN: Final = 100


@dataclass(frozen=True, slots=True)
class AlertReport:
    """The file of rules as it is in force, the alerts that are open and the last that were, the newest first.

    `unposted`: alert → why the webhook has not taken a notice about it. `more`: there are more open ones than shown.
    """

    file: AlertFile
    open: list[Alert]
    past: list[Alert]
    unposted: dict[int, str]
    more: bool

    def to_json(self) -> dict[str, Any]:
        """Return the report as `GET /api/v1/alerts` answers it."""
        return {
            "file": str(self.file.path),
            "problems": [problem._asdict() for problem in self.file.problems],
            "refused": [problem._asdict() for problem in self.file.rules.refused],
            "rules": [rule_json(rule) for rule in self.file.rules.rules],
            "open": [self._alert_json(alert) for alert in self.open],
            "past": [self._alert_json(alert) for alert in self.past],
        }

    def _alert_json(self, alert: Alert) -> dict[str, Any]:
        """Return an alert as JSON."""
        return {**alert._asdict(), "notice_problem": self.unposted.get(alert.id, "")}


def rule_json(rule: Rule) -> dict[str, Any]:
    """Return a rule as JSON: its name and what it means."""
    return {"name": rule.name, "about": rule.describe(), "measure": rule.measure, "line": rule.line}


def past_json(alert: PastAlert) -> dict[str, Any]:
    """Return an alert of a dry run as JSON."""
    return alert._asdict()


def alert_report(connection: Connection, file: AlertFile) -> AlertReport:
    """Return the report over the alerts of a database."""
    still_open, past = open_alerts(connection, limit=SHOWN + 1), past_alerts(connection, limit=SHOWN)
    unposted = notice_problems(connection, [alert.id for alert in (*still_open, *past)])
    return AlertReport(file, still_open[:SHOWN], past, unposted, more=len(still_open) > SHOWN)


def report_without_database(config: TelemetryConfig) -> AlertReport:
    """Return the report where there is no database yet."""
    return AlertReport(read_alert_file(config), [], [], {}, more=False)
