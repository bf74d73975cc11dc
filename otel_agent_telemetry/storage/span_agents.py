"""Decide which agents' spans that came over OTLP are runs, and which only repeat the run around them.

The live path decides when a span begins (`otel.mapping.repeats`). Here spans come in any order,
so it is decided anew for a run whenever one of its agents, or its own span, arrives: in order of
their start, whatever the order of arrival. A span that turns out to be a step gives up its row;
its state waits in its roll-up, for an agent that began earlier may still arrive and make it a run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import Connection, bindparam, delete, select, update

from otel_agent_telemetry.columns import COLUMNS, Fields
from otel_agent_telemetry.storage.counts import add_to_counts
from otel_agent_telemetry.storage.rollups import Agent, add_to_rollups, recount_rollups, rollups_of
from otel_agent_telemetry.storage.runs import upsert_runs
from otel_agent_telemetry.storage.span_membership import Identity, move_below, own_event_id, run_ids_of
from otel_agent_telemetry.storage.span_places import Key, Place, Places
from otel_agent_telemetry.storage.statements import rows_with
from otel_agent_telemetry.storage.steps import IS_PART, IS_RUN
from otel_agent_telemetry.storage.tables import HAS_NO_LINE, agent_runs, run_events, run_spans

if TYPE_CHECKING:
    from otel_agent_telemetry.storage.traces import SpanNode

_candidates: Final = select(
    *(run_spans.c.trace_id, run_spans.c.span_id, run_spans.c.start_ns, run_spans.c.start_time),
    *(run_spans.c.event_id, run_spans.c.is_run),
).where(run_spans.c.is_run != 0)
_agent_column: Final = COLUMNS.index("agent_name")


class _Candidate(NamedTuple):
    """An agent's span inside a run, which is a run of its own now or a step."""

    identity: Identity
    place: Place
    event_id: str
    around: str
    is_part: bool

    @property
    def order(self) -> tuple[int, str]:
        """Return what orders the agents of a run."""
        return self.identity[2], self.identity[1]


def parts_among(connection: Connection, nodes: Sequence[SpanNode]) -> set[str]:
    """Return those of these agents' runs that are known to be steps: their states are not written."""
    candidates = {own_event_id(node.identity) for node in nodes if node.as_step is not None}
    if not candidates:
        return set()
    return {event_id for event_id, rollup in rollups_of(connection, candidates).items() if rollup.is_part}


def decide_agents(connection: Connection, places: Places, run_ids: Iterable[str]) -> None:
    """Decide about the agents inside these runs, and about those below them that it concerns; all by `event_id`.

    Within the transaction that stored the spans. Ends after a bounded number of rounds.
    """
    wanted = {event_id for event_id in run_ids if event_id}
    rounds = 0
    while wanted and rounds < _MAX_ROUNDS:  # clocks that disagree could have two agents change places for ever
        rounds += 1
        rollups = rollups_of(connection, wanted)
        agents = {event_id: rollup.agent for event_id, rollup in rollups.items() if rollup.agent is not None}
        found = _candidates_in(connection, agents)
        wanted = set()
        left = list(agents)
        while left and not wanted:
            event_id = left.pop()
            wanted = _decide(connection, places, event_id, agents[event_id], found[event_id])
        if wanted:  # what was read of the others may not be so any more
            wanted |= set(left)


_MAX_ROUNDS: Final = 1_000


def _candidates_in(connection: Connection, run_ids: Iterable[str]) -> Mapping[str, list[_Candidate]]:
    """Return the spans within these runs that may be agents of their own, by run."""
    found: defaultdict[str, list[_Candidate]] = defaultdict(list)
    for trace_id, span_id, start_ns, start, around, kind in rows_with(
        connection, _candidates, run_spans.c.event_id, run_ids
    ):
        identity = (trace_id, span_id, start_ns)
        own = own_event_id(identity)
        if own != around:
            place = Place((trace_id, span_id), start)
            found[around].append(_Candidate(identity, place, own, around, kind == IS_PART))
    return found


