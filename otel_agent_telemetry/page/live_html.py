"""What is new of an open run, as HTML that its page takes apart: parts of the head, rows of steps, events."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import Connection

from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.page.rendering import templates
from otel_agent_telemetry.page.run_address import run_path
from otel_agent_telemetry.page.run_changes import Changes
from otel_agent_telemetry.page.run_details import read_details
from otel_agent_telemetry.page.step_tree import Axis
from otel_agent_telemetry.page.waterfall import BarRow, ms_since, origin_ns, step_bars
from otel_agent_telemetry.storage.step_rows import numbers_of_spans


def live_html(connection: Connection, changes: Changes, *, settings: TelemetryConfig, now_ns: int) -> str:
    """Return the whole head of the run, its new and changed steps and its new events."""
    run = changes.run.record
    origin = origin_ns(run.start_time, now_ns)
    now_ms = (now_ns - origin) / 1e6
    axis = Axis(0.0, max(now_ms if run.end_time is None else ms_since(origin, run.end_time, now_ms), 0.0))
    bars = step_bars(connection, changes.steps, axis=axis, origin=origin)
    values = {
        "run": run,
        "path": run_path(run.event_id),
        "details": read_details(connection, run, settings=settings),
        "rows": _with_parents(connection, run.event_id, bars),
        "lines": changes.events,
        # Clocks differ: what a host says has ended may do so after this service's present.
        "axis": Axis(0.0, max([axis.end_ms, *(bar.begin_ms + (bar.duration_ms or 0.0) for bar in bars)])),
        "now": datetime.fromtimestamp(now_ns / 1e9, UTC),
    }
    return templates().get_template("_live.html").render(values)


def _with_parents(connection: Connection, event_id: str, bars: Sequence[BarRow]) -> list[tuple[BarRow, int]]:
    """Return each row with the number of the row around it, 0 for none."""
    around = {bar.step.parent_span_id for bar in bars if bar.step.parent_span_id}
    numbers = numbers_of_spans(connection, event_id, around) if around else {}
    return [(bar, numbers.get(bar.step.parent_span_id or "", 0)) for bar in bars]
