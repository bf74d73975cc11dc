"""The only write door: a record goes to the journal and, if it is a run state, to the buffer.

On the caller's thread: encode once, one `write(2)` for each of the two files, wake the
background if it sleeps. No lock, no fsync (but with `TELEMETRY_FSYNC=always`), no network,
no database. A write that fails is counted and reported, never raised; a record counts as
lost only when neither file took it.

Order: buffer first, so that a run state which is in the journal can always be delivered.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from otel_agent_telemetry import forks
from otel_agent_telemetry.append import LostDescriptorError
from otel_agent_telemetry.buffer.identity import WriterIdentity
from otel_agent_telemetry.buffer.writer import BufferWriter
from otel_agent_telemetry.clock import Clock, SystemClock
from otel_agent_telemetry.columns import Fields
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.counters import Counters
from otel_agent_telemetry.journal import Journal
from otel_agent_telemetry.recording.background import Worker
from otel_agent_telemetry.wire import COMMIT_EVENT, EVENT, RUN, SPAN, encode_clean, line_head

if TYPE_CHECKING:
    from otel_agent_telemetry.model import CommitLink

_OPEN_AGAIN_S = 1.0
_MAX_WRITERS = 64


class _LineWriter:
    """This process as a writer of lines: its id, its next numbers, and how its lines begin.

    One object, so that no line gets the id of one writer and the number of another. A line's
    beginning is chosen after the recorder was asked which writer it is now: a forked child
    has a new one before any of its code runs.
    """

    __slots__ = ("event_head", "identity", "numbers", "run_head", "span_head")

    def __init__(self, identity: WriterIdentity) -> None:
        self.identity = identity
        self.numbers = itertools.count(1)
        self.run_head, self.event_head, self.span_head = (
            line_head(kind, identity.writer) for kind in (RUN, EVENT, SPAN)
        )


class LineStore:
    """Numbers, encodes and writes the lines of one process: to its journal and its buffer.

    Opens nothing before the first line. Safe under threads. Its owner, the `Recorder`, gives
    it a `worker` to wake and begins it anew in a forked child.
    """

    worker: Worker

    def __init__(self, config: TelemetryConfig, *, clock: Clock | None = None) -> None:
        self.config = config
        self.clock = clock or SystemClock()
        self._now_ns = self.clock.now_ns
        self.journal = Journal(config.ndjson_dir)
        self._sync_always = config.fsync == "always"
        self._begin_lines()

    def _begin_lines(self) -> None:
        """Become a process that has written nothing yet."""
        self.counters = Counters()
        self._writer: _LineWriter | None = None
        # The ids of this process as a writer: a close, or a lost buffer, begins a new one while the segments of the
        # one before may still wait.
        self._writer_ids: deque[str] = deque(maxlen=_MAX_WRITERS)
        self._buffer: BufferWriter | None = None
        self._opening = threading.RLock()  # a signal handler that records may come at any moment
        self._open_again_at = 0.0

    def _watch_exit(self) -> None:
        """See to it that the interpreter's exit ends what is open. Called when this process becomes a writer."""

    @property
    def writer(self) -> str:
        """Return this process's writer id; "" before the first record."""
        return self._writer.identity.writer if self._writer is not None else ""

    @property
    def buffer(self) -> BufferWriter | None:
        """Return the writing side of the buffer; None before something was recorded."""
        return self._buffer

    def record_run(self, fields: Fields) -> None:
        """Keep one state of a run in the buffer and the journal. Never blocks, never raises OSError."""
        self.counters.run_states += 1
        line, now_ns = self._line(RUN, fields)
        self._store(line, now_ns, kept=self._to_buffer(line))

    def record_event(self, members: Mapping[str, Any]) -> None:
        """Keep one event in the journal. Never blocks, never raises OSError."""
        self.counters.events += 1
        self._store(*self._line(EVENT, members))

    def record_span(self, members: Mapping[str, Any]) -> None:
        """Keep one state of a step in the journal. Never blocks, never raises OSError."""
        self.counters.spans += 1
        self._store(*self._line(SPAN, members))

    def record_commit(self, link: CommitLink) -> None:
        """Keep a commit association in the buffer and the journal, as an `agent.run.commit` event."""
        members = asdict(link)
        event = {"run_id": members.pop("run_id"), "event_type": COMMIT_EVENT, "timestamp": link.associated_at}
        self.counters.events += 1
        line, now_ns = self._line(EVENT, {**event, "payload": members})
        self._store(line, now_ns, kept=self._to_buffer(line))

    def journal_run(self, fields: Fields) -> None:
        """Keep a state that its target has already, in the journal only."""
        self._store(*self._line(RUN, fields), wake=False)

    # The next three are alike, and what they do is not in a function of its own: they are most of what a record costs.
    # What an attribute holds is called by a local name: the interpreter looks for a method first, and slowly.

    def append_run(self, columns: bytes, state: bytes) -> bool:
        """Keep one state of a run, given as JSON text that needs no further look.

        `columns` are members without braces, `state` those behind them, which end in `}`. For callers that
        have encoded and screened them (`wire.encode_members`), and asked whether a fork made this another process
        since (`forks.mark`). Return whether the buffer or the journal has the line. Never blocks, never raises OSError.
        """
        counters, read_ns = self.counters, self._now_ns
        now_ns = read_ns()
        writer = self._writer or self._identify(now_ns)
        counters.run_states += 1
        counters.last_seq = seq = next(writer.numbers)
        line = b"%b%d,%b,%b\n" % (writer.run_head, seq, columns, state)
        return self._store(line, now_ns, kept=self._to_buffer(line))

    def append_event(self, members: bytes, what: bytes) -> None:
        """Keep one event, given as in `append_run`, in the journal. `what`: the members behind those of its span."""
        if not forks.mark[0]:
            forks.notice()
        counters, read_ns = self.counters, self._now_ns
        now_ns = read_ns()
        writer = self._writer or self._identify(now_ns)
        counters.events += 1
        counters.last_seq = seq = next(writer.numbers)
        self._store(b"%b%d,%b,%b\n" % (writer.event_head, seq, members, what), now_ns)

    def append_span(self, members: bytes, state: bytes) -> None:
        """Keep one state of a step, given as in `append_run` and for the same callers, in the journal."""
        counters, read_ns = self.counters, self._now_ns
        now_ns = read_ns()
        writer = self._writer or self._identify(now_ns)
        counters.spans += 1
        counters.last_seq = seq = next(writer.numbers)
        self._store(b"%b%d,%b,%b\n" % (writer.span_head, seq, members, state), now_ns)

    def _line(self, record_type: str, members: Mapping[str, Any]) -> tuple[bytes, int]:
        """Return the next line, and the present: the day that the line belongs to."""
        forks.notice()
        now_ns = self._now_ns()
        writer = self._writer or self._identify(now_ns)
        seq = self.counters.last_seq = next(writer.numbers)
        return encode_clean(record_type, writer.identity.writer, seq, members), now_ns

    def _store(self, line: bytes, now_ns: int, *, kept: bool = False, wake: bool = True) -> bool:
        """Write a line to the journal; return whether one of the files has it. `kept`: whether the buffer has it.

        The buffer comes first, so that a run state which is in the journal can be delivered.
        """
        # No exception leaves this: recording must not fail the application because a disk does.
        try:
            file = self.journal.file
            if file is not None and file.starts_ns <= now_ns < file.ends_ns:
                file.write(line)
            else:
                self.journal.append(line, now_ns)
            kept = True
        except OSError as problem:
            kept = self._store_after(problem, line, now_ns) or kept
            if not kept:
                self.counters.lost += 1
        if self._sync_always:
            self.sync()
        if wake and self.worker.shift is None:
            self.worker.wake()
        return kept

    def _store_after(self, problem: OSError, line: bytes, now_ns: int) -> bool:
        """Return whether the journal has a line that it did not take at first: other code closed its descriptor."""
        if isinstance(problem, LostDescriptorError):
            try:
                self.journal.append(line, now_ns)
            except OSError as again:
                problem = again
            else:
                return True
        self.counters.journal_failed += 1
        self.counters.failed("journal write", problem)
        return False

    def _identify(self, now_ns: int) -> _LineWriter:
        """Become a writer: once a process, and again after a fork or when the buffer was taken away."""
        with self._opening:
            writer = self._writer
            if writer is None:
                # Before the first line: whatever forks from here on must not write under the id that is made now.
                forks.watch()
                made = self._new_writer(now_ns)
                writer = self._writer  # a signal handler may have been faster
                if writer is None:
                    self._writer = writer = made
            self._watch_exit()
            return writer  # not `self._writer`: another thread may close meanwhile

    def _to_buffer(self, line: bytes) -> bool:
        """Append a line to the buffer; return whether it waits there for delivery."""
        try:
            buffer = self._buffer or self._open()
            if buffer is not None:
                try:
                    buffer.append(line)
                except LostDescriptorError:  # and another process took this one for dead meanwhile
                    self._begin_as_new_writer(buffer).append(line)
                else:
                    if self._buffer is not buffer:
                        self._append_again(line, buffer)
                return True
        except OSError as problem:
            self.counters.failed("buffer write", problem)
        self.counters.buffer_failed += 1
        return False

    def _append_again(self, line: bytes, closed: BufferWriter) -> None:
        """Write a line once more that was written while another thread closed the buffer. Raises OSError.

        The segment was given up for delivery then, and may have been read and removed before the
        line was in it. The same line twice changes nothing.
        """
        buffer: BufferWriter | None = closed
        for _ in range(_MAX_WRITERS):
            before, buffer = buffer, self._buffer or self._open()
            if buffer is None or buffer is before:
                return
            buffer.append(line)

    def _open(self) -> BufferWriter | None:
        """Return the buffer's writing side; None while it could not be opened within the last second."""
        with self._opening:
            if self._buffer is None and time.monotonic() >= self._open_again_at:
                # Set before the attempt: on a broken disk the application's thread tries once a second, not each line.
                self._open_again_at = time.monotonic() + _OPEN_AGAIN_S
                writer = self._writer
                if writer is None:  # another thread has closed since the line was numbered
                    self._writer = writer = self._new_writer(self.clock.now_ns())
                try:
                    self._buffer = self._new_buffer(writer.identity)
                except FileExistsError:  # our lock was taken for a dead writer's: become a new one
                    self._writer = writer = self._new_writer(self.clock.now_ns())
                    self._buffer = self._new_buffer(writer.identity)
                self._open_again_at = 0.0
            return self._buffer

    def _begin_as_new_writer(self, lost: BufferWriter) -> BufferWriter:
        """Leave segments that are somebody else's to deliver now; lines get another writer. Raises OSError."""
        with self._opening:
            # Of several threads that find the same buffer lost, the first one makes the new one for all.
            if self._buffer is lost:
                self._writer = self._new_writer(self.clock.now_ns())
                self._buffer = self._new_buffer(self._writer.identity)
            return self._buffer or lost

    def _new_writer(self, now_ns: int) -> _LineWriter:
        """Return a writer with an identity of its own."""
        identity = WriterIdentity.of_this_process(now_ns)
        self._writer_ids.append(identity.writer)
        return _LineWriter(identity)

    def _new_buffer(self, identity: WriterIdentity) -> BufferWriter:
        """Return the buffer of a new writer. Raises OSError."""
        return BufferWriter(self.config.buffer_dir, identity, segment_bytes=self.config.segment_bytes)

    def sync(self) -> None:
        """Force what was written to the disk. Blocks; counted and logged when it fails."""
        try:
            self.journal.sync()
            buffer = self._buffer
            if buffer is not None:
                buffer.sync()
        except OSError as problem:
            self.counters.failed("fsync", problem)

    def leave_counters(self) -> None:
        """Note the counters in the buffer's lock file, opened for it: `doctor` reads them. Never raises."""
        try:
            self._identify(self._now_ns())
            if (buffer := self._buffer or self._open()) is not None:
                buffer.note(self.counters.as_dict())
        except Exception as problem:  # what made a span fail may make this fail, too
            self.counters.failed("sign of life", problem)

    def _leave_files(self) -> None:
        """Give this process's segments up for delivery: nothing more is written to them. Idempotent."""
        buffer, self._buffer, self._writer = self._buffer, None, None
        self.journal.forget()
        if buffer is None:
            return
        try:
            buffer.note(self.counters.as_dict())
        except OSError as problem:
            self.counters.failed("sign of life", problem)
        buffer.close()
