"""Find the run of each span that reaches a service over OTLP, in whatever order spans arrive.

A span that is no run is a *step* of the nearest run above it in its trace. Collectors and
batch exporters send children before their parents, in other requests, and some of them
twice. So a span whose way up to a run is not known yet is stored as an *orphan* (`event_id`
is empty) and is given its run when the missing link arrives, be that a span or a run's state
that came by another way. A run is found by trace and span id; one whose `event_id` is not
derived from a span (`run_id.span_event_id`) has no steps, whatever trace and span it names.

Where ids repeat, `span_places` decides which span is meant, and a span that arrives later may
be the parent of spans that have found another run: they go over to it, with all below them.

What steps add to a run's roll-up (`steps`) is counted when a step and its run meet, once, and
summed anew for a run that loses steps. So the rows end the same whatever the order, the
partition into requests and the repetition.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Dialect, Select, bindparam, select, text, update

from otel_agent_telemetry.columns import Fields
from otel_agent_telemetry.model import RunEvent, RunSpan
from otel_agent_telemetry.run_id import is_derived, span_event_id, span_event_id_without_start
from otel_agent_telemetry.storage.span_places import Key, Place, Places
from otel_agent_telemetry.storage.statements import driver_connection, key_lookup, rows_of_keys, rows_with
from otel_agent_telemetry.storage.steps import (
    NO_RUN,
    EventRow,
    SpanRow,
    add_events,
    add_spans,
    add_to_rollups,
    loaded_usage,
    recount_rollups,
)
from otel_agent_telemetry.storage.tables import UNKNOWN_START, agent_runs, run_events, run_spans
from otel_agent_telemetry.usage import Usage

_ANY_SPAN: Final = "SELECT 1 FROM run_spans WHERE trace_id IN (SELECT value FROM json_each(?)) LIMIT 1"
_LOCK_SPACE: Final = 0x6F6174
_BUCKETS: Final = 64

Identity = tuple[str, str, int]
"""`(trace_id, span_id, start_ns)` of one span."""


@dataclass(frozen=True, slots=True)
class SpanNode:
    """One received span: a step, or a run's own span (`is_run`), which its run's state describes.

    `span.event_id` and `span.run_id` are not read: which run a span belongs to is found here.
    `start_ns` is the span's start in nanoseconds since 1970. `usage` is what the span itself
    reports that it used.
    """

    span: RunSpan
    is_run: bool = False
    usage: Usage = field(default_factory=dict)
    events: tuple[RunEvent, ...] = ()
    """The span's events, in order; their `event_id` and `run_id` are not read either."""
    start_ns: int = 0
    parent_start: str | None = None
    """`start_time` of the parent, where its sender sent it at the same time."""

    @property
    def key(self) -> Key:
        """Return the ids of the span."""
        return self.span.trace_id, self.span.span_id

    @property
    def identity(self) -> Identity:
        """Return what distinguishes the span from all others."""
        return self.span.trace_id, self.span.span_id, self.start_ns

    @property
    def place(self) -> Place:
        """Return where the span stands among those with its ids."""
        return Place(self.key, self.span.start_time)

    @property
    def parent(self) -> Key | None:
        """Return the ids of the span's parent, None for a root span."""
        return (self.span.trace_id, self.span.parent_span_id) if self.span.parent_span_id else None


def write_traces(connection: Connection, nodes: Sequence[SpanNode], states: Sequence[Fields]) -> None:
    """Write spans that are new, and give spans below them or below the runs of `states` their run.

    Within the connection's transaction, after the states have been written.
    """
    run_keys = {
        (trace_id, span_id): run["event_id"]
        for run in states
        if (trace_id := run.get("trace_id")) and (span_id := run.get("span_id")) and is_derived(run["event_id"])
    }
    if not nodes and not _any_span_of(connection, {trace_id for trace_id, _ in run_keys}):
        return
    parents = {node.parent for node in nodes if node.parent is not None}
    places = Places(connection)
    places.load(run_keys.keys() | {node.key for node in nodes} | parents)
    arrived = [place for key, event_id in run_keys.items() for place in places.of_run(key, event_id)]
    if nodes:
        arrived += _NewSpans(connection, places, nodes).write()
    _settle_below(connection, places, arrived)


def _any_span_of(connection: Connection, trace_ids: set[str]) -> bool:
    """Return whether a span of these traces is stored; on SQLite a step in an index for each, spared elsewhere."""
    if connection.dialect.name != "sqlite" or not trace_ids:
        return bool(trace_ids)
    found = driver_connection(connection).execute(_ANY_SPAN, (json.dumps(list(trace_ids)),))
    return found.fetchone() is not None


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


