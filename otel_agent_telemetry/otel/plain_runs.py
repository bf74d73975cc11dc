"""The fast way of a run: its start and its end, for spans of the most usual kind.

A root span of the SDK with plain attributes, whose columns a generated function encodes
(`run_plan`), under a generated id; and an end that is a success, whose columns are those of the
start or are encoded anew by such a function. For any other span both methods return False before
they have had an effect, and the processor and `RunLines` take their long way. Both ways write the
same bytes, which a property test compares.

On the application's thread. The two methods are long and call little: what a run costs is the
calls, and the places in memory, that it takes.
"""

from __future__ import annotations

import sys
from typing import Any, Final

import orjson
from opentelemetry.trace import StatusCode

from otel_agent_telemetry import status as st
from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.columns import STATE_STEP_NS, Fields
from otel_agent_telemetry.otel import conventions as names
from otel_agent_telemetry.otel.live_span import FIRST_STATUS, OpenSpan
from otel_agent_telemetry.otel.mapping import agent_name_of, note_agent
from otel_agent_telemetry.otel.run_lines import RunLines
from otel_agent_telemetry.otel.run_plan import MAX_NAME, Agent, ColumnsEncoder, RunPlan, RunPlans, keep
from otel_agent_telemetry.otel.span_lines import SpanLines
from otel_agent_telemetry.otel.span_work import last_members
from otel_agent_telemetry.otel.spans import StartParameters, view_of
from otel_agent_telemetry.otel.usage_accumulator import UsageAccumulator
from otel_agent_telemetry.recording.active_runs import ActiveRun
from otel_agent_telemetry.recording.recorder import Recorder
from otel_agent_telemetry.run_id import name_in_id, span_event_id, stamp_in_id
from otel_agent_telemetry.wire import SPAN_WORK

_NO_SETTINGS: Final[dict[str, Any]] = {}
_NS: Final = 1_000_000_000


