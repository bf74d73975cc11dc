"""Durable records of agent runs, from any OpenTelemetry tracer.

    from otel_agent_telemetry import TelemetryClient

    client = TelemetryClient()
    with client.track_run("my_agent", "process_files") as run:
        run.log_event("checkpoint", {"step": 1})
        run.set_metrics(items_discovered=10, items_succeeded=10)

or, for an application that traces with OpenTelemetry already,
`instrument()`, or `provider.add_span_processor(AgentRunSpanProcessor())`.

Public are the names in `__all__`, imported from here, the names in `__all__` of
`otel_agent_telemetry.testing`, and the entry points of the distribution. Every other module
is private, whatever its name, and may change in any release without notice.

Names are loaded when they are first used; importing the package touches no disk, starts no
thread and loads no database or HTTP library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from otel_agent_telemetry.argument_types import (
        CommitSource,
        EndSettings,
        EndStatus,
        RunSettings,
        RunStatus,
        StartSettings,
        TriggerType,
        UpdateSettings,
    )
    from otel_agent_telemetry.capture.context import TelemetryContext
    from otel_agent_telemetry.capture.decorator import capture_telemetry
    from otel_agent_telemetry.capture.telemetry_capture import TelemetryCapture
    from otel_agent_telemetry.client import TelemetryClient
    from otel_agent_telemetry.config import TelemetryConfig
    from otel_agent_telemetry.model import RunEvent, RunRecord, RunSpan
    from otel_agent_telemetry.otel.exporter import AgentRunSpanExporter
    from otel_agent_telemetry.otel.instrument import instrument
    from otel_agent_telemetry.otel.log_events import AgentRunLogProcessor
    from otel_agent_telemetry.otel.processor import AgentRunSpanProcessor
    from otel_agent_telemetry.otel.propagation import run_environment
    from otel_agent_telemetry.run_context import RunContext
    from otel_agent_telemetry.run_id import RunIDMetrics

__version__ = "0.1.0"

_MODULES = {  # public name → the module that defines it
    "AgentRunLogProcessor": "otel_agent_telemetry.otel.log_events",
    "AgentRunSpanExporter": "otel_agent_telemetry.otel.exporter",
    "AgentRunSpanProcessor": "otel_agent_telemetry.otel.processor",
    "CommitSource": "otel_agent_telemetry.argument_types",
    "EndSettings": "otel_agent_telemetry.argument_types",
    "EndStatus": "otel_agent_telemetry.argument_types",
    "RunContext": "otel_agent_telemetry.run_context",
    "RunEvent": "otel_agent_telemetry.model",
    "RunIDMetrics": "otel_agent_telemetry.run_id",
    "RunRecord": "otel_agent_telemetry.model",
    "RunSettings": "otel_agent_telemetry.argument_types",
    "RunSpan": "otel_agent_telemetry.model",
    "RunStatus": "otel_agent_telemetry.argument_types",
    "StartSettings": "otel_agent_telemetry.argument_types",
    "TelemetryCapture": "otel_agent_telemetry.capture.telemetry_capture",
    "TelemetryClient": "otel_agent_telemetry.client",
    "TelemetryConfig": "otel_agent_telemetry.config",
    "TelemetryContext": "otel_agent_telemetry.capture.context",
    "TriggerType": "otel_agent_telemetry.argument_types",
    "UpdateSettings": "otel_agent_telemetry.argument_types",
    "capture_telemetry": "otel_agent_telemetry.capture.decorator",
    "instrument": "otel_agent_telemetry.otel.instrument",
    "run_environment": "otel_agent_telemetry.otel.propagation",
}

__all__ = [
    "AgentRunLogProcessor",
    "AgentRunSpanExporter",
    "AgentRunSpanProcessor",
    "CommitSource",
    "EndSettings",
    "EndStatus",
    "RunContext",
    "RunEvent",
    "RunIDMetrics",
    "RunRecord",
    "RunSettings",
    "RunSpan",
    "RunStatus",
    "StartSettings",
    "TelemetryCapture",
    "TelemetryClient",
    "TelemetryConfig",
    "TelemetryContext",
    "TriggerType",
    "UpdateSettings",
    "capture_telemetry",
    "instrument",
    "run_environment",
]


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(_imported(module), name)
    globals()[name] = value
    return value


def _imported(module: str) -> Any:
    """Import a module of ours, also where a limit in the environment keeps OpenTelemetry's SDK from being imported."""
    import importlib

    try:
        return importlib.import_module(module)
    except ValueError as problem:
        from otel_agent_telemetry.config import hidden_variable

        variable = str(problem).partition(" ")[0]
        if not variable.startswith("OTEL_"):
            raise
        with hidden_variable(variable):
            return importlib.import_module(module)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
