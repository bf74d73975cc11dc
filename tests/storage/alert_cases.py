"""Evaluations of alert rules over a database, at instants of a test's own."""

from __future__ import annotations

from otel_agent_telemetry.alert_judging import tick_ns
from otel_agent_telemetry.alert_rules import read_rules
from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.storage.alert_evaluation import evaluate
from otel_agent_telemetry.storage.alert_readings import Seen, readings
from otel_agent_telemetry.storage.alert_state import open_alerts, past_alerts
from otel_agent_telemetry.storage.runs import upsert_runs
from tests.storage.storage_cases import SECOND, T0, at

TICK0 = tick_ns(T0) + 30 * SECOND
"""The first instant of evaluation after T0."""


class Evaluations:
    """What the service does every 30 seconds, without the service."""

    def __init__(self, database, rules):
        self.database = database
        self.rules = read_rules(rules, database.config.with_(user_id="keep")).rules
        self.restart()

    def restart(self):
        """Forget what a service keeps in memory."""
        self.seen = Seen()

    def at(self, at_ns):
        """Evaluate at an instant; return (state, rule, subject) of each notice."""
        with self.database.reading() as connection:
            found = evaluate(connection, self.rules, at_ns, self.seen)
            if connection.dialect.name == "sqlite":
                connection.rollback()
            if found is None:
                return []
            with self.database.writing() as writing:
                found.write(writing, address="http://here", is_posted=True, kept_days=30)
        opened = [("opened", one.rule.name, one.subject) for one in found.opened]
        return opened + [("resolved", one.alert.rule, one.alert.subject) for one in found.resolved]

    def values(self, at_ns):
        """Return subject → value of the first rule."""
        with self.database.reading() as connection:
            return {one.subject: one.reading.value for one in readings(connection, self.rules[:1], at_ns, Seen())}

    def opened_at(self):
        """Return the times at which alerts have opened, open or not."""
        with self.database.reading() as connection:
            found = [*open_alerts(connection), *past_alerts(connection, limit=1000)]
        return sorted((one.rule, one.subject, one.opened_at, one.resolved_at) for one in found)


def tick(number):
    """Return the instant of an evaluation, by its number."""
    return TICK0 + int(number * 30 * SECOND)


def moment(number, *, seconds=0.0):
    """Return a time at, or some seconds after, an evaluation."""
    return iso_utc(tick(number) + int(seconds * SECOND))


def write(database, *records):
    with database.writing() as connection:
        upsert_runs(connection, records)


__all__ = ["Evaluations", "at", "moment", "tick", "write"]