def _own_event_id(identity: Identity) -> str:
    """Return the `event_id` of the run that a span is, or would be."""
    trace_id, span_id, start_ns = identity
    if start_ns == UNKNOWN_START:
        return span_event_id_without_start(trace_id, span_id)
    return span_event_id(trace_id, span_id, start_ns)


class _Member(NamedTuple):
    """A span whose run is found: a step of the run `event_id`, or a run inside it."""

    identity: Identity
    event_id: str
    is_run: bool
    usage: Usage


class _NewSpans:
    """Spans of one transaction that are not stored yet, and the search for their runs."""

    def __init__(self, connection: Connection, places: Places, nodes: Sequence[SpanNode]) -> None:
        self._connection = connection
        self._places = places
        received = {node.identity: node for node in reversed(nodes)}  # of the same span twice, the first
        self._new = {
            identity: node
            for identity, node in received.items()
            if not places.is_stored(node.key, node.start_ns, node.span.start_time)
        }
        self._steps = {node.place: node for node in self._new.values() if not node.is_run}
        for node in self._new.values():
            places.add_step(node.place, NO_RUN)
        self._run_below: dict[Place, str] = {}
        """The run that children of a place belong to, for places that `_run_of` has passed."""

    def write(self) -> list[Place]:
        """Insert the new spans and their events with their runs, add them to the roll-ups; return their places."""
        run_of = {identity: self._run_of(node) for identity, node in self._new.items()}
        own = {_own_event_id(identity) for identity, node in self._new.items() if node.is_run and node.events}
        run_ids = _run_ids(self._connection, own | {event_id for event_id in run_of.values() if event_id})
        self._insert(run_of, run_ids)
        self._add_to_rollups(run_of, run_ids)
        for identity, node in self._new.items():
            if not node.is_run:
                self._places.add_step(node.place, run_of[identity])
        return [node.place for node in self._new.values()]

    def _insert(self, run_of: Mapping[Identity, str], run_ids: Mapping[str, str]) -> None:
        spans, events = [], []
        for identity, node in self._new.items():
            event_id = run_of[identity]
            own = _own_event_id(identity) if node.is_run else event_id
            if node.parent is not None:
                span = replace(node.span, event_id=event_id or NO_RUN, run_id=run_ids.get(event_id, ""))
                spans.append(SpanRow(span, node.is_run, node.usage, node.start_ns, node.parent_start))
            for seq, event in enumerate(node.events):
                of_run = replace(event, event_id=own or NO_RUN, run_id=run_ids.get(own, event.run_id))
                events.append(EventRow(seq, of_run, node.start_ns))
        add_spans(self._connection, spans)
        add_events(self._connection, events)

    def _add_to_rollups(self, run_of: Mapping[Identity, str], run_ids: Mapping[str, str]) -> None:
        members = [
            _Member(identity, run_of[identity], node.is_run, node.usage)
            for identity, node in self._new.items()
            if run_of[identity]
        ]
        own = {_own_event_id(identity): node.usage for identity, node in self._new.items() if node.is_run}
        _add_members(self._connection, members, run_ids, own)

    def _run_of(self, node: SpanNode) -> str:
        """Return the run that a new span is a step of, or a run inside of; "" when none is known yet."""
        passed: list[Place] = []
        place, found = self._parent_of(node), NO_RUN
        while place is not None:
            if place in self._run_below:
                found = self._run_below[place]
                break
            passed.append(place)
            step = self._steps.get(place) if self._places.is_step(place) else None
            if step is None:
                found = self._places.run_below(place)
                break
            self._run_below[place] = NO_RUN  # ends a circle of parents; overwritten below
            place = self._parent_of(step)
        self._run_below.update(dict.fromkeys(passed, found))
        return found

    def _parent_of(self, node: SpanNode) -> Place | None:
        if node.parent is None:
            return None
        return self._places.parent(node.parent, child_start=node.span.start_time, parent_start=node.parent_start)


class _Child(NamedTuple):
    """A stored span that has a parent."""

    identity: Identity
    place: Place
    parent: Key
    parent_start: str | None
    event_id: str
    is_run: bool
    usage: Usage


