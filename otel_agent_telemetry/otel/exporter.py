"""The exporter door: for pipelines that hand us spans after their end.

`AgentRunSpanExporter()` needs no arguments, as an entry point requires. What a processor
of ours has recorded live in this process is left alone; everything else is recorded from
the ended span: less than live recording (128 events at most, nothing of a killed process),
but the same row, because ids come from the span. Where no processor saw them begin, an agent's
span that only repeats the run around it is a run of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.otel.replayed import record_ended_spans
from otel_agent_telemetry.recorder import Recorder


class AgentRunSpanExporter(SpanExporter):
    """Records ended spans as runs, events and steps. Returns FAILURE only when it broke itself."""

    def __init__(self, config: TelemetryConfig | None = None, *, recorder: Recorder | None = None) -> None:
        self.recorder = recorder or Recorder.shared(config or TelemetryConfig.from_env())

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Record a batch of ended spans. On return their lines survive the death of the process."""
        try:
            record_ended_spans(self.recorder, spans)
        except Exception as problem:  # the outer edge of a batch processor's thread
            self.recorder.counters.internal("export", problem)
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Deliver what can be delivered within the exit timeout. Idempotent."""
        self.recorder.close()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until what was recorded has reached its target; False when the time ran out."""
        return self.recorder.flush(timeout_millis / 1000)
