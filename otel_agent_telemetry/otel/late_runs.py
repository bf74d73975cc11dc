"""Agents' spans below others: runs of their own, or repeats of what is around them, decided when their attributes come.

A framework may set a span's attributes only after its start (Google ADK, Strands). Such a span
begins as a step and becomes a run at its end; what began inside it meanwhile moves to that run.
Nothing that was written is rewritten. Below no run of this process (`elsewhere`) it is a run as
soon as a span begins inside it, because until then nothing of it is on a disk.

On the application's thread. Not a part of what every span goes through: the processor asks
only about spans whose attributes may be an agent's.
"""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.trace import ReadableSpan

from otel_agent_telemetry.clock import instant_ns
from otel_agent_telemetry.last_error import EXCEPTION
from otel_agent_telemetry.otel import conventions as names
from otel_agent_telemetry.otel.elsewhere import Elsewhere, SpanElsewhere
from otel_agent_telemetry.otel.live_span import OpenSpan
from otel_agent_telemetry.otel.mapping import agent_name_of, note_agent, own_agent_name, repeats
from otel_agent_telemetry.otel.run_lines import RunLines
from otel_agent_telemetry.otel.span_lines import SpanLines
from otel_agent_telemetry.otel.spans import SpanView, attributes_of, view_of
from otel_agent_telemetry.otel.usage_accumulator import UsageAccumulator, take_inside
from otel_agent_telemetry.recording.active_runs import ActiveRun
from otel_agent_telemetry.recording.recorder import Recorder
from otel_agent_telemetry.run_id import span_event_id


