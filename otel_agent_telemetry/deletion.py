"""Marks of what was deleted: receipts of single runs, and the cut-off of a retention.

A deleted run stays deleted, although the journal still has its lines and a late state of it may
arrive. So a deletion leaves a mark in the database (`storage.deletions`), a line in the journal's
day file, and the same line in `{ndjson_dir}/deletions.ndjson`, the file that readers of the journal
look into first. That file is never rewritten and outlives the day files. Lines are those of `wire`:

    agent.run.deleted      event_id, run_id, timestamp, payload {"deleted_by", "trace_id"?}
    agent.runs.retention   timestamp, payload {"cutoff"}

A mark holds nothing of what was deleted but the run's ids. A mark is durable when `append_marks`
returns. A torn last line is passed over, as everywhere.

A cut-off covers every state of a run that was created before it and had ended by then, or was last
heard of before it: what `retention` deletes. It decides about states of runs that are not stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from otel_agent_telemetry.append import AppendFile, sync_dir
from otel_agent_telemetry.journal import read_journal
from otel_agent_telemetry.status import RUNNING
from otel_agent_telemetry.wire import EVENT, Line, encode_line

DELETED_EVENT: Final = "agent.run.deleted"
"""`event_type` of the line that carries a Deletion."""
RETENTION_EVENT: Final = "agent.runs.retention"
"""`event_type` of the line that carries a CutOff."""
PURGED_EVENT: Final = "agent.line.purged"
"""`event_type` of the line that stands where `delete --purge` has overwritten one."""
MARK_EVENTS: Final = frozenset({DELETED_EVENT, RETENTION_EVENT})
_FILE: Final = "deletions.ndjson"


class Deletion(NamedTuple):
    """The receipt of one deleted run. `trace_id` is set where no other run of its trace was left.

    `deleted_at`: our form of time. `deleted_by`: the name of the token, or the user of the command.
    """

    event_id: str
    run_id: str
    deleted_at: str
    deleted_by: str
    trace_id: str | None = None

    def to_event(self) -> dict[str, Any]:
        """Return the members of its line."""
        trace = {"trace_id": self.trace_id} if self.trace_id else {}
        return {
            "event_id": self.event_id,
            "run_id": self.run_id,
            "event_type": DELETED_EVENT,
            "timestamp": self.deleted_at,
            "payload": {"deleted_by": self.deleted_by, **trace},
        }


class CutOff(NamedTuple):
    """The time before which `retention` has deleted the runs, and when it was applied."""

    cutoff: str
    applied_at: str

    def to_event(self) -> dict[str, Any]:
        """Return the members of its line."""
        return {"event_type": RETENTION_EVENT, "timestamp": self.applied_at, "payload": {"cutoff": self.cutoff}}


Mark = Deletion | CutOff


@dataclass(slots=True)
class Marks:
    """All marks of a journal or of a database: `event_id` → receipt, and the latest cut-off, None without one.

    `parts_cutoff`: the time before which a database's events and steps were deleted for their own age,
    "" without one. Only `verify` asks for it: what is delivered again is stored again.
    """

    deleted: dict[str, Deletion] = field(default_factory=dict)
    cutoff: CutOff | None = None
    parts_cutoff: str = ""

    def add(self, mark: Mark | None) -> None:
        """Add a mark; of two receipts of one run the first stays, of two cut-offs the later."""
        if isinstance(mark, Deletion):
            # The first receipt names who deleted the run; a repetition of the call must not replace that name.
            self.deleted.setdefault(mark.event_id, mark)
        elif mark is not None and (self.cutoff is None or mark.cutoff > self.cutoff.cutoff):
            self.cutoff = mark

    def update(self, other: Marks) -> None:
        """Add the marks of another collection."""
        for mark in other:
            self.add(mark)
        self.parts_cutoff = max(self.parts_cutoff, other.parts_cutoff)

    def __iter__(self) -> Any:
        yield from self.deleted.values()
        if self.cutoff is not None:
            yield self.cutoff

    def __bool__(self) -> bool:
        return bool(self.deleted) or self.cutoff is not None

    def cover(self, state: Mapping[str, Any]) -> bool:
        """Return whether a state of a run that is not stored is that of a deleted run.

        `state` needs `event_id`, `created_at`, `updated_at`, and `status` and `end_time` where it has ended.
        """
        return state.get("event_id") in self.deleted or (
            self.cutoff is not None and is_before(state, self.cutoff.cutoff)
        )


def is_before(state: Mapping[str, Any], cutoff: str) -> bool:
    """Return whether a cut-off covers a state: created before it, and ended or last heard of before it."""
    if state["created_at"] >= cutoff:
        return False
    end = state.get("end_time") if state.get("status", RUNNING) != RUNNING else state["updated_at"]
    # Ended without a known end: its creation, which is before the cut-off, decides.
    return end is None or bool(end < cutoff)


def mark_of(line: Line) -> Mark | None:
    """Return the mark that a journal line carries; None for any other line, and for one that cannot be read."""
    payload, at = line.get("payload"), line.get("timestamp")
    # A journal line may be of any program: whatever is not exactly a mark is none, and deletes nothing.
    if line.get("record_type") != EVENT or not isinstance(payload, dict) or not isinstance(at, str):
        return None
    if line.get("event_type") == RETENTION_EVENT:
        cutoff = payload.get("cutoff")
        return CutOff(cutoff=cutoff, applied_at=at) if isinstance(cutoff, str) else None
    event_id, trace_id = line.get("event_id"), payload.get("trace_id")
    if line.get("event_type") != DELETED_EVENT or not isinstance(event_id, str):
        return None
    return Deletion(
        event_id=event_id,
        run_id=str(line.get("run_id") or ""),
        deleted_at=at,
        deleted_by=str(payload.get("deleted_by") or ""),
        trace_id=trace_id if isinstance(trace_id, str) else None,
    )


def read_marks(folder: Path) -> Marks:
    """Return the marks of a journal folder; none when there is no file. Raises OSError.

    Reads the whole file: some 200 bytes a deleted run.
    """
    marks = Marks()
    path = folder / _FILE
    if path.exists():
        for line in read_journal(path):
            for record in line.records:
                marks.add(mark_of(record))
    return marks


class HiddenLines:
    """Which journal lines no reader shows: those of deleted runs. Reads the marks again when there are new ones."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._size = 0
        self._deleted: dict[str, Deletion] = {}

    def refresh(self) -> None:
        """Read the marks if there are more than before. Raises OSError."""
        path = self._folder / _FILE
        size = path.stat().st_size if path.exists() else 0
        # The file is only appended to, so an equal size is an equal content.
        if size != self._size:
            self._size, self._deleted = size, read_marks(self._folder).deleted

    def allow(self, line: Line) -> bool:
        """Return whether a line may be shown: of a deleted run, its receipt alone."""
        return line.get("event_id") not in self._deleted or line.get("event_type") == DELETED_EVENT


def append_marks(folder: Path, marks: Iterable[Mark]) -> None:
    """Add marks to a journal folder; on return they are on the disk. Blocks. Raises OSError.

    Several processes may append at once; a disk that is full raises, and nothing must be deleted then.
    """
    lines = [encode_line(EVENT, mark.to_event()) for mark in marks]
    if not lines:
        return
    file = AppendFile(folder / _FILE)
    for line in lines:
        file.write(line)
    file.sync()
    # The file may be new: without this its name could be lost in a power cut, and the deletion with it.
    sync_dir(folder)
