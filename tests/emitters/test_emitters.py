"""Every recorded emitter gives the rows that its user expects, by each of the three ways."""

from __future__ import annotations

from itertools import zip_longest

import pytest

from tests.emitters.recorded_program import plain, recorded_programs, seen_as
from tests.emitters.ways import all_ways

WAYS = ("live", "exporter", "otlp")


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Record every program by every way, then read the rows: way and trace id → rows."""
    found = {}
    with all_ways(tmp_path_factory.mktemp("emitters")) as ways:
        for name, way in ways.items():
            for program in recorded_programs():
                way.record(program)
            for row in map(plain, way.rows()):
                found.setdefault((name, row["trace_id"]), []).append(row)
    return found


def cases():
    for program in recorded_programs():
        for way in WAYS:
            reason = program.xfail.get(way, program.xfail.get("all"))
            marks = [pytest.mark.xfail(strict=True, reason=reason)] if reason else []
            yield pytest.param(program, way, id=f"{program}-{way}", marks=marks)


@pytest.mark.parametrize(("program", "way"), list(cases()))
def test_the_runs_are_those_that_a_user_expects(stored, program, way):
    """Their number, agents, nesting, statuses, calls and tokens."""
    found = [row for trace_id in program.trace_ids(way) for row in stored.get((way, trace_id), [])]
    found.sort(key=lambda row: row["start_time"])
    agents = {row["run_id"]: row["agent_name"] for row in found}
    expected = program.expected(way)
    seen = [seen_as(row, agents, run) for row, run in zip_longest(found, expected[: len(found)], fillvalue={})]
    assert seen == expected
