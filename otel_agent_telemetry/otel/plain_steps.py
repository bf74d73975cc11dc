"""The fast way of a step: its start and its end, for spans of the most usual kind.

A span of the SDK below an open run, with plain attributes that are kept whole and are no agent's;
and an end that adds nothing to them, of a step that is no model call. For any other span both
methods return False before they have had an effect, and the processor and `SpanLines` take their
long way. Both ways write the same bytes, which a property test compares.

On the application's thread; long methods that call little, as in `plain_runs`.
"""

from __future__ import annotations

from typing import Any, Final

from opentelemetry.trace import StatusCode

from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.otel import conventions as names
from otel_agent_telemetry.otel.live_span import FIRST_STATUS, OpenSpan
from otel_agent_telemetry.otel.span_lines import KINDS, STATUSES, SpanLines, members_of
from otel_agent_telemetry.otel.step_usage import StepUsage
from otel_agent_telemetry.otel.usage import usage_of_kind
from otel_agent_telemetry.recording.recorder import Recorder

_UNSET: Final = StatusCode.UNSET
_ERROR: Final = StatusCode.ERROR


class PlainSteps:
    """Begins and ends plain steps of one recorder's runs. Safe under threads; never waits."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._active = recorder.active
        self._sink = recorder.component(SpanLines)
        self._usage = recorder.component(StepUsage)

    def begin(self, span: Any, above: OpenSpan) -> bool:
        """Begin the step that a span of the SDK's own class is, below `above`; return False for the long way."""
        attributes, title, start_ns, sink = span._attributes._dict.copy(), span._name, span._start_time, self._sink
        plan = sink.plans[tuple(attributes)]
        if type(title) is not str or type(start_ns) is not int or plan.is_marked:
            return False
        kind = plan.kind_of(attributes, title)
        encode = plan.encode_kept
        kept = encode(attributes) if attributes else b""
        name = sink.names.get(title) or sink.names.of(title)
        if kept is None or name is None or kind == names.AGENT:
            return False
        parent_id, number = span._parent[1], span._context[1]
        span_id = f"{number:016x}"
        run = above.enclosing_run()
        opened = OpenSpan(run, span, (number, span_id), sink, self._active.generation, above)
        self._active.open_spans[number] = opened
        opened.attributes = attributes
        if kind != names.MODEL and not plan.reports_use and names.PART_OF not in attributes:
            opened.plain_kind = (kind,)
        opened.encoded = encoded = (
            b'%b,"span_id":"%b","parent_span_id":"%b","name":%b,"kind":"%b","start_time":"%b"%b'
            % (
                run.members or members_of(run),
                span_id.encode(),
                (above.span_id if above.number == parent_id else f"{parent_id:016x}").encode(),
                name,
                KINDS[span._kind._value_],
                iso_utc(start_ns).encode(),
                b',"attributes":' + kept if kept else kept,
            )
        )
        self._recorder.append_span(encoded, b'"status":"running"}')
        return True

    def end(self, opened: OpenSpan, span: Any) -> bool:
        """Write the end of a step; return False where that takes the long way."""
        status, start_ns, end_ns = span._status, span._start_time, span._end_time
        if (
            opened.plain_kind is None
            or opened.changed
            or len(span._attributes._dict) != len(opened.attributes)
            or (status is not FIRST_STATUS and status.description)
            or type(end_ns) is not int
        ):
            return False
        code = _UNSET if status is FIRST_STATUS else status.status_code
        self._recorder.append_span(
            opened.encoded,
            b'"status":"%b","end_time":"%b","duration_ms":%d}'
            % (STATUSES[code._value_], iso_utc(end_ns).encode(), max(end_ns - start_ns, 0) // 1_000_000),
        )
        used = usage_of_kind(opened.plain_kind[0], is_error=code is _ERROR)
        self._usage.add(opened, used, may_be_call=False)
        return True
