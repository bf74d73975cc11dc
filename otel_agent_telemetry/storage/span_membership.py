"""Give stored spans the run that they belong to now, and set the roll-ups of the runs right.

A span goes over to another run when the missing link to its run arrives, or, where ids repeat,
a better parent (`span_places`). All below it goes with it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Dialect, Select, bindparam, select, update

from otel_agent_telemetry.run_id import span_event_id, span_event_id_without_start
from otel_agent_telemetry.storage.span_places import Key, Place, Places
from otel_agent_telemetry.storage.statements import key_lookup, rows_of_keys, rows_with
from otel_agent_telemetry.storage.steps import (
    INSIDE_CALL,
    IS_RUN,
    NO_RUN,
    SERVICE,
    add_to_rollups,
    recount_rollups,
    usage_of_row,
)
from otel_agent_telemetry.storage.tables import HAS_NO_LINE, UNKNOWN_START, agent_runs, run_events, run_spans
from otel_agent_telemetry.usage import Usage, is_call
from otel_agent_telemetry.wire import dumps_text

Identity = tuple[str, str, int]
"""`(trace_id, span_id, start_ns)` of one span."""


def own_event_id(identity: Identity) -> str:
    """Return the `event_id` of the run that a span is, or would be."""
    trace_id, span_id, start_ns = identity
    if start_ns == UNKNOWN_START:
        return span_event_id_without_start(trace_id, span_id)
    return span_event_id(trace_id, span_id, start_ns)


class Member(NamedTuple):
    """A span whose run is found: a step of the run `event_id`, or a run inside it.

    `is_inside_call`: whether a model call of the same run is around the step.
    """

    identity: Identity
    event_id: str
    is_run: bool
    usage: Usage
    is_inside_call: bool


class _Child(NamedTuple):
    """A stored span that has a parent."""

    identity: Identity
    place: Place
    parent: Key
    parent_start: str | None
    event_id: str
    kind: int
    usage: Usage
    names_service: bool

    @property
    def is_run(self) -> bool:
        return self.kind == IS_RUN


class _Move(NamedTuple):
    """A stored span and the run that it belongs to now."""

    child: _Child
    event_id: str
    is_inside_call: bool


def settle_below(connection: Connection, places: Places, arrived: Iterable[Place]) -> set[str]:
    """Give spans below places that have arrived the run that is right now, and so on downwards, a level at a time.

    Reads only orphans and, where ids repeat, spans of the runs next to the places: what waits for
    other spans, of the same trace too, costs nothing. Returns the runs that got an agent's span.
    """
    wanted: defaultdict[Key, set[str]] = defaultdict(set)
    for place in arrived:
        before = places.runs_below_before(place)
        if before or places.run_below(place) or places.is_repeated(place.key):
            wanted[place.key] |= {NO_RUN, *before}
    return move_below(connection, places, wanted)


def move_below(connection: Connection, places: Places, wanted: defaultdict[Key, set[str]]) -> set[str]:
    """Give spans below these keys that belong to one of the runs named for each the run that is right now.

    Returns the runs that got an agent's span by it.
    """
    moved: dict[Identity, _Move] = {}
    while wanted:
        level = {}
        for child in _children(connection, wanted):
            parent = places.parent(child.parent, child_start=child.place.start, parent_start=child.parent_start)
            event_id = places.run_below(parent) if parent is not None else NO_RUN
            if event_id != child.event_id and child.identity not in moved:
                level[child.identity] = _Move(child, event_id, parent is not None and places.is_call(parent))
        moved.update(level)
        wanted = defaultdict(set)
        steps = [move for move in level.values() if not move.child.is_run]
        places.load(move.child.place.key for move in steps)
        for child, event_id, is_inside in steps:
            places.add_step(child.place, event_id, is_call=is_inside or is_call(child.usage))
            wanted[child.place.key].add(child.event_id)
    if moved:
        _move(connection, list(moved.values()))
    return {move.event_id for move in moved.values() if move.child.kind and move.event_id}


def _move(connection: Connection, moves: Sequence[_Move]) -> None:
    """Let spans belong to another run, "" for none, and set the roll-ups right."""
    run_ids = run_ids_of(connection, {move.event_id for move in moves if move.event_id})
    moves = [move for move in moves if not move.event_id or move.event_id in run_ids]
    _set_run(connection, moves, run_ids)
    lost = {move.child.event_id for move in moves if move.child.event_id}
    if lost:
        parents = {own_event_id(one.child.identity): run_ids.get(one.event_id) for one in moves if one.child.is_run}
        recount_rollups(connection, lost | {move.event_id for move in moves if move.event_id}, parents)
        return
    members = [
        Member(child.identity, event_id, child.is_run, child.usage, is_inside) for child, event_id, is_inside in moves
    ]
    add_members(connection, members, run_ids, {})


def add_members(
    connection: Connection,
    members: Sequence[Member],
    run_ids: Mapping[str, str],
    own: Mapping[str, Usage],
) -> None:
    """Add members to the roll-ups: a step's usage to its run's, and to an inner run its parent, never itself."""
    steps: defaultdict[str, list[Usage]] = defaultdict(list)
    parents: dict[str, str] = {}
    has_calls_in_calls: set[str] = set()
    for identity, event_id, is_run, usage, is_inside in members:
        if not is_run:
            steps[event_id].append(usage)
            if is_inside and is_call(usage):
                has_calls_in_calls.add(event_id)
        elif (inner := own_event_id(identity)) != event_id:
            parents[inner] = run_ids.get(event_id, "")
    for event_id in has_calls_in_calls:
        steps.pop(event_id)
    add_to_rollups(connection, steps=steps, own=own, parents=parents)
    if has_calls_in_calls:
        recount_rollups(connection, has_calls_in_calls, {})


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
        HAS_NO_LINE,
    )
    .values(event_id=bindparam("e"), run_id=bindparam("r"))
)


_mark_inside_call: Final = (
    update(run_spans)
    .where(
        run_spans.c.trace_id == bindparam("t"),
        run_spans.c.span_id == bindparam("s"),
        run_spans.c.start_ns == bindparam("n"),
    )
    .values(usage_json=bindparam("u"))
)


def _set_run(connection: Connection, moves: Sequence[_Move], run_ids: Mapping[str, str]) -> None:
    """Store of which run each span is, and with a step its events."""
    rows, marks = [], []
    for child, event_id, is_inside in moves:
        trace_id, span_id, start_ns = child.identity
        of_run = {"e": event_id, "r": run_ids.get(event_id, ""), "b": child.event_id}
        rows.append({"t": trace_id, "s": span_id, "n": start_ns, **of_run})
        is_inside = is_inside and not child.is_run  # noqa: PLW2901 - a run is inside of none
        if is_inside or child.names_service:
            usage = {**child.usage, INSIDE_CALL: 1} if is_inside else child.usage
            text = dumps_text(usage) if usage else None
            marks.append({"t": trace_id, "s": span_id, "n": start_ns, "u": text})
    if rows:
        connection.execute(_set_run_of_span, rows)
    if marks:
        connection.execute(_mark_inside_call, marks)
    of_steps = [row for row, move in zip(rows, moves, strict=True) if not move.child.is_run]
    if of_steps:  # events of an inner run are its own
        connection.execute(_set_run_of_events, of_steps)


def run_ids_of(connection: Connection, event_ids: Iterable[str]) -> dict[str, str]:
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
            row.is_run,
            usage_of_row(row.usage_json),
            f'"{SERVICE}"' in (row.usage_json or ""),
        )


@lru_cache(maxsize=8)
def _find_children(dialect: Dialect) -> Select[Any]:
    """Return the query for the children of spans within their run."""
    columns = run_spans.c
    of_place = (columns.trace_id, columns.span_id, columns.start_ns, columns.start_time)
    of_parent = (columns.parent_span_id, columns.parent_start)
    selected = select(*of_place, *of_parent, columns.event_id, columns.is_run, columns.usage_json)
    return key_lookup(dialect, selected, (columns.event_id, columns.trace_id, columns.parent_span_id))
