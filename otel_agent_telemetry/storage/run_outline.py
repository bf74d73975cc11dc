"""What a comparison reads of a run: its steps and the types of its events, without their attributes and payloads."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Connection, or_, select

from otel_agent_telemetry.storage.steps import IS_RUN
from otel_agent_telemetry.storage.tables import STEP_HAS_NO_LINE, run_events, run_spans

MAX_COMPARED: Final = 10_000
"""The most steps, and the most events, of a run that are compared; they are the first ones."""
_steps: Final = run_spans.c
_events: Final = run_events.c


def step_outline(connection: Connection, event_id: str) -> list[tuple[str, str, int]]:
    """Return name, status and duration in ms of a run's steps, in order of their start; one more than MAX_COMPARED."""
    # As `spans_of`: a step of a journal that has turned into a run is that run, and no step.
    is_step = or_(_steps.is_run != IS_RUN, STEP_HAS_NO_LINE)
    selected = select(_steps.name, _steps.status, _steps.duration_ms).where(_steps.event_id == event_id, is_step)
    return [tuple(row) for row in _first(connection, selected, _steps.start_time, _steps.id)]


def event_outline(connection: Connection, event_id: str) -> list[str]:
    """Return the types of a run's events, in order of their time; one more than MAX_COMPARED."""
    selected = select(_events.event_type).where(_events.event_id == event_id)
    return [row[0] for row in _first(connection, selected, _events.timestamp, _events.id)]


def _first(connection: Connection, selected: Any, *order: Any) -> Any:
    """Return the first rows of a statement, one more than are compared: it shows whether there are more."""
    return connection.execute(selected.order_by(*order).limit(MAX_COMPARED + 1))
