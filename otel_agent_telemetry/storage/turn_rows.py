"""The stored turns: reading those that a write concerns, and the prompts beside them, and keeping what became of them.

Owns the table `turns`; of `turn_records` it deletes what belongs to deleted turns.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Connection, Dialect, delete, select, update

from otel_agent_telemetry.columns import Fields
from otel_agent_telemetry.storage.rows import storable_texts
from otel_agent_telemetry.storage.statements import Statement, compile_statement, insert_into, rows_with
from otel_agent_telemetry.storage.tables import run_keys
from otel_agent_telemetry.storage.turn_tables import turn_records, turns
from otel_agent_telemetry.turns import UNKNOWN, Begin, Figures, TurnRecord, begin_of
from otel_agent_telemetry.wire import dumps_text, load_object

_columns: Final = turns.c
_NAMES: Final = tuple(column.name for column in turns.c)
_all: Final = select(turns)
_begins: Final = select(_columns.turn_id, _columns.prompt, _columns.begin_ns, _columns.begin_sequence).where(
    _columns.begin_ns != UNKNOWN
)
TURN_TRACE: Final = "turn-trace:"
"""Before a trace id, the key under which `run_keys` has the turn's run that the trace is a part of."""
NO_TURN: Final = ""
"""`turn_id` of a record that is of no turn that is known."""
_BY_PLACE: Final = (_columns.begin_ns, _columns.begin_sequence, _columns.turn_id)


@dataclass(slots=True)
class TurnRow:
    """A turn as it is stored, see `turn_tables.turns`."""

    turn_id: str
    stretch: str
    event_id: str
    base: Fields
    prompt: str = ""
    begin_ns: int = UNKNOWN
    begin_sequence: int = UNKNOWN
    has_root: bool = False
    is_open: bool = True
    figures: Figures = field(default_factory=Figures)
    state: Fields | None = None

    @classmethod
    def of(cls, record: TurnRecord) -> TurnRow:
        """Return the turn that a record names, as far as the record knows it."""
        return cls(record.own_turn, record.stretch, record.own_turn, record.base, record.prompt)

    @property
    def is_deleted(self) -> bool:
        """Return whether the turn's run was deleted (`forget_turns`)."""
        return not self.base

    @property
    def begin(self) -> Begin | None:
        """Return the prompt that begins the turn; None while it is not known."""
        if self.begin_ns == UNKNOWN:
            return None
        return begin_of(self.turn_id, self.prompt, time_ns=self.begin_ns, sequence=self.begin_sequence)

    def begin_with(self, record: TurnRecord) -> bool:
        """Let a prompt begin the turn, unless an earlier one does; return whether it does now."""
        begin = begin_of(self.turn_id, record.prompt, time_ns=record.time_ns, sequence=record.sequence)
        if self.begin is not None and self.begin <= begin:
            return False
        self.prompt, self.begin_ns, self.begin_sequence = record.prompt, record.time_ns, record.sequence
        self.base = record.base
        return True


def turns_with(connection: Connection, turn_ids: Iterable[str]) -> dict[str, TurnRow]:
    """Return turn id → the stored turn, of those that are stored."""
    return {row.turn_id: _turn_of(row) for row in rows_with(connection, _all, _columns.turn_id, turn_ids)}


def turns_of_runs(connection: Connection, event_ids: Iterable[str]) -> list[TurnRow]:
    """Return the turns whose runs these are."""
    return [_turn_of(row) for row in rows_with(connection, _all, _columns.event_id, event_ids)]


def silent_turns(connection: Connection, now_ns: int, *, limit: int) -> list[TurnRow]:
    """Return open turns of which there has been no sign of life for long enough, at most `limit`."""
    silent = _all.where(_columns.is_open == 1, _columns.silent_ns <= now_ns).order_by(_columns.silent_ns)
    return list(map(_turn_of, connection.execute(silent.limit(limit))))


