"""Buffers as real writers leave them, and drains over them."""

from __future__ import annotations

import itertools
import os

from otel_agent_telemetry.buffer.identity import WriterIdentity
from otel_agent_telemetry.buffer.layout import list_writers, lock_path
from otel_agent_telemetry.buffer.writer import BufferWriter
from otel_agent_telemetry.clock import parse_iso
from otel_agent_telemetry.counters import Counters
from otel_agent_telemetry.delivery.drain import Drain
from otel_agent_telemetry.last_activity import ActivityJournal
from otel_agent_telemetry.wire import encode_line


class Writer:
    """One process's writing side. `die` leaves what SIGKILL leaves; `leave` what a clean exit leaves."""

    def __init__(self, folder, *, now_ns, segment_bytes=1 << 20):
        self.folder = folder
        self.identity = WriterIdentity.of_this_process(now_ns)
        self.name = self.identity.writer
        self.buffer = BufferWriter(folder, self.identity, segment_bytes=segment_bytes)
        self._numbers = itertools.count(1)

    def write(self, *records):
        for record in records:
            self.raw(encode_line("run", {"writer": self.name, "seq": next(self._numbers), **record.to_fields()}))

    def commit(self, run_id, **payload):
        members = {"run_id": run_id, "event_type": "agent.run.commit", "payload": payload}
        self.raw(encode_line("event", {"writer": self.name, **members}))

    def raw(self, line):
        self.buffer.append(line)

    def rotate(self):
        """Begin the next segment; the last one seals itself."""
        self.buffer._rotate(self.buffer._segment)
        self.buffer.sync()
        self.buffer.sync()

    def beat_at(self, text):
        """Set the last sign of life."""
        moment = parse_iso(text)
        os.utime(lock_path(self.folder, self.name), ns=(moment, moment))

    def die(self):
        self.buffer.abandon()

    def leave(self):
        self.buffer.close()

    @property
    def segments(self):
        """Numbers of its segments that are still there."""
        found = {files.writer: files for files in list_writers(self.folder)}
        return [number for number, _ in found[self.name].segments] if self.name in found else None

    def segment(self, number=0):
        return self.folder / f"{self.name}-{number:06d}.jsonl"


class Drained:
    """A drain, and what it passed on: states as mappings."""

    def __init__(self, folder, *, clock, journal_dir=None, remember=True):
        self.delivered = []
        self.closed = []
        self.counters = Counters()
        self.drain = Drain(
            folder,
            journal=ActivityJournal(journal_dir or folder.parent / "raw"),
            clock=clock,
            counters=self.counters,
            on_delivered=self.delivered.extend if remember else lambda _records: None,
            on_closed=self.closed.append,
        )

    @property
    def health(self):
        return self.drain.health

    def __call__(self, target, **how):
        return self.drain.run_pass(target, **how)
