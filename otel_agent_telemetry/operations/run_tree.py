"""One run with its events, steps and child runs.

Events and steps come from the journal, and from the database or service that received them
over OTLP; one that is in both appears once. Lists are bounded, and what is left out is counted.
How the items nest is `run_outline`'s.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from otel_agent_telemetry.clock import day_of, parse_iso
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.journal import journal_files, read_parts
from otel_agent_telemetry.model import RunEvent, RunRecord, RunSpan
from otel_agent_telemetry.operations.follow import needle_of
from otel_agent_telemetry.operations.line_items import event_of, step_of
from otel_agent_telemetry.storage.queries import children_of
from otel_agent_telemetry.storage.steps import events_of, spans_of
from otel_agent_telemetry.storage.store import reading_database
from otel_agent_telemetry.wire import BECAME_RUN, EVENT, SPAN, Line

_DAY_NS: Final = 86_400 * 1_000_000_000
_MAX_DEPTH: Final = 5
_MAX_CHILDREN: Final = 200


@dataclass(frozen=True, slots=True)
class ChildRun:
    """A run whose parent is the run above it, with its own child runs."""

    record: RunRecord
    children: tuple[ChildRun, ...] = ()


@dataclass(slots=True)
class RunTree:
    """A run, its events and steps oldest first, and its child runs.

    `left_out` counts events and steps beyond the limit.
    """

    record: RunRecord
    events: list[RunEvent] = field(default_factory=list)
    steps: list[RunSpan] = field(default_factory=list)
    children: tuple[ChildRun, ...] = ()
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class KnownParts:
    """The child runs, steps and events that a database or a service has of a run.

    Steps and events are those that arrived over OTLP; the journal adds those of this host.
    """

    children: tuple[ChildRun, ...] = ()
    steps: Sequence[RunSpan] = ()
    events: Sequence[RunEvent] = ()


def read_tree(config: TelemetryConfig, record: RunRecord, *, limit: int) -> RunTree:
    """Return a run with at most `limit` events and `limit` steps, from the database and the journal.

    Reads the journal from the run's day on. Raises StorageError, OSError.
    """
    with reading_database(config) as connection:
        known = KnownParts()
        if connection is not None:
            children = children_below(record, partial(children_of, connection))
            known = KnownParts(children, spans_of(connection, record.event_id), events_of(connection, record.event_id))
    return build_tree(config, record, known, limit=limit)


def build_tree(config: TelemetryConfig, record: RunRecord, known: KnownParts, *, limit: int) -> RunTree:
    """Return the run with what a database or a service has of it and what the journal adds. Raises OSError."""
    builder = _TreeBuilder(RunTree(record, children=known.children), limit)
    outer: Line | None = None
    for step in known.steps:
        builder.add_step(step)
    for event in known.events:
        builder.add_event(event)
    for line in _lines(config, record):
        if line.get("event_id") != record.event_id and line.get(BECAME_RUN) == record.run_id:
            # The line of the step that this run was, in another run: what is below it was written under that run.
            outer = line
        else:
            builder.add_line(line)
    if outer is not None:
        for line in _moved_lines(config, record, outer):
            builder.add_line(line)
    return builder.finished()


def _lines(config: TelemetryConfig, record: RunRecord) -> Iterator[Line]:
    """Yield the run's journal lines, events without `event_id` that have its run id, and the line of its step.

    The last is that of a step of another run which turned into this run. All contain the run's id.
    """
    for found in _lines_with(config, record, record.run_id):
        event_id = found.get("event_id")
        if (
            event_id == record.event_id
            or (not event_id and found.get("run_id") == record.run_id)
            or found.get(BECAME_RUN) == record.run_id
        ):
            yield found


def _lines_with(config: TelemetryConfig, record: RunRecord, run_id: str) -> Iterator[Line]:
    """Yield the journal's lines that contain a run id, from the day before `record` began on."""
    for path in journal_files(config.ndjson_dir, first_day=_first_day(record)):
        for part in read_parts(path, containing=needle_of(run_id)):
            yield from part.records


def _moved_lines(config: TelemetryConfig, record: RunRecord, outer: Line) -> Iterator[Line]:
    """Yield the lines that were written for another run before its step turned into this run: those below the step."""

    def lines() -> Iterator[Line]:
        found = _lines_with(config, record, str(outer.get("run_id")))
        return (line for line in found if line.get("event_id") == outer.get("event_id"))

    steps = [line for line in lines() if line["record_type"] == SPAN]
    turned = {str(line.get("span_id")) for line in steps if BECAME_RUN in line} - {record.span_id}
    below = _below(steps, {str(record.span_id)}, turned)
    for line in lines():
        span_id = line.get("span_id")
        if span_id in below or (span_id == record.span_id and line["record_type"] == EVENT):
            yield line


