"""The ledger of `verify`: where journal, buffer and database differ about a run."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from otel_agent_telemetry.deletion import CutOff, Deletion, Marks
from otel_agent_telemetry.operations import run_ledger
from otel_agent_telemetry.operations.line_ledger import LineLedger
from otel_agent_telemetry.operations.run_ledger import FINDINGS, RunLedger
from otel_agent_telemetry.operations.sequence_ledger import SequenceLedger
from otel_agent_telemetry.run_content import content_of

RECEIPT = Deletion(event_id="e", run_id="r", deleted_at="2026-02-01T00:00:00.000000+00:00", deleted_by="ops")
EARLY, LATE = "2026-01-01T00:00:00.000000+00:00", "2026-01-01T00:00:01.000000+00:00"


def state(status, updated_at, event_id="e"):
    return {"record_type": "run", "event_id": event_id, "run_id": "r", "status": status, "updated_at": updated_at}


def test_the_tables_are_made_within_the_callers_transaction(config):
    """Outside of one, each statement would write what it changed to the file: the cost grew with the square of runs."""
    with closing(sqlite3.connect("", isolation_level=None)) as scratch:
        scratch.execute("BEGIN")
        RunLedger(scratch)
        SequenceLedger(scratch)
        LineLedger(scratch, config)
        assert scratch.in_transaction


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
        (("success", EARLY), None, ("failed", EARLY), "altered"),
        (None, None, ("success", EARLY), "unjournalled"),
    ],
)
def test_each_difference_is_one_finding(journalled, waiting, stored, finding):
    """An end counts as later than any running state; of one state the content counts."""
    with closing(sqlite3.connect("")) as scratch:
        ledger = RunLedger(scratch)
        if journalled:
            ledger.journalled([state(*journalled)])
        if waiting:
            ledger.waiting([state(*waiting)])
        if stored:
            ledger.stored([("e", *stored, content_of(state(*stored)))])
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
        names = [f"e{number}" for number in range(10)]
        ledger.stored((name, "success", LATE, content_of(state("success", LATE, name))) for name in names)
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


@pytest.mark.parametrize("memory", [10_000, 1])
def test_two_runs_under_one_event_id_are_found(monkeypatch, memory):
    """By what every state of a run has in common, in memory and on disk."""
    monkeypatch.setattr(run_ledger, "_MAX_IN_MEMORY", memory)
    with closing(sqlite3.connect("")) as scratch:
        ledger = RunLedger(scratch)
        ledger.journalled([state("running", EARLY)])
        ledger.journalled([{**state("success", LATE), "run_id": "other"}])
        ledger.journalled([state("success", LATE)])
        assert ledger.findings(limit=5)["twice"].total == 1


@pytest.mark.parametrize("marks", [Marks({"e": RECEIPT}), Marks(cutoff=CutOff(cutoff=LATE, applied_at=LATE))])
def test_a_deleted_run_is_not_missing(marks):
    """Deleted alone, or by a retention; stored all the same, it is a finding of its own in the first case."""
    with closing(sqlite3.connect("")) as scratch:
        ledger = RunLedger(scratch)
        ended = {**state("success", EARLY), "created_at": EARLY, "end_time": EARLY}
        ledger.journalled([ended])
        ledger.deleted(marks)
        assert ledger.findings(limit=5)["missing"].total == 0
        ledger.stored([("e", "success", EARLY, content_of(ended))])
        assert ledger.findings(limit=5)["undeleted"].total == len(marks.deleted)