def _decide(
    connection: Connection, places: Places, event_id: str, agent: Agent, candidates: Sequence[_Candidate]
) -> set[str]:
    """Decide about the agents of one run; return the runs whose agents have changed by it."""
    if not candidates:
        return set()
    rollups = rollups_of(connection, [one.event_id for one in candidates])
    adopted: str | None = None
    changed: list[tuple[_Candidate, Fields]] = []
    for one in sorted(candidates, key=lambda one: one.order):
        rollup = rollups.get(one.event_id)
        if rollup is None or rollup.agent is None or rollup.state is None:
            continue
        name = rollup.agent.name
        if agent.takes_child_name and adopted is None:
            # The first agent that began inside names its run, whatever order the spans arrived in.
            adopted = name
        is_part = name is None or name == (adopted if agent.takes_child_name else agent.run_name)
        if is_part != one.is_part:
            changed.append((one, rollup.state))
    if adopted is not None:
        _set_agent_name(connection, event_id, adopted)
        add_to_rollups(connection, agents={event_id: agent._replace(adopted=adopted)})
    for one, state in changed:
        if one.is_part:
            _become_run(connection, places, one, state)
        else:
            _become_part(connection, places, one)
    if not changed:
        return set()
    recount_rollups(connection, {event_id}, {})
    return {event_id, *(one.event_id for one, _ in changed if one.is_part)}


def _become_part(connection: Connection, places: Places, one: _Candidate) -> None:
    """Let an agent's run be a step of the run around it.

    Its own state stays in its roll-up; its row goes, and so does its number in the database.
    """
    connection.execute(delete(agent_runs).where(agent_runs.c.event_id == one.event_id))
    _mark(connection, one, IS_PART)
    places.remove_run(one.place, one.around)
    _move(connection, places, one, before=one.event_id, now=one.around)


def _become_run(connection: Connection, places: Places, one: _Candidate, state: Fields) -> None:
    """Let a step of a run be the run that its agent is."""
    upsert_runs(connection, [state])
    _mark(connection, one, IS_RUN)
    places.add_run(one.place, one.event_id)
    _move(connection, places, one, before=one.around, now=one.event_id)
    parent = run_ids_of(connection, [one.around]).get(one.around)
    recount_rollups(connection, {one.event_id}, {one.event_id: parent})


def _mark(connection: Connection, one: _Candidate, kind: int) -> None:
    """Store what a span is: a run, or a step that only repeats the run around it."""
    trace_id, span_id, start_ns = one.identity
    of_span = (run_spans.c.trace_id == trace_id, run_spans.c.span_id == span_id, run_spans.c.start_ns == start_ns)
    connection.execute(update(run_spans).where(*of_span).values(is_run=kind))
    add_to_rollups(connection, parts={one.event_id: kind == IS_PART})


def _move(connection: Connection, places: Places, one: _Candidate, *, before: str, now: str) -> None:
    """Move the events of a span, and all below it, to another run."""
    trace_id, span_id, start_ns = one.identity
    columns = run_events.c
    of_span = (columns.trace_id == trace_id, columns.span_id == span_id, columns.span_start_ns == start_ns)
    events = update(run_events).where(*of_span, columns.event_id == before, HAS_NO_LINE)
    connection.execute(events.values(event_id=now, run_id=run_ids_of(connection, [now]).get(now, "")))
    wanted: defaultdict[Key, set[str]] = defaultdict(set)
    wanted[one.place.key].add(before)
    move_below(connection, places, wanted)


_set_name: Final = (
    update(agent_runs).where(agent_runs.c.event_id == bindparam("of_run")).values(agent_name=bindparam("new_name"))
)


def set_adopted_names(connection: Connection, nodes: Sequence[SpanNode], states: Sequence[Fields]) -> None:
    """Give runs whose state was just written the name of the first agent inside them again, where they took one."""
    take_names = {own_event_id(node.identity) for node in nodes if node.agent and node.agent.takes_child_name}
    if not take_names:
        return
    written = take_names.intersection(state["event_id"] for state in states)
    for event_id, rollup in rollups_of(connection, written).items():
        if rollup.agent is not None and rollup.agent.adopted is not None:
            _set_agent_name(connection, event_id, rollup.agent.adopted)


def _set_agent_name(connection: Connection, event_id: str, name: str) -> None:
    """Give a run the name of the agent within it, in the counts too."""
    found = connection.execute(
        select(*(agent_runs.c[column] for column in COLUMNS)).where(agent_runs.c.event_id == event_id)
    ).first()
    if found is None or found.agent_name == name:
        return
    before: tuple[Any, ...] = tuple(found)
    connection.execute(_set_name, {"of_run": event_id, "new_name": name})
    # The counts are by agent: without this the old name would keep one run too many for ever.
    add_to_counts(connection, [(before, (*before[:_agent_column], name, *before[_agent_column + 1 :]))])
