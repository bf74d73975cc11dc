"""Which run each ended span belongs to, over any number of batches in any order. In memory, bounded.

A batch processor hands spans over as they end, children first, a long run's in many batches.
A span is *settled* when the spans above it are known up to a root, or up to a parent in
another process. Until then it waits. A span that comes again is passed over.

Decides as the live path does: an agent's span that only repeats the run around it is a step.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from opentelemetry.sdk.trace import ReadableSpan

from otel_agent_telemetry.columns import Fields
from otel_agent_telemetry.otel.content import ContentRule
from otel_agent_telemetry.otel.ended_spans import is_run
from otel_agent_telemetry.otel.left_out import sum_of
from otel_agent_telemetry.otel.mapping import agent_name_of, note_agent, repeats
from otel_agent_telemetry.otel.spans import SpanView
from otel_agent_telemetry.otel.usage import usage_of_step
from otel_agent_telemetry.otel.usage_accumulator import UsageAccumulator
from otel_agent_telemetry.recording.active_runs import ActiveRun
from otel_agent_telemetry.run_id import span_event_id
from otel_agent_telemetry.usage import Usage, summed

_MAX_SPANS: Final = 20_000
"""Spans that are remembered; beyond it the trace that was quiet for longest is forgotten."""
_UNDECIDED: Final = -2

_Key = tuple[str, str | None]

RuleFor = Callable[[SpanView], ContentRule]
"""Returns what is message content in a span."""


class EndedSpan:
    """One ended span. `span` is None once a step was recorded: only its usage is needed then.

    It is None, too, where the span is missing and known from the spans below it: `state` is its run's.
    """

    __slots__ = (
        *("above", "depth", "key", "may_be_run", "parent", "run", "run_above", "span", "start_ns", "usage", "view"),
        *("left_out", "left_out_of_events", "state", "written"),
    )

    def __init__(self, span: ReadableSpan | None, view: SpanView, rule: ContentRule, *, may_be_run: bool) -> None:
        self.span = span
        self.view = view
        self.key: _Key = (view.trace_id, view.span_id)
        self.start_ns = view.start_ns
        is_here = span is not None and span.parent is not None and not span.parent.is_remote
        self.parent: _Key | None = (view.trace_id, view.parent_span_id) if is_here else None
        self.may_be_run = may_be_run
        self.usage = usage_of_step(view)
        self.left_out = rule.keep(view.attributes)[1]
        self.left_out_of_events = sum_of(
            rule.keep_of_event(event.name, event.attributes or {})[1] for event in (span.events if span else ())
        )
        self.state: Fields | None = None
        self.above: EndedSpan | None = None
        self.depth = 0
        """Number of spans above it, -1 while they are not all known."""
        self.run: ActiveRun | None = None
        """The run that the span is."""
        self.run_above: EndedSpan | None = None
        """The run that the span belongs to, or is inside of."""
        self.written: object = None
        """What was recorded of it last."""

    def forget(self) -> None:
        """Keep what later spans need to find their place."""
        if not self.may_be_run:
            self.span, self.view = None, self.view._replace(attributes={})


class EndedTraces:
    """The spans of recent traces. Not safe under threads."""

    def __init__(self, runs: str) -> None:
        self._runs = runs
        self._traces: dict[str, list[EndedSpan]] = {}
        self._known: dict[_Key, list[EndedSpan]] = {}
        self._steps: defaultdict[int, list[EndedSpan]] = defaultdict(list)
        """id of a run → its steps, in the trace that is being settled."""
        self._count = 0

    def add(self, spans: Iterable[tuple[ReadableSpan, SpanView]], rule_for: RuleFor) -> set[str]:
        """Add spans that are new; return their traces."""
        traces = set()
        for span, view in spans:
            one = EndedSpan(span, view, rule_for(view), may_be_run=is_run(view, self._runs))
            same = self._known.setdefault(one.key, [])
            # A batch that an exporter sends again; spans that only share their ids differ in the start.
            if any(other.start_ns == one.start_ns for other in same):
                continue
            same.append(one)
            same.sort(key=_start)
            of_trace = self._traces.pop(view.trace_id, [])
            of_trace.append(one)
            self._traces[view.trace_id] = of_trace  # last: the trace that was heard of most recently
            self._count += 1
            traces.add(view.trace_id)
        return traces

    def settled(self, traces: Iterable[str], *, all_of_them: bool = False) -> Iterator[EndedSpan]:
        """Yield the spans of these traces whose place is known, runs before what belongs to them.

        `all_of_them`: also those that would wait for a span above them.
        """
        for trace in traces:
            spans = sorted(self._traces.get(trace, ()), key=_start)
            for one in spans:
                one.above = self._parent_of(one)
                one.depth = _UNDECIDED
                if one.run is not None:
                    # Decided anew: an agent that began earlier may have arrived since, and names the run now.
                    one.run.child_agent = None
            for one in spans:
                self._settle(one)
            self._steps = defaultdict(list)
            for one in spans:
                if one.run is None and one.run_above is not None:
                    self._steps[id(one.run_above)].append(one)
            known = [one for one in spans if all_of_them or one.depth >= 0]
            yield from (one for one in known if one.run is not None)
            yield from (one for one in known if one.run is None and one.run_above is not None)

    def unplaced(self, trace: str) -> list[EndedSpan]:
        """Return the spans of a trace without a run that `settled` lets wait for a span above them."""
        return [one for one in self._traces[trace] if one.depth < 0 and one.run is None and one.run_above is None]

    def add_missing(self, one: EndedSpan) -> None:
        """Add a span that is known from those below it only."""
        self._known.setdefault(one.key, []).append(one)
        self._traces[one.view.trace_id].append(one)
        self._count += 1

    def traces(self) -> list[str]:
        """Return the traces that are remembered."""
        return list(self._traces)

    def overflowing(self) -> Iterator[str]:
        """Yield the traces that have to go, each of which the caller then lets go by `forget`."""
        # Never the last one: a single trace of any size is recorded whole.
        while self._count > _MAX_SPANS and len(self._traces) > 1:
            yield next(iter(self._traces))

    def forget(self, trace: str) -> None:
        """Forget the spans of a trace."""
        spans = self._traces.pop(trace)
        self._count -= len(spans)
        for one in spans:
            self._known.pop(one.key, None)

    def used_by(self, run: EndedSpan) -> Usage:
        """Return what the steps of a run used, which `settled` has just yielded."""
        steps = self._steps[id(run)]
        places = {id(one): place for place, one in enumerate(steps)}
        return summed([(one.usage, places.get(id(one.above), -1)) for one in steps])

    def left_out_of(self, run: EndedSpan) -> Mapping[str, int]:
        """Return what is left out of a run's steps and events as message content."""
        steps = self._steps[id(run)]
        of_events = (one.left_out_of_events for one in (run, *steps))
        return sum_of([*of_events, *(one.left_out for one in steps)])

    def _parent_of(self, one: EndedSpan) -> EndedSpan | None:
        """Return the parent: of several spans with its ids the last one that had begun, else the first."""
        if one.parent is None:
            return None
        known = [other for other in self._known.get(one.parent, ()) if other is not one]
        earlier = [other for other in known if other.start_ns <= one.start_ns]
        return earlier[-1] if earlier else known[0] if known else None

    def _settle(self, one: EndedSpan) -> None:
        """Decide what a span is and belongs to, after the spans above it."""
        way: list[EndedSpan] = []
        at: EndedSpan | None = one
        while at is not None and at.depth == _UNDECIDED:
            at.depth = -1  # ends a circle of parents
            way.append(at)
            at = at.above
        for at in reversed(way):
            above = at.above
            if above is None:
                at.depth = 0 if at.parent is None else -1
            else:
                at.depth = above.depth + 1 if above.depth >= 0 else -1
            at.run_above = None if above is None else above if above.run is not None else above.run_above
            self._decide(at)

    def _decide(self, one: EndedSpan) -> None:
        """Decide whether a span is a run."""
        around = one.run_above.run if one.run_above is not None else None
        if not one.may_be_run or (around is not None and repeats(one.view, around)):
            one.run = None
        elif one.run is None:
            one.run = run_of(one.view)


def _start(one: EndedSpan) -> tuple[int, str]:
    """Return what orders spans: their start, and the id for those of one instant."""
    return one.start_ns, one.view.span_id


def run_of(view: SpanView) -> ActiveRun:
    """Return the run that an ended span is, with what later spans are compared to: its name, or that it has none."""
    event_id = span_event_id(view.trace_id, view.span_id, view.start_ns)
    run = ActiveRun(event_id, view.trace_id, view.span_id, view.start_ns, UsageAccumulator())
    run.agent_name = agent_name_of(view)
    note_agent(run, view)
    return run
