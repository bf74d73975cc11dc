"""What a drain knows of the writers of a buffer folder: their segments, how far each was read, which runs are open.

A segment is removed when all of it is confirmed, no more will follow (sealed, or its writer is
gone) and it does not hold the latest state of a run that is still open, because that state is
what the run would be closed from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from otel_agent_telemetry import status as st
from otel_agent_telemetry.buffer.health import read_writer_note
from otel_agent_telemetry.buffer.identity import WriterIdentity
from otel_agent_telemetry.buffer.layout import WriterFiles, ack_path, read_acknowledged
from otel_agent_telemetry.buffer.segment import SEALED, SEGMENT, read_segment_parts
from otel_agent_telemetry.columns import Fields
from otel_agent_telemetry.delivery.outcome import SegmentProgress
from otel_agent_telemetry.errors import RecordError
from otel_agent_telemetry.journal import JournalPart
from otel_agent_telemetry.locks import FileLock
from otel_agent_telemetry.run_state import checked_state
from otel_agent_telemetry.wire import RUN, Line


class WriterProgress:
    """One writer of the folder.

    `open_runs`: event_id → where its latest running state is: segment, and offset and end of the
    lines that were read together with it.
    """

    __slots__ = ("files", "header", "lock", "open_runs", "segments")

    def __init__(self, files: WriterFiles, lock: FileLock) -> None:
        self.files = files
        self.lock = lock
        self.segments: dict[int, SegmentProgress] = {}
        self.open_runs: dict[str, tuple[int, int, int]] = {}
        self.header: Line = {}

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

    def read_on(self, segment: SegmentProgress, *, end: int | None) -> Iterator[JournalPart]:
        """Yield the lines of a segment that were not read yet, up to `end`, and note what they mean."""
        for part in read_segment_parts(segment.path, offset=segment.read, end=end):
            begins, segment.read = segment.read, segment.read + part.size
            self._track(segment, part.records, (segment.number, begins, segment.read))
            yield part

    def _track(self, segment: SegmentProgress, records: Iterable[Line], place: tuple[int, int, int]) -> None:
        """Note what records mean: a header, the end of a segment, an open or ended run."""
        open_runs = self.open_runs
        for record in records:
            kind = record["record_type"]
            if kind == RUN:
                event_id = record.get("event_id")
                if type(event_id) is not str:  # set aside later
                    continue
                if record.get("status", st.RUNNING) == st.RUNNING:
                    open_runs[event_id] = place
                elif event_id in open_runs:
                    del open_runs[event_id]
            elif kind == SEGMENT:
                self.header = record
            elif kind == SEALED:
                segment.sealed = True

    def last_state(self, event_id: str) -> Fields | None:
        """Return the latest running state of an open run, read from its segment; None when it is not there."""
        number, begins, ends = self.open_runs[event_id]
        if number not in self.segments:  # somebody removed it by hand
            return None
        lines = chain.from_iterable(
            part.records for part in read_segment_parts(self.segments[number].path, offset=begins, end=ends)
        )
        states = [_state_or_none(line) for line in lines if line.get("event_id") == event_id]
        return next(filter(None, reversed(states)), None)

    def remove_confirmed(self) -> None:
        """Remove the segments of a live writer that nobody needs any more. Raises OSError."""
        # A segment with the last state of an open run stays: that state is what the run is closed from.
        needed = {number for number, *_ in self.open_runs.values()}
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
    """Return the checked state of a line; None for one that breaks a rule."""
    try:
        return checked_state(record)
    except RecordError:
        return None  # it was set aside when it was read