class PlainRuns:
    """Begins and ends plain runs of one recorder. Safe under threads; never waits."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._active = recorder.active
        self._lines = recorder.component(RunLines)
        self._sink = recorder.component(SpanLines)
        self._known: tuple[object, object, RunPlans | None] = (None, None, None)
        """The resource of the last run, the defaults at that time, and the plans that belong to both."""

    def begin(self, span: Any, parent_run_id: str | None, parameters: StartParameters | None) -> bool:
        """Begin the run that a root span of the SDK's own class is; return False where that takes the long way.

        `parent_run_id`: of the run that the process was started in. `parameters`: what the client was given, None for
        any other span.
        """
        bounded = span._attributes
        attributes = bounded._dict.copy()
        settings = _NO_SETTINGS if parameters is None else parameters.settings
        resource, defaults, plans = self._known
        if plans is None or resource is not span._resource or defaults is not self._recorder.resource_defaults:
            plans, defaults = self._plans_of(span._resource)
        plan = plans[tuple(attributes), tuple(settings)]
        encode = plan.encode or plan.encoder(attributes, settings)
        if (
            encode is None
            or plan.decides_start
            or (parameters is not None and not self._is_plain(parameters))
            or bounded.dropped
            or bounded.max_value_len is not None  # then the SDK has to cut the run's id that is set below
            or (bounded.maxlen is not None and len(attributes) >= bounded.maxlen)
        ):
            return False
        agent = self._agent_of(span, attributes, plan, plans)
        run = None if agent is None else _run_of(span, agent)
        if run is None:
            return False
        run.settings, run.attributes, run.parent_run_id = settings, attributes, parent_run_id
        run.resource_defaults, run.reports_use = defaults, plan.reports_use(attributes)
        if not self._enter(run, encode, plans):
            return False
        # As the SDK would set it: no text is cut here, and nobody else has the span yet.
        bounded._dict[names.RUN_ID] = run.run_id
        if parameters is not None:
            parameters.run = run
        return True

    def _plans_of(self, resource: Any) -> tuple[RunPlans, object]:
        """Return, and remember, the plans of runs with a resource, and the defaults that they were made with."""
        defaults = self._recorder.resource_defaults
        plans = self._lines.plans_of(resource)
        self._known = resource, defaults, plans
        return plans, defaults

    def _enter(self, run: ActiveRun, encode: ColumnsEncoder, plans: RunPlans) -> bool:
        """Write the first state of a run; return False, with nothing done, where that takes the long way."""
        recorder, active, span, started = self._recorder, self._active, run.span, run.started_at
        # None until the background has read HEAD: no file is opened here.
        run.start_commit = commit = recorder.commit
        title = plans.titles[span._name]
        try:
            columns = encode(run, run.attributes, run.settings, None, (), started, run.agent_name, title)
        except orjson.JSONEncodeError:  # a lone surrogate, a number beyond 64 bits
            return False
        if columns is None:
            return False
        run.encoded = run.encoded_columns = encoded = columns[1:-1] + last_members(run, commit)
        # Encoded before it is entered: a run that others can see must have its columns.
        if not active.enter(run):
            return False
        number = span._context[1]
        active.open_spans[number] = OpenSpan(run, span, (number, run.span_id), self._sink, run.generation, None)
        if active.exporter_present:
            active.mark_recorded_live(run.event_id)
        run.state = {"status": st.RUNNING, "updated_at": started}
        run.is_lost = not recorder.append_run(encoded, b'"status":"running","updated_at":"%b"}' % started.encode())
        return True

    def _is_plain(self, parameters: StartParameters) -> bool:
        """Return whether the client asked for nothing that takes a longer look."""
        return (
            parameters.run_id is None
            and not parameters.extra
            and self._lines.is_plain_context(parameters.settings.get("context_json"))
        )

    def _agent_of(self, span: Any, attributes: dict[str, Any], plan: RunPlan, plans: RunPlans) -> Agent | None:
        """Return whose doing a run is, and keep it; None where only a longer look says so."""
        name = attributes[plan.agent_key] if plan.agent_key else span._name
        if type(name) is not str or type(span._name) is not str:
            return None
        if plan.agent_key:
            return plans.named[name]
        if not plan.attributes.leaves_work_to_name:  # then not the name alone says whose doing it is
            return None
        agent = plans.agents.get(name)
        if agent is None:
            view = view_of(span)
            run = ActiveRun("", "", "", 0, None)
            note_agent(run, view)
            known = agent_name_of(view)
            agent = Agent(known, name_in_id(known), run.is_agent, run.takes_child_name)
            if len(name) <= MAX_NAME:
                keep(plans.agents, name, agent)
        return agent

    def end(self, run: ActiveRun, span: Any, *, changed: bool) -> bool:
        """Write the end of a run that is a success; return False where that takes the long way.

        `changed`: whether attributes were set since the start.
        """
        recorder, end_ns, encoded = self._recorder, span._end_time, run.encoded
        interrupted = sys.exc_info()[1]
        if (
            (run.status is not None and run.status != st.SUCCESS)
            or run.has_status
            or run.exception is not None
            or (span._status is not FIRST_STATUS and span._status.status_code is not StatusCode.UNSET)
            or not (interrupted is None or isinstance(interrupted, Exception) or interrupted is run.handled_at_start)
            or run.has_left_out
            or run.has_metrics
            or type(end_ns) is not int
            or end_ns < run.start_ns
            or run.clock_step_ms()
        ):
            return False
        if changed or not encoded or run.resource_defaults is not recorder.resource_defaults:
            encoded = self._columns_of_end(run, span)
            if not encoded:
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
        run.updated_ns, run.state = max(end_ns, updated_ns), state
        if run.reports_use or run.usage.used:
            self._lines.add_usage(run, span, state)
        if not run.is_agent and (work := self._lines.span_work(run, span, changed=changed)) is not None:
            state[SPAN_WORK] = work
        recorder.append_run(encoded, orjson.dumps(state)[1:])
        return True

    def _columns_of_end(self, run: ActiveRun, span: Any) -> bytes:
        """Encode a run's columns anew when it ends, from what was set since; empty where that takes the long way."""
        bounded, settings, recorder = span._attributes, run.settings, self._recorder
        attributes = bounded._dict.copy()
        if attributes.pop(names.STATUS, None) is not None and run.status is None:
            return b""
        if attributes.get(names.RUN_ID) == run.run_id:
            del attributes[names.RUN_ID]
        plans, defaults = self._plans_of(span._resource)
        plan = plans[tuple(attributes), tuple(settings)]
        encode, agent = plan.encode or plan.encoder(attributes, settings), self._agent_of(span, attributes, plan, plans)
        if (
            encode is None
            or agent is None
            or (run.child_agent and not plan.agent_key)
            or run.reported_usage
            or run.left_out
            or run.extra
            or bounded.dropped
            or not self._lines.is_plain_context(settings.get("context_json"))
        ):
            return b""
        try:
            columns = encode(run, attributes, settings, None, (), run.started_at, agent.name, plans.titles[span._name])
        except orjson.JSONEncodeError:  # as at the start
            return b""
        if columns is None:
            return b""
        run.attributes, run.resource_defaults, run.reports_use = attributes, defaults, plan.reports_use(attributes)
        commit = recorder.first_commit if run.start_commit is None else run.start_commit
        encoded = columns[1:-1] + last_members(run, commit)
        run.set_columns(encoded)
        return encoded


def _run_of(span: Any, agent: Agent) -> ActiveRun | None:
    """Return the run that a span is, with a generated id; None where ids or time are not what the SDK makes."""
    ids, start_ns = span._context, span._start_time
    if type(start_ns) is not int:
        return None
    try:
        trace_id, span_id = ids[0].to_bytes(16, "big").hex(), ids[1].to_bytes(8, "big").hex()
    except OverflowError:  # of a generator that does not keep to the specification
        return None
    event_id = span_event_id(trace_id, span_id, start_ns)
    run = ActiveRun(event_id, trace_id, span_id, start_ns, UsageAccumulator())
    run.agent_name, name, run.is_agent, run.takes_child_name = agent
    run.run_id = f"{stamp_in_id(start_ns // _NS)}-{name}-{event_id[:8]}"
    run.span, run.handled_at_start = span, sys.exc_info()[1]
    return run
