"""Every recorded emitter gives the rows that its user expects, by each of the three ways."""

from __future__ import annotations

from collections import defaultdict
from functools import cache
from itertools import zip_longest

import pytest

from tests.emitters.recorded_program import plain, recorded_programs, seen_as
from tests.emitters.ways import opened

WAYS = ("live", "exporter", "otlp")
SAID = (b"Weather in Bern", b"It is sunny", b"Be brief", b"It is on shelf 3", b"say done")
"""What was said in the recorded programs, whatever attribute or event their frameworks put it into."""


@pytest.fixture(scope="session")
def stored_by(tmp_path_factory):
    """Return what a way keeps of every recorded program, recorded when it is asked for first: see `Stored`."""
    return cache(lambda way: Stored(way, tmp_path_factory.mktemp(way)))


class Stored:
    """The rows of every program by trace id, and all bytes that were written for them."""

    def __init__(self, name, folder):
        with opened(name, folder) as way:
            for program in recorded_programs():
                way.record(program)
            self.rows = defaultdict(list)
            for row in map(plain, way.rows()):
                self.rows[row["trace_id"]].append(row)
            self.written = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def cases():
    for way in WAYS:  # all programs of a way together: a worker records by the ways of its tests alone
        for program in recorded_programs():
            yield pytest.param(program, way, id=f"{program}-{way}")


@pytest.mark.parametrize(("program", "way"), list(cases()))
def test_the_runs_are_those_that_a_user_expects(stored_by, program, way):
    """Their number, agents, nesting, statuses, calls and tokens."""
    rows = stored_by(way).rows
    found = [row for trace_id in program.trace_ids(way) for row in rows.get(trace_id, [])]
    found.sort(key=lambda row: row["start_time"])
    agents = {row["run_id"]: row["agent_name"] for row in found}
    expected = program.expected(way)
    seen = [seen_as(row, agents, run) for row, run in zip_longest(found, expected[: len(found)], fillvalue={})]
    assert seen == expected


@pytest.mark.parametrize("way", WAYS)
def test_what_was_said_is_not_kept(stored_by, way):
    """No question, answer or instruction is in a journal or a database, however short it is."""
    assert [text for text in SAID if text in stored_by(way).written] == []
