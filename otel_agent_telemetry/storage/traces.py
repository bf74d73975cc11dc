"""Find the run of each span that reaches a service over OTLP, in whatever order spans arrive.

A span that is no run is a *step* of the nearest run above it in its trace. Collectors and
batch exporters send children before their parents, in other requests, and some of them
twice. So a span whose way up to a run is not known yet is stored as an *orphan* (`event_id`
is empty) and is given its run when the missing link arrives, be that a span or a run's state
that came by another way. A run is found by its derived `event_id` (`run_id.span_event_id`):
one that has another `event_id` has no steps, whatever trace and span it names.

What steps add to a run's roll-up (`steps`) is counted when a step and its run meet, once. So
the rows end the same whatever the order, the partition into requests and the repetition. The
one exception: where a run's state names a span that had come as a step, the spans below it
that had found another run by then stay there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Dialect, Select, bindparam, select, text, update
from sqlalchemy.sql.expression import literal_column

from otel_agent_telemetry.columns import Fields
from otel_agent_telemetry.model import RunEvent, RunSpan
from otel_agent_telemetry.run_id import span_event_id
from otel_agent_telemetry.storage.statements import driver_connection, key_lookup, rows_of_keys, rows_with
from otel_agent_telemetry.storage.steps import (
    NO_RUN,
    EventRow,
    SpanRow,
    add_events,
    add_spans,
    add_to_rollups,
    loaded_usage,
)
from otel_agent_telemetry.storage.tables import agent_runs, run_events, run_spans
from otel_agent_telemetry.usage import Usage

_ANY_ORPHAN: Final = "SELECT 1 FROM run_spans WHERE event_id = '' LIMIT 1"
_LOCK_SPACE: Final = 0x6F6174
_BUCKETS: Final = 64

Key = tuple[str, str]
"""`(trace_id, span_id)`, both in hex."""


@dataclass(frozen=True, slots=True)
class SpanNode:
    """One received span: a step, or a run's own span (`is_run`), which its run's state describes.

    `span.event_id` and `span.run_id` are not read: which run a span belongs to is found here.
    `usage` is what the span itself reports that it used.
    """

    span: RunSpan
    is_run: bool = False
    usage: Usage = field(default_factory=dict)
    events: tuple[RunEvent, ...] = ()
    """The span's events, in order; their `event_id` and `run_id` are not read either."""

    @property
    def key(self) -> Key:
        """Return the span's identity."""
        return self.span.trace_id, self.span.span_id

    @property
    def parent(self) -> Key | None:
        """Return the identity of the span's parent, None for a root span."""
        return (self.span.trace_id, self.span.parent_span_id) if self.span.parent_span_id else None


class _StoredSpan(NamedTuple):
    """What the database holds of a span: the run it belongs to, and whether it is a run itself."""

    event_id: str
    is_run: bool


def write_traces(connection: Connection, nodes: Sequence[SpanNode], states: Sequence[Fields]) -> None:
    """Write spans that are new, and give orphans that waited for them or for the runs of `states` their run.

    Within the connection's transaction, after the states have been written.
    """
    if nodes:
        _NewSpans(connection, nodes).write()
    roots = [
        ((trace_id, span_id), run["event_id"])
        for run in states
        if (trace_id := run.get("trace_id")) and (span_id := run.get("span_id"))
    ]
    if roots and _any_orphan(connection):
        _adopt_orphans(connection, {key: event_id for key, event_id in roots if event_id == span_event_id(*key)})


def _any_orphan(connection: Connection) -> bool:
    """Return whether any span waits for its run; on SQLite one step in an index, spared elsewhere."""
    if connection.dialect.name != "sqlite":
        return True
    return driver_connection(connection).execute(_ANY_ORPHAN).fetchone() is not None


