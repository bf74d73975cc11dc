"""What a drain knows of the writers of a buffer folder: their segments, how far each was read, which runs are open.

A segment is removed when all of it is confirmed, no more will follow (sealed, or its writer is
gone) and it does not hold the latest state of a run that is still open, because that state is
what the run would be closed from.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from otel_agent_telemetry import status as st
from otel_agent_telemetry.buffer.health import read_writer_note
from otel_agent_telemetry.buffer.identity import WriterIdentity
from otel_agent_telemetry.buffer.layout import WriterFiles, ack_path, read_acknowledged
from otel_agent_telemetry.buffer.segment import SEALED, SEGMENT, read_segment
from otel_agent_telemetry.columns import Fields
from otel_agent_telemetry.delivery.outcome import SegmentProgress
from otel_agent_telemetry.errors import RecordError
from otel_agent_telemetry.locks import FileLock
from otel_agent_telemetry.run_state import checked_state
from otel_agent_telemetry.wire import RUN, Line


@dataclass(slots=True)
class WriterProgress:
    """One writer of the folder. `open_runs`: event_id → segment and offset of its latest running state."""

    files: WriterFiles
    lock: FileLock
    segments: dict[int, SegmentProgress] = field(default_factory=dict)
    open_runs: dict[str, tuple[int, int]] = field(default_factory=dict)
    header: Line = field(default_factory=dict)

    @property
    def gone(self) -> bool:
        """Return whether its process has ended: the drain then holds its lock."""
        return self.lock.held

    @property
    def identity(self) -> WriterIdentity:
        """Return who the writer was, by the header of its last segment that was read."""
        header = self.header
        return WriterIdentity(
            writer=str(header.get("writer", "")),
            host=str(header.get("host", "an unknown host")),
            pid=int(header.get("pid", 0)),
            boot_id=str(header.get("boot_id", "")),
            started=str(header.get("started", "")),
        )

    @property
    def counters(self) -> dict[str, Any]:
        """Return the counters that the writer left in its lock file; empty when it left none."""
        counters = read_writer_note(self.files.lock).get("counters")
        return counters if isinstance(counters, dict) else {}

    @property
    def confirmed(self) -> bool:
        """Return whether all that was read is confirmed."""
        return all(segment.read <= segment.acked for segment in self.segments.values())

    def list_segments(self) -> None:
        """Take over the segments of `files`: new ones are added, removed ones forgotten."""
        listed = dict(self.files.segments)
        for number in self.segments.keys() - listed.keys():
            del self.segments[number]
        for number, path in listed.items():
            if number not in self.segments:
                self.segments[number] = SegmentProgress(number, path, acked=read_acknowledged(path))

    def track(self, segment: SegmentProgress, record: Line, offset: int) -> None:
        """Note what a record of the line at `offset` means: a header, the end of a segment, an open or ended run."""
        kind = record["record_type"]
        if kind == SEGMENT:
            self.header = record
        elif kind == SEALED:
            segment.sealed = True
        elif kind == RUN and (event_id := record.get("event_id")):
            if record.get("status", st.RUNNING) == st.RUNNING:
                self.open_runs[event_id] = (segment.number, offset)
            else:
                self.open_runs.pop(event_id, None)

    def last_state(self, event_id: str) -> Fields | None:
        """Return the latest running state of an open run, read from its segment; None when it is not there."""
        number, offset = self.open_runs[event_id]
        if number not in self.segments:  # somebody removed it by hand
            return None
        line = next(read_segment(self.segments[number].path, offset=offset, to_the_end=True), None)
        states = (
            _state_or_none(record)
            for record in (line.records if line is not None else ())
            if record.get("event_id") == event_id
        )
        return next(filter(None, states), None)

    def remove_confirmed(self) -> None:
        """Remove the segments of a live writer that nobody needs any more. Raises OSError."""
        # A segment with the last state of an open run stays: that state is what the run is closed from.
        needed = {number for number, _ in self.open_runs.values()}
        for number in sorted(self.segments):
            segment = self.segments[number]
            if segment.sealed and segment.acked >= segment.read and number not in needed:
                _remove(segment.path)
                del self.segments[number]

    def remove(self) -> None:
        """Remove all files of a writer that is gone. Raises OSError."""
        # The lock goes last: while it is there, the next deliverer finds the writer and finishes this.
        for number in sorted(self.segments):
            _remove(self.segments[number].path)
        self.lock.release(unlink=True)


def _remove(segment: Path) -> None:
    """Remove a segment, then its ack: an ack alone is harmless, a segment alone would be delivered again."""
    segment.unlink(missing_ok=True)
    ack_path(segment).unlink(missing_ok=True)


def _state_or_none(record: Line) -> Fields | None:
    try:
        return checked_state(record)
    except RecordError:
        return None  # it was set aside when it was read
