"""The ledgers of `verify`: where journal, buffer and database differ about a run, and gaps in line numbers."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_agent_telemetry.operations import run_ledger
from otel_agent_telemetry.operations.run_ledger import FINDINGS, RunLedger, SequenceLedger
from otel_agent_telemetry.storage.queries import RunState

EARLY, LATE = "2026-01-01T00:00:00.000000+00:00", "2026-01-01T00:00:01.000000+00:00"


def state(status, updated_at, event_id="e"):
    return {"record_type": "run", "event_id": event_id, "run_id": "r", "status": status, "updated_at": updated_at}


@pytest.mark.parametrize(
    ("journalled", "waiting", "stored", "finding"),
    [
        (("running", EARLY), None, None, "missing"),
        (("running", EARLY), ("running", EARLY), None, None),
        (("success", LATE), ("running", EARLY), None, "missing"),
        (("success", LATE), None, ("running", EARLY), "older"),
        (("success", LATE), ("success", LATE), ("running", EARLY), None),
        (("success", EARLY), None, ("running", LATE), "older"),
        (("success", EARLY), None, ("success", EARLY), None),
        (("running", LATE), None, ("success", EARLY), "ahead"),
        (("failure", "2026-01-01T01:00:00+01:00"), None, ("failed", EARLY), None),
        (None, None, ("success", EARLY), "unjournalled"),
    ],
)
def test_each_difference_is_one_finding(journalled, waiting, stored, finding):
    """An end counts as later than any running state; spellings and zones do not matter."""
    with closing(sqlite3.connect("")) as scratch:
        ledger = RunLedger(scratch)
        if journalled:
            ledger.journalled([state(*journalled)])
        if waiting:
            ledger.waiting([state(*waiting)])
        if stored:
            ledger.stored([RunState("e", *stored)])
        found = {name for name, finding in ledger.findings(limit=5).items() if finding.total == len(finding.runs) == 1}
    assert found == ({finding} if finding else set())


def test_the_latest_state_of_the_journal_counts_whatever_the_order(monkeypatch):
    """Also when states are folded on disk, not in memory."""
    monkeypatch.setattr(run_ledger, "_MAX_IN_MEMORY", 2)
    with closing(sqlite3.connect("")) as scratch:
        ledger = RunLedger(scratch)
        for number in range(10):
            ledger.journalled([state("success", LATE, f"e{number}")])
        for number in range(10):
            ledger.journalled([state("running", EARLY, f"e{number}")])
        ledger.stored(RunState(f"e{number}", "success", LATE) for number in range(10))
        assert ledger.count("journalled") == ledger.count("stored") == 10
        assert ledger.findings(limit=5) == dict.fromkeys(FINDINGS, (0, []))


def test_names_are_bounded_and_counts_are_not():
    """A finding about many runs names the first few."""
    with closing(sqlite3.connect("")) as scratch:
        ledger = RunLedger(scratch)
        for number in range(10):
            ledger.journalled([state("success", LATE, f"e{number}")])
        total, named = ledger.findings(limit=3)["missing"]
    assert total == 10
    assert [run.event_id for run in named] == ["e0", "e1", "e2"]


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
    monkeypatch.setattr(run_ledger, "_MAX_IN_MEMORY", 3)
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
