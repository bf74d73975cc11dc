"""The batch that a drain is putting together, and how far it reaches into each segment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from otel_agent_telemetry.buffer.segment import SegmentLine
from otel_agent_telemetry.columns import Fields
from otel_agent_telemetry.delivery.outcome import Batch, Delivered, is_link, link_line
from otel_agent_telemetry.errors import RecordError
from otel_agent_telemetry.run_state import checked_state, merged_state
from otel_agent_telemetry.wire import RUN, Line

MAX_BATCH_RECORDS: Final = 500
MAX_BATCH_BYTES: Final = 8 << 20


@dataclass(slots=True)
class SegmentProgress:
    """How far one segment was read and confirmed, in bytes."""

    number: int
    path: Path
    acked: int
    read: int = 0
    sealed: bool = False


class Pending:
    """Records on their way into one batch. Not thread-safe."""

    def __init__(self) -> None:
        self._runs: dict[str, Fields] = {}
        self._others: list[Line] = []
        self._no_records: list[tuple[Line, str]] = []
        self._bytes = 0
        self.torn_lines = 0
        self.reach: dict[Path, tuple[SegmentProgress, int]] = {}

    def add(self, line: SegmentLine, segment: SegmentProgress, size: int) -> None:
        """Take in one line of a segment; of several states of a run the later one is kept."""
        for record in line.records:
            try:
                self._add_record(record)
            except RecordError as problem:
                self._no_records.append((record, str(problem)))
        self.reach[segment.path] = (segment, line.ends_at)
        self._bytes += size
        self.torn_lines += line.torn

    def _add_record(self, record: Line) -> None:
        if record["record_type"] == RUN:
            state = checked_state(record)
            state["record_type"] = RUN
            known = self._runs.get(state["event_id"])
            self._runs[state["event_id"]] = state if known is None else merged_state(known, state)
        elif is_link(record):
            from otel_agent_telemetry.model import CommitLink

            self._others.append(link_line(CommitLink.from_event(record)))

    @property
    def full(self) -> bool:
        """Whether the batch has its size: 500 records or 8 MiB of lines."""
        return len(self._runs) + len(self._others) >= MAX_BATCH_RECORDS or self._bytes >= MAX_BATCH_BYTES

    def batch(self) -> Batch:
        """Return what to hand to the target: runs first."""
        return Batch((*self._runs.values(), *self._others))

    def refused(self, batch: Batch, outcome: Delivered) -> list[tuple[Line, str]]:
        """Return what must be set aside and why: lines that are no records, and those that the target refused."""
        return [*self._no_records, *((batch.lines[item.position], item.reason) for item in outcome.rejected)]
