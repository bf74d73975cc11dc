"""Who delivers a buffer folder, and whether it gets on.

`{buffer}/drain.lock` is locked by the one process that delivers. Its content is one line of
JSON, rewritten in place: `{"pid": int, "host": text, "progress": int}`. `progress` grows with
each batch, each pass and each second of waiting, so that a holder whose number stands still
for STALLED_S is stopped or hangs. While it does, and something waits, other processes deliver
too: two at once only repeat what the target has already. A content that cannot be read, such
as an older version's, never counts as standing still.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import orjson

from otel_agent_telemetry.buffer.identity import host_name
from otel_agent_telemetry.buffer.layout import drain_lock_path, undelivered
from otel_agent_telemetry.clock import SystemClock
from otel_agent_telemetry.locks import FileLock, is_stopped
from otel_agent_telemetry.trusted_files import read_bytes

STALLED_S: Final = 10.0
_NOTE_EVERY_S: Final = 0.5


class DrainHolder(NamedTuple):
    """The process that delivers, as the lock's file names it."""

    pid: int
    host: str
    progress: int

    @property
    def stopped(self) -> bool:
        """Return whether it is a process of this host that does not run now."""
        return self.host == host_name() and is_stopped(self.pid)


class DrainLock:
    """The lock of one buffer folder, as one thread sees it. `monotonic` gives seconds, for tests."""

    def __init__(self, folder: Path, *, monotonic: Callable[[], float] = SystemClock.monotonic_s) -> None:
        self.folder = folder
        self._lock = FileLock(drain_lock_path(folder))
        self._monotonic = monotonic
        self._progress = 0
        self._noted_at = 0.0
        self._seen: tuple[DrainHolder | None, float] = (None, 0.0)

    def try_acquire(self) -> bool:
        """Become the process that delivers, unless another one is. Never waits. Raises OSError."""
        if not self._lock.try_acquire():
            return False
        self._seen = (None, 0.0)
        self._write()
        return True

    def note_progress(self) -> None:
        """Count one step; written at most twice a second. Does nothing without the lock. Raises OSError."""
        self._progress += 1
        if self._lock.held and self._monotonic() - self._noted_at >= _NOTE_EVERY_S:
            self._write()

    def _write(self) -> None:
        """Write who holds the lock, and how far it is. Raises OSError."""
        self._noted_at = self._monotonic()
        holder = DrainHolder(os.getpid(), host_name(), self._progress)
        self._lock.write(orjson.dumps(holder._asdict()) + b"\n")

    def holder_stalled(self) -> bool:
        """Return whether the holder has stood still for STALLED_S while something waits. Raises OSError.

        Reads one small file; called twice a second by whoever does not hold the lock.
        """
        holder, now = read_holder(self.folder), self._monotonic()
        # Compared by what it wrote, timed by our own clock: two hosts' clocks, or the file's time, may differ.
        if holder is None or holder != self._seen[0]:
            self._seen = (holder, now)
            return False
        # The folder is listed last, and only for a holder that stands still: this runs twice a second.
        return now - self._seen[1] >= STALLED_S and bool(undelivered(self.folder))

    def release(self) -> None:
        """Let another process deliver. Harmless when not held."""
        self._lock.release()


def read_holder(folder: Path) -> DrainHolder | None:
    """Return the holder that the lock's file names, whether or not it still holds it; None when it names none."""
    try:
        value = orjson.loads(read_bytes(drain_lock_path(folder)))
        return DrainHolder(int(value["pid"]), str(value["host"]), int(value["progress"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
