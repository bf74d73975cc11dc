"""One evaluation of all rules: read, judge, and write what changed, with a notice of each change.

On PostgreSQL one service at a time evaluates, and each instant once; what two of them do all the same
meets the unique index of open alerts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select, text

from otel_agent_telemetry.alert_judging import NEVER_OPEN, Reading, judge
from otel_agent_telemetry.alert_rules import SILENCE, Rule
from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.storage.alert_notice import notice_of
from otel_agent_telemetry.storage.alert_readings import Found, Seen, readings
from otel_agent_telemetry.storage.alert_state import (
    OPENED,
    RESOLVED,
    Alert,
    add_notice,
    change_alert,
    drop_old_alerts,
    open_alert,
    open_alerts,
    subjects_with_alerts,
)
from otel_agent_telemetry.storage.tables import store_facts

# "oat_alrt" in ASCII, so that it can be recognised in `pg_locks`.
_EVALUATION_LOCK: Final = 0x6F61745F616C7274
_EVALUATED: Final = "alerts_evaluated"
"""The fact of the store that names the instant of the last evaluation; kept where several services may evaluate."""
RULE_GONE: Final = "its rule was removed or changed"
RUN_GONE: Final = "its run is no longer stored"
RUN_ENDED: Final = "its run has ended"
LOW_AGAIN: Final = "its value has stayed low"


@dataclass(frozen=True, slots=True)
class Resolved:
    """An alert that is resolved, with the last value, and why."""

    alert: Alert
    value: float | None
    reason: str


@dataclass(slots=True)
class Evaluation:
    """What one evaluation changes."""

    at_ns: int
    opened: list[Found] = field(default_factory=list)
    resolved: list[Resolved] = field(default_factory=list)
    changed: list[tuple[Alert, dict[str, Any]]] = field(default_factory=list)

    @property
    def has_changes(self) -> bool:
        """Return whether there is anything to write."""
        return bool(self.opened or self.resolved or self.changed)

    def must_be_written(self, connection: Connection) -> bool:
        """Return whether there is anything to write; on PostgreSQL always, so that no other service repeats it."""
        return self.has_changes or connection.dialect.name == "postgresql"

    def write(self, connection: Connection, *, address: str, is_posted: bool, kept_days: int) -> None:
        """Write the changes and their notices, within the connection's transaction. May be repeated.

        `address`: the service's, for links; `is_posted`: whether notices go to a webhook; `kept_days`: how
        long alerts that are resolved are kept.
        """
        now = iso_utc(self.at_ns)
        for found in self.opened:
            alert = open_alert(connection, found, now=now)
            if alert is not None:
                body = notice_of(alert, OPENED, found=found, address=address)
                add_notice(connection, alert.id, OPENED, body, now=now, is_posted=is_posted)
        for one in self.resolved:
            if change_alert(connection, one.alert.id, resolved_at=now):
                ended = one.alert._replace(resolved_at=now)
                body = notice_of(ended, RESOLVED, value=one.value, reason=one.reason, address=address)
                add_notice(connection, ended.id, RESOLVED, body, now=now, is_posted=is_posted)
        for changed, values in self.changed:
            change_alert(connection, changed.id, **values)
        if self.opened:
            drop_old_alerts(connection, self.at_ns, days=kept_days)
        if connection.dialect.name == "postgresql":
            connection.execute(delete(store_facts).where(store_facts.c.name == _EVALUATED))
            connection.execute(insert(store_facts).values(name=_EVALUATED, value=now))


def evaluate(connection: Connection, rules: Sequence[Rule], at_ns: int, seen: Seen) -> Evaluation | None:
    """Return what the rules change at an instant; None where another service evaluates it.

    `connection` reads one view. On PostgreSQL its transaction must stay open until the evaluation is written.
    """
    if connection.dialect.name == "postgresql" and not _is_ours(connection, at_ns):
        return None
    known = {(alert.rule, alert.subject): alert for alert in open_alerts(connection)}
    by_name = {rule.name: rule for rule in rules}
    # The runs of open alerts are looked at again: one that has ended is neither open nor new.
    of_runs = {alert.event_id for alert in known.values() if alert.event_id and alert.rule in by_name}
    seen.open_ids |= of_runs
    evaluation = Evaluation(at_ns)
    for found in _without_repeats(connection, readings(connection, rules, at_ns, seen), known):
        _judge(evaluation, found, known.pop((found.rule.name, found.subject), None))
    for alert in known.values():
        _judge_unread(evaluation, alert, by_name.get(alert.rule))
    return evaluation


def _is_ours(connection: Connection, at_ns: int) -> bool:
    """Return whether no other service is evaluating, nor has evaluated this instant."""
    query = text("SELECT pg_try_advisory_xact_lock(:key)")
    if not connection.execute(query, {"key": _EVALUATION_LOCK}).scalar_one():
        return False
    last = connection.execute(select(store_facts.c.value).where(store_facts.c.name == _EVALUATED)).scalar()
    return last is None or last < iso_utc(at_ns)


def _without_repeats(
    connection: Connection, found: Iterable[Found], known: dict[tuple[str, str], Alert]
) -> Iterator[Found]:
    """Yield the readings without those of runs that had their alert, and get no second one."""
    above: dict[str, list[Found]] = {}
    for one in found:
        may_repeat = one.run is None or one.rule.measure == SILENCE or (one.rule.name, one.subject) in known
        if may_repeat or not one.reading.is_above:
            yield one
        else:
            above.setdefault(one.rule.name, []).append(one)
    for rule, ones in above.items():
        known_subjects = subjects_with_alerts(connection, rule, (one.subject for one in ones))
        yield from (one for one in ones if one.subject not in known_subjects)


def _judge(evaluation: Evaluation, found: Found, alert: Alert | None) -> None:
    """Add what a reading changes."""
    standing = NEVER_OPEN if alert is None else alert.standing
    after, change = judge(found.rule, standing, found.reading, evaluation.at_ns)
    if change == "opened":
        evaluation.opened.append(found)
    elif alert is None:
        return
    elif change == "resolved":
        reason = RUN_ENDED if found.reading.is_final else LOW_AGAIN
        evaluation.resolved.append(Resolved(alert, found.reading.value, reason))
    else:
        calm_since = None if after.calm_since_ns is None else iso_utc(after.calm_since_ns)
        value = found.reading.value if found.reading.is_above else alert.value
        if (calm_since, value) != (alert.calm_since, alert.value):
            evaluation.changed.append((alert, {"calm_since": calm_since, "value": value}))


def _judge_unread(evaluation: Evaluation, alert: Alert, rule: Rule | None) -> None:
    """Add what becomes of an open alert of whose subject nothing was read."""
    if rule is None or _is_other_rule(rule, alert):
        evaluation.resolved.append(Resolved(alert, None, RULE_GONE))
    elif alert.event_id is not None:
        evaluation.resolved.append(Resolved(alert, None, RUN_GONE))
    elif rule.measure != SILENCE:
        # No run of the subject is within the time any more.
        _judge(evaluation, Found(rule, alert.subject, Reading(0.0, rule.limit)), alert)


def _is_other_rule(rule: Rule, alert: Alert) -> bool:
    """Return whether a rule is about something else now than when it opened an alert."""
    is_single_name = not rule.per_run and not rule.is_each
    return rule.per_run == (alert.event_id is None) or (is_single_name and alert.subject != rule.of)
