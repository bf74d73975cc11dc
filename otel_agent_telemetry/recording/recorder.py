"""The only write door: a record goes to the journal and, if it is a run state, to the buffer.

On the caller's thread: encode once, one `write(2)` for each of the two files, wake the
background if it sleeps. No lock, no fsync (but with `TELEMETRY_FSYNC=always`), no network,
no database. A write that fails is counted and reported, never raised; a record counts as
lost only when neither file took it.

Order: buffer first, so that a run state which is in the journal can always be delivered.
"""

from __future__ import annotations

import atexit
import itertools
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from otel_agent_telemetry.append import LostDescriptorError
from otel_agent_telemetry.buffer.identity import WriterIdentity, host_name
from otel_agent_telemetry.buffer.writer import BufferWriter
from otel_agent_telemetry.clock import Clock, SystemClock, iso_utc
from otel_agent_telemetry.columns import Fields
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.counters import Counters
from otel_agent_telemetry.journal import Journal
from otel_agent_telemetry.recording.active_runs import ActiveRuns, ResourceDefaults
from otel_agent_telemetry.recording.background import Worker
from otel_agent_telemetry.recording.interpreter import wait_for_imports
from otel_agent_telemetry.wire import EVENT, RUN, SPAN, encode_clean, line_head

if TYPE_CHECKING:
    from otel_agent_telemetry.git import HeadCommit
    from otel_agent_telemetry.model import CommitLink

_OPEN_AGAIN_S = 1.0
_PERIODIC_TASK_TIMEOUT_S = 1.0
_MAX_WRITERS = 64

T = TypeVar("T")


def weak_callback(method: Callable[[], None]) -> Callable[[], None]:
    """Return a function that calls a bound method as long as its object lives, without keeping it alive."""
    reference = weakref.WeakMethod(method)

    def call() -> None:
        alive = reference()
        if alive is not None:
            alive()

    return call


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


