"""The check of `doctor` on the rules of alerts, and on where their notices go."""

from __future__ import annotations

from collections.abc import Iterator

from otel_agent_telemetry.alert_file import read_alert_file
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.operations.check_environment import Finding, error, ok, warn


def check_alerts(config: TelemetryConfig) -> Iterator[Finding]:
    """Yield what is wrong with the file of rules, line by line, and which rules do not count."""
    file = read_alert_file(config)
    for problem in file.problems:
        rule = f"[{problem.rule}] " if problem.rule else ""
        yield error("alerts", f"{file.path} line {problem.line}: {rule}{problem.text}", problem.fix)
    for refused in file.rules.refused:
        text = f"{file.path} line {refused.line}: the rule [{refused.rule}] is not used: {refused.text}"
        yield warn("alerts", text, refused.fix)
    rules = len(file.rules.rules)
    if rules and config.alerts_url is None and not config.page:
        yield warn("alerts", "alerts are shown nowhere: there is neither webhook nor page", "Set TELEMETRY_ALERTS_URL.")
    elif rules:
        alone = "on the page alone: TELEMETRY_ALERTS_URL is not set"
        where = "on the page and posted to the webhook" if config.alerts_url else alone
        yield ok("alerts", f"rules that the service evaluates: {rules}; alerts are shown {where}")
    elif not file.problems:
        yield ok("alerts", f"no rules: {file.path} is empty or not there")
