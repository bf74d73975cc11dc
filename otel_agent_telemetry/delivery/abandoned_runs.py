"""Ending the runs that nobody can end any more (invariant 6).

A run that is still `running` when its writer is gone becomes `failed`. The closing state is
made from the last state alone, with `updated_at` one microsecond later: deterministic, so
two deliverers write the same; and smaller than any end that the run's own process wrote,
because a recorder moves `updated_at` by at least two microseconds for each state of a run.
"""

from __future__ import annotations

from otel_agent_telemetry import status as st
from otel_agent_telemetry.clock import iso_utc, parse_iso
from otel_agent_telemetry.columns import CLOSING_STEP_NS, Fields


def closing_state(last: Fields, *, reason: str, last_sign: str) -> Fields:
    """Return the `failed` state of a run left open: ended at its last sign of life, `reason` as the summary."""
    ends = max(last_sign, last["start_time"])
    return {
        **last,
        "status": st.FAILED,
        "end_time": ends,
        "updated_at": iso_utc(parse_iso(last["updated_at"]) + CLOSING_STEP_NS),
        "duration_ms": (parse_iso(ends) - parse_iso(last["start_time"])) // 1_000_000,
        "error_summary": f"{reason}; the run never ended (last sign of life {ends})",
    }
