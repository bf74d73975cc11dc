# ruff: noqa: INP001 - loaded by Alembic from its folder, never imported
"""Schema revision 0021: alerts, and the notices about them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add two tables."""
    row_id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    texts = ("rule", "subject", "about", "measure")
    op.create_table(
        "alerts",
        sa.Column("id", row_id, primary_key=True),
        *(sa.Column(name, sa.Text(), nullable=False) for name in texts),
        sa.Column("value", sa.Double()),
        sa.Column("threshold", sa.Double()),
        sa.Column("opened_at", sa.Text(), nullable=False),
        sa.Column("calm_since", sa.Text()),
        sa.Column("resolved_at", sa.Text()),
        sa.Column("event_id", sa.Text()),
    )
    is_open = sa.text("resolved_at IS NULL")
    op.create_index(
        "ux_alerts_open", "alerts", ["rule", "subject"], unique=True, sqlite_where=is_open, postgresql_where=is_open
    )
    op.create_index("ix_alerts_subject", "alerts", ["rule", "subject"])
    op.create_index("ix_alerts_opened_at", "alerts", ["opened_at"])
    op.create_table(
        "alert_notices",
        sa.Column("alert_id", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("state", sa.Text(), primary_key=True),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("made_at", sa.Text(), nullable=False),
        sa.Column("claimed_at", sa.Text()),
        sa.Column("done_at", sa.Text()),
        sa.Column("problem", sa.Text(), nullable=False, server_default=sa.text("''")),
    )
    waits = sa.text("done_at IS NULL")
    op.create_index(
        "ix_alert_notices_waiting", "alert_notices", ["made_at"], sqlite_where=waits, postgresql_where=waits
    )
