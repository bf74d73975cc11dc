"""Spans that reach a service over OTLP, in any order, and the run that each belongs to.

A span that is no run is a *step* of the nearest run above it in its trace. Collectors and
batch exporters send children before their parents, in other requests, and some of them
twice; so a span whose way up to a run is not known yet is kept as an *orphan* (`event_id`
is empty) and finds its run when the missing link arrives, be that a span or a run's state
that came by another way. A run is found by its derived `event_id` (`event_id.span_event_id`).

What steps add to a run (`rollups`) is counted when a step and its run meet, once. So the
rows end the same whatever the order, the partition into requests and the repetition.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, bindparam, select, text, tuple_, update
from sqlalchemy.sql.expression import literal_column

from otel_agent_telemetry.event_id import span_event_id
from otel_agent_telemetry.model import RunEvent, RunRecord, RunSpan
from otel_agent_telemetry.storage.rollups import Usage, add_to_rollups, loaded_usage
from otel_agent_telemetry.storage.steps import NOBODY, PlacedEvent, PlacedSpan, add_events, add_spans
from otel_agent_telemetry.storage.tables import agent_runs, run_events, run_spans

_MAX_PARAMETERS: Final = 400
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
    roots = {(run.trace_id, run.span_id): run.event_id for run in records if run.trace_id and run.span_id}
    if roots:
        _adopt(connection, roots)


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


class _Arrival:
    """Spans of one transaction finding their runs."""

    def __init__(self, connection: Connection, nodes: Sequence[SpanNode]) -> None:
        self._connection = connection
        given = {node.key: node for node in reversed(nodes)}
        parents = {node.parent for node in given.values() if node.parent is not None}
        self._stored = _stored_spans(connection, given.keys() | parents)
        self._new = {key: node for key, node in given.items() if key not in self._stored}
        outside = parents - self._new.keys() - self._stored.keys()
        self._runs = _known_runs(connection, outside)
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
        met = [(key, places[key], node.is_run, node.usage) for key, node in self._new.items() if places[key]]
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
            if parent is None or parent.is_run:
                found = self._outside(at) if parent is None else span_event_id(*at)
                break
            self._below[at] = ""  # ends a circle; overwritten below
            at = parent.parent
        self._below.update(dict.fromkeys(way, found))
        return found

    def _outside(self, key: Key) -> str:
        """The run that children of a span not among the new ones belong to."""
        known = self._stored.get(key)
        if known is not None and not known.is_run:
            return known.event_id
        derived = span_event_id(*key)
        return derived if known is not None or derived in self._runs else ""


def _adopt(connection: Connection, below: Mapping[Key, str]) -> None:
    """Give orphans under these spans to the run named for each, and so on downwards."""
    orphans = _orphans_of(connection, {trace_id for trace_id, _ in below})
    if not orphans:
        return
    met: list[tuple[Key, str, bool, Usage]] = []
    waiting = list(below.items())
    while waiting:
        key, event_id = waiting.pop()
        for child, is_run, usage in orphans.pop(key, ()):
            met.append((child, event_id, is_run, usage))
            waiting.append((child, span_event_id(*child) if is_run else event_id))
    if met:
        names = _run_ids(connection, {event_id for _, event_id, _, _ in met})
        _place(connection, met, names)
        _count_met(connection, met, names, {})


def _count_met(
    connection: Connection,
    met: Sequence[tuple[Key, str, bool, Usage]],
    names: Mapping[str, str],
    own: Mapping[str, Usage],
) -> None:
    """Add what met its run to the roll-ups: steps to their run's, and to an inner run its parent."""
    steps: defaultdict[str, list[Usage]] = defaultdict(list)
    parents: dict[str, str] = {}
    for key, event_id, is_run, usage in met:
        if is_run:
            parents[span_event_id(*key)] = names.get(event_id, "")
        else:
            steps[event_id].append(usage)
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


def _place(connection: Connection, met: Sequence[tuple[Key, str, bool, Usage]], names: Mapping[str, str]) -> None:
    rows = [{"t": key[0], "s": key[1], "e": place, "r": names.get(place, "")} for key, place, _, _ in met]
    connection.execute(_place_span, rows)
    connection.execute(_place_events, rows)


def _stored_spans(connection: Connection, keys: Iterable[Key]) -> dict[Key, _Stored]:
    columns = run_spans.c
    found = {}
    for part in _parts(keys):
        chosen = select(columns.trace_id, columns.span_id, columns.event_id, columns.is_run).where(
            tuple_(columns.trace_id, columns.span_id).in_(part)
        )
        for trace_id, span_id, event_id, is_run in connection.execute(chosen):
            found[trace_id, span_id] = _Stored(event_id, bool(is_run))
    return found


def _known_runs(connection: Connection, keys: Iterable[Key]) -> set[str]:
    """The derived ids of those spans that are runs here."""
    return set(_run_ids(connection, {span_event_id(*key) for key in keys}))


def _run_ids(connection: Connection, event_ids: Iterable[str]) -> dict[str, str]:
    """`event_id` → `run_id` of the runs that are here."""
    columns = agent_runs.c
    found: dict[str, str] = {}
    for part in _parts(event_ids):
        chosen = select(columns.event_id, columns.run_id).where(columns.event_id.in_(part))
        found.update((row[0], row[1]) for row in connection.execute(chosen))
    return found


def _orphans_of(connection: Connection, trace_ids: Iterable[str]) -> dict[Key, list[tuple[Key, bool, Usage]]]:
    """Parent → its children that have no run yet."""
    columns = run_spans.c
    found: dict[Key, list[tuple[Key, bool, Usage]]] = {}
    for part in _parts(trace_ids):
        chosen = select(
            columns.trace_id, columns.span_id, columns.parent_span_id, columns.is_run, columns.usage_json
        ).where(columns.trace_id.in_(part), columns.event_id == literal_column("''"))
        for trace_id, span_id, parent, is_run, usage in connection.execute(chosen):
            child = ((trace_id, span_id), bool(is_run), loaded_usage(usage))
            found.setdefault((trace_id, parent), []).append(child)
    return found


def _parts(values: Iterable[Any]) -> Iterator[list[Any]]:
    whole = list(values)
    for start in range(0, len(whole), _MAX_PARAMETERS):
        yield whole[start : start + _MAX_PARAMETERS]
