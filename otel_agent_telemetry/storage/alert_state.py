"""Alerts as they are stored: which are open, what an evaluation changes, and the notices that wait to be posted.

An alert and its notice are written in one transaction, so that neither a restart nor a second service
repeats or loses one. A notice is *claimed* by the service that posts it; a claim that nothing became of is
free again after two minutes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Row, insert, or_, select, update

from otel_agent_telemetry.alert_judging import Standing
from otel_agent_telemetry.clock import iso_utc, parse_iso
from otel_agent_telemetry.storage.alert_readings import Found
from otel_agent_telemetry.storage.alert_tables import alert_notices, alerts
from otel_agent_telemetry.storage.statements import rows_with

OPENED: Final = "opened"
RESOLVED: Final = "resolved"
NO_WEBHOOK: Final = "no webhook"
_CLAIM_S: Final = 120
_NS: Final = 1_000_000_000
_alerts: Final = alerts.c
_notices: Final = alert_notices.c


class Alert(NamedTuple):
    """An alert as it is stored; times are ISO 8601 texts in UTC, `value` and `threshold` in the rule's unit."""

    id: int
    rule: str
    subject: str
    about: str
    measure: str
    value: float | None
    threshold: float | None
    opened_at: str
    calm_since: str | None = None
    resolved_at: str | None = None
    event_id: str | None = None

    @property
    def standing(self) -> Standing:
        """Return how its rule stands with its subject."""
        calm_since_ns = None if self.calm_since is None else parse_iso(self.calm_since)
        return Standing(is_open=self.resolved_at is None, calm_since_ns=calm_since_ns, had_alert=True)


@dataclass(frozen=True, slots=True)
class Notice:
    """A notice that waits to be posted. `body`: its JSON."""

    alert_id: int
    state: str
    body: str
    made_at: str


def open_alerts(connection: Connection, *, limit: int | None = None) -> list[Alert]:
    """Return the alerts that are open, the newest first."""
    found = select(alerts).where(_alerts.resolved_at.is_(None)).order_by(_alerts.opened_at.desc(), _alerts.id.desc())
    return [Alert(*row) for row in connection.execute(found if limit is None else found.limit(limit))]


def past_alerts(connection: Connection, *, limit: int) -> list[Alert]:
    """Return the alerts that are resolved, those that opened last first."""
    found = select(alerts).where(_alerts.resolved_at.is_not(None))
    ordered = found.order_by(_alerts.opened_at.desc(), _alerts.id.desc()).limit(limit)
    return [Alert(*row) for row in connection.execute(ordered)]


def subjects_with_alerts(connection: Connection, rule: str, subjects: Iterable[str]) -> set[str]:
    """Return those of some subjects for which a rule has opened an alert before."""
    wanted = select(_alerts.subject).where(_alerts.rule == rule)
    return {row[0] for row in rows_with(connection, wanted, _alerts.subject, list(subjects))}


def open_alert(connection: Connection, found: Found, *, now: str) -> Alert | None:
    """Store the alert that a reading opens and return it; None where the subject has one that is open."""
    rule, reading = found.rule, found.reading
    # Looked for in this transaction, and kept by an index: a second service may have been faster.
    is_open = (_alerts.rule == rule.name, _alerts.subject == found.subject, _alerts.resolved_at.is_(None))
    if connection.execute(select(_alerts.id).where(*is_open)).first() is not None:
        return None
    event_id = None if found.run is None else found.run.event_id
    alert = Alert(
        id=0,
        rule=rule.name,
        subject=found.subject,
        about=rule.describe(),
        measure=rule.measure,
        value=reading.value,
        threshold=reading.threshold,
        opened_at=now,
        event_id=event_id,
    )
    values = alert._asdict()
    del values["id"]
    alert_id = connection.execute(insert(alerts).returning(_alerts.id), values).scalar_one()
    return alert._replace(id=int(alert_id))


def change_alert(connection: Connection, alert_id: int, **values: Any) -> bool:
    """Change an alert that is open; return False where it is not open any more."""
    # Another service may have resolved it meanwhile, and has made the notice then.
    is_open = (_alerts.id == alert_id, _alerts.resolved_at.is_(None))
    return connection.execute(update(alerts).where(*is_open).values(**values)).rowcount > 0


def add_notice(
    connection: Connection, alert_id: int, state: str, body: dict[str, Any], *, now: str, is_posted: bool
) -> None:
    """Store a notice; one that nobody is to post is done."""
    done = {"done_at": None if is_posted else now, "problem": "" if is_posted else NO_WEBHOOK}
    values = {"alert_id": alert_id, "state": state, "body": json.dumps(body), "made_at": now, **done}
    connection.execute(insert(alert_notices), values)


def claim_notices(connection: Connection, now_ns: int, *, limit: int = 20) -> list[Notice]:
    """Claim the notices that nobody is posting, the oldest first, and return them."""
    claimed_before = iso_utc(now_ns - _CLAIM_S * _NS)
    is_free = or_(_notices.claimed_at.is_(None), _notices.claimed_at < claimed_before)
    # "opened" before "resolved" of one evaluation.
    waiting = select(alert_notices).where(_notices.done_at.is_(None), is_free)
    ordered = waiting.order_by(_notices.made_at, _notices.alert_id, _notices.state).limit(limit)
    if connection.dialect.name == "postgresql":
        # Two services that look at once share the notices instead of posting them twice.
        ordered = ordered.with_for_update(skip_locked=True)
    found = connection.execute(ordered).all()
    for row in found:
        connection.execute(_of_notice(row).values(claimed_at=iso_utc(now_ns)))
    return [Notice(row.alert_id, row.state, row.body, row.made_at) for row in found]


def finish_notice(connection: Connection, notice: Notice, *, now: str | None, problem: str) -> None:
    """Note what became of a notice. `now`: when it was taken or given up; None leaves it to the next try."""
    # Not claimed any more: whoever looks next may try it again.
    values: dict[str, Any] = {"problem": problem, "claimed_at": None, "done_at": now}
    connection.execute(_of_notice(notice).values(**values))


def _of_notice(notice: Notice | Row[Any]) -> Any:
    """Return the update of one notice."""
    return update(alert_notices).where(_notices.alert_id == notice.alert_id, _notices.state == notice.state)


def notice_problems(connection: Connection, alert_ids: Sequence[int]) -> dict[int, str]:
    """Return alert → why the webhook has not taken a notice about it."""
    has_problem = (_notices.problem != "", _notices.problem != NO_WEBHOOK, _notices.alert_id.in_(alert_ids))
    return {
        row[0]: row[1] for row in connection.execute(select(_notices.alert_id, _notices.problem).where(*has_problem))
    }


def drop_old_alerts(connection: Connection, now_ns: int, *, days: int) -> None:
    """Delete the alerts, and their notices, that opened more than so many days ago and are resolved."""
    before = iso_utc(now_ns - int(timedelta(days=days).total_seconds()) * _NS)
    old = select(_alerts.id).where(_alerts.opened_at < before, _alerts.resolved_at.is_not(None))
    # Some at a time: this runs within the writer's transaction.
    ids = list(connection.execute(old.limit(1_000)).scalars())
    for table, column in ((alert_notices, _notices.alert_id), (alerts, _alerts.id)):
        connection.execute(table.delete().where(column.in_(ids)))
