"""Gaps in the numbers of writers, whatever the order of arrival."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from hypothesis import given
from hypothesis import strategies as st

from otel_agent_telemetry.operations import run_ledger as sequences
from otel_agent_telemetry.operations.run_ledger import SequenceLedger

NUMBERS = st.lists(st.integers(1, 30), max_size=60)


def gaps_of(arrivals, issued):
    """Missing numbers by writer, as the ledger tells them."""
    with closing(sqlite3.connect("")) as scratch:
        ledger = SequenceLedger(scratch)
        for writer, number in arrivals:
            ledger.issued(writer, number)
            ledger.saw(writer, number)
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
    """Intervals that were put on disk are joined with those that came later."""
    monkeypatch.setattr(sequences, "_MAX_OPEN", 3)
    arrivals = [(f"w{writer}", number) for number in (1, 2, 3, 5) for writer in range(20)]
    assert gaps_of(arrivals, {}) == {(f"w{writer}", 4) for writer in range(20)}


def test_a_number_seen_but_not_issued_is_no_gap():
    """Lines that came after the limit was taken only fill."""
    with closing(sqlite3.connect("")) as scratch:
        ledger = SequenceLedger(scratch)
        ledger.issued("w", 3)
        for number in (1, 3, 9):
            ledger.saw("w", number)
        assert [(gap.first, gap.last, gap.lines) for gap in ledger.gaps()] == [(2, 2, 1)]
        assert ledger.writers() == 1
