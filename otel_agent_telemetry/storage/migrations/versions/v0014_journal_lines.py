# ruff: noqa: INP001 - loaded by Alembic from its folder, never imported
"""Schema revision 0014: events and steps that come as lines of a journal, and the hosts that deliver them.

`writer` and `writer_seq` name the line: '' and 0 for what came over OTLP. An event has either a
place among the events of its span or a line, so each of the two unique indexes holds the
events of one kind. `store_facts` has what is known of this database itself, such as its id.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_PLACE = ["trace_id", "span_id", "span_start_ns", "seq"]


def upgrade() -> None:
    """Add columns, tables and indexes."""
    for table in ("run_events", "run_spans"):
        op.add_column(table, sa.Column("writer", sa.Text(), nullable=False, server_default=sa.text("''")))
        op.add_column(table, sa.Column("writer_seq", sa.BigInteger(), nullable=False, server_default=sa.text("0")))
    no_line, a_line = sa.text("writer = ''"), sa.text("writer <> ''")
    op.drop_index("ux_run_events_place", "run_events")
    op.create_index(
        "ux_run_events_place", "run_events", _PLACE, unique=True, sqlite_where=no_line, postgresql_where=no_line
    )
    for name, table, unique in (("ux_run_events_line", "run_events", True), ("ix_run_spans_line", "run_spans", False)):
        columns = ["writer", "writer_seq"]
        op.create_index(name, table, columns, unique=unique, sqlite_where=a_line, postgresql_where=a_line)
    op.create_table(
        "deliverers",
        sa.Column("host", sa.Text(), primary_key=True),
        sa.Column("base_dir", sa.Text(), primary_key=True),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("first_seen", sa.Text(), nullable=False),
        sa.Column("last_seen", sa.Text(), nullable=False),
        sa.Column("oldest_unsent", sa.Text()),
        *(
            sa.Column(name, sa.BigInteger(), nullable=False, server_default=sa.text("0"))
            for name in ("backlog_records", "backlog_bytes", "open_runs", "rejected", "lost")
        ),
    )
    op.create_table(
        "store_facts",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("value", sa.Text(), nullable=False),
    )
