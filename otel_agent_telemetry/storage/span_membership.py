"""Give stored spans the run that they belong to now, and set the roll-ups of the runs right.

A span goes over to another run when the missing link to its run arrives, or, where ids repeat,
a better parent (`span_places`). All below it goes with it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, Dialect, Table, bindparam, select, update

from otel_agent_telemetry.columns import Fields
from otel_agent_telemetry.run_id import span_event_id, span_event_id_without_start
from otel_agent_telemetry.storage.rollups import Agent, add_to_rollups, recount_rollups
from otel_agent_telemetry.storage.span_places import Key, Place, Places
from otel_agent_telemetry.storage.statements import Lookup, key_lookup, rows_of_keys, rows_with
from otel_agent_telemetry.storage.steps import INSIDE_CALL, IS_RUN, NO_RUN, SERVICE, usage_of_row
from otel_agent_telemetry.storage.tables import HAS_NO_LINE, UNKNOWN_START, agent_runs, run_events, run_spans
from otel_agent_telemetry.usage import Usage, depends_on_others, is_any_call
from otel_agent_telemetry.wire import dumps_text

Identity = tuple[str, str, int]
"""`(trace_id, span_id, start_ns)` of one span."""


def own_event_id(identity: Identity) -> str:
    """Return the `event_id` of the run that a span is, or would be.

    The same id as every other route makes from these ids, so that all of them meet in one row.
    """
    trace_id, span_id, start_ns = identity
    if start_ns == UNKNOWN_START:
        return span_event_id_without_start(trace_id, span_id)
    return span_event_id(trace_id, span_id, start_ns)


_run_ids: Final = select(agent_runs.c.event_id, agent_runs.c.run_id)


class Members:
    """What spans whose run is found add to the roll-ups: a step to its run, and a run its parent, never itself.

    `run_ids`: `event_id` → `run_id` of the runs.
    """

    def __init__(self, run_ids: Mapping[str, str]) -> None:
        self._run_ids = run_ids
        self._steps: defaultdict[str, list[Usage]] = defaultdict(list)
        self._parents: dict[str, str] = {}
        self._have_calls_in_calls: set[str] = set()
        self.own: dict[str, Usage] = {}
        """What runs' own spans report of the whole."""
        self.agents: dict[str, Agent] = {}
        self.states: dict[str, Fields] = {}
        """The states of agents' runs that can turn out to be steps."""

    def add_step(self, event_id: str, usage: Usage, *, is_inside_call: bool) -> None:
        """Add a step of a run, "" for none; `is_inside_call`: whether a call of that run is around it."""
        if event_id:
            self._steps[event_id].append(usage)
            if (is_inside_call and is_any_call(usage)) or depends_on_others(usage):
                self._have_calls_in_calls.add(event_id)

    def add_run(self, event_id: str, *, around: str) -> None:
        """Add a run that is inside the run `around`, "" for none."""
        if around and around != event_id:
            self._parents[event_id] = self._run_ids.get(around, "")

    def write(self, connection: Connection) -> None:
        """Write the roll-ups, those of runs with calls inside calls by summing all their steps.

        Within the transaction that stores the spans.
        """
        for event_id in self._have_calls_in_calls:
            # Not added but summed anew below: a call inside a call must be counted once, which a sum of parts cannot
            # know.
            del self._steps[event_id]
        add_to_rollups(
            connection,
            steps=self._steps,
            own=self.own,
            parents=self._parents,
            agents=self.agents,
            states=self.states,
        )
        if self._have_calls_in_calls:
            recount_rollups(connection, self._have_calls_in_calls, {})


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
        """Return whether the span is a run of its own."""
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
        if places.is_step(place) and not places.is_repeated(place.key):
            if places.run_below(place):
                wanted[place.key].add(NO_RUN)
            continue
        before = places.runs_below_before(place)
        if before or places.run_below(place) or places.is_repeated(place.key):
            wanted[place.key] |= {NO_RUN, *before}
    return move_below(connection, places, wanted)