def _below(steps: Iterable[Line], tops: Collection[str], other_tops: Collection[str] = ()) -> set[str]:
    """Return the ids of the spans below some spans, without what is below others."""
    inside: defaultdict[str, set[str]] = defaultdict(set)
    for step in steps:
        inside[str(step.get("parent_span_id"))].add(str(step.get("span_id")))
    found: set[str] = set()
    waiting = list(tops)
    while waiting:
        new = inside[waiting.pop()] - found - set(other_tops)
        found |= new
        waiting += new
    return found


def _first_day(record: RunRecord) -> str:
    """Return the day before the run began: a clock that was set back must not hide its first lines."""
    try:
        return day_of(min(parse_iso(record.created_at), parse_iso(record.start_time)) - _DAY_NS)
    except (ValueError, OverflowError):
        return ""


def children_below(record: RunRecord, children: Callable[[str], Sequence[RunRecord]]) -> tuple[ChildRun, ...]:
    """Return a run's child runs and theirs in turn: five levels and 200 runs at most."""
    return _children(children, record, {record.run_id}, 1)


def _children(
    children: Callable[[str], Sequence[RunRecord]], record: RunRecord, seen: set[str], depth: int
) -> tuple[ChildRun, ...]:
    """Return the child runs of one level and below; `seen` stops circles and counts the runs."""
    found = []
    for child in children(record.run_id):
        # Parent ids come from anyone and can form a circle.
        if child.run_id in seen or len(seen) > _MAX_CHILDREN:
            continue
        seen.add(child.run_id)
        below = _children(children, child, seen, depth + 1) if depth < _MAX_DEPTH else ()
        found.append(ChildRun(child, below))
    return tuple(found)


class _TreeBuilder:
    """Collects events and steps: each once, and a step's end in place of its start."""

    def __init__(self, tree: RunTree, limit: int) -> None:
        self.tree = tree
        self._limit = limit
        self._steps: dict[tuple[str, str], RunSpan] = {}
        self._seen: set[tuple[str, str, str | None]] = set()
        self._turned: set[str] = set()
        """Ids of the steps that have turned into runs: these and what is below them is theirs."""

    def add_line(self, line: Line) -> None:
        """Add the event or step of a journal line, unless the database has the same event."""
        if line["record_type"] == SPAN:
            if BECAME_RUN in line:
                self._turned.add(str(line.get("span_id")))
            self.add_step(step_of(line, event_id=self.tree.record.event_id, run_id=self.tree.record.run_id))
        elif line["record_type"] == EVENT:
            event = event_of(line, event_id=self.tree.record.event_id, run_id=self.tree.record.run_id)
            if _key(event) not in self._seen:
                self.add_event(event, remember=False)

    def add_step(self, step: RunSpan) -> None:
        """Add a step; one that has ended is not replaced."""
        key = (step.span_id, step.start_time)  # ids repeat where a run seeds `random`
        known = self._steps.get(key)
        if known is None and len(self._steps) >= self._limit:
            # Of a step that has both, start and end are two lines; count one of them.
            self.tree.left_out += step.end_time is None
        elif known is None or known.end_time is None:
            self._steps[key] = step

    def add_event(self, event: RunEvent, *, remember: bool = True) -> None:
        """Add an event; `remember` those of the database, which the journal has as well."""
        if len(self.tree.events) >= self._limit:
            self.tree.left_out += 1
            return
        self.tree.events.append(event)
        if remember:
            self._seen.add(_key(event))

    def finished(self) -> RunTree:
        """Return the tree with its steps and events in order of time."""
        if self._turned:
            self._leave_out_turned()
        self.tree.steps = sorted(self._steps.values(), key=lambda step: (step.start_time, step.span_id))
        self.tree.events.sort(key=lambda event: event.timestamp)
        return self.tree

    def _leave_out_turned(self) -> None:
        """Leave out the steps that have turned into runs, and all below them: they are shown as child runs."""
        links = [{"span_id": step.span_id, "parent_span_id": step.parent_span_id} for step in self._steps.values()]
        gone = self._turned | _below(links, self._turned)
        self._steps = {key: step for key, step in self._steps.items() if step.span_id not in gone}
        self.tree.events = [event for event in self.tree.events if event.span_id not in gone]


def _key(event: RunEvent) -> tuple[str, str, str | None]:
    """Return what identifies an event in both the journal and the database."""
    return event.timestamp, event.event_type, event.span_id
