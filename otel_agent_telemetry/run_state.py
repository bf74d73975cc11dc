"""A run's state as a mapping: checked, ordered, merged, closed; without a record class.

What `model.RunRecord`, `order_key` and `later_state` do for readers, this does for delivery,
where making a record object costs more than writing its row. A *checked state* maps column
to value, defaults left out but `schema_version` and `status`, and may have `wire.SPAN_WORK`; a
test holds both forms together.

A run that is still `running` when its writer is gone becomes `failed` (invariant 6). The closing
state is made from the last state alone, with `updated_at` one microsecond later: deterministic,
so two deliverers write the same; and smaller than any end that the run's own process wrote,
because a recorder moves `updated_at` by at least two microseconds for each state of a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from otel_agent_telemetry import status as st
from otel_agent_telemetry.clock import iso_utc, parse_iso
from otel_agent_telemetry.column_checks import check_column
from otel_agent_telemetry.columns import (
    CLOSING_STEP_NS,
    COLUMNS,
    COMMIT_COLUMNS,
    FALLBACKS,
    OBSERVED_BY_STORE,
    POSTING_COLUMNS,
    REQUIRED_COLUMNS,
    SCHEMA_VERSION,
    TOTAL_COLUMNS,
    Fields,
)
from otel_agent_telemetry.errors import RecordError
from otel_agent_telemetry.last_error import with_last_error
from otel_agent_telemetry.state_plan import ALWAYS, AS_STORED, NUMBERS, PLAIN_NUMBERS_END, StatePlans
from otel_agent_telemetry.status import RUNNING
from otel_agent_telemetry.usage import USAGE_KEY
from otel_agent_telemetry.wire import dumps_text, load_object

_TIE_COLUMNS: Final = tuple(
    name
    for name in COLUMNS
    if name not in {"event_id", "status", "updated_at", *COMMIT_COLUMNS, *POSTING_COLUMNS, *OBSERVED_BY_STORE}
)
ORDER_COLUMNS: Final = ("updated_at", "status", *_TIE_COLUMNS, *COMMIT_COLUMNS)
"""The columns compared after whether a state has ended; `storage.runs` builds its SQL from them."""

_ALL: Final = frozenset(COLUMNS)
_EMPTY: Final = {name: 0 if name in NUMBERS else "" for name in ORDER_COLUMNS}
_plans: Final = StatePlans()


def checked_state(values: Mapping[str, Any]) -> Fields:
    """Return the columns of a mapping that may come from anywhere, each checked; unknown keys are ignored.

    An empty text is "not known", as None is. Raises RecordError naming the first column that
    breaks a rule, as `RunRecord.from_fields` does.
    """
    state = _plans[tuple(values)].state_of(values)
    if state is not None:
        return state
    state = {}
    for name, value in values.items():
        if type(value) is str:
            is_right = AS_STORED.get(name)
            if is_right is not None and is_right(value):
                state[name] = value
                continue
            if not value:
                continue
        elif value is None:
            continue
        elif type(value) is int and name in NUMBERS and 0 <= value < PLAIN_NUMBERS_END:
            state[name] = value
            continue
        if name in _ALL:
            state[name] = check_column(name, value)
    put_required(state)
    return state


def put_required(state: Fields) -> None:
    """Fill what a sparse mapping may leave out although the column must have it. Raises RecordError."""
    if state.keys() >= ALWAYS:
        return
    state.setdefault("schema_version", SCHEMA_VERSION)
    state.setdefault("status", RUNNING)
    for name in REQUIRED_COLUMNS:
        if name not in state:
            fallback = next((other for other in FALLBACKS.get(name, ()) if other in state), None)
            if fallback is None:
                raise RecordError(name, "is required")
            state[name] = state[fallback]


def state_key(state: Fields) -> tuple[Any, ...]:
    """Return the sort key of a checked state among the states of its run (`model.order_key`)."""
    get = state.get
    return (state["status"] != RUNNING, *(get(name) or empty for name, empty in _EMPTY.items()))


def is_greater(one: Fields, other: Fields) -> bool:
    """Return whether one checked state stands against another of its run; the full key is made for ties only."""
    # The beginning of `state_key`: two states of a run hardly ever have the same `updated_at`.
    quick = (one["status"] != RUNNING, one["updated_at"])
    against = (other["status"] != RUNNING, other["updated_at"])
    return quick > against or (quick == against and state_key(one) > state_key(other))


def merged_state(one: Fields, other: Fields) -> Fields:
    """Return what stands of two checked states of one run, with the greater of each posting column."""
    stands, fallen = (other, one) if is_greater(other, one) else (one, other)
    # Posting is recorded beside the run's own states, by another process perhaps: it only ever grows, so the
    # state that falls may know more of it than the one that stands.
    grown = {
        name: value
        for name in POSTING_COLUMNS
        if (value := fallen.get(name)) and (not (kept := stands.get(name)) or value > kept)
    }
    return {**stands, **grown} if grown else stands


def closing_state(
    last: Fields, *, reason: str, last_sign: str, last_error: str = "", used: Mapping[str, Any] | None = None
) -> Fields:
    """Return the `failed` state of a run left open: ended at its last sign of life, `reason` as the summary.

    `last_error`: the last error known of the run, which the summary names; default none. `used`: what its steps
    had used by then, as `gen_ai` of the metrics.
    """
    if used:
        metrics = load_object(last.get("metrics_json") or "") or {}
        # The totals are read from the metrics where a state has none of its own.
        last = {name: value for name, value in last.items() if name not in TOTAL_COLUMNS}
        last["metrics_json"] = dumps_text({**metrics, USAGE_KEY: used})
    # A clock that was set back gives a last sign before the start, and a run must not end before it began.
    ends = max(last_sign, last["start_time"])
    return {
        **last,
        "status": st.FAILED,
        "end_time": ends,
        # From the state and not from the clock: another deliverer that closes the run makes the same state.
        "updated_at": iso_utc(parse_iso(last["updated_at"]) + CLOSING_STEP_NS),
        "duration_ms": (parse_iso(ends) - parse_iso(last["start_time"])) // 1_000_000,
        "error_summary": with_last_error(f"{reason}; the run never ended (last sign of life {ends})", last_error),
    }
