"""Captured entries in a JSON array file, each of which is recorded as a run as well (seed 004)."""

from otel_agent_telemetry.capture.context import TelemetryContext
from otel_agent_telemetry.capture.decorator import capture_telemetry
from otel_agent_telemetry.capture.telemetry_capture import TelemetryCapture

__all__ = ["TelemetryCapture", "TelemetryContext", "capture_telemetry"]