def move_below(connection: Connection, places: Places, wanted: defaultdict[Key, set[str]]) -> set[str]:
    """Give spans below these keys that belong to one of the runs named for each the run that is right now.

    Returns the runs that got an agent's span by it.

    Ends: a span moves at most once in a call, so a circle of parents stops.
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
            places.add_step(child.place, event_id, is_call=is_inside or is_any_call(child.usage))
            wanted[child.place.key].add(child.event_id)
    if moved:
        _move(connection, list(moved.values()))
    return {move.event_id for move in moved.values() if move.child.kind and move.event_id}


def _move(connection: Connection, moves: Sequence[_Move]) -> None:
    """Let spans belong to another run, "" for none, and set the roll-ups right."""
    run_ids = run_ids_of(connection, {move.event_id for move in moves if move.event_id})
    moves = [move for move in moves if not move.event_id or move.event_id in run_ids]
    _set_run(connection, moves, run_ids)
    # A run that loses a step is summed anew: its roll-up keeps sums, not what each step has added.
    lost = {move.child.event_id for move in moves if move.child.event_id}
    if lost:
        parents = {own_event_id(one.child.identity): run_ids.get(one.event_id) for one in moves if one.child.is_run}
        recount_rollups(connection, lost | {move.event_id for move in moves if move.event_id}, parents)
        return
    members = Members(run_ids)
    for child, event_id, is_inside in moves:
        if child.is_run:
            members.add_run(own_event_id(child.identity), around=event_id)
        else:
            members.add_step(event_id, child.usage, is_inside_call=is_inside)
    members.write(connection)


def _of_span(table: Table, start_column: str) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions of a statement that is executed for each span: its ids and its start."""
    columns = table.c
    start = columns[start_column]
    return columns.trace_id == bindparam("t"), columns.span_id == bindparam("s"), start == bindparam("n")


_set_run_of_span: Final = (
    update(run_spans).where(*_of_span(run_spans, "start_ns")).values(event_id=bindparam("e"), run_id=bindparam("r"))
)
_set_run_of_events: Final = (
    update(run_events)
    .where(*_of_span(run_events, "span_start_ns"), run_events.c.event_id == bindparam("b"), HAS_NO_LINE)
    .values(event_id=bindparam("e"), run_id=bindparam("r"))
)
_mark_inside_call: Final = update(run_spans).where(*_of_span(run_spans, "start_ns")).values(usage_json=bindparam("u"))


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
    rows = rows_with(connection, _run_ids, agent_runs.c.event_id, event_ids)
    return {event_id: run_id for event_id, run_id in rows}  # noqa: C416 - `dict` would not take rows of any length


def _children(connection: Connection, wanted: Mapping[Key, set[str]]) -> Iterator[_Child]:
    """Yield the spans below these keys that belong to one of the runs named for each, "" being none."""
    keys = [(event_id, *key) for key, event_ids in wanted.items() for event_id in event_ids]
    for trace_id, span_id, start_ns, start, parent_id, parent_start, event_id, kind, usage_json in rows_of_keys(
        connection, _find_children(connection.dialect), keys
    ):
        yield _Child(
            (trace_id, span_id, start_ns),
            Place((trace_id, span_id), start),
            (trace_id, parent_id),
            parent_start,
            event_id,
            kind,
            usage_of_row(usage_json),
            f'"{SERVICE}"' in (usage_json or ""),
        )


@lru_cache(maxsize=8)
def _find_children(dialect: Dialect) -> Lookup:
    """Return the query for the children of spans within their run."""
    columns = run_spans.c
    of_place = (columns.trace_id, columns.span_id, columns.start_ns, columns.start_time)
    of_parent = (columns.parent_span_id, columns.parent_start)
    selected = select(*of_place, *of_parent, columns.event_id, columns.is_run, columns.usage_json)
    return key_lookup(dialect, selected, (columns.event_id, columns.trace_id, columns.parent_span_id))
