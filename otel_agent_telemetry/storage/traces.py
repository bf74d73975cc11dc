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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, text

from otel_agent_telemetry.columns import Fields
from otel_agent_telemetry.model import RunEvent, RunSpan
from otel_agent_telemetry.run_id import is_derived
from otel_agent_telemetry.storage.journal_lines import runs_with_lines
from otel_agent_telemetry.storage.rollups import Agent, recount_rollups
from otel_agent_telemetry.storage.span_agents import decide_agents
from otel_agent_telemetry.storage.span_membership import Identity, Members, own_event_id, run_ids_of, settle_below
from otel_agent_telemetry.storage.span_places import Key, Place, Places
from otel_agent_telemetry.storage.statements import driver_connection
from otel_agent_telemetry.storage.steps import (
    INSIDE_CALL,
    NO_RUN,
    SERVICE,
    EventRow,
    SpanRow,
    add_events,
    add_spans,
    delete_spans,
)
from otel_agent_telemetry.usage import Usage, is_any_call

_ANY_SPAN: Final = "SELECT 1 FROM run_spans WHERE trace_id IN (SELECT value FROM json_each(?)) LIMIT 1"
# "oat" in ASCII: the first of two keys, so that the buckets meet no advisory lock of another application.
_LOCK_SPACE: Final = 0x6F6174
_BUCKETS: Final = 64
_NONE: Final[Mapping[Any, str]] = MappingProxyType({})


@dataclass(slots=True)
class SpanNode:
    """One received span: a step, or a run's own span (`is_run`), which `state` describes where it came along.

    `span.event_id` and `span.run_id` are not read: which run a span belongs to is found here.
    `start_ns` is the span's start in nanoseconds since 1970. `usage` is what the span itself
    reports that it used. `agent` is what an agent's run says of its agent; with `as_step`, what
    it used as a step, it can turn out to be one of the run around it.
    """

    span: RunSpan
    is_run: bool = False
    usage: Usage = field(default_factory=dict)
    events: Sequence[RunEvent] = ()
    """The span's events, in order; their `event_id` and `run_id` are not read either."""
    start_ns: int = 0
    parent_start: str | None = None
    """`start_time` of the parent, where its sender sent it at the same time."""
    agent: Agent | None = None
    as_step: Usage | None = None
    service: str | None = None
    """`service.name` of the span's resource."""
    is_idle: bool = False
    """Whether it is a root that by itself does nothing (`plumbing`)."""
    is_from_agent: bool = False
    """Whether it shows that its service is an agent's."""
    is_from_coding_agent: bool = False
    """Whether its sender is a coding agent, whose root spans may turn out to be steps of a turn (`turn_traces`)."""
    last_call_decides: bool = False
    """Whether its sender leaves the status of a run to the run's last model call (`last_calls`)."""
    state: Fields | None = None
    """The state of the run that it is."""

    key: Key = field(init=False)
    """The ids of the span."""
    identity: Identity = field(init=False)
    """What distinguishes the span from all others."""
    place: Place = field(init=False)
    """Where the span stands among those with its ids."""
    parent: Key | None = field(init=False)
    """The ids of the span's parent, None for a root span."""

    def __post_init__(self) -> None:
        """Work out once what is compared again and again."""
        span = self.span
        self.key = (span.trace_id, span.span_id)
        self.identity = (span.trace_id, span.span_id, self.start_ns)
        self.place = Place(self.key, span.start_time)
        self.parent = (span.trace_id, span.parent_span_id) if span.parent_span_id else None

    @property
    def is_open(self) -> bool:
        """Return whether the span has not ended."""
        return self.span.end_time is None


