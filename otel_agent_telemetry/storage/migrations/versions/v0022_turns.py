# ruff: noqa: INP001 - loaded by Alembic from its folder, never imported
"""Schema revision 0022: turns of coding agents, which their log records make, and these records."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

_UNKNOWN = sa.text("-1")
_EMPTY = sa.text("''")


def upgrade() -> None:
    """Add two tables."""
    op.create_table(
        "turns",
        sa.Column("turn_id", sa.Text(), primary_key=True),
        sa.Column("stretch", sa.Text(), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False, server_default=_EMPTY),
        sa.Column("begin_ns", sa.BigInteger(), nullable=False, server_default=_UNKNOWN),
        sa.Column("begin_sequence", sa.BigInteger(), nullable=False, server_default=_UNKNOWN),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("has_root", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("silent_ns", sa.BigInteger(), nullable=False),
        sa.Column("is_open", sa.Integer(), nullable=False, server_default=sa.text("1")),
        sa.Column("base_json", sa.Text(), nullable=False),
        sa.Column("figures_json", sa.Text(), nullable=False),
        sa.Column("state_json", sa.Text()),
    )
    op.create_index("ix_turns_stretch", "turns", ["stretch", "begin_ns"])
    op.create_index("ix_turns_event_id", "turns", ["event_id"])
    is_open = sa.text("is_open = 1")
    op.create_index("ix_turns_open", "turns", ["silent_ns"], sqlite_where=is_open, postgresql_where=is_open)
    op.create_table(
        "turn_records",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("stretch", sa.Text(), nullable=False),
        sa.Column("turn_id", sa.Text(), nullable=False, server_default=_EMPTY),
        sa.Column("own_turn", sa.Text(), nullable=False, server_default=_EMPTY),
        sa.Column("prompt", sa.Text(), nullable=False, server_default=_EMPTY),
        sa.Column("time_ns", sa.BigInteger(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False, server_default=_UNKNOWN),
        sa.Column("silent_ns", sa.BigInteger(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("trace_id", sa.Text(), nullable=False, server_default=_EMPTY),
        sa.Column("usage_json", sa.Text()),
    )
    op.create_index("ux_turn_records_identity", "turn_records", ["identity"], unique=True)
    op.create_index("ix_turn_records_turn", "turn_records", ["turn_id"])
    op.create_index("ix_turn_records_stretch", "turn_records", ["stretch", "time_ns"])
