"""Log records of coding agents' sessions as they are kept: each once, with the turn that it is of, and as an event.

Which turn that is, `turns` decides, and may decide anew. What a record says is an event of the run; a record that is of
no turn yet is an event that waits (`event_id` is empty).

Owns the table `turn_records`, and the rows of `run_events` whose `writer` is LOG.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Dialect, bindparam, or_, select, update

from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.storage.rows import storable_texts
from otel_agent_telemetry.storage.statements import Statement, compile_statement, insert_into, rows_with
from otel_agent_telemetry.storage.steps import EventLine, add_event_rows, loaded_usage
from otel_agent_telemetry.storage.tables import LOG_WRITER, UNKNOWN_START, run_events
from otel_agent_telemetry.storage.turn_tables import turn_records
from otel_agent_telemetry.turns import Begin, TurnRecord
from otel_agent_telemetry.wire import dumps_text

_records: Final = turn_records.c
_NAMES: Final = tuple(column.name for column in turn_records.c if column.name != "id")
_identities: Final = select(_records.identity)
_DIGITS: Final = 15
"""Hexadecimal digits of an identity that are the number of its event: what a signed column holds."""
_stored: Final = select(*(_records[name] for name in _NAMES))


class Placed(NamedTuple):
    """A record, its turn, and the run of that: `event_id` and `run_id`, "" for none."""

    record: TurnRecord
    turn_id: str
    event_id: str = ""
    run_id: str = ""


def not_stored(connection: Connection, records: Iterable[TurnRecord]) -> list[TurnRecord]:
    """Return those of some records that are not kept yet, each once."""
    by_identity = {record.identity: record for record in records}
    for (identity,) in rows_with(connection, _identities, _records.identity, by_identity):
        del by_identity[identity]
    return list(by_identity.values())


def add_records(connection: Connection, placed: Sequence[Placed]) -> None:
    """Keep records that are new, and write them as events."""
    rows = [
        storable_texts(
            (
                *(record.identity, record.stretch, turn_id, record.own_turn, record.prompt, record.time_ns),
                *(record.sequence, record.silent_ns, record.role, record.trace_id),
                dumps_text(record.usage) if record.usage else None,
            )
        )
        for record, turn_id, _, _ in placed
    ]
    _insert(connection.dialect).execute(connection, _NAMES, rows)
    add_event_rows(connection, [storable_texts(_event_of(one)) for one in placed])


def _event_of(placed: Placed) -> EventLine:
    """Return the event that a record is."""
    record = placed.record
    return EventLine(
        event_id=placed.event_id,
        run_id=placed.run_id,
        event_type=record.name,
        timestamp=iso_utc(record.time_ns),
        trace_id=record.trace_id or None,
        payload_json=dumps_text(record.payload),
        seq=0,
        span_id=record.span_id,
        span_start_ns=UNKNOWN_START,
        writer=LOG_WRITER,
        writer_seq=number_of(record.identity),
    )


def number_of(identity: str) -> int:
    """Return the `writer_seq` of a record's event."""
    return int(identity[:_DIGITS], 16)


@lru_cache(maxsize=8)
def _insert(dialect: Dialect) -> Statement:
    """Return the statement that keeps records; those that are kept stay as they are."""
    return compile_statement(insert_into(turn_records, dialect).on_conflict_do_nothing(), dialect, _NAMES)


def records_of(connection: Connection, turn_ids: Iterable[str]) -> Iterator[Placed]:
    """Yield the records of some turns, without what they say."""
    return map(_placed, rows_with(connection, _stored, _records.turn_id, turn_ids))


def records_after(connection: Connection, stretch: str, begin: Begin, following: Begin | None) -> list[Placed]:
    """Return the records of a stretch that a prompt may have: those up to the following prompt, and with its id.

    Without those that name their turn themselves.
    """
    time_ns = begin.order[0]
    # Up to it inclusively: what has its very time may be before it by the number in the session.
    is_between = _records.time_ns >= time_ns
    if following is not None:
        is_between &= _records.time_ns <= following.order[0]
    wanted = or_(is_between, _records.prompt == begin.prompt) if begin.prompt else is_between
    selected = _stored.where(_records.stretch == stretch, _records.own_turn == "", wanted)
    return list(map(_placed, connection.execute(selected)))


def _placed(row: Any) -> Placed:
    """Return the record of a row."""
    record = TurnRecord(
        identity=row.identity,
        stretch=row.stretch,
        prompt=row.prompt,
        own_turn=row.own_turn,
        role=row.role,
        name="",
        time_ns=row.time_ns,
        sequence=row.sequence,
        silent_ns=row.silent_ns,
        trace_id=row.trace_id,
        usage=loaded_usage(row.usage_json),
    )
    return Placed(record, row.turn_id)


_move_record: Final = (
    update(turn_records).where(_records.identity == bindparam("of_record")).values(turn_id=bindparam("to_turn"))
)
_is_event: Final = (run_events.c.writer == LOG_WRITER, run_events.c.writer_seq == bindparam("of_event"))
_move_event: Final = (
    update(run_events).where(*_is_event).values(event_id=bindparam("to_event_id"), run_id=bindparam("to_run_id"))
)


def move_records(connection: Connection, moves: Sequence[Placed]) -> None:
    """Give kept records another turn, and their events its run."""
    if not moves:
        return
    connection.execute(_move_record, [{"of_record": one.record.identity, "to_turn": one.turn_id} for one in moves])
    events = [
        {"of_event": number_of(one.record.identity), "to_event_id": one.event_id, "to_run_id": one.run_id}
        for one in moves
    ]
    connection.execute(_move_event, events)