class LateRuns:
    """Decides for one recorder which agents' spans are runs. Safe under threads; never waits."""

    def __init__(self, recorder: Recorder) -> None:
        self._active = recorder.active
        self._takes_agents = recorder.config.runs != "marked"
        self._elsewhere = recorder.component(Elsewhere)
        self._lines = recorder.component(RunLines)
        self._span_lines = recorder.component(SpanLines)

    def is_agent_run(self, span: ReadableSpan, attributes: dict[str, Any]) -> bool:
        """Return whether a span's attributes make it a run."""
        plan = self._span_lines.plans[tuple(attributes)]
        if plan.is_marked:
            return True
        return plan.may_be_agent and self._takes_agents and plan.kind_of(attributes, str(span.name)) == names.AGENT

    def repeats_run(self, view: SpanView, above: OpenSpan) -> bool:
        """Return whether an agent's span repeats the run, or the step that turns into a run, around it."""
        run = self._agent_around(above)
        self._look_at_earlier(run)
        if not self._is_part_of(view, run):
            return False
        event_id = span_event_id(view.trace_id, view.span_id, view.start_ns)
        self._active.mark_recorded_live(event_id)  # an exporter beside us must not record it as a run
        return True

    def take_name(self, run: ActiveRun, view: SpanView) -> None:
        """Let a run that names no agent take the name of a span that repeats it."""
        run.child_agent = own_agent_name(view)
        self._set_adopted_name(run, None)

    def has_become_run(self, opened: OpenSpan, span: ReadableSpan) -> bool:
        """Return whether a step turns out to be a run: an agent's whose attributes came after its start."""
        if not self._may_become_run(span):
            return False
        return opened.late_run is not None or opened.above is None or not self.repeats_run(view_of(span), opened.above)

    def turn_into_run(self, opened: OpenSpan, span: ReadableSpan) -> list[ActiveRun]:
        """Let a step that has ended be a run from now on; return the runs inside it, for `move_inside`."""
        outer = opened.enclosing_run()
        ids = span.get_span_context()
        assert ids is not None, "the SDK gives every recorded span a context"
        run = opened.late_run or new_run(span, (ids.trace_id, ids.span_id))
        run.span, run.start_commit = span, outer.start_commit
        raised = (dict(event.attributes or {}) for event in reversed(span.events) if event.name == EXCEPTION)
        run.exception = next(raised, None)
        runs = self._take_over(opened, run, outer)
        self._lines.start_late_run(run, span)
        if not outer.is_elsewhere:
            self._span_lines.write_late_step(span, outer, run)
        if isinstance(opened, SpanElsewhere):
            self._elsewhere.write_inside(opened, span, opened.elsewhere)
        return runs

    def begun(self, opened: OpenSpan) -> OpenSpan:
        """Let an open span of no run in this process be a run from now on, if it says by now that it is an agent's.

        Returns what is known of the span from then on.
        """
        run = None if opened.is_run or opened.ended else self._late_run(opened)
        if run is None or not isinstance(opened, SpanElsewhere):
            return opened
        known = opened.sink, self._active.generation, opened.above
        live = OpenSpan(run, opened.live, (opened.number, opened.span_id), *known)
        runs = self._take_over(opened, run, opened.enclosing_run())
        self._active.open_spans[opened.number] = live
        self._lines.start_run(run, wanted=None)
        live.set_unobserved(names.RUN_ID, run.run_id)
        self._elsewhere.write_inside(live, opened.live, opened.elsewhere)
        self.move_inside(runs, run)
        return live

    def begin_open(self) -> None:
        """Let the open agents' spans of no run in this process be runs: the process is about to end."""
        for opened in list(self._active.open_spans.values()):
            if opened.run.is_elsewhere and opened.generation is self._active.generation:
                self.begun(opened)

    def _take_over(self, opened: OpenSpan, run: ActiveRun, outer: ActiveRun) -> list[ActiveRun]:
        """Give a run what was used in the step that becomes it; return the runs that began in that."""
        used, runs = take_inside(opened.inside)
        if used:
            run.usage.add(used)
        run.parent_run_id = outer.run_id or None
        self._active.mark_recorded_live(run.event_id)
        if opened.above is not None:
            note_inside(opened.above, run)
        opened.run, opened.is_run, outer.has_late_runs = run, True, True
        return [inner for inner in runs if inner.parent_run_id == run.parent_run_id]

    def move_inside(self, runs: list[ActiveRun], run: ActiveRun) -> None:
        """Let runs that began inside a step belong to the run that it has turned into."""
        for inner in runs:
            if self._active.is_mine(inner):
                self._lines.move_run(inner, run)

    def _is_part_of(self, view: SpanView, run: ActiveRun) -> bool:
        """Return whether an agent's span repeats a run, which may take its name from it."""
        name = run.child_agent
        if not repeats(view, run):
            return False
        self._set_adopted_name(run, name)
        return True

    def _look_at_earlier(self, run: ActiveRun) -> None:
        """Let agents that began before, and have said so only since, give a run its name first, if it needs one."""
        if not run.takes_child_name or run.child_agent is not None:
            return
        for opened in list(self._active.open_spans.values()):  # in order of their start; once a run that names no agent
            above = opened.above
            if opened.is_run or opened.ended or not opened.changed or above is None:
                continue
            if self._may_become_run(opened.live) and self._agent_around(above, looks=False) is run:
                self._late_run(opened, looks=False)

    def _agent_around(self, above: OpenSpan, *, looks: bool = True) -> ActiveRun:
        """Return the run around a span, also one that a step around it will be when it ends.

        `looks`: whether agents that began earlier are asked first for the name of a run that needs one.
        """
        at: OpenSpan | None = above
        while at is not None and not at.is_run:
            if at.changed and not at.ended and (late := self._late_run(at, looks=looks)) is not None:
                return late
            at = at.above
        if at is None:
            return above.run
        if at.changed and not at.ended and "agent_name" not in at.run.settings:
            view = view_of(at.live)
            at.run.agent_name = agent_name_of(view)
            note_agent(at.run, view)
        return at.run

    def _late_run(self, opened: OpenSpan, *, looks: bool = True) -> ActiveRun | None:
        """Return the run that an open step will be by what its attributes say now; None for a step."""
        if opened.late_run is None and self._may_become_run(opened.live):
            view = view_of(opened.live)
            around = None if opened.above is None else self._agent_around(opened.above, looks=looks)
            if looks and around is not None:
                self._look_at_earlier(around)
            if opened.late_run is None and (around is None or not self._is_part_of(view, around)):
                ids = opened.live.get_span_context()
                opened.late_run = new_run(opened.live, (ids.trace_id, ids.span_id))
                opened.late_run.span, opened.late_run.agent_name = opened.live, agent_name_of(view)
                note_agent(opened.late_run, view)
        return opened.late_run

    def _may_become_run(self, span: ReadableSpan) -> bool:
        """Return whether the attributes of a span that began as a step make it a run now."""
        attributes = attributes_of(span)
        return names.PART_OF not in attributes and self.is_agent_run(span, attributes)

    def _set_adopted_name(self, run: ActiveRun, before: str | None) -> None:
        """Set a name that was adopted on the run's own span, so that it has it wherever the span goes."""
        if run.child_agent is not None and before is None and run.span is not None and not run.ended:
            run.encoded = b""
            run.span.set_attribute(names.AGENT_NAME, run.child_agent)


def new_run(span: ReadableSpan, ids: tuple[Any, ...]) -> ActiveRun:
    """Return the run that a span is, without an id; `ids` begin with its trace id and its span id."""
    trace_id, span_id, start_ns = f"{ids[0]:032x}", f"{ids[1]:016x}", span.start_time
    if type(start_ns) is not int:
        start_ns = instant_ns(start_ns, 0)
    return ActiveRun(span_event_id(trace_id, span_id, start_ns), trace_id, span_id, start_ns, UsageAccumulator())


def note_inside(above: OpenSpan, run: ActiveRun) -> None:
    """Note a run inside a step, which moves to the step where that turns out to be a run too."""
    if not above.is_run and not above.ended:
        above.inside.append(run)
