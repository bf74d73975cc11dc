"""The run that a context came from, by its baggage; light, unlike `propagation`, because every run's start asks."""

from __future__ import annotations

from typing import Final

from opentelemetry import baggage
from opentelemetry.context import Context

from otel_agent_telemetry.run_id import check_custom_run_id

RUN_ID_KEY: Final = "agent_run.id"


def parent_run_of(context: Context | None) -> str | None:
    """The run that a context came from, as its baggage says; None when it says none that can be one."""
    told = baggage.get_baggage(RUN_ID_KEY, context)
    return str(told) if told is not None and check_custom_run_id(told) is None else None
