"""What a run used that nobody ended, from the lines of its steps in the journal.

A process that is killed has written the end of each step before it went on, but not yet the sum
of its run. The sum is made as at the end of a run: a call inside a call counts once.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from otel_agent_telemetry.clock import parse_iso
from otel_agent_telemetry.otel.spans import SpanView
from otel_agent_telemetry.otel.usage import usage_of_step
from otel_agent_telemetry.usage import Usage, added, folded, shown_usage
from otel_agent_telemetry.wire import BECAME_RUN, Line

_MAX_STEPS = 100_000
"""Steps of one run that are counted; what a process leaves in its journal is not bounded by it."""


class LeftOpenUsage:
    """Implements `last_activity.StepUsageSum` by the table of conventions. In memory, bounded."""

    def __init__(self) -> None:
        self._steps: dict[str, tuple[str, Usage]] = {}
        """Span id → that of the span around it, and what the step itself used."""

    def add(self, step: Line) -> None:
        """Take in the line of a step that has ended; one that has turned into a run counts there."""
        span_id = str(step.get("span_id") or "")
        if BECAME_RUN in step or span_id in self._steps or len(self._steps) >= _MAX_STEPS:
            return
        self._steps[span_id] = (str(step.get("parent_span_id") or ""), usage_of_step(_view_of(step)))

    def shown(self) -> dict[str, Any]:
        """Return what all of them used together."""
        if not self._steps:
            return {}
        inside: defaultdict[str, list[Usage]] = defaultdict(list)
        total: list[Usage] = []
        for span_id in self._innermost_first():
            around, own = self._steps[span_id]
            below = inside.pop(span_id, None)
            # A wrapper around a call reports the same tokens: `folded` takes them once.
            used = folded(own, added(below)) if below else own
            (inside[around] if around in self._steps else total).append(used)
        # The rest is what stands below steps that had not ended, and in circles of parents.
        return shown_usage(own={}, steps=added([*total, *(one for rest in inside.values() for one in rest)]))

    def _innermost_first(self) -> list[str]:
        """Return the steps so that each comes before the one around it; of a circle of parents, in any order."""
        waiting: defaultdict[str, int] = defaultdict(int)
        for around, _ in self._steps.values():
            waiting[around] += 1
        ready = [span_id for span_id in self._steps if not waiting[span_id]]
        for span_id in ready:  # grows while it is walked
            around = self._steps[span_id][0]
            waiting[around] -= 1
            if around in self._steps and not waiting[around]:
                ready.append(around)
        done = set(ready)
        return [*ready, *(span_id for span_id in self._steps if span_id not in done)]


def _view_of(step: Line) -> SpanView:
    """Return the span that a line of the journal was written of; lines can be of any version, and damaged."""
    attributes = step.get("attributes")
    return SpanView(
        name=str(step.get("name") or ""),
        trace_id=str(step.get("trace_id") or ""),
        span_id=str(step.get("span_id") or ""),
        parent_span_id=step.get("parent_span_id"),
        kind=str(step.get("kind") or "internal"),
        start_ns=_instant(step.get("start_time")),
        end_ns=_instant(step.get("end_time")),
        status=str(step.get("status") or "unset"),
        status_message=step.get("status_message"),
        attributes=attributes if isinstance(attributes, dict) else {},
        resource={},
    )


def _instant(text: object) -> int:
    """Return the nanoseconds of a line's time, 0 for a text that is none."""
    try:
        return parse_iso(str(text))
    except (ValueError, OverflowError):
        return 0
