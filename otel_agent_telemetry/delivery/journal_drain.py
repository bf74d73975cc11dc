"""Delivering what stands in the journal alone: events and steps, and associations of commits.

States of runs go through the buffer (`drain`), which closes the runs of dead processes. The other
lines wait in the journal, behind a cursor for each database (`journal_cursor`), and are sent as
they stand on disk, some thousand at a time: nothing is parsed, and nothing but the batch is in
memory. The cursor moves when the target has committed a batch, so whatever dies, and whenever,
a line is sent again at worst.

A database that is new here gets the states of the journal as lines, too: those that other databases confirmed have
left the buffer.

The lines of a live file end with LF; what follows the last LF is a line that is being written, or
one that was torn, and the next line stands behind it. A torn end of a past day is sent as it is.

Compressed days are delivered by commands and by a service: a recording process imports nothing
in the background that an archive may need.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple, Protocol, runtime_checkable

from otel_agent_telemetry.buffer.health import Health
from otel_agent_telemetry.buffer.identity import host_name
from otel_agent_telemetry.clock import SystemClock, day_of
from otel_agent_telemetry.deliverer_report import DelivererReport
from otel_agent_telemetry.delivery.host import DeliveryHost
from otel_agent_telemetry.delivery.journal_cursor import JournalCursor, Unsent, last_cursor
from otel_agent_telemetry.delivery.outcome import Delivered, RetryLater
from otel_agent_telemetry.delivery.rejected import store_rejected
from otel_agent_telemetry.interpreter import importing
from otel_agent_telemetry.journal import day_of_file, read_blocks, time_of
from otel_agent_telemetry.wire import EVENT, LINE_HEAD, RUN, Line, read_line

MAX_LINES: Final = 2_000
MAX_BYTES: Final = 1 << 20
_RUN_HEAD: Final = LINE_HEAD + RUN.encode() + b'"'
_DAY_NS: Final = 86_400 * 1_000_000_000
_SIGN_OF_LIFE_S: Final = 60.0
_USUAL_LINE: Final = 300
"""Bytes of a line, until one was sent."""


@runtime_checkable
class LinesTarget(Protocol):
    """A target that takes lines of a journal, too."""

    name: str
    has_states: bool
    """Whether the states of this host's runs went to the same database before the target took lines."""

    def store(self) -> str | RetryLater | None:
        """Return the id of the database that the lines go to; None where the target does not take any."""

    def deliver_lines(self, body: bytes, report: DelivererReport) -> Delivered | RetryLater:
        """Hand lines over, as they stand on disk; return `Delivered` only when they are committed.

        A refused line is named by its position among the lines. The same lines again change nothing.
        """


class _Chunk(NamedTuple):
    """Lines to send, and where in their day what was read for them ends."""

    lines: list[bytes]
    ends_at: int


_NOTHING: Final = _Chunk([], 0)


