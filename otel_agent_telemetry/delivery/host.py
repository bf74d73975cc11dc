"""What delivery needs of the process or service that it works for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from otel_agent_telemetry.clock import Clock
from otel_agent_telemetry.columns import Fields
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.counters import Counters
from otel_agent_telemetry.last_activity import StepUsageSum


class DeliveryHost(Protocol):
    """Implemented by the recorder of a process and by the service's buffer drain."""

    config: TelemetryConfig
    clock: Clock
    counters: Counters
    new_usage_sum: Callable[[], StepUsageSum] | None
    """Makes what adds up the steps of a run that its process left open; None where attributes are not understood."""

    def record_run(self, fields: Fields) -> None:
        """Keep one more state of a run, in the buffer and the journal."""

    def journal_run(self, fields: Fields) -> None:
        """Keep a state that the target has already, in the journal only."""

    def leave(self) -> None:
        """Give this process's segments up for delivery: nothing more is written to them. Idempotent."""