def write_traces(
    connection: Connection,
    nodes: Sequence[SpanNode],
    states: Sequence[Fields],
    *,
    known_keys: Mapping[Key, str] = _NONE,
    turns: Mapping[str, str] = _NONE,
) -> None:
    """Write spans that are new, and give spans below them or below the runs of `states` their run.

    `known_keys`: ids of spans for which runs were made before they came → the run (`run_keys`). `turns`: trace id →
    the run of the turn that root spans of the trace are steps of. Within the connection's transaction, after the
    states have been written.
    """
    run_keys = {
        (trace_id, span_id): run["event_id"]
        for run in states
        if (trace_id := run.get("trace_id")) and (span_id := run.get("span_id")) and is_derived(run["event_id"])
    }
    # A run's state without spans, and no span waits: the usual case of a service without OTLP.
    if not nodes and not _any_span_of(connection, {trace_id for trace_id, _ in run_keys}):
        return
    places = Places(connection)
    places.load(run_keys.keys() | {key for node in nodes for key in (node.key, node.parent) if key is not None})
    # An open state was counted with what it had used by then; its end brings the whole, so the run is summed again.
    counted_anew = _drop_open_states(connection, places, nodes)
    new = _NewSpans(connection, places, nodes, known_keys, turns)
    arrived = new.write({state["event_id"]: state for state in states}) if nodes else {}
    for key, event_id in run_keys.items():
        arrived.update(dict.fromkeys(places.of_run(key, event_id)))
    if with_agents := settle_below(connection, places, arrived) | new.runs_with_agents:
        decide_agents(connection, places, with_agents)
    if counted_anew:
        recount_rollups(connection, counted_anew, {})


def _drop_open_states(connection: Connection, places: Places, nodes: Sequence[SpanNode]) -> set[str]:
    """Delete spans that are stored without an end and come with one now; return the runs that they counted in."""
    dropped, runs = [], set()
    for node in nodes:
        if not node.is_open and (event_id := places.take_open(node.key, node.start_ns)) is not None:
            dropped.append(node.identity)
            runs.add(event_id)
    if dropped:
        delete_spans(connection, dropped)
    return runs - {NO_RUN}


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
    # Not `hash`, which differs between processes: all writers must take the same lock for a trace.
    buckets = sorted({sum(trace_id.encode()) % _BUCKETS for trace_id in trace_ids})
    if buckets:
        function = "pg_advisory_xact_lock_shared" if shared else "pg_advisory_xact_lock"
        ordered = "(SELECT unnest(CAST(:buckets AS int[])) AS bucket ORDER BY 1) AS ordered"
        query = text(f"SELECT {function}(:space, bucket) FROM {ordered}")  # noqa: S608 - constants
        connection.execute(query, {"space": _LOCK_SPACE, "buckets": buckets})


class _Below(NamedTuple):
    """What the children of a place belong to: a run, "" for none that is known; and whether they are in a call."""

    event_id: str
    is_call: bool


_NOTHING: Final = _Below(NO_RUN, is_call=False)


