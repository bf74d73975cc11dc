"""Line numbers for `verify`: which are missing, and which occur twice."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_agent_telemetry.operations import sequence_ledger
from otel_agent_telemetry.operations.sequence_ledger import SequenceLedger


def line(writer, number):
    return {"record_type": "event", "writer": writer, "seq": number}


def gaps_of(arrivals, issued):
    """Missing numbers by writer, as the ledger finds them."""
    with closing(sqlite3.connect("")) as scratch:
        ledger = SequenceLedger(scratch)
        ledger.saw([line(writer, number) for writer, number in arrivals])
        ledger.issue_seen()
        for writer, number in issued.items():
            ledger.issued(writer, number)
        found = list(ledger.gaps())
        assert found == list(ledger.gaps())
    return {(gap.writer, number) for gap in found for number in range(gap.first, gap.last + 1)}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 30)), max_size=80), st.integers(0, 40))
def test_gaps_are_what_was_issued_and_not_seen(arrivals, more):
    """For any order and repetition: every number up to the highest issued, less those seen."""
    issued = {"a": more}
    highest = {writer: max([n for w, n in arrivals if w == writer] + [issued.get(writer, 0)]) for writer in "abc"}
    expected = {(writer, n) for writer, last in highest.items() for n in range(1, last + 1)} - set(arrivals)
    assert gaps_of(arrivals, issued) == expected


def test_more_writers_than_memory_keeps_lose_nothing(monkeypatch):
    """Intervals on disk are merged with those that came later."""
    monkeypatch.setattr(sequence_ledger, "_MAX_IN_MEMORY", 3)
    arrivals = [(f"w{writer}", number) for number in (1, 2, 3, 5) for writer in range(20)]
    assert gaps_of(arrivals, {}) == {(f"w{writer}", 4) for writer in range(20)}


@pytest.mark.parametrize("other", [{}, {"writer": "w"}, {"writer": ["w"], "seq": 2}, {"writer": "w", "seq": "2"}])
def test_a_line_without_a_number_hides_no_other(other):
    """Lines of other versions, or written by hand."""
    with closing(sqlite3.connect("")) as scratch:
        ledger = SequenceLedger(scratch)
        ledger.saw([line("w", 1), other, line("w", 0), line("w", 3)])
        ledger.issue_seen()
        assert [(gap.first, gap.last) for gap in ledger.gaps()] == [(2, 2)]


def test_a_number_seen_but_not_issued_is_no_gap():
    """Lines that came after the limit was taken only fill."""
    with closing(sqlite3.connect("")) as scratch:
        ledger = SequenceLedger(scratch)
        ledger.issued("w", 3)
        ledger.saw([line("w", number) for number in (1, 3, 9)])
        assert [(gap.first, gap.last, gap.lines) for gap in ledger.gaps()] == [(2, 2, 1)]
        assert ledger.writers() == 1


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 20)), max_size=60))
def test_a_number_that_two_lines_have_is_found(arrivals):
    """In any order, and nothing else."""
    with closing(sqlite3.connect("")) as scratch:
        ledger = SequenceLedger(scratch)
        ledger.saw([line(writer, number) for writer, number in arrivals])
        found = ledger.repeated(limit=1000)
    expected = {one for one in arrivals if arrivals.count(one) > 1}
    assert {(writer, number) for writer, numbers in found.items() for number in numbers} == expected
