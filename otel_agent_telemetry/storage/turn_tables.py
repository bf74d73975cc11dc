"""The tables of turns: the runs that a coding agent's log records make, and the records that they are made of."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Index, Integer, Table, Text, text

from otel_agent_telemetry.storage.table_parts import ROW_ID, metadata, partial_index

_UNKNOWN: Final = text("-1")
_NOT_KNOWN_YET: Final = text("''")

turns: Final = Table(
    "turns",
    metadata,
    Column("turn_id", Text, primary_key=True),
    Column("stretch", Text, nullable=False),
    Column("prompt", Text, nullable=False, server_default=_NOT_KNOWN_YET),
    Column("begin_ns", BigInteger, nullable=False, server_default=_UNKNOWN),
    Column("begin_sequence", BigInteger, nullable=False, server_default=_UNKNOWN),
    Column("event_id", Text, nullable=False),
    Column("has_root", Integer, nullable=False, server_default=text("0")),
    Column("silent_ns", BigInteger, nullable=False),
    Column("is_open", Integer, nullable=False, server_default=text("1")),
    Column("base_json", Text, nullable=False),
    Column("figures_json", Text, nullable=False),
    Column("state_json", Text),
)
"""A row is a turn: its place in its stretch, its run and its sums.

`event_id` is that of its run, which is its own id or that of the span that is the same run; `has_root` says that this
span has come, whose state stands. `begin_ns` is -1 while its prompt is not known. `silent_ns` is when there will have
been silence. `state_json` is the state that was last made of it.
"""
Index("ix_turns_stretch", turns.c.stretch, turns.c.begin_ns)
Index("ix_turns_event_id", turns.c.event_id)
partial_index("ix_turns_open", turns.c.silent_ns, where=text("is_open = 1"))

turn_records: Final = Table(
    "turn_records",
    metadata,
    Column("id", ROW_ID, primary_key=True),
    Column("identity", Text, nullable=False),
    Column("stretch", Text, nullable=False),
    Column("turn_id", Text, nullable=False, server_default=_NOT_KNOWN_YET),
    Column("own_turn", Text, nullable=False, server_default=_NOT_KNOWN_YET),
    Column("prompt", Text, nullable=False, server_default=_NOT_KNOWN_YET),
    Column("time_ns", BigInteger, nullable=False),
    Column("sequence", BigInteger, nullable=False, server_default=_UNKNOWN),
    Column("silent_ns", BigInteger, nullable=False),
    Column("role", Text, nullable=False),
    Column("trace_id", Text, nullable=False, server_default=_NOT_KNOWN_YET),
    Column("usage_json", Text),
)
"""A row is a log record of a coding agent's session without what it says, which is an event of `run_events`.

`turn_id` is empty while it is of no turn that is known. `usage_json` is what it adds to its turn.
"""
Index("ux_turn_records_identity", turn_records.c.identity, unique=True)
Index("ix_turn_records_turn", turn_records.c.turn_id)
Index("ix_turn_records_stretch", turn_records.c.stretch, turn_records.c.time_ns)
