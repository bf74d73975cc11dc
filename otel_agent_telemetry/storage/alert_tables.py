"""The tables of alerts and of the notices about them, as the code writes and reads them."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Double, Index, Table, Text, text

from otel_agent_telemetry.storage.table_parts import ROW_ID, metadata, partial_index

alerts: Final = Table(
    "alerts",
    metadata,
    Column("id", ROW_ID, primary_key=True),
    Column("rule", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("about", Text, nullable=False),
    Column("measure", Text, nullable=False),
    Column("value", Double),
    Column("threshold", Double),
    Column("opened_at", Text, nullable=False),
    Column("calm_since", Text),
    Column("resolved_at", Text),
    Column("event_id", Text),
)
"""A row is an alert: one rule and one subject, from when it opened until it was resolved.

`subject`: a name in the rule's scope, "" for all runs, the `event_id` of a run. `about`: the rule in words.
`value` is the last one above the threshold; `calm_since`: since when all values are low, while it is open.
"""
# Whatever two services do, a subject has one open alert of a rule.
_IS_OPEN: Final = text("resolved_at IS NULL")
partial_index("ux_alerts_open", alerts.c.rule, alerts.c.subject, where=_IS_OPEN, unique=True)
Index("ix_alerts_subject", alerts.c.rule, alerts.c.subject)
Index("ix_alerts_opened_at", alerts.c.opened_at)

alert_notices: Final = Table(
    "alert_notices",
    metadata,
    Column("alert_id", BigInteger, primary_key=True, autoincrement=False),
    Column("state", Text, primary_key=True),
    Column("body", Text, nullable=False),
    Column("made_at", Text, nullable=False),
    Column("claimed_at", Text),
    Column("done_at", Text),
    Column("problem", Text, nullable=False, server_default=text("''")),
)
"""A row is a notice, `opened` or `resolved`: its JSON as it is posted, and what became of it.

`claimed_at`: when a service began to post it; `done_at`: when the webhook took it, or it was given up for
the reason in `problem`.
"""
partial_index("ix_alert_notices_waiting", alert_notices.c.made_at, where=text("done_at IS NULL"))
