"""The fast way of a run: its start and its end, for spans of the most usual kind.

A root span of the SDK with plain attributes, whose columns a generated function encodes
(`run_plan`), under a generated id; and an end that is a success and adds nothing to what the
start said. For any other span both methods return False before they have had an effect, and
the processor and `RunLines` take their long way. Both ways write the same bytes, which a
property test compares.

On the application's thread. The two methods are long and call little: what a run costs is the
calls, and the places in memory, that it takes.
"""

from __future__ import annotations

import sys
from typing import Any, Final

import orjson
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from otel_agent_telemetry import status as st
from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.columns import STATE_STEP_NS, Fields
from otel_agent_telemetry.otel import conventions as names
from otel_agent_telemetry.otel.live_span import OpenSpan
from otel_agent_telemetry.otel.mapping import agent_name_of, note_agent
from otel_agent_telemetry.otel.run_lines import RunLines
from otel_agent_telemetry.otel.run_plan import Agent, ColumnsEncoder, RunPlan
from otel_agent_telemetry.otel.span_lines import SpanLines
from otel_agent_telemetry.otel.spans import StartParameters, view_of
from otel_agent_telemetry.otel.usage_accumulator import UsageAccumulator
from otel_agent_telemetry.recording.active_runs import ActiveRun
from otel_agent_telemetry.recording.recorder import Recorder
from otel_agent_telemetry.redaction import kept_name
from otel_agent_telemetry.run_id import generate_run_id, span_event_id
from otel_agent_telemetry.wire import SPAN_WORK

_MAX_TITLES: Final = 1_024
_MAX_TITLE: Final = 256

_NO_SETTINGS: Final[dict[str, Any]] = {}


