"""Every recorded emitter gives the rows that its user expects, by each of the three ways."""

from __future__ import annotations

import pytest

from tests.emitters.recorded_program import plain, recorded_programs, seen_as
from tests.emitters.ways import all_ways

WAYS = ("live", "exporter", "otlp")


@pytest.fixture(scope="module")
def ways(tmp_path_factory):
    with all_ways(tmp_path_factory.mktemp("emitters")) as opened:
        yield opened


def cases():
    for program in recorded_programs():
        for way in WAYS:
            reason = program.xfail.get(way, program.xfail.get("all"))
            marks = [pytest.mark.xfail(strict=True, reason=reason)] if reason else []
            yield pytest.param(program, way, id=f"{program}-{way}", marks=marks)


@pytest.mark.parametrize(("program", "way"), list(cases()))
def test_the_runs_are_those_that_a_user_expects(ways, program, way):
    """Their number, agents, nesting, statuses, calls and tokens."""
    ways[way].record(program)
    found = [plain(row) for trace_id in program.trace_ids(way) for row in ways[way].rows(trace_id)]
    found.sort(key=lambda row: row["start_time"])
    agents = {row["run_id"]: row["agent_name"] for row in found}
    expected = program.expected(way)
    seen = [seen_as(row, agents, run) for row, run in zip(found, [*expected, *[{}] * len(found)], strict=False)]
    assert seen == expected
