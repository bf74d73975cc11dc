"""The batch that a drain is putting together, and how far it reaches into each segment."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from otel_agent_telemetry.buffer.segment import SegmentLine
from otel_agent_telemetry.delivery.outcome import Batch, Delivered
from otel_agent_telemetry.errors import RecordError
from otel_agent_telemetry.model import CommitLink, RunRecord, later_state
from otel_agent_telemetry.wire import EVENT, RUN, Line

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
        self._runs: dict[str, RunRecord] = {}
        self._links: list[CommitLink] = []
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
            run = RunRecord.from_fields(record)
            known = self._runs.get(run.event_id)
            self._runs[run.event_id] = run if known is None else later_state(known, run)
        elif record["record_type"] == EVENT:
            self._links.append(CommitLink.from_event(record))

    @property
    def full(self) -> bool:
        """Whether the batch has its size: 500 records or 8 MiB of lines."""
        return len(self._runs) + len(self._links) >= MAX_BATCH_RECORDS or self._bytes >= MAX_BATCH_BYTES

    def batch(self) -> Batch:
        """What to hand to the target."""
        return Batch(tuple(self._runs.values()), tuple(self._links))

    def refused(self, batch: Batch, outcome: Delivered) -> list[tuple[Line, str]]:
        """What must be set aside and why: lines that are no records, and items that the target refused."""
        refused = list(self._no_records)
        for item in outcome.rejected:
            if item.position < len(batch.records):
                record: Line = {"record_type": RUN, **batch.records[item.position].to_fields()}
            else:
                link = batch.links[item.position - len(batch.records)]
                record = {"record_type": EVENT, **asdict(link)}
            refused.append((record, item.reason))
        return refused
