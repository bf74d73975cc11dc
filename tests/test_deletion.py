"""Marks of deletions: what a cut-off covers, and the file beside the journal that keeps the marks."""

from __future__ import annotations

import pytest

from otel_agent_telemetry.deletion import (
    CutOff,
    Deletion,
    HiddenLines,
    Marks,
    append_marks,
    is_before,
    mark_of,
    read_marks,
)

EARLY, CUTOFF, LATE = (f"2026-0{month}-01T00:00:00.000000+00:00" for month in (1, 2, 3))
RECEIPT = Deletion(event_id="e", run_id="r", deleted_at=LATE, deleted_by="ops", trace_id="t")


@pytest.mark.parametrize(
    ("created", "status", "ended", "updated", "is_covered"),
    [
        (EARLY, "success", EARLY, EARLY, True),
        (EARLY, "success", EARLY, LATE, True),
        (EARLY, "failed", None, LATE, True),
        (EARLY, "success", LATE, LATE, False),
        (EARLY, "running", None, EARLY, True),
        (EARLY, "running", None, LATE, False),
        (CUTOFF, "success", CUTOFF, CUTOFF, False),
    ],
)
def test_a_cutoff_covers_what_retention_deletes(created, status, ended, updated, is_covered):
    """And the start of such a run; never a run that began at the cut-off, or ended after it."""
    state = {"created_at": created, "status": status, "end_time": ended, "updated_at": updated}
    assert is_before(state, CUTOFF) is is_covered


def test_marks_are_read_as_they_were_appended(tmp_path):
    """Of two cut-offs the later counts; a torn last line is passed over; a journal line of a mark is that mark."""
    append_marks(tmp_path, [RECEIPT, CutOff(cutoff=CUTOFF, applied_at=LATE)])
    append_marks(tmp_path, [CutOff(cutoff=EARLY, applied_at=LATE)])
    (path,) = tmp_path.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    with path.open("ab") as file:
        file.write(b'{"record_type":"event","event_type":"agent.run.del')
    assert read_marks(tmp_path) == Marks({"e": RECEIPT}, CutOff(cutoff=CUTOFF, applied_at=LATE))
    assert mark_of({"record_type": "event", "event_type": "agent.run.commit", "timestamp": LATE, "payload": {}}) is None


def test_lines_of_a_deleted_run_are_hidden_as_soon_as_its_mark_is_there(tmp_path):
    """A reader that is open already notices; the receipt itself is shown."""
    hidden, line = HiddenLines(tmp_path), {"record_type": "event", "event_id": "e", "event_type": "tick"}
    hidden.refresh()
    assert hidden.allow(line)
    append_marks(tmp_path, [RECEIPT])
    hidden.refresh()
    assert not hidden.allow(line)
    assert hidden.allow({"record_type": "event", **RECEIPT.to_event()})
