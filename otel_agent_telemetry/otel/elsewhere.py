"""Spans of no run in this process: those below a span of another process, or below a root that is no run.

An agent's span among them is a run. Where its attributes come only after its start (Google ADK,
Strands) it becomes one when the next span begins inside it, or at its end (`late_runs`). What has
ended inside it by then is kept in memory, and written as its steps. What comes to lie in no run
is forgotten when the outermost span ends: it was never on a disk.

On the application's thread; never waits. Takes no lock: of two threads each span goes to one.
"""

from __future__ import annotations

import contextlib
from collections import deque
from typing import Any, Final

from opentelemetry import context as otel_context
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from otel_agent_telemetry.clock import instant_ns
from otel_agent_telemetry.otel.live_span import OpenSpan
from otel_agent_telemetry.otel.span_lines import SpanLines
from otel_agent_telemetry.otel.spans import SpanView, attributes_of, parent_run_of, remote_parent
from otel_agent_telemetry.otel.step_usage import StepUsage
from otel_agent_telemetry.otel.usage_accumulator import UsageAccumulator
from otel_agent_telemetry.recording.active_runs import ActiveRun
from otel_agent_telemetry.recording.recorder import Recorder
from otel_agent_telemetry.redaction import kept_run_id
from otel_agent_telemetry.run_id import span_event_id
from otel_agent_telemetry.usage import Usage

_MAX_KEPT: Final = 2_000
"""Ended spans that are kept below one outermost span: of more, the first are steps of no run, but counted."""


class RunElsewhere(ActiveRun):
    """The run of another process that spans of this one are in. Never written; `run_id` is empty where unknown."""

    def __init__(self, span: ReadableSpan, trace_id: str, span_id: str, run_id: str) -> None:
        super().__init__("", trace_id, span_id, instant_ns(span.start_time, 0), UsageAccumulator())
        self.run_id, self.is_elsewhere = run_id, True
        self.kept: deque[tuple[OpenSpan, ReadableSpan]] = deque(maxlen=_MAX_KEPT)
        """Spans that have ended, in the order of their ends, while one around them is open."""


class SpanElsewhere(OpenSpan):
    """An open span of no run in this process. Its events are not observed: an ended span has them."""

    def __init__(
        self, run: RunElsewhere, live: Any, ids: tuple[int, str], known: tuple[Any, object], above: OpenSpan | None
    ) -> None:
        super().__init__(run, None, ids, *known, above)
        self.live, self.elsewhere, self.changed = live, run, True
        self.is_run, self.inside = False, []

    def _shadow_add_event(self) -> None:
        """Leave the span as it is."""

    def detach(self) -> None:
        """Leave the span as it is."""


class Elsewhere:
    """Keeps one recorder's spans of no run in this process, until they are a run's."""

    def __init__(self, recorder: Recorder) -> None:
        self._config = recorder.config
        self._active = recorder.active
        self._lines = recorder.component(SpanLines)
        self._usage = recorder.component(StepUsage)
        self._started_in = remote_parent(recorder.config.trace_parent)

    def parent_of(self, span: ReadableSpan, context: otel_context.Context) -> str | None:
        """Return the parent run in another process: by baggage, else by this process's environment."""
        parent_run_id = parent_run_of(context) if context else None
        if parent_run_id is None and self._config.parent_run_id is not None and self._begins_here(span):
            parent_run_id = self._config.parent_run_id
        return None if parent_run_id is None else kept_run_id(parent_run_id)

    def _begins_here(self, span: ReadableSpan) -> bool:
        """Return whether a span is the first of this process: without a parent, or below the environment's span."""
        parent, started_in = span.parent, self._started_in
        return parent is None or (started_in is not None and parent.span_id == started_in.span_id)

    def begin(
        self, span: ReadableSpan, ids: tuple[Any, ...], context: otel_context.Context, above: OpenSpan | None
    ) -> None:
        """Note a span that begins, below one of no run in this process or as the first here."""
        trace_id, span_id = f"{ids[0]:032x}", f"{ids[1]:016x}"
        if isinstance(above, SpanElsewhere):
            run = above.elsewhere
        else:
            run = RunElsewhere(span, trace_id, span_id, self.parent_of(span, context) or "")
        known = self._lines, self._active.generation
        self._active.open_spans[ids[1]] = SpanElsewhere(run, span, (ids[1], span_id), known, above)
        if self._active.exporter_present:
            self._active.mark_recorded_live(span_event_id(trace_id, span_id, instant_ns(span.start_time, 0)))

    def end(self, opened: SpanElsewhere, span: ReadableSpan) -> None:
        """Keep a span that has ended while it may come to lie in a run; write it where it does already."""
        run = opened.enclosing_run()
        if run.is_elsewhere:
            used, view = self._used_by(span)
            opened.elsewhere.kept.append((opened, span))
        else:
            used, view = self._write_step(opened, span, run)
        self._usage.add(opened, used, may_be_call=view is not None)
        if opened.above is None:
            self._forget(opened.elsewhere)

    def write_inside(self, opened: OpenSpan, span: ReadableSpan, elsewhere: RunElsewhere) -> None:
        """Write the events so far of a span that has become a run, and what has ended inside it as its steps."""
        self._write_events(opened, span)
        with contextlib.suppress(IndexError):  # another span becomes a run in another thread
            for _ in range(len(elsewhere.kept)):
                step, ended = elsewhere.kept.popleft()
                if step.enclosing_run() is opened.run:
                    self._write_step(step, ended, opened.run)
                else:
                    elsewhere.kept.append((step, ended))

    def _used_by(self, span: ReadableSpan) -> tuple[Usage, SpanView | None]:
        """Return what a span used that is a step of another process's run."""
        is_error = span.status.status_code is StatusCode.ERROR
        return self._lines.used_by(span, attributes_of(span), is_error=is_error)

    def _write_step(self, opened: OpenSpan, span: ReadableSpan, run: ActiveRun) -> tuple[Usage, SpanView | None]:
        """Write a span, with its events, as a step of a run that it turns out to be in."""
        opened.run = run
        self._write_events(opened, span)
        return self._lines.write_step_end(opened, span)

    def _write_events(self, opened: OpenSpan, span: ReadableSpan) -> None:
        """Write the events that the span has kept, which may be fewer than it had."""
        # Of a span that is known only from its end: the SDK keeps the last 128 events.
        for event in span.events:
            self._lines.record_event(opened, event.name, event.attributes, event.timestamp)

    def _forget(self, elsewhere: RunElsewhere) -> None:
        """Forget what no open span is around any more, when the outermost span has ended."""
        elsewhere.ended = True
        elsewhere.kept = deque((kept for kept in elsewhere.kept if _is_inside_open(kept[0])), _MAX_KEPT)


def _is_inside_open(opened: OpenSpan) -> bool:
    """Return whether a span around this one is still open."""
    at = opened.above
    while at is not None and at.ended:
        at = at.above
    return at is not None