class PlainRuns:
    """Begins and ends plain runs of one recorder. Safe under threads; never waits."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._active = recorder.active
        self._lines = recorder.component(RunLines)
        self._sink = recorder.component(SpanLines)

    def begin(self, span: Any, parent_run_id: str | None, parameters: StartParameters | None) -> bool:
        """Begin the run that a root span of the SDK's own class is; return False where that takes the long way.

        `parent_run_id`: of the run that the process was started in. `parameters`: what the client was given, None for
        any other span.
        """
        bounded, title = span._attributes, span._name
        attributes = bounded._dict.copy()
        settings = _NO_SETTINGS if parameters is None else parameters.settings
        defaults = self._recorder.resource_defaults
        plans = self._lines.plans_of(span._resource)
        plan = plans[tuple(attributes), tuple(settings)]
        encode = plan.encode or plan.encoder(attributes, settings)
        if (
            encode is None
            or plan.decides_start
            or type(title) is not str
            or not (parameters is None or self._is_plain(parameters))
            or bounded.dropped
            or bounded.max_value_len is not None  # then the SDK has to cut the run's id that is set below
            or (bounded.maxlen is not None and len(attributes) >= bounded.maxlen)
        ):
            return False
        if plan.agent_key:
            name = attributes[plan.agent_key]
            agent = Agent(kept_name(name)) if type(name) is str and name else None
        else:
            agent = plans.agents.get(title) or self._agent_by_title(plan, span, plans.agents)
        run = None if agent is None else _run_of(span, agent)
        if run is None:
            return False
        run.settings, run.attributes, run.parent_run_id = settings, attributes, parent_run_id
        run.resource_defaults, run.reports_use = defaults, plan.reports_use(attributes)
        if not self._enter(run, encode):
            return False
        # As the SDK would set it: no text is cut here, and nobody else has the span yet.
        bounded._dict[names.RUN_ID] = run.run_id
        if parameters is not None:
            parameters.run = run
        return True

    def _enter(self, run: ActiveRun, encode: ColumnsEncoder) -> bool:
        """Write the first state of a run; return False, with nothing done, where that takes the long way."""
        recorder, span, started = self._recorder, run.span, run.started_at
        # None until the background has read HEAD: no file is opened here.
        run.start_commit = recorder.commit
        title = kept_name(span._name) or "unknown"
        try:
            columns = encode(run, run.attributes, run.settings, None, (), started, run.agent_name, title)
        except orjson.JSONEncodeError:  # a lone surrogate, a number beyond 64 bits
            return False
        if columns is None:
            return False
        run.encoded = run.encoded_columns = encoded = columns[1:-1] + self._lines.last_members(run, run.start_commit)
        # Encoded before it is entered: a run that others can see must have its columns.
        if not self._active.enter(run):
            return False
        number = span._context[1]
        self._active.open_spans[number] = OpenSpan(run, span, (number, run.span_id), self._sink, run.generation, None)
        if self._active.exporter_present:
            self._active.mark_recorded_live(run.event_id)
        run.state = {"status": st.RUNNING, "updated_at": started}
        run.is_lost = not recorder.append_run(b'%b,"status":"running","updated_at":"%b"}' % (encoded, started.encode()))
        return True

    def _is_plain(self, parameters: StartParameters) -> bool:
        """Return whether the client asked for nothing that takes a longer look."""
        return (
            parameters.run_id is None
            and not parameters.extra
            and self._lines.is_plain_context(parameters.settings.get("context_json"))
        )

    def _agent_by_title(self, plan: RunPlan, span: Any, known: dict[str, Agent]) -> Agent | None:
        """Return, and keep, the agent of spans of one name, where nothing but their name says whose doing they are."""
        if not plan.attributes.leaves_work_to_name:
            return None
        view = view_of(span)
        run = ActiveRun("", "", "", 0, None)
        note_agent(run, view)
        agent = Agent(agent_name_of(view), run.is_agent, run.takes_child_name)
        if len(known) >= _MAX_TITLES:
            known.clear()
        if len(span._name) <= _MAX_TITLE:
            known[span._name] = agent
        return agent

    def end(self, run: ActiveRun, span: ReadableSpan) -> bool:
        """Write the end of a run whose attributes have not changed; return False where that takes the long way."""
        recorder, end_ns, encoded = self._recorder, span._end_time, run.encoded
        interrupted = sys.exc_info()[1]
        if (
            run.status not in (None, st.SUCCESS)
            or run.has_status
            or run.exception is not None
            or span._status.status_code is not StatusCode.UNSET
            or not (interrupted is None or isinstance(interrupted, Exception) or interrupted is run.handled_at_start)
            or not encoded
            or run.has_left_out
            or run.resource_defaults is not recorder.resource_defaults
            or run.reports_use
            or run.has_metrics
            or run.usage.used
            or type(end_ns) is not int
            or end_ns < run.start_ns
            or run.clock_step_ms()
        ):
            return False
        # A run of less than a microsecond, or under a clock that was set back: its end must still be the later state.
        updated_ns = run.updated_ns + STATE_STEP_NS
        ended_at = iso_utc(end_ns)
        state: Fields = {
            "status": st.SUCCESS,
            "end_time": ended_at,
            "duration_ms": (end_ns - run.start_ns) // 1_000_000,
            "updated_at": ended_at if updated_ns <= end_ns else iso_utc(updated_ns),
        }
        if not run.is_agent and (work := self._lines.span_work(run, span, changed=False)) is not None:
            state[SPAN_WORK] = work
        run.updated_ns, run.state = max(end_ns, updated_ns), state
        recorder.append_run(b"%b,%b" % (encoded, orjson.dumps(state)[1:]))
        return True


def _run_of(span: Any, agent: Agent) -> ActiveRun | None:
    """Return the run that a span is, with a generated id; None where ids or time are not what the SDK makes."""
    ids, start_ns = span._context, span._start_time
    if type(start_ns) is not int:
        return None
    try:
        trace_id, span_id = ids[0].to_bytes(16, "big").hex(), ids[1].to_bytes(8, "big").hex()
    except OverflowError:  # of a generator that does not keep to the specification
        return None
    run = ActiveRun(span_event_id(trace_id, span_id, start_ns), trace_id, span_id, start_ns, UsageAccumulator())
    run.agent_name, run.is_agent, run.takes_child_name = agent
    run.run_id = generate_run_id(agent.name, at_ns=start_ns, token=run.event_id[:8])
    run.span, run.handled_at_start = span, sys.exc_info()[1]
    return run
