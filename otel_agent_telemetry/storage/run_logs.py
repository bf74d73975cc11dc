"""Log records as events of runs: of the run that their span belongs to, else of the one that they name.

Records and spans come by different routes, in any order. So a record is stored at once, as an event
that waits where its run is not known (`event_id` is empty), and its run is found anew whenever
spans or runs of its trace arrive. Which run that is follows from what is stored alone:

1. the run that its span is, or is a step of;
2. else the first run of its trace;
3. else the newest run with the `run_id` that the record names.

A record that names neither trace nor run is counted by its sender, and not kept. At most
`MAX_WAITING` wait; the oldest are dropped for newer ones.

Owns the rows of `run_events` with a negative `seq`, and the table `log_senders`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Dialect, bindparam, delete, func, literal_column, select, update

from otel_agent_telemetry.storage.deletions import deleted_times
from otel_agent_telemetry.storage.journal_lines import runs_named, runs_with_lines
from otel_agent_telemetry.storage.rows import storable_texts
from otel_agent_telemetry.storage.span_membership import run_ids_of
from otel_agent_telemetry.storage.span_places import Places
from otel_agent_telemetry.storage.statements import (
    Lookup,
    insert_into,
    key_lookup,
    plain_sql,
    rows_of_keys,
    rows_with,
)
from otel_agent_telemetry.storage.steps import NO_RUN, EventLine, add_event_rows
from otel_agent_telemetry.storage.tables import (
    HAS_LINE,
    IS_LOG,
    NO_WRITER,
    agent_runs,
    log_senders,
    run_events,
)

MAX_WAITING: Final = 100_000
MAX_SENDERS: Final = 100
OTHERS: Final = "(others)"
"""The name that senders past the first hundred are counted under."""
_TRIM_EVERY: Final = 50
_events: Final = run_events.c
_IS_WAITING: Final = _events.event_id == literal_column("''")
_runs: Final = agent_runs.c
_columns: Final = (
    *(_events.id, _events.trace_id, _events.span_id, _events.timestamp, _events.event_type),
    *(_events.event_id, _events.run_id),
)
"""Those of `_Log`, in its order."""
_ANY_LOG: Final = "SELECT 1 FROM run_events WHERE seq < 0 AND writer = '' LIMIT 1"
_logs: Final = select(*_columns).where(IS_LOG)
_waiting: Final = select(*_columns).where(IS_LOG, _IS_WAITING)
_runs_of_traces: Final = select(_runs.trace_id, _runs.created_at, _runs.event_id)
_lines_of_runs: Final = select(_events.trace_id, _events.span_id, _events.timestamp, _events.event_type).where(HAS_LINE)


@dataclass(frozen=True, slots=True)
class RunLog:
    """A log record, as an event of a run that is found here.

    `run_id`: the run that it names, "" for none. `time_ns`: nanoseconds since 1970. `number`: below zero; it
    distinguishes records of one span and time, and a repetition has the same.
    """

    sender: str
    trace_id: str
    span_id: str
    run_id: str
    event_type: str
    timestamp: str
    time_ns: int
    number: int
    payload_json: str

    @property
    def has_run(self) -> bool:
        """Return whether it names a run or a trace at all."""
        return bool(self.trace_id or self.run_id)


def write_logs(connection: Connection, logs: Sequence[RunLog], *, now: str) -> None:
    """Store the records that name a trace or run, as events that wait, and count the others.

    Within the connection's transaction; `settle_logs` has to follow.
    """
    _count_senders(connection, Counter(log.sender for log in logs if not log.has_run), now)
    placed = [log for log in logs if log.has_run]
    deleted = deleted_times(connection, {log.trace_id for log in placed})
    kept = [log for log in placed if log.timestamp >= deleted.get(log.trace_id, "")]
    add_event_rows(connection, list(map(_row, kept)))
    # Now and then, because it counts what waits; the numbers are digests, and so as good as drawn.
    if any(log.number % _TRIM_EVERY == 0 for log in kept):
        _trim(connection)


def _row(log: RunLog) -> tuple[Any, ...]:
    """Return a record as a row of events."""
    line = EventLine(
        event_id=NO_RUN,
        run_id=log.run_id,
        event_type=log.event_type,
        timestamp=log.timestamp,
        trace_id=log.trace_id,
        payload_json=log.payload_json,
        seq=log.number,
        span_id=log.span_id,
        span_start_ns=log.time_ns,
        writer=NO_WRITER,
        writer_seq=0,
    )
    return storable_texts(line)


def _trim(connection: Connection) -> None:
    """Delete the oldest of the records that wait, where they are too many."""
    newest = select(_events.id).where(IS_LOG, _IS_WAITING).order_by(_events.id.desc())
    last = connection.execute(newest.offset(MAX_WAITING).limit(1)).scalar()
    if last is not None:
        connection.execute(delete(run_events).where(IS_LOG, _IS_WAITING, _events.id <= last))


# --- the runs of records


def settle_logs(connection: Connection, trace_ids: Iterable[str], run_ids: Iterable[str]) -> None:
    """Give the log records of these traces, and those that wait for a run of this name, the run that is theirs now.

    Within the connection's transaction, after spans and states have been written.
    """
    # The usual case: no log record was ever stored, and one look in an index shows it.
    if not plain_sql(connection).rows(_ANY_LOG):
        return
    found = {row[0]: _Log(*row) for row in rows_with(connection, _logs, _events.trace_id, trace_ids)}
    by_name = rows_with(connection, _waiting, _events.run_id, {run_id for run_id in run_ids if run_id})
    found |= {row[0]: _Log(*row) for row in by_name}
    if found:
        # In one order: two writers never deadlock.
        _settle(connection, [found[number] for number in sorted(found)])


class _Log(NamedTuple):
    """A stored record: what its run is found by, and the run that it has."""

    id: int
    trace_id: str
    span_id: str
    timestamp: str
    event_type: str
    event_id: str
    run_id: str


def _settle(connection: Connection, rows: Sequence[_Log]) -> None:
    """Give these rows the run that is theirs now."""
    wanted = dict(_runs_of(connection, rows))
    # Most are where they belong already: spans of a long run arrive in many requests.
    moved = [row for row in rows if wanted[row.id] != row.event_id]
    if not moved:
        return
    run_ids = run_ids_of(connection, {wanted[row.id] for row in moved})
    repeated = _lines_among(connection, moved, wanted)
    changes = [
        {"of_id": row.id, "of_event_id": wanted[row.id], "of_run_id": run_ids.get(wanted[row.id], row.run_id)}
        for row in moved
        if row.id not in repeated
    ]
    if changes:
        connection.execute(_set_run, changes)
    if repeated:
        connection.execute(_delete_row, [{"of_id": number} for number in repeated])


_set_run: Final = (
    update(run_events)
    .where(_events.id == bindparam("of_id"))
    .values(event_id=bindparam("of_event_id"), run_id=bindparam("of_run_id"))
)
_delete_row: Final = delete(run_events).where(_events.id == bindparam("of_id"))


def _runs_of(connection: Connection, rows: Sequence[_Log]) -> Iterator[tuple[int, str]]:
    """Yield the number of each row and the `event_id` of its run, "" while it has none."""
    places = Places(connection)
    places.load({(row.trace_id, row.span_id) for row in rows if row.trace_id and row.span_id})
    first = _first_runs(connection, {row.trace_id for row in rows if row.trace_id})
    by_name = runs_named(connection, {row.run_id for row in rows if row.event_id == NO_RUN and row.run_id})
    for row in rows:
        place = places.parent((row.trace_id, row.span_id), child_start=row.timestamp, parent_start=None)
        of_span = NO_RUN if place is None else places.run_below(place)
        # One that has a run by its name keeps it: its own name of the run is not stored any more.
        named = row.event_id or by_name.get(row.run_id, NO_RUN)
        yield row.id, of_span or first.get(row.trace_id, named)


def _first_runs(connection: Connection, trace_ids: Iterable[str]) -> dict[str, str]:
    """Return trace id → the `event_id` of its first run."""
    rows = sorted(
        (tuple(row) for row in rows_with(connection, _runs_of_traces, _runs.trace_id, trace_ids)), reverse=True
    )
    return {trace_id: event_id for trace_id, _, event_id in rows}


def _lines_among(connection: Connection, rows: Sequence[_Log], wanted: dict[int, str]) -> set[int]:
    """Return the numbers of those rows which a line of their run's journal has brought too: that one stands."""
    journaled = runs_with_lines(connection, {wanted[row.id] for row in rows} - {NO_RUN})
    if not journaled:
        return set()
    keys = {(row.trace_id, row.span_id) for row in rows if wanted[row.id] in journaled}
    lines = {tuple(line) for line in rows_of_keys(connection, _find_lines(connection.dialect), keys)}
    return {row.id for row in rows if (row.trace_id, row.span_id, row.timestamp, row.event_type) in lines}


