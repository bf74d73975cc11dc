"""From a span that has ended to its run's state and events. Pure; for whatever hands us whole spans.

What is known of a live run (its start state, its events as they happen) is more; an ended
span gives the same row, because its ids and times are the span's own.

From a child span to the journal line of a step. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from otel_agent_telemetry import status as st
from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.columns import SCHEMA_VERSION, Fields
from otel_agent_telemetry.otel import conventions as names
from otel_agent_telemetry.otel.content import rule_of
from otel_agent_telemetry.otel.content_choice import around_of
from otel_agent_telemetry.otel.endings import Ending, ending_fields, ending_of, ending_with_status
from otel_agent_telemetry.otel.left_out import NOTHING, count
from otel_agent_telemetry.otel.mapping import Overrides, run_columns
from otel_agent_telemetry.otel.spans import SpanView
from otel_agent_telemetry.recording.active_runs import ResourceDefaults
from otel_agent_telemetry.redaction import clean, kept_name
from otel_agent_telemetry.run_id import span_event_id
from otel_agent_telemetry.usage import Usage, failure_of_last_call


def is_run(view: SpanView, which: str) -> bool:
    """Return whether a span is a run (design, "What is a run"); `which` is `root`, `agents` or `marked`."""
    if names.PART_OF in view.attributes:
        return False
    if view.parent_span_id is None and which == "root":
        return True
    if names.is_marked(view.attributes):
        return True
    return which != "marked" and names.is_agent_invocation(view.attributes, view.name)


def ended_run(
    view: SpanView,
    *,
    run_id: str,
    exceptions: Sequence[Mapping[str, Any] | None],
    around: ResourceDefaults,
    problems: list[str],
    used: Usage = MappingProxyType({}),
    left_out: Mapping[str, int] | None = NOTHING,
    agent_name: str | None = None,
) -> Fields:
    """Return the columns of the run that a span is; a span without an end is running.

    `exceptions`: attributes of its exception events, in order. `used`: what it and its steps
    used, where that is known here. `left_out`: what was left out of its steps and events; None
    where all of that, and what is left out of the span itself, is counted elsewhere.
    `agent_name`: what `agent_name_of` has returned for it, where that is known.
    """
    ending = ending_of(view, exceptions[-1] if exceptions else None, None)
    if (given_status := view.attributes.get(names.STATUS)) is not None:
        ending = ending_with_status(given_status, ending)
    elif used and view.status == "unset" and (failure := failure_of_last_call(used)) is not None:
        ending = Ending(st.FAILED, failure)
    overrides = Overrides(usage=used, left_out=left_out, agent_name=agent_name)
    columns = run_columns(view, overrides=overrides, around=around, problems=problems)
    columns.pop("duration_ms", None)  # what was observed counts, as it does for a run that is recorded live
    return {
        "event_id": span_event_id(view.trace_id, view.span_id, view.start_ns),
        "run_id": run_id,
        "schema_version": SCHEMA_VERSION,
        "created_at": (started := iso_utc(view.start_ns)),
        "start_time": started,
        "trace_id": view.trace_id,
        "span_id": view.span_id,
        **_state(view, ending),
        **columns,
    }


def _state(view: SpanView, ending: Ending) -> Fields:
    """Return the columns that the state decides: those of a running run, or of its end."""
    if view.end_ns is None:
        return {"status": st.RUNNING, "updated_at": iso_utc(view.start_ns)}
    return ending_fields(ending, start_ns=view.start_ns, end_ns=view.end_ns, updated_ns=view.end_ns)


def step_members(
    view: SpanView,
    around: ResourceDefaults,
    *,
    event_id: str,
    run_id: str,
    left_out: dict[str, int] | None = None,
    kept: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the members of `RunSpan` for a span of that run, started or ended; what is unknown is left out.

    `left_out` counts the attributes that are left out as message content. `kept`: the attributes as they
    are stored, where that is known.
    """
    members: dict[str, Any] = {
        "event_id": event_id,
        "run_id": run_id,
        "trace_id": view.trace_id,
        "span_id": view.span_id,
        "parent_span_id": view.parent_span_id,
        "name": kept_name(view.name),
        "kind": view.kind,
        "status": "running" if view.end_ns is None else view.status,
        "start_time": iso_utc(view.start_ns),
    }
    if view.end_ns is not None:
        members["end_time"] = iso_utc(view.end_ns)
        members["duration_ms"] = max(view.end_ns - view.start_ns, 0) // 1_000_000
        if view.status_message:
            members["status_message"] = clean(view.status_message, max_bytes=around.max_bytes)
    if kept is None:
        kept, names_left_out = rule_of(around_of(around, view.resource, view.attributes)).keep(view.attributes)
        kept = clean(kept, max_bytes=around.max_bytes)
        if left_out is not None:
            for name, times in names_left_out.items():
                count(left_out, name, times)
    if kept:
        members["attributes"] = kept
    return members