class JournalDrain:
    """Passes over a journal. One thread, and only while it holds the drain lock.

    `health` counts what is delivered. `open_runs` returns how many runs of this host are open.
    `archives`: whether compressed days are delivered, too. `on_batch` is called after each
    batch, `rest` as `drain.Drain` has it.
    """

    def __init__(
        self,
        host: DeliveryHost,
        health: Health,
        *,
        open_runs: Callable[[], int],
        on_batch: Callable[[], None],
        rest: Callable[[], None],
        archives: bool = False,
    ) -> None:
        self._host = host
        self._archives = archives
        self._config = host.config
        self._health = health
        self._open_runs = open_runs
        self._on_batch = on_batch
        self._rest = rest
        self._heard_at = -_SIGN_OF_LIFE_S
        self._left_work = False
        self._mean_line = _USUAL_LINE
        self.has_more = False
        """Whether the last pass ended before the end of the journal."""

    def ask(self, target: object) -> str | RetryLater | None:
        """Return the database that lines go to, None for a target that takes none, and note which in the health."""
        store: str | RetryLater | None = None
        if self._config.deliver == "all" and isinstance(target, LinesTarget):
            store = target.store()
            if store is None:
                # Not an error: such a service is of an earlier version, and what it does not take stays in the journal.
                self._host.counters.warn("events", "%s takes no events and steps; they wait here", target.name)
        if not isinstance(store, RetryLater):
            self._health.takes_lines = store is not None
        return store

    def run_pass(self, target: object, *, stop: Callable[[], bool]) -> int | RetryLater:
        """Deliver until nothing is left or `stop` returns True, at most a second; return how many lines.

        Does nothing for a target that takes no lines.
        """
        self.has_more = False
        store = self.ask(target)
        if store is None or isinstance(store, RetryLater):
            return store or 0
        assert isinstance(target, LinesTarget)
        try:
            return self._deliver(target, self._cursor(target, store), stop)
        except OSError as problem:
            return RetryLater(f"the journal cannot be delivered: {problem}")

    def _cursor(self, target: LinesTarget, store: str) -> JournalCursor:
        """Return the cursor of a database. Raises OSError."""
        folder = self._config.buffer_dir
        cursor = JournalCursor(folder, store, target=target.name)
        if cursor.is_new:
            cursor.begin(self._config.ndjson_dir, with_states=not target.has_states or last_cursor(folder) is not None)
        return cursor

    def _deliver(self, target: LinesTarget, cursor: JournalCursor, stop: Callable[[], bool]) -> int | RetryLater:
        """Send day after day. Raises OSError."""
        sent, until = 0, SystemClock.monotonic_s() + 1.0
        waiting = list(cursor.unsent(self._config.ndjson_dir, archives=self._archives))
        while waiting and not stop() and SystemClock.monotonic_s() < until:
            outcome = self._deliver_part(target, cursor, waiting, lambda: stop() or SystemClock.monotonic_s() >= until)
            if isinstance(outcome, RetryLater):
                return outcome
            sent += outcome
        self.has_more = bool(waiting)
        return self._sign_of_life(target, waiting) or sent

    def _deliver_part(
        self, target: LinesTarget, cursor: JournalCursor, waiting: list[Unsent], stop: Callable[[], bool]
    ) -> int | RetryLater:
        """Send what is left of the first of the days, which is taken off the list at its end. Raises OSError."""
        sent, part = 0, waiting[0]
        ends_at = part.offset
        end = None if part.end is None or self._is_past(part.path) else part.end
        for chunk in _chunks(part, end, states_until=cursor.states_until(part.path)):
            ends_at = chunk.ends_at
            waiting[0] = part._replace(offset=ends_at)
            outcome = self._send(target, chunk, waiting)
            if isinstance(outcome, RetryLater):
                return outcome
            cursor.confirm(part.path, ends_at)
            sent += len(chunk.lines)
            # Not within an archive, which would be read from its beginning again.
            if part.end is not None and stop():
                return sent
        waiting.pop(0)
        if part.end is None:
            cursor.confirm(part.path, ends_at, is_end=True)
        return sent

    def _send(self, target: LinesTarget, chunk: _Chunk, waiting: list[Unsent]) -> RetryLater | None:
        """Deliver one chunk and set aside what is refused of it. Raises OSError."""
        if not chunk.lines:
            return None
        self._mean_line = sum(map(len, chunk.lines)) // len(chunk.lines) + 1
        outcome = target.deliver_lines(b"\n".join(chunk.lines) + b"\n", self._report(chunk, waiting))
        self._on_batch()
        self._rest()
        if isinstance(outcome, RetryLater):
            return outcome
        for item in outcome.rejected:
            self._set_aside(chunk.lines[item.position], target.name, item.reason)
        self._health.lines += len(chunk.lines) - len(outcome.rejected)
        self._heard_at = SystemClock.monotonic_s()
        return None

    def _set_aside(self, raw: bytes, target: str, reason: str) -> None:
        """Keep a refused line with the reason. Raises OSError."""
        records: tuple[Line, ...] = read_line(raw).records or (
            {"record_type": EVENT, "line": raw.decode("utf-8", "replace")},
        )
        for record in records:
            now_ns = self._host.clock.now_ns()
            store_rejected(self._config.buffer_dir, record, target=target, reason=reason, now_ns=now_ns)
            self._health.rejected += 1
        self._host.counters.warn("rejected", "a line of the journal was refused and set aside: %s", reason)

    def _sign_of_life(self, target: LinesTarget, waiting: list[Unsent]) -> RetryLater | None:
        """Once a minute send a request without lines while runs are open, and once more when that has ended."""
        has_work = bool(self._open_runs() or waiting)
        is_due = SystemClock.monotonic_s() - self._heard_at >= _SIGN_OF_LIFE_S
        if not (is_due and has_work) and has_work == self._left_work:
            return None
        outcome = target.deliver_lines(b"", self._report(_NOTHING, waiting))
        if isinstance(outcome, RetryLater):
            return outcome
        self._heard_at, self._left_work = SystemClock.monotonic_s(), has_work
        return None

    def _report(self, chunk: _Chunk, waiting: list[Unsent]) -> DelivererReport:
        """Return what to say of this host with a chunk: what is left behind it."""
        left = sum(max(part.end - part.offset, 0) for part in waiting if part.end is not None)
        records = read_line(chunk.lines[-1]).records if chunk.lines and left else ()
        return DelivererReport(
            host=host_name(),
            base_dir=str(self._config.base_dir),
            version=_package_version(),
            oldest_unsent=max(map(time_of, records), default="") or None,
            backlog_records=-(-left // self._mean_line),
            backlog_bytes=left,
            open_runs=self._open_runs(),
            rejected=self._health.rejected,
            lost=self._health.counters.get("lost", 0) + self._host.counters.lost,
        )

    def _is_past(self, path: Path) -> bool:
        """Return whether nothing is written to a day's file any more, a process with a late clock aside."""
        return day_of_file(path) < day_of(self._host.clock.now_ns() - _DAY_NS)


def _chunks(part: Unsent, end: int | None, *, states_until: int) -> Iterator[_Chunk]:
    """Yield the lines of a part in batches, without blank lines and the states behind `states_until`. Raises OSError.

    With `end`, only lines that end before that byte.
    """
    lines: list[bytes] = []
    size, at = 0, part.offset
    for block in read_blocks(part.path, offset=part.offset, end=end):
        for raw in block.removesuffix(b"\n").split(b"\n"):
            at += len(raw) + 1
            # Behind a state that was torn another line may stand.
            is_state = at > states_until and raw.startswith(_RUN_HEAD) and raw.find(LINE_HEAD, 1) < 0
            if raw and not is_state and not raw.isspace():
                lines.append(raw)
                size += len(raw)
            if len(lines) >= MAX_LINES or size >= MAX_BYTES:
                yield _Chunk(lines, at)
                lines, size = [], 0
        at -= not block.endswith(b"\n")
    if at > part.offset:
        yield _Chunk(lines, at)


@lru_cache(maxsize=1)
def _package_version() -> str:
    """Return the version of this package, for the report to the service."""
    with importing():
        from importlib.metadata import PackageNotFoundError, version

    try:
        return version("otel-agent-telemetry")
    except PackageNotFoundError:
        return "unknown"
