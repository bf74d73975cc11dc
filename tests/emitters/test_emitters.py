"""Every recorded emitter gives the rows that its user expects, by each of the three ways."""

from __future__ import annotations

from itertools import zip_longest

import pytest

from tests.emitters.recorded_program import plain, recorded_programs, seen_as
from tests.emitters.ways import all_ways

WAYS = ("live", "exporter", "otlp")
SAID = (b"Weather in Bern", b"It is sunny", b"Be brief", b"It is on shelf 3", b"say done")
"""What was said in the recorded programs, whatever attribute or event their frameworks put it into."""


@pytest.fixture(scope="session")
def stored(tmp_path_factory):
    """Record every program by every way, then read the rows: way and trace id → rows; and all that was written."""
    found = {}
    folder = tmp_path_factory.mktemp("emitters")
    with all_ways(folder) as ways:
        for name, way in ways.items():
            for program in recorded_programs():
                way.record(program)
            for row in map(plain, way.rows()):
                found.setdefault((name, row["trace_id"]), []).append(row)
        written = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    return found, written


def cases():
    for program in recorded_programs():
        for way in WAYS:
            reason = program.xfail.get(way, program.xfail.get("all"))
            marks = [pytest.mark.xfail(strict=True, reason=reason)] if reason else []
            yield pytest.param(program, way, id=f"{program}-{way}", marks=marks)


@pytest.mark.parametrize(("program", "way"), list(cases()))
def test_the_runs_are_those_that_a_user_expects(stored, program, way):
    """Their number, agents, nesting, statuses, calls and tokens."""
    found = [row for trace_id in program.trace_ids(way) for row in stored[0].get((way, trace_id), [])]
    found.sort(key=lambda row: row["start_time"])
    agents = {row["run_id"]: row["agent_name"] for row in found}
    expected = program.expected(way)
    seen = [seen_as(row, agents, run) for row, run in zip_longest(found, expected[: len(found)], fillvalue={})]
    assert seen == expected


def test_what_was_said_is_not_kept(stored):
    """No question, answer or instruction is in a journal or a database, however short it is."""
    assert [text for text in SAID if text in stored[1]] == []
