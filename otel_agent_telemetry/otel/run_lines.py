"""From open spans to the lines of the journal and the buffer that the states of a run are.

What the states of a run share is encoded once. A state is those members, as they were
encoded at the start while nothing has changed, and a few of its own:

    run line   = head seq "," columns "," state
    columns    = members of every column but those of the state
    state      = status, updated_at, and at the end end_time, duration_ms, error_*, metrics_json

Spans with plain attributes take the fast way of `attribute_plan`; all others the long way of
`mapping`. Both give the same members.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan

from otel_agent_telemetry import status as st
from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.columns import SCHEMA_VERSION, STATE_STEP_NS, Fields
from otel_agent_telemetry.otel import conventions as names
from otel_agent_telemetry.otel.endings import Ending, error_fields
from otel_agent_telemetry.otel.left_out import NOTHING, left_out_of, sum_of
from otel_agent_telemetry.otel.mapping import (
    Overrides,
    agent_name_of,
    conventional_of_resource,
    differing,
    note_agent,
    run_columns,
)
from otel_agent_telemetry.otel.people_and_labels import resource_columns
from otel_agent_telemetry.otel.plain_totals import plain_total
from otel_agent_telemetry.otel.run_plan import RunPlan, RunPlans, in_order
from otel_agent_telemetry.otel.span_lines import SpanLines
from otel_agent_telemetry.otel.span_work import SenderOfResource, last_members, span_work_of
from otel_agent_telemetry.otel.spans import attributes_of, has_dropped_attributes, resource_of, view_of
from otel_agent_telemetry.recording.active_runs import ActiveRun
from otel_agent_telemetry.recording.recorder import Recorder
from otel_agent_telemetry.redaction import NAME_MEMBERS, VALUE_MEMBERS, kept_name, mask_columns
from otel_agent_telemetry.usage import LEFT_OUT_KEY, USAGE_KEY, Usage, failure_of_last_call
from otel_agent_telemetry.wire import AGENT_WORK, NO_WORK, SPAN_WORK, dumps_text, encode_members

_DECIDED_BY_STATE: Final = ("duration_ms", "end_time", "status", "updated_at")
_MAX_RESOURCES: Final = 16
_RESERVED: Final = frozenset({USAGE_KEY, LEFT_OUT_KEY}) | NAME_MEMBERS | VALUE_MEMBERS
"""Members of `context_json` that mean something beside others, whoever gives those."""


class RunLines:
    """Writes the states of one recorder's runs. Safe under threads; never raises but for a bug of ours."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._known_sender = SenderOfResource(None, is_coding_agent=False, has_rules=False)
        self.plans = recorder.component(SpanLines).plans
        self._known_plans: dict[int, tuple[Resource, object, RunPlans]] = {}

    def start_run(self, run: ActiveRun, *, wanted: object) -> None:
        """Give a run its id and write its first state.

        `wanted`: the custom id that the client was given; else the span's attribute counts.
        """
        span = run.span
        attributes = attributes_of(span)
        if names.STATUS in attributes:
            run.has_status = attributes.pop(names.STATUS) is not None
        view, name = None, run.agent_name or self.plans[tuple(attributes)].agent_name_in(attributes)
        if not name:
            view = view_of(span)
            name = agent_name_of(view)
        wanted = attributes.get(names.RUN_ID) if wanted is None else wanted
        recorder = self._recorder
        # The name is a part of the run's id.
        recorder.active.claim(run, wanted=wanted, agent_name=kept_name(name), token=run.event_id[:8])
        if attributes.get(names.GEN_AI_AGENT_NAME) or attributes.get(names.AGENT_NAME):
            run.is_agent = True
        else:
            note_agent(run, view or view_of(span))
        run.start_commit = recorder.commit
        if recorder.resource_defaults.content_for:
            recorder.component(SpanLines).mark_chosen(run, attributes)
        self._refresh(run, span, attributes)
        started = run.started_at
        run.state = {"status": st.RUNNING, "updated_at": started}
        run.is_lost = not recorder.append_run(run.encoded, b'"status":"running","updated_at":"%b"}' % started.encode())

    def start_late_run(self, run: ActiveRun, span: ReadableSpan) -> None:
        """Give a run its id whose span was a step until its end. Writes nothing: its first state is its last."""
        wanted = attributes_of(span).get(names.RUN_ID)
        name = agent_name_of(view_of(span), run.child_agent)
        self._recorder.active.claim(run, wanted=wanted, agent_name=name, token=run.event_id[:8])

    def move_run(self, run: ActiveRun, parent: ActiveRun) -> None:
        """Let a run inside a step belong to the run that the step has turned into; an ended one in a later state."""
        run.parent_run_id = parent.run_id
        # Forces new columns with the next state: those that are encoded name the old parent.
        run.encoded = b""
        if run.ended:
            columns = in_order({**run.columns, "parent_run_id": parent.run_id})
            run.set_columns(encode_members(columns), columns)
            run.state = {**run.state, "updated_at": iso_utc(run.next_update_ns(self._recorder.clock.now_ns()))}
            self._recorder.record_run(run.fields)

    def _refresh(self, run: ActiveRun, span: ReadableSpan, attributes: dict[str, Any]) -> None:
        """Make the columns of a run from what span, client and resource say now, and encode them."""
        run.has_left_out = False  # before the counts are read: what comes meanwhile asks for another time
        if attributes.get(names.RUN_ID) == run.run_id:
            del attributes[names.RUN_ID]  # ours, and another one for each run
        run.resource_defaults = self._recorder.resource_defaults
        plan = self.plans_of(span.resource)[tuple(attributes), tuple(run.settings)]
        try:
            encoded = self._plain_columns(run, span, attributes, plan)
        except orjson.JSONEncodeError:  # a lone surrogate, a number beyond 64 bits
            encoded = None
        if encoded is None:
            columns = self._any_columns(run, span, attributes)
            run.set_columns(encode_members(columns), columns)
            plan = self.plans_of(span.resource)[tuple(attributes), tuple(run.settings)]
        else:
            run.set_columns(encoded)
        run.attributes = attributes
        run.reports_use = plan.reports_use(attributes)

    def _refresh_if_changed(self, run: ActiveRun, span: ReadableSpan) -> bool:
        """Make the columns anew where span, client or resource say something else than before; return whether."""
        attributes = attributes_of(span)
        attributes.pop(names.STATUS, None)
        if attributes.get(names.RUN_ID) == run.run_id:
            del attributes[names.RUN_ID]
        same = attributes == run.attributes and _same_types(attributes, run.attributes)
        current = run.encoded and not run.has_left_out and run.resource_defaults is self._recorder.resource_defaults
        if same and current:
            return False
        self._refresh(run, span, attributes)
        return True

    def _commit_of(self, run: ActiveRun, span: ReadableSpan) -> str | None:
        """Return the commit that the run began on.

        The background reads the first one just after the process's first record: runs that
        began before get it with their end.
        """
        first = self._recorder.first_commit
        if run.start_commit is None and first is not None and span.end_time is not None:
            return first
        return run.start_commit

    def plans_of(self, resource: Resource) -> RunPlans:
        """Return the plans of runs with that resource; the same ones while resource and process stay the same."""
        defaults = self._recorder.resource_defaults
        known = self._known_plans.get(id(resource))
        if known is None or known[0] is not resource or known[1] is not defaults:
            given = resource_of(resource)
            columns = {**defaults.columns, **conventional_of_resource(given), **resource_columns(given, defaults)}
            plans = RunPlans(self.plans, mask_columns(columns))
            # Emptied whole: an application that makes a provider a request must not fill the memory.
            if len(self._known_plans) >= _MAX_RESOURCES:
                self._known_plans.clear()
            known = self._known_plans[id(resource)] = (resource, defaults, plans)
        return known[2]

    def _plain_columns(
        self, run: ActiveRun, span: ReadableSpan, attributes: dict[str, Any], plan: RunPlan
    ) -> bytes | None:
        """Return a run's columns the fast way, as members of a line; None where only the long one is right.

        Raises JSONEncodeError, which means the same.
        """
        settings = run.settings
        encode = plan.encode or plan.encoder(attributes, settings)
        if (
            encode is None
            or run.reported_usage
            or has_dropped_attributes(span)  # which later ones pushed out: the long way remembers the values
            or not self.is_plain_context(settings.get("context_json"))
            or not self.is_plain_context(run.extra)
        ):
            return None
        # Until the first columns are there, the name that became a part of the run's id.
        name = kept_name(plan.attributes.agent_name_in(attributes)) if run.encoded_columns else run.agent_name
        encoded = encode(
            run,
            attributes,
            settings,
            run.extra,
            left_out_of(run),
            run.started_at,
            name or agent_name_of(view_of(span), run.child_agent),
            kept_name(str(span.name)) or "unknown",
        )
        if encoded is None:
            plan.note_miss(attributes, settings)
            return None
        return encoded[1:-1] + last_members(run, self._commit_of(run, span))

    def is_plain_context(self, given: Any) -> bool:
        """Return whether members that the client gave for `context_json` are there as they are; True for none."""
        return not given or (
            type(given) is dict and _RESERVED.isdisjoint(given) and self.plans[tuple(given)].takes_as_they_are(given)
        )

    def _any_columns(self, run: ActiveRun, span: ReadableSpan, attributes: dict[str, Any]) -> Fields:
        """Return a run's columns the long way, for any span. What is unusable is left out and counted."""
        view = view_of(span)
        # Attributes of the start that later ones have pushed out of the span: their values are remembered.
        if run.attributes.keys() - attributes.keys():
            view = view._replace(attributes={**run.attributes, **view.attributes})
        attributes.update(view.attributes)
        problems: list[str] = []
        if view.end_ns is not None:
            run.usage.set_run_total(view)
        used = run.usage.shown()
        left_out = sum_of(left_out_of(run)) if run.left_out else NOTHING
        overrides = Overrides(run.settings, run.extra, used, run.child_agent, left_out)
        columns = run_columns(view, overrides=overrides, around=self._recorder.resource_defaults, problems=problems)
        if problems:
            counters = self._recorder.counters
            counters.clamped += len(problems)
            counters.warn("clamped", "run %s: %s", run.run_id, "; ".join(problems))
        if used and view.end_ns is not None:
            run.reported_usage = differing(columns, used)
        for name in _DECIDED_BY_STATE:
            columns.pop(name, None)
        identity: Fields = {
            "event_id": run.event_id,
            "run_id": run.run_id,
            "schema_version": SCHEMA_VERSION,
            "created_at": run.started_at,
            "start_time": run.started_at,
            "trace_id": run.trace_id,
            "span_id": run.span_id,
        }
        if run.parent_run_id is not None and run.parent_run_id != run.run_id:
            columns.setdefault("parent_run_id", run.parent_run_id)
        if commit := self._commit_of(run, span):
            columns["start_commit"] = commit
        if run.is_agent:
            columns[SPAN_WORK] = AGENT_WORK
        return in_order({**identity, **columns})

    def _write_state(self, run: ActiveRun, state: Fields) -> None:
        """Write a state behind the columns that are current."""
        run.state = state
        # Another thread, which names the agent or sets something, may just have asked for other columns.
        encoded = run.encoded or run.encoded_columns
        self._recorder.append_run(encoded, encode_members(state) + b"}")

    def write_update(self, run: ActiveRun) -> None:
        """Write the state of an open run as it is now."""
        attributes = attributes_of(run.span)
        now_ns = run.next_update_ns(self._recorder.clock.now_ns())
        self._refresh(run, run.span, attributes)
        if not run.ended:
            self._write_state(run, {"status": st.RUNNING, "updated_at": iso_utc(now_ns)})

    def write_end(self, run: ActiveRun, span: ReadableSpan, ending: Ending, *, end_ns: int, changed: bool) -> None:
        """Write the terminal state of a run; `changed`: whether attributes may have been set since the start.

        An end before the start, which a clock that was set back gives, is the start and the
        time that passed since.
        """
        if step_ms := run.clock_step_ms():
            run.update_settings({}, {"clock_step_ms": step_ms})
        defaults = self._recorder.resource_defaults
        may_differ = changed or run.has_left_out or not run.encoded or run.resource_defaults is not defaults
        has_columns_of_end = may_differ and self._refresh_if_changed(run, span)
        if end_ns < run.start_ns:
            end_ns = run.start_ns + run.elapsed_ns()
        run.updated_ns = updated_ns = max(end_ns, run.updated_ns + STATE_STEP_NS)
        ended_at = iso_utc(end_ns)
        state: Fields = {
            "status": ending.status,
            "end_time": ended_at,
            "duration_ms": (end_ns - run.start_ns) // 1_000_000,
            "updated_at": ended_at if updated_ns == end_ns else iso_utc(updated_ns),
        }
        if ending.summary or ending.details:
            reason = error_fields(ending)
            state |= {name: text for name, text in reason.items() if name not in run.columns}  # the client's stands
        if run.reports_use or run.usage.used or run.has_metrics:
            self.add_usage(run, span, state, has_columns_of_end=has_columns_of_end)
        if not run.is_agent and (work := self.span_work(run, span, changed=changed)) is not None:
            state[SPAN_WORK] = work
        self._write_state(run, state)

    def span_work(self, run: ActiveRun, span: ReadableSpan, *, changed: bool) -> str | None:
        """Return `span_work_of` a run's span that has ended; most say nothing of it, which their plan knows."""
        has_events = bool(span.events)
        plan = self.plans[tuple(run.attributes)]
        if changed or not plan.leaves_work_to_name or self._sender_of(span.resource).is_coding_agent:
            return span_work_of(view_of(span), has_events=has_events)
        is_named_by_us = run.run_id.endswith(run.event_id[:8])
        return NO_WORK if span.parent is None and not has_events and is_named_by_us else None

    def _sender_of(self, resource: Resource) -> SenderOfResource:
        known = self._known_sender
        if known.resource is not resource:
            known = self._known_sender = SenderOfResource.of(resource)
        return known

    def add_usage(self, run: ActiveRun, span: ReadableSpan, state: Fields, *, has_columns_of_end: bool = False) -> None:
        """Add what the run and its steps used, unless the columns say it already.

        `has_columns_of_end`: whether the columns were made of the span as it has ended.
        """
        if run.has_metrics and run.usage.used:
            # Made anew once: what its steps used is in the columns that were just made, and those are the dear part.
            if not has_columns_of_end:
                self._refresh(run, span, attributes_of(span))  # perhaps the fast way now, whose columns have no use
        elif run.reports_use:
            self._set_total(run, span)
        used = run.usage.shown()
        if used and not run.has_metrics:
            state["metrics_json"] = _text_of(used)
        failure = failure_of_last_call(used)
        if failure is not None and state["status"] == st.SUCCESS and run.status is None and not run.has_status:
            state |= {"status": st.FAILED, **error_fields(Ending(st.FAILED, failure))}

    def _set_total(self, run: ActiveRun, span: ReadableSpan) -> None:
        """Note what the run's own span reports of the whole."""
        plan = self.plans[tuple(run.attributes)]
        is_plain = plan.figures and not has_dropped_attributes(span) and not self._sender_of(span.resource).has_rules
        is_call = is_plain and plan.kind_of(run.attributes, str(span.name)) in (names.MODEL, names.TOOL)
        if is_plain and not is_call and (total := plain_total(plan.figures, run.attributes)):
            run.usage.set_plain_total(total)
        else:
            run.usage.set_run_total(view_of(span))


def _text_of(used: Usage) -> str:
    """Return the `metrics_json` of what a run used, which is a few numbers and names."""
    try:
        return orjson.dumps({USAGE_KEY: used}).decode()
    except orjson.JSONEncodeError:  # a lone surrogate in a name, a number beyond 64 bits
        return dumps_text({USAGE_KEY: used})


def _same_types(attributes: Mapping[str, Any], known: Mapping[str, Any]) -> bool:
    """Return whether equal values are of equal types: 1, 1.0 and True are equal."""
    return list(map(type, attributes.values())) == list(map(type, known.values()))
