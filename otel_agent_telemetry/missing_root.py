"""The run of spans whose root span is missing: its program was killed, left early, or never ended the root. Pure.

Wherever it is made, from the spans that a service has received or those that an exporter was
given, it is the same row: its `event_id` comes from the ids of the missing span.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from otel_agent_telemetry.clock import parse_iso
from otel_agent_telemetry.columns import SCHEMA_VERSION, Fields
from otel_agent_telemetry.last_error import with_last_error
from otel_agent_telemetry.run_id import generate_run_id, span_event_id_without_start
from otel_agent_telemetry.status import FAILED

REASON: Final = "its root span never arrived"
"""How the summary of such a run begins; the last error known of it may follow."""


class SpanBelow(NamedTuple):
    """A span below a missing one: times as our ISO text, `ended` its start while it has no end.

    `agent`: the agent that its attributes name. `service`: the service that it is of.
    """

    started: str
    span_id: str
    name: str
    ended: str
    agent: str | None
    service: str | None


def missing_root_state(trace_id: str, span_id: str, spans: Sequence[SpanBelow], *, last_error: str) -> Fields:
    """Return the state of the run whose own span, with these ids, is missing: `failed`, with what is known of it.

    `last_error`: the last error that the spans and their events name, empty for none.
    """
    # By start, then by id: two services that are given the spans in another order make the same row.
    spans = sorted(spans)
    event_id, first = span_event_id_without_start(trace_id, span_id), spans[0]
    ended = max(span.ended for span in spans)
    service = next((span.service for span in spans if span.service), None)
    agent_name = next((span.agent for span in spans if span.agent), None) or service or first.name or "unknown"
    start_ns = parse_iso(first.started)
    return {
        **({"service_name": service} if service else {}),
        "event_id": event_id,
        "run_id": generate_run_id(agent_name, at_ns=start_ns, token=event_id[:8]),
        "schema_version": SCHEMA_VERSION,
        "created_at": first.started,
        "updated_at": ended,
        "start_time": first.started,
        "end_time": ended,
        "duration_ms": max(parse_iso(ended) - start_ns, 0) // 1_000_000,
        "agent_name": agent_name,
        "job_type": first.name or "unknown",
        "status": FAILED,
        "error_summary": with_last_error(REASON, last_error),
        "trace_id": trace_id,
        "span_id": span_id,
    }


def missing_above(parents: Mapping[str, str | None]) -> dict[str, str]:
    """Return span id → the id of the span above it that is missing, for the spans of one trace.

    `parents`: span id → the id of its parent. Of spans that lead back to themselves the least id counts.
    """
    tops: dict[str, str] = {}
    for start in parents:
        way: list[str] = []
        at = start
        while at in parents and at not in tops and at not in way:
            way.append(at)
            at = parents[at] or at
        # Of a circle no span is the top by itself: the least id is the same wherever one begins.
        top = tops.get(at) or (min(way[way.index(at) :]) if at in way else at)
        tops.update(dict.fromkeys(way, top))
    return tops
