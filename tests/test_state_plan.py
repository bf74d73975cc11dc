"""A plan takes a state whose values are right as they are, and leaves every other one to the rules for one value."""

from __future__ import annotations

import calendar

import pytest
from on_disk import record

from otel_agent_telemetry.column_checks import check_time
from otel_agent_telemetry.errors import RecordError
from otel_agent_telemetry.state_plan import StatePlans

USUAL = record(1, status="success", items_failed=3, trace_id="ab" * 16, parent_run_id="run-0").to_fields()
LINE = {"record_type": "run", "writer": "w", "seq": 7, **USUAL}


def state_of(line):
    return StatePlans()[tuple(line)].state_of(line)


def test_the_columns_of_a_line_are_taken_as_they_are():
    """What is no column is left out, and the line itself stays as it was."""
    before = dict(LINE)

    assert state_of(LINE) == USUAL
    assert before == LINE


@pytest.mark.parametrize(
    "odd",
    [
        {"status": "completed"},
        {"event_id": "0" * 36},
        {"trace_id": "AB" * 16},
        {"created_at": "2026-01-31T12:00:00Z"},
        {"run_id": "a/b"},
        {"run_id": "a\nb"},
        {"trace_id": "0" * 31},
        {"agent_name": ""},
        {"host": 7},
        {"host": None},
        {"items_failed": -1},
        {"items_failed": True},
        {"items_failed": 2**31},
        {"duration_ms": "5"},
        {"cost_usd": 0.5},
        {"labels": "{}"},
    ],
    ids=repr,
)
def test_a_value_that_may_be_wrong_is_not_judged(odd):
    """One such value is enough: the whole state goes the long way."""
    assert state_of(LINE | odd) is None


@pytest.mark.parametrize("missing", ["event_id", "run_id", "status", "schema_version", "created_at", "job_type"])
def test_a_state_without_a_required_column_is_not_judged(missing):
    """What is filled in, or refused, is for the rules."""
    assert state_of({name: value for name, value in LINE.items() if name != missing}) is None


def test_every_day_of_a_year_has_the_form_of_a_time():
    """Also the days that not every month has; 29 February, which not every year has, goes the long way."""
    days = [(month, day) for month in range(1, 13) for day in range(1, 32)]

    taken = {day for day in days if state_of(LINE | {"created_at": _time(*day)}) is not None}

    assert taken == {(month, day) for month, day in days if day <= calendar.monthrange(2026, month)[1]}
    for day in set(days) - taken - {(2, 29)}:
        with pytest.raises(RecordError):
            check_time("created_at", _time(*day))


def _time(month: int, day: int) -> str:
    return f"2026-{month:02}-{day:02}T12:00:00.000000+00:00"


def test_plans_of_made_up_names_do_not_fill_the_memory():
    """A file may hold lines with any names."""
    plans = StatePlans()
    for number in range(2_000):
        assert plans[(f"name-{number}",)].state_of({}) is None
    assert plans[tuple(f"name-{number}" for number in range(1_000))].state_of({}) is None

    assert len(plans) < 300
    assert max(map(len, plans)) < 300