class Recorder:
    """Writes the records of this process; one for each configuration, see `Recorder.shared`.

    Opens nothing and starts nothing before the first record. Safe under threads. After a
    fork the child writes under an identity, segments and threads of its own. A copy is the
    recorder itself; it refuses to be pickled.
    """

    _shared: dict[TelemetryConfig, Recorder] = {}  # noqa: RUF012 - the registry is the point
    _shared_guard = threading.Lock()

    def __init__(self, config: TelemetryConfig, *, clock: Clock | None = None) -> None:
        self.config = config
        self.clock = clock or SystemClock()
        self._now_ns = self.clock.now_ns
        self.journal = Journal(config.ndjson_dir)
        self.active = ActiveRuns()
        self.resource_defaults = self._initial_defaults()
        self.commit: str | None = None
        """The commit that the working directory stands on, as the background read it within the last second."""
        self.first_commit: str | None = None
        """The same when it was read for the first time, just after the process's first record."""
        self._head: HeadCommit | None = None
        self.before_exit: list[Callable[[], None]] = []
        """Called when the interpreter ends, before the last delivery: whoever has runs open ends them."""
        self.periodic_tasks: list[Callable[[float], None]] = []
        """Called once a second in the background while something is recorded, and before exit; with seconds to take."""
        self._components: dict[Any, Any] = {}
        self._sync_always = config.fsync == "always"
        self._watches_exit = False
        self._begin()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=weak_callback(self._before_fork), after_in_child=weak_callback(self._after_fork_in_child)
            )

    def __copy__(self) -> Recorder:
        return self

    def __deepcopy__(self, _memo: object) -> Recorder:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Recorder owns files and threads of its process and cannot be pickled")

    def component(self, kind: Callable[[Recorder], T]) -> T:
        """Return the recorder's single object of a kind, creating it on first use."""
        known: T | None = self._components.get(kind)
        if known is None:
            # No lock: of two threads that make one, both get the one that was entered first.
            known = self._components.setdefault(kind, kind(self))
        return known

    @classmethod
    def shared(cls, config: TelemetryConfig) -> Recorder:
        """Return the recorder of this configuration in this process, creating it on first use."""
        with cls._shared_guard:
            recorder = cls._shared.get(config)
            if recorder is None:
                recorder = cls._shared[config] = cls(config)
            return recorder

    @classmethod
    def close_shared(cls, which: Callable[[TelemetryConfig], bool]) -> None:
        """End and forget the shared recorders of some configurations, as the interpreter's exit would.

        For tests, and for hosts that unload what they loaded. Blocks up to the exit timeout each.
        """
        with cls._shared_guard:
            recorders = [cls._shared.pop(config) for config in list(cls._shared) if which(config)]
        for recorder in recorders:
            recorder.at_exit()

    def _begin(self) -> None:
        self.counters = Counters()
        self._writer: _LineWriter | None = None
        # The ids of this process as a writer: a close, or a lost buffer, begins a new one while the segments of the
        # one before may still wait.
        self._writer_ids: deque[str] = deque(maxlen=_MAX_WRITERS)
        self._buffer: BufferWriter | None = None
        self._opening = threading.RLock()  # a signal handler that records may come at any moment
        self._open_again_at = 0.0
        self.worker = Worker(self)

    def _before_fork(self) -> None:
        """Give the background, which began with the first record, the moment that its imports take."""
        if self._writer is not None:
            wait_for_imports()

    def _after_fork_in_child(self) -> None:
        """Leave the parent's files and threads alone and begin anew at the next record."""
        Recorder._shared_guard = threading.Lock()
        # `_opening` may be held by a thread that does not exist here: it is not taken, `_begin` makes a new one.
        if self._buffer is not None:
            self._buffer.abandon()
        self.journal.forget()
        self.active.begin_generation()
        self._begin()

    def _initial_defaults(self) -> ResourceDefaults:
        """Return what is known at once: the host, the owner. The git repository is read in the background."""
        columns = {"host": host_name()}
        if self.config.agent_owner:
            columns["agent_owner"] = self.config.agent_owner
        return ResourceDefaults.of(self.config, columns)

    def detect_environment(self) -> None:
        """Read the git repository that the process works in. Blocks on a few small files."""
        from otel_agent_telemetry.git import HeadCommit, read_git_context

        folder = Path.cwd()
        self._head = HeadCommit(folder)
        self.first_commit = self.commit = self._head.read()
        git = read_git_context(folder)
        if git is not None:
            known = {name: text for name, text in (("git_repo", git.repo), ("git_branch", git.branch)) if text}
            self.resource_defaults = replace(
                self.resource_defaults, columns={**self.resource_defaults.columns, **known}
            )

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
        from otel_agent_telemetry.model import COMMIT_EVENT

        members = asdict(link)
        event = {"run_id": members.pop("run_id"), "event_type": COMMIT_EVENT, "timestamp": link.associated_at}
        self.counters.events += 1
        line, now_ns = self._line(EVENT, {**event, "payload": members})
        self._store(line, now_ns, kept=self._to_buffer(line))

    def journal_run(self, fields: Fields) -> None:
        """Keep a state that its target has already, in the journal only."""
        self._store(*self._line(RUN, fields), wake=False)

    # The next three are alike, and what they do is not in a function of its own: they are most of what a record costs.

    def append_run(self, members: bytes) -> None:
        """Keep one state of a run, given as JSON text that ends in `}` and needs no further look.

        For callers that have encoded and screened it: `wire.encode_members`. Never blocks,
        never raises OSError.
        """
        counters, now_ns = self.counters, self._now_ns()
        writer = self._writer or self._identify(now_ns)
        counters.run_states += 1
        counters.last_seq = seq = next(writer.numbers)
        line = b"%b%d,%b\n" % (writer.run_head, seq, members)
        self._store(line, now_ns, kept=self._to_buffer(line))

    def append_event(self, members: bytes) -> None:
        """Keep one event, given as in `append_run`, in the journal."""
        counters, now_ns = self.counters, self._now_ns()
        writer = self._writer or self._identify(now_ns)
        counters.events += 1
        counters.last_seq = seq = next(writer.numbers)
        self._store(b"%b%d,%b\n" % (writer.event_head, seq, members), now_ns)

    def append_span(self, members: bytes) -> None:
        """Keep one state of a step, given as in `append_run`, in the journal."""
        counters, now_ns = self.counters, self._now_ns()
        writer = self._writer or self._identify(now_ns)
        counters.spans += 1
        counters.last_seq = seq = next(writer.numbers)
        self._store(b"%b%d,%b\n" % (writer.span_head, seq, members), now_ns)

    def _line(self, record_type: str, members: Mapping[str, Any]) -> tuple[bytes, int]:
        """Return the next line, and the present: the day that the line belongs to."""
        now_ns = self._now_ns()
        writer = self._writer or self._identify(now_ns)
        seq = self.counters.last_seq = next(writer.numbers)
        return encode_clean(record_type, writer.identity.writer, seq, members), now_ns

    def _store(self, line: bytes, now_ns: int, *, kept: bool = False, wake: bool = True) -> None:
        """Write a line to the journal; `kept`: whether the buffer has it already.

        The buffer comes first, so that a run state which is in the journal can be delivered.
        """
        # No exception leaves this: recording must not fail the application because a disk does.
        try:
            self.journal.append(line, now_ns)
        except OSError as problem:
            self.counters.journal_failed += 1
            self.counters.failed("journal write", problem)
            if not kept:
                self.counters.lost += 1
        if self._sync_always:
            self.sync()
        if wake and self.worker.shift is None:
            self.worker.wake()

    def _identify(self, now_ns: int) -> _LineWriter:
        """Become a writer: once a process, and again after a fork or when the buffer was taken away."""
        with self._opening:
            if self._writer is None:
                writer = self._new_writer(now_ns)
                if self._writer is None:  # a signal handler may have been faster
                    self._writer = writer
            if not self._watches_exit:
                self._watches_exit = True
                atexit.register(weak_callback(self.at_exit))
            return self._writer

    def _to_buffer(self, line: bytes) -> bool:
        try:
            buffer = self._buffer or self._open()
            if buffer is not None:
                try:
                    buffer.append(line)
                except LostDescriptorError:  # and another process took this one for dead meanwhile
                    self._begin_as_new_writer(buffer).append(line)
                return True
        except OSError as problem:
            self.counters.failed("buffer write", problem)
        self.counters.buffer_failed += 1
        return False

    def _open(self) -> BufferWriter | None:
        """Return the buffer's writing side; None while it could not be opened within the last second."""
        with self._opening:
            if self._buffer is None and self._writer is not None and time.monotonic() >= self._open_again_at:
                # Set before the attempt: on a broken disk the application's thread tries once a second, not each line.
                self._open_again_at = time.monotonic() + _OPEN_AGAIN_S
                try:
                    self._buffer = self._new_buffer(self._writer.identity)
                except FileExistsError:  # our lock was taken for a dead writer's: become a new one
                    self._writer = self._new_writer(self.clock.now_ns())
                    self._buffer = self._new_buffer(self._writer.identity)
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
        identity = WriterIdentity.of_this_process(now_ns)
        self._writer_ids.append(identity.writer)
        return _LineWriter(identity)

    def _new_buffer(self, identity: WriterIdentity) -> BufferWriter:
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

    def tick(self) -> None:
        """Once a second in the background: sync, a sign of life, counters, files taken away from us."""
        if self.config.fsync == "interval":
            self.sync()
        self.run_periodic_tasks(_PERIODIC_TASK_TIMEOUT_S)
        if self._head is not None:
            self.commit = self._head.read()
        buffer = self._buffer
        if buffer is None:
            return
        try:
            buffer.touch()
            buffer.note(self.counters.as_dict())
        except OSError as problem:
            self.counters.failed("sign of life", problem)
        if buffer.lost():
            self._buffer, self._writer = None, None
            self.counters.warn("buffer", "%s was taken away; beginning a new segment", buffer.folder)

    def run_periodic_tasks(self, timeout_s: float) -> None:
        """Run the tasks of other writers of files for these runs, which finish what they put off. Never raises."""
        for task in self.periodic_tasks:
            try:
                task(timeout_s)
            except Exception as problem:  # one task's failure spares the others
                self.counters.internal("periodic task", problem)

    def monotonic(self) -> float:
        """Return seconds that no clock change moves."""
        return time.monotonic()

    def now_iso(self) -> str:
        """Return the present as ISO text."""
        return iso_utc(self.clock.now_ns())

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything written so far has reached its target; False when time ran out.

        Blocks up to `timeout_s`. False too when something could not be buffered.
        """
        try:
            done = self.worker.flush(list(self._writer_ids), timeout_s=timeout_s)
        except OSError as problem:
            self.counters.failed("flush", problem)
            return False
        return done and self.counters.buffer_failed == 0

    def close(self, timeout_s: float | None = None) -> None:
        """Deliver what can be delivered in time (default: the exit timeout) and stop the background.

        What is left waits in the buffer for the next deliverer. Idempotent; a record that
        comes later is kept all the same and begins anew.
        """
        self.sync()
        self.worker.stop(timeout_s=self.config.exit_timeout_s if timeout_s is None else timeout_s)
        self.leave()

    def leave(self) -> None:
        """Give this process's segments up for delivery: nothing more is written to them. Idempotent.

        Not while a run of this process is open: it would be taken for a dead process's, and closed.
        """
        if next(self.active.mine(), None) is not None:
            return
        buffer, self._buffer, self._writer = self._buffer, None, None
        self.journal.forget()
        if buffer is None:
            return
        try:
            buffer.note(self.counters.as_dict())
        except OSError as problem:
            self.counters.failed("sign of life", problem)
        buffer.close()

    def at_exit(self) -> None:
        """End what is open and deliver what can be delivered, because the interpreter ends. Never raises."""
        try:
            for hook in self.before_exit:
                try:
                    hook()
                except Exception as problem:  # one hook's failure spares the others
                    self.counters.internal("exit", problem)
            self.run_periodic_tasks(self.config.exit_timeout_s / 4)
            self.close()
        except Exception as problem:  # the outer edge of interpreter exit
            self.counters.internal("exit", problem)
