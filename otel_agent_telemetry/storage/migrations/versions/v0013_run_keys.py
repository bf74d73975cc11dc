# ruff: noqa: INP001 - loaded by Alembic from its folder, never imported
"""Schema revision 0013: keys by which what arrives later joins a run that was first known otherwise, and services.

`run_keys` has runs that are no span's own: one whose root span never arrived. `run_services`
has the services that agents' runs came from.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add two tables."""
    op.create_table(
        "run_keys",
        sa.Column("run_key", sa.Text(), primary_key=True),
        sa.Column("event_id", sa.Text(), nullable=False),
    )
    op.create_index("ix_run_keys_event_id", "run_keys", ["event_id"])
    op.create_table("run_services", sa.Column("service_name", sa.Text(), primary_key=True))
