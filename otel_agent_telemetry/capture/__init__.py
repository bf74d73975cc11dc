"""telemetry.capture: entries in a JSON array file, each of which is a run as well."""

from otel_agent_telemetry.capture.context import TelemetryContext
from otel_agent_telemetry.capture.decorator import capture_telemetry
from otel_agent_telemetry.capture.telemetry_capture import TelemetryCapture

__all__ = ["TelemetryCapture", "TelemetryContext", "capture_telemetry"]