def _settle_below(connection: Connection, places: Places, arrived: Iterable[Place]) -> None:
    """Give spans below places that have arrived the run that is right now, and so on downwards, a level at a time.

    Reads only orphans and, where ids repeat, spans of the runs next to the places: what waits for
    other spans, of the same trace too, costs nothing.
    """
    wanted: defaultdict[Key, set[str]] = defaultdict(set)
    for place in arrived:
        before = places.runs_below_before(place)
        if before or places.run_below(place) or places.is_repeated(place.key):
            wanted[place.key] |= {NO_RUN, *before}
    moved: dict[Identity, tuple[_Child, str]] = {}
    while wanted:
        level = {}
        for child in _children(connection, wanted):
            parent = places.parent(child.parent, child_start=child.place.start, parent_start=child.parent_start)
            event_id = places.run_below(parent) if parent is not None else NO_RUN
            if event_id != child.event_id and child.identity not in moved:
                level[child.identity] = (child, event_id)
        moved.update(level)
        wanted = defaultdict(set)
        steps = [(child, event_id) for child, event_id in level.values() if not child.is_run]
        places.load(child.place.key for child, _ in steps)
        for child, event_id in steps:
            places.add_step(child.place, event_id)
            wanted[child.place.key].add(child.event_id)
    if moved:
        _move(connection, list(moved.values()))


def _move(connection: Connection, moves: Sequence[tuple[_Child, str]]) -> None:
    """Let spans belong to another run, "" for none, and set the roll-ups right."""
    run_ids = _run_ids(connection, {event_id for _, event_id in moves if event_id})
    moves = [(child, event_id) for child, event_id in moves if not event_id or event_id in run_ids]
    _set_run(connection, moves, run_ids)
    lost = {child.event_id for child, _ in moves if child.event_id}
    if lost:
        parents = {_own_event_id(child.identity): run_ids.get(event_id) for child, event_id in moves if child.is_run}
        recount_rollups(connection, lost | {event_id for _, event_id in moves if event_id}, parents)
        return
    members = [_Member(child.identity, event_id, child.is_run, child.usage) for child, event_id in moves]
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
    for identity, event_id, is_run, usage in members:
        if not is_run:
            steps[event_id].append(usage)
        elif (inner := _own_event_id(identity)) != event_id:
            parents[inner] = run_ids.get(event_id, "")
    add_to_rollups(connection, steps=steps, own=own, parents=parents)


_set_run_of_span: Final = (
    update(run_spans)
    .where(
        run_spans.c.trace_id == bindparam("t"),
        run_spans.c.span_id == bindparam("s"),
        run_spans.c.start_ns == bindparam("n"),
    )
    .values(event_id=bindparam("e"), run_id=bindparam("r"))
)
_set_run_of_events: Final = (
    update(run_events)
    .where(
        run_events.c.trace_id == bindparam("t"),
        run_events.c.span_id == bindparam("s"),
        run_events.c.span_start_ns == bindparam("n"),
        run_events.c.event_id == bindparam("b"),
    )
    .values(event_id=bindparam("e"), run_id=bindparam("r"))
)


def _set_run(connection: Connection, moves: Sequence[tuple[_Child, str]], run_ids: Mapping[str, str]) -> None:
    rows = []
    for child, event_id in moves:
        trace_id, span_id, start_ns = child.identity
        of_run = {"e": event_id, "r": run_ids.get(event_id, ""), "b": child.event_id}
        rows.append({"t": trace_id, "s": span_id, "n": start_ns, **of_run})
    if rows:
        connection.execute(_set_run_of_span, rows)
    of_steps = [row for row, (child, _) in zip(rows, moves, strict=True) if not child.is_run]
    if of_steps:  # events of an inner run are its own
        connection.execute(_set_run_of_events, of_steps)


def _run_ids(connection: Connection, event_ids: Iterable[str]) -> dict[str, str]:
    """Return `event_id` → `run_id` of those of the runs that are stored."""
    selected = select(agent_runs.c.event_id, agent_runs.c.run_id)
    return {row[0]: row[1] for row in rows_with(connection, selected, agent_runs.c.event_id, event_ids)}


def _children(connection: Connection, wanted: Mapping[Key, set[str]]) -> Iterator[_Child]:
    """Yield the spans below these keys that belong to one of the runs named for each, "" being none."""
    keys = [(event_id, *key) for key, event_ids in wanted.items() for event_id in event_ids]
    for row in rows_of_keys(connection, _find_children(connection.dialect), keys):
        yield _Child(
            (row.trace_id, row.span_id, row.start_ns),
            Place((row.trace_id, row.span_id), row.start_time),
            (row.trace_id, row.parent_span_id),
            row.parent_start,
            row.event_id,
            bool(row.is_run),
            loaded_usage(row.usage_json),
        )


@lru_cache(maxsize=8)
def _find_children(dialect: Dialect) -> Select[Any]:
    columns = run_spans.c
    of_place = (columns.trace_id, columns.span_id, columns.start_ns, columns.start_time)
    of_parent = (columns.parent_span_id, columns.parent_start)
    selected = select(*of_place, *of_parent, columns.event_id, columns.is_run, columns.usage_json)
    return key_lookup(dialect, selected, (columns.event_id, columns.trace_id, columns.parent_span_id))
