"""Spans that reach a service over OTLP, in any order, and the run that each belongs to.

A span that is no run is a *step* of the nearest run above it in its trace. Collectors and
batch exporters send children before their parents, in other requests, and some of them
twice; so a span whose way up to a run is not known yet is kept as an *orphan* (`event_id`
is empty) and finds its run when the missing link arrives, be that a span or a run's state
that came by another way. A run is found by its derived `event_id` (`event_id.span_event_id`):
one that has another `event_id` has no steps, whatever trace and span it names.

What steps add to a run (`rollups`) is counted when a step and its run meet, once. So the
rows end the same whatever the order, the partition into requests and the repetition. The
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

from otel_agent_telemetry.model import RunEvent, RunRecord, RunSpan
from otel_agent_telemetry.run_id import span_event_id
from otel_agent_telemetry.storage.key_lookup import in_parts, key_lookup, look_up
from otel_agent_telemetry.storage.rollups import add_to_rollups, loaded_usage
from otel_agent_telemetry.storage.steps import NOBODY, PlacedEvent, PlacedSpan, add_events, add_spans
from otel_agent_telemetry.storage.tables import agent_runs, run_events, run_spans
from otel_agent_telemetry.usage import Usage

_LOCK_SPACE: Final = 0x6F6174
_BUCKETS: Final = 64

Key = tuple[str, str]
"""`(trace_id, span_id)`, both in hex."""


@dataclass(frozen=True, slots=True)
class SpanNode:
    """One received span: a step, or a run's own span (`is_run`), which its run's state describes.

    `span.event_id` and `span.run_id` are not read: where a span belongs is found here.
    `usage` is what the span itself says it used, see `rollups`.
    """

    span: RunSpan
    is_run: bool = False
    usage: Usage = field(default_factory=dict)
    events: tuple[RunEvent, ...] = ()
    """Its events, in order; their `event_id` and `run_id` are not read either."""

    @property
    def key(self) -> Key:
        """The span's identity."""
        return self.span.trace_id, self.span.span_id

    @property
    def parent(self) -> Key | None:
        """Its parent's identity."""
        return (self.span.trace_id, self.span.parent_span_id) if self.span.parent_span_id else None


class _Stored(NamedTuple):
    """What is known of a span in the database: the run it belongs to, and whether it is one."""

    event_id: str
    is_run: bool


def write_traces(connection: Connection, nodes: Sequence[SpanNode], records: Sequence[RunRecord]) -> None:
    """Keep spans that are new, and let what waited for them or for the runs of `records` find its run.

    Within the connection's transaction, after the records have been written.
    """
    if nodes:
        _Arrival(connection, nodes).write()
    told = [((run.trace_id, run.span_id), run.event_id) for run in records if run.trace_id and run.span_id]
    _adopt(connection, {key: event_id for key, event_id in told if event_id == span_event_id(*key)})


def lock_traces(connection: Connection, trace_ids: Iterable[str], *, shared: bool) -> None:
    """On PostgreSQL: no run of these traces comes between a span's look for it and its commit.

    Traces share 64 locks, always taken in one order. Runs among themselves go on in parallel.
    """
    if connection.dialect.name != "postgresql":
        return
    buckets = sorted({sum(trace_id.encode()) % _BUCKETS for trace_id in trace_ids})
    if buckets:
        how = "pg_advisory_xact_lock_shared" if shared else "pg_advisory_xact_lock"
        places = "(SELECT unnest(CAST(:buckets AS int[])) AS bucket ORDER BY 1) AS places"
        query = text(f"SELECT {how}(:space, bucket) FROM {places}")  # noqa: S608 - constants
        connection.execute(query, {"space": _LOCK_SPACE, "buckets": buckets})


class _Met(NamedTuple):
    """A span that meets the run it is a step of, or a run inside of."""

    key: Key
    event_id: str
    is_run: bool
    usage: Usage


class _Arrival:
    """Spans of one transaction finding their runs."""

    def __init__(self, connection: Connection, nodes: Sequence[SpanNode]) -> None:
        self._connection = connection
        given = {node.key: node for node in reversed(nodes)}
        parents = {node.parent for node in given.values() if node.parent is not None}
        self._stored = _stored_spans(connection, given.keys() | parents)
        self._new = {key: node for key, node in given.items() if key not in self._stored}
        self._runs = _known_runs(connection, parents)
        self._below: dict[Key, str] = {}

    def write(self) -> None:
        """Insert the new spans and their events where they belong, and count them there."""
        places = {key: self._run_of(node) for key, node in self._new.items()}
        own = {span_event_id(*key) for key, node in self._new.items() if node.is_run and node.events}
        names = _run_ids(self._connection, own | {place for place in places.values() if place})
        self._insert(places, names)
        self._count(places, names)
        below = {key: span_event_id(*key) if node.is_run else places[key] for key, node in self._new.items()}
        _adopt(self._connection, {key: event_id for key, event_id in below.items() if event_id})

    def _insert(self, places: Mapping[Key, str], names: Mapping[str, str]) -> None:
        spans, events = [], []
        for key, node in self._new.items():
            place = places[key]
            own = span_event_id(*key) if node.is_run else place
            if node.parent is not None:
                placed = replace(node.span, event_id=place or NOBODY, run_id=names.get(place, ""))
                spans.append(PlacedSpan(placed, node.is_run, node.usage))
            for seq, event in enumerate(node.events):
                at_run = replace(event, event_id=own or NOBODY, run_id=names.get(own, event.run_id))
                events.append(PlacedEvent(seq, at_run))
        add_spans(self._connection, spans)
        add_events(self._connection, events)

    def _count(self, places: Mapping[Key, str], names: Mapping[str, str]) -> None:
        met = [_Met(key, places[key], node.is_run, node.usage) for key, node in self._new.items() if places[key]]
        own = {span_event_id(*key): node.usage for key, node in self._new.items() if node.is_run}
        _count_met(self._connection, met, names, own)

    def _run_of(self, node: SpanNode) -> str:
        """The run that a new span is a step of, or a run inside of; "" when it is not known yet or there is none."""
        way: list[Key] = []
        at, found = node.parent, ""
        while at is not None:
            if at in self._below:
                found = self._below[at]
                break
            way.append(at)
            parent = self._new.get(at)
            if parent is None or parent.is_run or at in self._runs:
                found = self._end_of_way(at)
                break
            self._below[at] = ""  # ends a circle; overwritten below
            at = parent.parent
        self._below.update(dict.fromkeys(way, found))
        return found

    def _end_of_way(self, key: Key) -> str:
        """The run that children of a span belong to that is a run, or is not among the new ones."""
        known = self._stored.get(key)
        if key in self._runs or known is None or known.is_run:
            return self._runs.get(key, NOBODY)
        return known.event_id