@lru_cache(maxsize=8)
def _find_lines(dialect: Dialect) -> Lookup:
    """Return the lookup of events that a journal has brought, by trace id and span id."""
    return key_lookup(dialect, _lines_of_runs, (_events.trace_id, _events.span_id))


# --- senders of what is not kept


def _count_senders(connection: Connection, counts: Counter[str], now: str) -> None:
    """Add to the counts of senders whose records were not kept; new names past a hundred are counted together."""
    if not counts:
        return
    known = set(connection.execute(select(log_senders.c.sender)).scalars())
    added: Counter[str] = Counter()
    for sender, records in sorted(counts.items()):
        name = sender if sender in known or len(known) < MAX_SENDERS else OTHERS
        known.add(name)
        added[name] += records
    statement = insert_into(log_senders, connection.dialect)
    columns, given = log_senders.c, statement.excluded
    upsert = statement.on_conflict_do_update(
        index_elements=["sender"], set_={"records": columns.records + given.records, "last_seen": given.last_seen}
    )
    # In one order: two writers never deadlock.
    rows = [{"sender": name, "records": records, "last_seen": now} for name, records in sorted(added.items())]
    connection.execute(upsert, rows)


def senders_not_kept(connection: Connection) -> dict[str, int]:
    """Return sender → how many of its log records were not kept because they name no run, the most first."""
    columns = log_senders.c
    ordered = select(columns.sender, columns.records).order_by(columns.records.desc(), columns.sender)
    return {sender: int(records) for sender, records in connection.execute(ordered)}


def count_waiting(connection: Connection) -> int:
    """Return how many log records wait for their run."""
    return int(
        connection.execute(select(func.count()).select_from(run_events).where(IS_LOG, _IS_WAITING)).scalar() or 0
    )