def _turn_of(row: Any) -> TurnRow:
    """Return the turn of a row."""
    return TurnRow(
        turn_id=row.turn_id,
        stretch=row.stretch,
        event_id=row.event_id,
        base=load_object(row.base_json) or {},
        prompt=row.prompt,
        begin_ns=row.begin_ns,
        begin_sequence=row.begin_sequence,
        has_root=bool(row.has_root),
        is_open=bool(row.is_open),
        figures=Figures(**(load_object(row.figures_json) or {})),
        state=load_object(row.state_json) if row.state_json else None,
    )


def begins_around(
    connection: Connection, stretch: str, first_ns: int, last_ns: int, prompts: Collection[str]
) -> dict[str, Begin]:
    """Return turn id → the prompts of a stretch in a time, the one before, the one after, and those with these ids."""
    of_stretch = _begins.where(_columns.stretch == stretch)
    backwards = [column.desc() for column in _BY_PLACE]
    # Each by a step in the index of the stretch: the prompts outside of the time are not read.
    parts = [
        of_stretch.where(_columns.begin_ns < first_ns).order_by(*backwards).limit(1),
        of_stretch.where(_columns.begin_ns >= first_ns, _columns.begin_ns <= last_ns),
        of_stretch.where(_columns.begin_ns > last_ns).order_by(*_BY_PLACE).limit(1),
    ]
    if prompts:
        parts.append(of_stretch.where(_columns.prompt.in_(sorted(prompts))))
    rows = (row for part in parts for row in connection.execute(part))
    return {
        row.turn_id: begin_of(row.turn_id, row.prompt, time_ns=row.begin_ns, sequence=row.begin_sequence)
        for row in rows
    }


def save_turns(connection: Connection, rows: Iterable[TurnRow]) -> None:
    """Store turns, whatever was stored of them before."""
    values = [_values_of(row) for row in sorted(rows, key=lambda row: row.turn_id)]  # one locking order
    _upsert(connection.dialect).execute(connection, _NAMES, values)


def _values_of(row: TurnRow) -> tuple[Any, ...]:
    """Return the values of `_NAMES`."""
    return storable_texts(
        (
            *(row.turn_id, row.stretch, row.prompt, row.begin_ns, row.begin_sequence, row.event_id),
            *(int(row.has_root), row.figures.silent_ns, int(row.is_open), dumps_text(row.base)),
            dumps_text(row.figures.members()),
            None if row.state is None else dumps_text(row.state),
        )
    )


@lru_cache(maxsize=8)
def _upsert(dialect: Dialect) -> Statement:
    """Return the statement that stores turns."""
    statement = insert_into(turns, dialect)
    changes = {name: statement.excluded[name] for name in _NAMES if name != "turn_id"}
    return compile_statement(statement.on_conflict_do_update(index_elements=["turn_id"], set_=changes), dialect, _NAMES)


def forget_turns(connection: Connection, event_ids: Sequence[str]) -> None:
    """Delete the records of turns whose runs are deleted, and what is known of the turns.

    Their places in their stretches stay, without anything else: a late record must be known as one of theirs, or it
    would be taken for another turn's.
    """
    of_runs = select(_columns.turn_id).where(_columns.event_id.in_(event_ids))
    connection.execute(delete(turn_records).where(turn_records.c.turn_id.in_(of_runs)))
    emptied = {"base_json": "{}", "figures_json": "{}", "state_json": None, "is_open": 0}
    connection.execute(update(turns).where(_columns.event_id.in_(event_ids)).values(emptied))


def delete_old_turns(connection: Connection, cutoff_ns: int) -> None:
    """Delete places of deleted turns, with the keys of their traces, and records of no turn, before a cut-off."""
    is_old_place = (_columns.base_json == "{}", _columns.silent_ns < cutoff_ns)
    of_places = select(_columns.event_id).where(*is_old_place)
    connection.execute(delete(run_keys).where(run_keys.c.event_id.in_(of_places)))
    connection.execute(delete(turns).where(*is_old_place))
    is_old = (turn_records.c.turn_id == NO_TURN, turn_records.c.time_ns < cutoff_ns)
    connection.execute(delete(turn_records).where(*is_old))