def _adopt(connection: Connection, below: Mapping[Key, str]) -> None:
    """Give orphans under these spans to the run named for each, and so on downwards, a level at a time.

    Reads those alone: what waits for other spans, of the same trace too, costs nothing.
    """
    found: dict[Key, _Met] = {}
    while below:
        level = {child.key: child for child in _orphans_of(connection, below) if child.key not in found}
        found.update(level)
        below = {key: span_event_id(*key) if child.is_run else child.event_id for key, child in level.items()}
    names = _run_ids(connection, {child.event_id for child in found.values()})
    met = [child for child in found.values() if child.event_id in names]
    if met:
        _place(connection, met, names)
        _count_met(connection, met, names, {})


def _count_met(
    connection: Connection,
    met: Sequence[_Met],
    names: Mapping[str, str],
    own: Mapping[str, Usage],
) -> None:
    """Add what met its run to the roll-ups: steps to their run's, and to an inner run its parent, never itself."""
    steps: defaultdict[str, list[Usage]] = defaultdict(list)
    parents: dict[str, str] = {}
    for key, event_id, is_run, usage in met:
        if not is_run:
            steps[event_id].append(usage)
        elif (inner := span_event_id(*key)) != event_id:
            parents[inner] = names.get(event_id, "")
    add_to_rollups(connection, steps=steps, own=own, parents=parents)


_place_span: Final = (
    update(run_spans)
    .where(run_spans.c.trace_id == bindparam("t"), run_spans.c.span_id == bindparam("s"))
    .values(event_id=bindparam("e"), run_id=bindparam("r"))
)
_place_events: Final = (
    update(run_events)
    .where(
        run_events.c.trace_id == bindparam("t"),
        run_events.c.span_id == bindparam("s"),
        run_events.c.event_id == literal_column("''"),
    )
    .values(event_id=bindparam("e"), run_id=bindparam("r"))
)


def _place(connection: Connection, met: Sequence[_Met], names: Mapping[str, str]) -> None:
    rows = [{"t": one.key[0], "s": one.key[1], "e": one.event_id, "r": names[one.event_id]} for one in met]
    connection.execute(_place_span, rows)
    connection.execute(_place_events, rows)


def _stored_spans(connection: Connection, keys: Iterable[Key]) -> dict[Key, _Stored]:
    found = look_up(connection, _find_spans(connection.dialect), keys)
    return {(row.trace_id, row.span_id): _Stored(row.event_id, bool(row.is_run)) for row in found}


@lru_cache(maxsize=8)
def _find_spans(dialect: Dialect) -> Select[Any]:
    columns = run_spans.c
    chosen = select(columns.trace_id, columns.span_id, columns.event_id, columns.is_run)
    return key_lookup(dialect, chosen, (columns.trace_id, columns.span_id))


def _known_runs(connection: Connection, keys: Iterable[Key]) -> dict[Key, str]:
    """The `event_id` of those spans that are runs here."""
    derived = {span_event_id(*key): key for key in keys}
    return {derived[event_id]: event_id for event_id in _run_ids(connection, derived)}


def _run_ids(connection: Connection, event_ids: Iterable[str]) -> dict[str, str]:
    """`event_id` → `run_id` of the runs that are here."""
    columns = agent_runs.c
    found: dict[str, str] = {}
    for part in in_parts(event_ids):
        chosen = select(columns.event_id, columns.run_id).where(columns.event_id.in_(part))
        found.update((row[0], row[1]) for row in connection.execute(chosen))
    return found


def _orphans_of(connection: Connection, below: Mapping[Key, str]) -> Iterator[_Met]:
    """The children of these spans that have no run yet, each with the run that its parent's children belong to."""
    for row in look_up(connection, _find_orphans(connection.dialect), below):
        event_id = below[row.trace_id, row.parent_span_id]
        yield _Met((row.trace_id, row.span_id), event_id, bool(row.is_run), loaded_usage(row.usage_json))


@lru_cache(maxsize=8)
def _find_orphans(dialect: Dialect) -> Select[Any]:
    columns = run_spans.c
    chosen = select(columns.trace_id, columns.span_id, columns.parent_span_id, columns.is_run, columns.usage_json)
    is_orphan = columns.event_id == literal_column("''")
    return key_lookup(dialect, chosen, (columns.trace_id, columns.parent_span_id), is_orphan)
