"""Spans that go on to a collector over OTLP, by the SDK's own batch processor and exporters.

Imported where it is asked for: a process that exports nothing spares the SDK's export modules.
"""

from __future__ import annotations

import logging
from typing import Any

from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.interpreter import importing

_log = logging.getLogger(__name__)


class BoundedBatchSpanProcessor(BatchSpanProcessor):
    """A batch processor that spends at most `exit_timeout_s` on its shutdown.

    The SDK's waits 30 s for an unreachable collector. Its inner processor takes a timeout
    (checked on 1.39 to 1.45); where it does not, the SDK's own shutdown is all there is.
    """

    def __init__(self, exporter: SpanExporter, *, exit_timeout_s: float) -> None:
        super().__init__(exporter)
        self._exit_timeout_ms = int(exit_timeout_s * 1000)

    def shutdown(self) -> None:
        """Export what is queued for at most the exit timeout, then drop it."""
        inner: Any = getattr(self, "_batch_processor", None)
        if inner is None:
            super().shutdown()  # type: ignore[no-untyped-call]  # the SDK's is untyped
        else:
            inner.shutdown(timeout_millis=self._exit_timeout_ms)


def otlp_processor(config: TelemetryConfig) -> SpanProcessor | None:
    """Return a batch processor with the OTLP exporter that `OTEL_EXPORTER_OTLP_*` describe.

    Starts the SDK's export thread. None, with one warning, without the extra `otlp`.
    """
    try:
        exporter = _grpc_exporter() if config.otlp_protocol == "grpc" else _http_exporter()
        return BoundedBatchSpanProcessor(exporter, exit_timeout_s=config.exit_timeout_s)
    except ImportError:
        _log.warning("OTLP export is asked for, but its exporter is missing: pip install otel-agent-telemetry[otlp]")
        return None
    except Exception as problem:  # OTEL_EXPORTER_OTLP_* or OTEL_BSP_* hold what they cannot
        _log.warning("spans are not exported over OTLP: %s: %s", type(problem).__name__, problem)
        return None


def _http_exporter() -> SpanExporter:
    """Return the exporter over HTTP; an extra, imported where it is used."""
    with importing():
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()


def _grpc_exporter() -> SpanExporter:
    """Return the exporter over gRPC; an extra, imported where it is used."""
    with importing():
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()