def lock_traces(connection: Connection, trace_ids: Iterable[str], *, shared: bool) -> None:
    """Keep runs of these traces out between a span's search for its run and its commit. PostgreSQL only.

    Writers of runs share the locks and go on in parallel. Held until the transaction ends.
    """
    if connection.dialect.name != "postgresql":
        return
    # Traces share 64 locks, always taken in one order, so that two writers never deadlock.
    buckets = sorted({sum(trace_id.encode()) % _BUCKETS for trace_id in trace_ids})
    if buckets:
        function = "pg_advisory_xact_lock_shared" if shared else "pg_advisory_xact_lock"
        ordered = "(SELECT unnest(CAST(:buckets AS int[])) AS bucket ORDER BY 1) AS ordered"
        query = text(f"SELECT {function}(:space, bucket) FROM {ordered}")  # noqa: S608 - constants
        connection.execute(query, {"space": _LOCK_SPACE, "buckets": buckets})


class _Member(NamedTuple):
    """A span whose run is found: a step of the run `event_id`, or a run inside it."""

    key: Key
    event_id: str
    is_run: bool
    usage: Usage


class _NewSpans:
    """Spans of one transaction that are not stored yet, and the search for their runs."""

    def __init__(self, connection: Connection, nodes: Sequence[SpanNode]) -> None:
        self._connection = connection
        received = {node.key: node for node in reversed(nodes)}  # of the same span twice, the first
        parents = {node.parent for node in received.values() if node.parent is not None}
        self._stored = _stored_spans(connection, received.keys() | parents)
        self._new = {key: node for key, node in received.items() if key not in self._stored}
        self._runs = _known_runs(connection, parents)
        self._run_below: dict[Key, str] = {}
        """The run that children of a span belong to, for spans that `_run_of` has passed."""

    def write(self) -> None:
        """Insert the new spans and their events with their runs, and add them to the roll-ups."""
        run_of = {key: self._run_of(node) for key, node in self._new.items()}
        own = {span_event_id(*key) for key, node in self._new.items() if node.is_run and node.events}
        run_ids = _run_ids(self._connection, own | {event_id for event_id in run_of.values() if event_id})
        self._insert(run_of, run_ids)
        self._add_to_rollups(run_of, run_ids)
        below = {key: span_event_id(*key) if node.is_run else run_of[key] for key, node in self._new.items()}
        _adopt_orphans(self._connection, {key: event_id for key, event_id in below.items() if event_id})

    def _insert(self, run_of: Mapping[Key, str], run_ids: Mapping[str, str]) -> None:
        spans, events = [], []
        for key, node in self._new.items():
            event_id = run_of[key]
            own = span_event_id(*key) if node.is_run else event_id
            if node.parent is not None:
                span = replace(node.span, event_id=event_id or NO_RUN, run_id=run_ids.get(event_id, ""))
                spans.append(SpanRow(span, node.is_run, node.usage))
            for seq, event in enumerate(node.events):
                of_run = replace(event, event_id=own or NO_RUN, run_id=run_ids.get(own, event.run_id))
                events.append(EventRow(seq, of_run))
        add_spans(self._connection, spans)
        add_events(self._connection, events)

    def _add_to_rollups(self, run_of: Mapping[Key, str], run_ids: Mapping[str, str]) -> None:
        members = [_Member(key, run_of[key], node.is_run, node.usage) for key, node in self._new.items() if run_of[key]]
        own = {span_event_id(*key): node.usage for key, node in self._new.items() if node.is_run}
        _add_members(self._connection, members, run_ids, own)

    def _run_of(self, node: SpanNode) -> str:
        """Return the run that a new span is a step of, or a run inside of; "" when none is known yet."""
        passed: list[Key] = []
        key, found = node.parent, ""
        while key is not None:
            if key in self._run_below:
                found = self._run_below[key]
                break
            passed.append(key)
            parent = self._new.get(key)
            if parent is None or parent.is_run or key in self._runs:
                found = self._run_of_children(key)
                break
            self._run_below[key] = ""  # ends a circle of parents; overwritten below
            key = parent.parent
        self._run_below.update(dict.fromkeys(passed, found))
        return found

    def _run_of_children(self, key: Key) -> str:
        """Return the run of a span's children, for a span that is a run or is not among the new ones."""
        stored = self._stored.get(key)
        if key in self._runs or stored is None or stored.is_run:
            return self._runs.get(key, NO_RUN)
        return stored.event_id


