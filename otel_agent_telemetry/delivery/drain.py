"""Delivering what everybody on this host has buffered (invariants 3 to 6).

Whoever holds `{buffer}/drain.lock` runs passes. One pass: for every writer, ask whether it
is alive, read its segments on from where the last pass stopped, hand batches to the target,
note how far it confirmed; then close the runs of writers that are gone and remove what is
no longer needed. Liveness is asked before reading: a writer found dead writes nothing more.

Memory is bounded by one batch, and by a few words for each open run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, Final

from otel_agent_telemetry.buffer.health import read_health
from otel_agent_telemetry.buffer.layout import WriterFiles, confirm, list_writers
from otel_agent_telemetry.clock import Clock, iso_utc
from otel_agent_telemetry.columns import Fields
from otel_agent_telemetry.counters import Counters
from otel_agent_telemetry.delivery.outcome import (
    MAX_BATCH_RECORDS,
    Batch,
    Delivered,
    Pending,
    RetryLater,
    SegmentProgress,
    Target,
)
from otel_agent_telemetry.delivery.rejected import store_rejected
from otel_agent_telemetry.delivery.writer_progress import WriterProgress
from otel_agent_telemetry.journal import JournalPart
from otel_agent_telemetry.last_activity import ActivityJournal
from otel_agent_telemetry.locks import FileLock
from otel_agent_telemetry.run_state import closing_state
from otel_agent_telemetry.trusted_files import UntrustedFileError
from otel_agent_telemetry.wire import RUN, Line

_BEGINNING_NS: Final = 60_000_000_000
_MAX_GONE_AT_ONCE: Final = 64
"""Each gone writer in work costs a file descriptor; the rest waits for the next pass."""


class Drain:
    """Passes over a buffer folder. One thread at a time, and only while it holds the drain lock.

    `on_delivered` is called with the run states of each confirmed batch, `on_closed` with each
    closing state once it is confirmed. `rest` is called now and then, for a recording process that
    lets the application's threads have the interpreter.
    """

    def __init__(
        self,
        folder: Path,
        *,
        journal: ActivityJournal,
        clock: Clock,
        counters: Counters,
        on_delivered: Callable[[Sequence[Fields]], None] | None,
        on_closed: Callable[[Fields], None],
        on_batch: Callable[[], None] = lambda: None,
        rest: Callable[[], None] = lambda: None,
    ) -> None:
        self.folder = folder
        self.health = read_health(folder)
        self._journal = journal
        self._clock = clock
        self._counters = counters
        self._on_delivered = on_delivered
        self._on_closed = on_closed
        self._on_batch = on_batch
        self._rest = rest
        self._writers: dict[str, WriterProgress] = {}
        self._written_health = asdict(self.health)

    def run_pass(self, target: Target, *, stop: Callable[[], bool] = lambda: False) -> int | RetryLater:
        """Deliver what there is: the number of records handed over, or why to try again.

        Ends early, without loss, between two batches once `stop()` says so. Blocks as long
        as the target does. Raises OSError when the folder cannot be read.
        """
        self.health.target = target.name
        self._discover_writers()
        outcome = self._deliver_all(target, stop)
        if not isinstance(outcome, RetryLater):
            outcome = self._clean_up(target, outcome, stop)
        self.note(outcome)
        return outcome

    def open_runs(self) -> int:
        """Return how many runs of this host are open, as far as their states were read."""
        return sum(len(writer.open_runs) for writer in self._writers.values())

    def note(self, outcome: int | RetryLater) -> None:
        """Write the health after a pass over the journal, with the reason if that must wait."""
        if isinstance(outcome, RetryLater):
            self._note_problem(outcome.reason)
        self._write_health()

    def release(self) -> None:
        """Let go of the locks of gone writers, so that the next deliverer can take them."""
        for writer in self._writers.values():
            writer.lock.release()
        self._writers.clear()

    def _discover_writers(self) -> None:
        """Learn which writers there are, which are gone, and then, for good, which segments they left."""
        # Listed twice. A writer may add a segment and die between the first list and our lock on it, so the
        # segments that count are those listed after the lock was taken: nobody adds one from then on.
        self._forget_removed(list_writers(self.folder))
        gone = sum(writer.gone for writer in self._writers.values())
        for writer in self._writers.values():
            if not writer.gone and gone < _MAX_GONE_AT_ONCE and self._has_begun(writer):
                gone += self._found_gone(writer)
        for files in list_writers(self.folder):
            known = self._writers.get(files.writer)
            if known is not None:
                known.files = files
                # A live writer's list may be out of date the next moment; that of a writer found gone above is final.
                known.list_segments()

    def _found_gone(self, writer: WriterProgress) -> bool:
        """Return whether a writer's process has ended, by taking its lock."""
        try:
            return writer.lock.try_acquire()
        except UntrustedFileError as problem:  # what stands in its place must not hold up the other writers
            self._counters.failed("locking a writer", problem)
            return False

    def _has_begun(self, writer: WriterProgress) -> bool:
        """Return whether a writer's lock may be tried: a new one's is free for a moment before it has a segment."""
        if writer.files.segments:
            return True
        try:
            made = writer.files.lock.stat().st_mtime_ns
        except FileNotFoundError:
            return False
        return self._clock.now_ns() - made > _BEGINNING_NS

    def _forget_removed(self, listed: list[WriterFiles]) -> None:
        """Let go of writers whose files are gone, and take up those that are new."""
        names = {files.writer for files in listed}
        for name in self._writers.keys() - names:
            self._writers.pop(name).lock.release()
        for files in listed:
            self._writers.setdefault(files.writer, WriterProgress(files, FileLock(files.lock))).files = files

    def _deliver_all(self, target: Target, stop: Callable[[], bool]) -> int | RetryLater:
        """Hand every line not read yet to the target, in batches; return how many were, or why to try again."""
        delivered = 0
        pending = Pending()
        for part, segment in self._unread():
            pending.add(part, segment)
            if pending.full:
                outcome = self._deliver_batch(target, pending)
                if isinstance(outcome, RetryLater):
                    return outcome
                delivered += outcome
                pending = Pending()
                if stop():
                    return delivered
        outcome = self._deliver_batch(target, pending)
        return outcome if isinstance(outcome, RetryLater) else delivered + outcome

    def _unread(self) -> Iterator[tuple[JournalPart, SegmentProgress]]:
        """Yield the lines not read yet; note what those confirmed earlier hold."""
        for writer in list(self._writers.values()):
            for segment in list(writer.segments.values()):
                if segment.read < segment.acked:
                    # Confirmed lines too: they name the open runs, which a later pass may have to close.
                    deque(writer.read_on(segment, end=segment.acked), maxlen=0)
                # Of a live writer no tail without LF: it may be in the making.
                end = None if writer.gone else _size_of(segment.path)
                for part in writer.read_on(segment, end=end):
                    yield part, segment
                    self._rest()

    def _deliver_batch(self, target: Target, pending: Pending) -> int | RetryLater:
        """Deliver one batch and confirm it in its segments. Blocks as long as the target does.

        The order is what keeps records: target, then `rejected/`, then the confirmation. A process that dies between
        two of these delivers the same again, which every target takes as a repetition.
        """
        batch = pending.batch(self._rest)
        # A batch without records still reaches the end of its segments: torn lines and events are confirmed by it.
        outcome = target.deliver(batch) if len(batch) else Delivered()
        self._on_batch()
        if isinstance(outcome, Delivered):
            # Before the confirmation: a record is in a segment, in the target or in `rejected/` at every moment.
            outcome = self._store_rejected(target, pending.refused(batch, outcome)) or outcome
        if isinstance(outcome, RetryLater):
            # Read again from what is confirmed; tracking the same lines twice changes nothing.
            for writer in self._writers.values():
                for segment in writer.segments.values():
                    segment.read = min(segment.read, segment.acked)
            return outcome
        self._confirm(pending)
        self.health.torn_lines += pending.torn_lines
        self._count(batch, outcome)
        return len(batch)

    def _store_rejected(self, target: Target, refused: list[tuple[Line, str]]) -> RetryLater | None:
        """Set refused records aside with their reasons; return when to try again where that fails, on a full disk."""
        try:
            for record, reason in refused:
                store_rejected(self.folder, record, target=target.name, reason=reason, now_ns=self._clock.now_ns())
                self._counters.warn("rejected", "a record was refused and set aside: %s", reason)
                self.health.rejected += 1
        except OSError as problem:
            return RetryLater(f"refused records cannot be set aside: {problem}")
        return None

    def _confirm(self, pending: Pending) -> None:
        """Note in the segments how far they are delivered."""
        for segment, ends_at in pending.reach.items():
            segment.acked = ends_at
            try:
                confirm(segment.path, ends_at)
            # The records are in the target. Without the note another deliverer sends them again: harmless.
            except OSError as problem:
                self._counters.failed("noting a delivery", problem)

    def _count(self, batch: Batch, outcome: Delivered) -> None:
        """Count a delivery for `health.json` and hand what was taken to the webhook."""
        refused = {item.position for item in outcome.rejected}
        if len(batch) > len(refused):
            self.health.delivered += len(batch) - len(refused)
            self.health.last_delivery = iso_utc(self._clock.now_ns())
        if self._on_delivered is None:
            return
        taken = [
            _columns(line)
            for position, line in enumerate(batch.lines)
            if line["record_type"] == RUN and position not in refused
        ]
        if taken:
            self._on_delivered(taken)

    def _clean_up(self, target: Target, delivered: int, stop: Callable[[], bool]) -> int | RetryLater:
        """Close the runs of gone writers and remove what is confirmed."""
        for name, writer in list(self._writers.items()):
            if not writer.gone:
                writer.remove_confirmed()
            # Runs are closed only when every line of the writer is confirmed, since the last may be their end.
            elif writer.confirmed:
                if stop():
                    break
                outcome = self._close_runs(target, writer)
                if isinstance(outcome, RetryLater):
                    return outcome
                delivered += outcome
                self.health.add_counters(name, writer.counters)
                writer.remove()
                del self._writers[name]
        return delivered

    def _close_runs(self, target: Target, writer: WriterProgress) -> int | RetryLater:
        """Deliver an end of each run that a dead process left open; return how many, or why to try again."""
        closed = 0
        states = self._closing_states(writer)
        while batch := Batch(tuple({"record_type": RUN, **state} for state in islice(states, MAX_BATCH_RECORDS))):
            outcome = target.deliver(batch)
            if isinstance(outcome, RetryLater):
                return outcome
            # Journaled only once the target has it: until then, any deliverer may make the same state again.
            for state in batch.lines:
                self._on_closed(_columns(state))
            self._count(batch, outcome)
            closed += len(batch)
        self.health.closed_runs += closed
        return closed

    def _closing_states(self, writer: WriterProgress) -> Iterator[Fields]:
        """Yield the closing state of each run that a dead process left open, dated at the run's last sign of life."""
        if not writer.open_runs:
            return
        identity, touch = writer.identity, iso_utc(writer.files.lock.stat().st_mtime_ns)
        since = identity.started[:10].replace("-", "")
        activities = self._journal.of_writer(identity.writer, writer.open_runs, first_day=since)
        for event_id in writer.open_runs:
            if last := writer.last_state(event_id):
                # The lock file is touched every second, so a run without steps has a sign of life too.
                known = activities[event_id]
                sign = max(known.at, last["updated_at"], touch)
                reason, used = identity.describe_end(), known.used()
                yield closing_state(last, reason=reason, last_sign=sign, last_error=known.error, used=used)

    def _note_problem(self, reason: str) -> None:
        """Keep the reason of a delay for `doctor`, and log it once a minute at most."""
        self.health.last_problem = reason
        self.health.last_problem_at = iso_utc(self._clock.now_ns())
        self._counters.warn("delivery", "delivery to %s waits: %s", self.health.target, reason)

    def _write_health(self) -> None:
        """Write `health.json` if it has changed; a failure is counted and does not stop the delivery."""
        now: dict[str, Any] = asdict(self.health)
        if now == self._written_health:
            return
        try:
            self.health.write(self.folder)
            self._written_health = now
        except OSError as problem:
            self._counters.failed("writing health.json", problem)


def _size_of(segment: Path) -> int:
    """Return the size of a segment in bytes; 0 when its writer has removed it meanwhile."""
    try:
        return segment.stat().st_size
    except FileNotFoundError:
        return 0


def _columns(line: Line) -> Fields:
    """Return the columns of a line of the buffer."""
    return {name: value for name, value in line.items() if name != "record_type"}
