# ruff: noqa: INP001 - loaded by Alembic from its folder, never imported
"""Schema revision 0016: an `event_id` that is a UUID is in lower case, as later states name it.

Databases of version 7 that were upgraded by an earlier release kept them as they were. A run of
which there is a second row in lower case already, made by a later state, keeps both.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_SHAPE = "event_id <> lower(event_id) AND event_id LIKE '________-____-____-____-____________'"
_IN_CAPITALS = {
    "sqlite": f"{_SHAPE} AND event_id NOT GLOB '*[^0-9a-fA-F-]*'",
    "postgresql": f"{_SHAPE} AND event_id ~ '^[0-9A-Fa-f-]+$'",
}
_UPDATE = {
    "sqlite": "UPDATE OR IGNORE agent_runs SET event_id = lower(event_id) WHERE {in_capitals}",
    "postgresql": (
        "UPDATE agent_runs SET event_id = lower(event_id)"
        " WHERE id IN (SELECT min(id) FROM agent_runs WHERE {in_capitals} GROUP BY lower(event_id))"
        " AND NOT EXISTS (SELECT 1 FROM agent_runs AS other WHERE other.event_id = lower(agent_runs.event_id))"
    ),
}


def upgrade() -> None:
    """Change the spelling, and note how many rows keep theirs."""
    connection = op.get_bind()
    in_capitals = _IN_CAPITALS[connection.dialect.name]
    op.execute(_UPDATE[connection.dialect.name].format(in_capitals=in_capitals))
    count = f"SELECT count(*) FROM agent_runs WHERE {in_capitals}"  # noqa: S608 - a constant
    left = connection.execute(sa.text(count)).scalar_one()
    if left and (config := op.get_context().config) is not None:
        note = f"{left} runs keep a second row, whose event_id is spelled in capitals"
        config.attributes.setdefault("notes", []).append(note)