def _adopt_orphans(connection: Connection, below: Mapping[Key, str]) -> None:
    """Give orphans under these spans the run named for each, and so on downwards, a level at a time.

    Reads only those orphans: what waits for other spans, of the same trace too, costs nothing.
    """
    found: dict[Key, _Member] = {}
    while below:
        level = {child.key: child for child in _orphans_of(connection, below) if child.key not in found}
        found.update(level)
        below = {key: span_event_id(*key) if child.is_run else child.event_id for key, child in level.items()}
    run_ids = _run_ids(connection, {child.event_id for child in found.values()})
    members = [child for child in found.values() if child.event_id in run_ids]
    if members:
        _set_run(connection, members, run_ids)
        _add_members(connection, members, run_ids, {})


def _add_members(
    connection: Connection,
    members: Sequence[_Member],
    run_ids: Mapping[str, str],
    own: Mapping[str, Usage],
) -> None:
    """Add members to the roll-ups: a step's usage to its run's, and to an inner run its parent, never itself."""
    steps: defaultdict[str, list[Usage]] = defaultdict(list)
    parents: dict[str, str] = {}
    for key, event_id, is_run, usage in members:
        if not is_run:
            steps[event_id].append(usage)
        elif (inner := span_event_id(*key)) != event_id:
            parents[inner] = run_ids.get(event_id, "")
    add_to_rollups(connection, steps=steps, own=own, parents=parents)


_set_run_of_span: Final = (
    update(run_spans)
    .where(run_spans.c.trace_id == bindparam("t"), run_spans.c.span_id == bindparam("s"))
    .values(event_id=bindparam("e"), run_id=bindparam("r"))
)
_set_run_of_events: Final = (
    update(run_events)
    .where(
        run_events.c.trace_id == bindparam("t"),
        run_events.c.span_id == bindparam("s"),
        run_events.c.event_id == literal_column("''"),
    )
    .values(event_id=bindparam("e"), run_id=bindparam("r"))
)


def _set_run(connection: Connection, members: Sequence[_Member], run_ids: Mapping[str, str]) -> None:
    rows = [{"t": one.key[0], "s": one.key[1], "e": one.event_id, "r": run_ids[one.event_id]} for one in members]
    connection.execute(_set_run_of_span, rows)
    connection.execute(_set_run_of_events, rows)


def _stored_spans(connection: Connection, keys: Iterable[Key]) -> dict[Key, _StoredSpan]:
    found = rows_of_keys(connection, _find_spans(connection.dialect), keys)
    return {(row.trace_id, row.span_id): _StoredSpan(row.event_id, bool(row.is_run)) for row in found}


@lru_cache(maxsize=8)
def _find_spans(dialect: Dialect) -> Select[Any]:
    columns = run_spans.c
    selected = select(columns.trace_id, columns.span_id, columns.event_id, columns.is_run)
    return key_lookup(dialect, selected, (columns.trace_id, columns.span_id))


def _known_runs(connection: Connection, keys: Iterable[Key]) -> dict[Key, str]:
    """Return the `event_id` of those of the spans that are stored as runs."""
    derived = {span_event_id(*key): key for key in keys}
    return {derived[event_id]: event_id for event_id in _run_ids(connection, derived)}


def _run_ids(connection: Connection, event_ids: Iterable[str]) -> dict[str, str]:
    """Return `event_id` → `run_id` of those of the runs that are stored."""
    selected = select(agent_runs.c.event_id, agent_runs.c.run_id)
    return {row[0]: row[1] for row in rows_with(connection, selected, agent_runs.c.event_id, event_ids)}


def _orphans_of(connection: Connection, below: Mapping[Key, str]) -> Iterator[_Member]:
    """Yield the orphans among the children of these spans, each with the run named for its parent."""
    for row in rows_of_keys(connection, _find_orphans(connection.dialect), below):
        event_id = below[row.trace_id, row.parent_span_id]
        yield _Member((row.trace_id, row.span_id), event_id, bool(row.is_run), loaded_usage(row.usage_json))


@lru_cache(maxsize=8)
def _find_orphans(dialect: Dialect) -> Select[Any]:
    columns = run_spans.c
    selected = select(columns.trace_id, columns.span_id, columns.parent_span_id, columns.is_run, columns.usage_json)
    is_orphan = columns.event_id == literal_column("''")
    return key_lookup(dialect, selected, (columns.trace_id, columns.parent_span_id), is_orphan)