class _NewSpans:
    """Spans of one transaction that are not stored yet, the search for their runs, and what they add to those."""

    def __init__(
        self,
        connection: Connection,
        places: Places,
        nodes: Sequence[SpanNode],
        known_keys: Mapping[Key, str],
        turns: Mapping[str, str],
    ) -> None:
        self._known_keys = known_keys
        self._turns = turns
        self._connection = connection
        self._places = places
        self._new: dict[Identity, SpanNode] = {}
        for node in nodes:
            if places.is_stored(node.key, node.start_ns, node.span.start_time):
                continue
            known = self._new.get(node.identity)
            if known is None or (known.is_open and not node.is_open):  # of the same span twice, the one that has ended
                self._new[node.identity] = node
        self._steps: dict[Place, SpanNode] = {}
        for node in self._new.values():
            places.add_step(node.place, NO_RUN)
            if not node.is_run:
                self._steps[node.place] = node
        self._below: dict[Place, _Below] = {}
        """What is known of the children of a place, for places that `_above` has passed."""
        self.runs_with_agents: set[str] = set()
        """The runs that are by an agent, or have got an agent's span."""

    def write(self, states: Mapping[str, Fields]) -> dict[Place, None]:
        """Insert the new spans and their events with their runs, add them to the roll-ups; return their places.

        `states`: those of new or changed runs, by `event_id`.
        """
        nodes = list(self._new.values())
        above = [self._above(node) for node in nodes]
        own = [self._own(node) if node.is_run else "" for node in nodes]
        run_ids = run_ids_of(self._connection, {*own, *[found.event_id for found in above]} - {NO_RUN})
        self._insert(nodes, above, own, run_ids)
        members = Members(run_ids)
        for node, found, event_id in zip(nodes, above, own, strict=True):
            if node.is_run:
                self._note_run(members, node, event_id, around=found.event_id, states=states)
            else:
                members.add_step(found.event_id, node.usage, is_inside_call=found.is_call)
                self._places.add_step(node.place, found.event_id, is_call=found.is_call or is_any_call(node.usage))
        members.write(self._connection)
        return dict.fromkeys([node.place for node in nodes])

    def _insert(
        self, nodes: Sequence[SpanNode], above: Sequence[_Below], own: Sequence[str], run_ids: Mapping[str, str]
    ) -> None:
        """Store the new spans and events, each with the run that it was found to belong to."""
        spans, events = [], []
        with_events = [own_id for node, own_id in zip(nodes, own, strict=True) if node.is_run and node.events]
        journaled = runs_with_lines(self._connection, with_events) if with_events else ()
        for node, (event_id, is_inside), own_id in zip(nodes, above, own, strict=True):
            of_run = (event_id, run_ids.get(event_id, ""))
            # A root is its run. One of a coding agent is kept beside it, for it may turn out to be a step of a turn.
            if node.parent is not None or not node.is_run or node.is_from_coding_agent:
                usage = node.usage if node.as_step is None else node.as_step
                if is_inside and not node.is_run:
                    usage = {**usage, INSIDE_CALL: 1}
                if not event_id and node.service:
                    usage = {**usage, SERVICE: node.service}
                spans.append(SpanRow(node.span, node.is_run, usage, node.start_ns, node.parent_start, of_run=of_run))
            if node.is_run:
                of_run = (own_id, run_ids.get(own_id, ""))
            # A host that delivers its journal delivers all events of the runs in it.
            if not (node.is_run and own_id in journaled):
                events += [EventRow(seq, event, node.start_ns, of_run=of_run) for seq, event in enumerate(node.events)]
        if spans:
            add_spans(self._connection, spans)
        if events:
            add_events(self._connection, events)

    def _own(self, node: SpanNode) -> str:
        """Return the `event_id` of the run that a span is."""
        return self._known_keys.get(node.key) or own_event_id(node.identity)

    def _note_run(
        self, members: Members, node: SpanNode, event_id: str, *, around: str, states: Mapping[str, Fields]
    ) -> None:
        """Note what a run's own span says of the whole and of its agent, and which runs that concerns."""
        members.add_run(event_id, around=around)
        if not node.is_open or event_id in states:  # an open state that comes after the end adds nothing
            members.own[event_id] = node.usage
        if node.agent is None:
            return
        members.agents[event_id] = node.agent
        if event_id not in states:  # its row was there before its span, and agents inside it may have been too
            self.runs_with_agents.add(event_id)
        elif node.as_step is not None:
            members.states[event_id] = states[event_id]
            self.runs_with_agents.add(around)

    def _above(self, node: SpanNode) -> _Below:
        """Return the run that a new span is a step of, or a run inside of, and whether a model call is between."""
        passed: list[tuple[Place, SpanNode]] = []
        place, found = self._parent_of(node), self._above_root(node)
        while place is not None:
            if place in self._below:
                found = self._below[place]
                break
            step = self._steps.get(place) if self._places.is_step(place) else None
            if step is None:
                found = self._below[place] = _Below(self._places.run_below(place), self._places.is_call(place))
                break
            passed.append((place, step))
            self._below[place] = _NOTHING  # ends a circle of parents; overwritten below
            found = self._above_root(step)
            place = self._parent_of(step)
        for place, step in reversed(passed):
            if not found.is_call and is_any_call(step.usage):
                found = _Below(found.event_id, is_call=True)
            self._below[place] = found
        return found

    def _above_root(self, node: SpanNode) -> _Below:
        """Return the turn that a root span is a step of; nothing for any other span."""
        if node.parent is not None or not self._turns:
            return _NOTHING
        return _Below(self._turns.get(node.span.trace_id, NO_RUN), is_call=False)

    def _parent_of(self, node: SpanNode) -> Place | None:
        """Return the span that a node stands below; None for a root or an unknown parent."""
        if node.parent is None:
            return None
        return self._places.parent(node.parent, child_start=node.span.start_time, parent_start=node.parent_start)
