"""The lock of the one process that writes a SQLite database, and how others find that process.

`{database}.writer.lock` is locked by the operating system while the process lives. Its
first line is JSON: `{"pid": int, "host": text, "url": text or null, "started": ISO 8601}`;
what follows that line is left from longer ones. The line of a file that no process has locked
is that of the last one that wrote the database.
"""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

from otel_agent_telemetry.clock import Clock, SystemClock, iso_utc
from otel_agent_telemetry.errors import StoreUnavailableError
from otel_agent_telemetry.locks import FileLock, is_locked, is_stopped
from otel_agent_telemetry.trusted_files import followed, make_private_dir, open_to_read

# Ten tries of 10 ms are the tenth of a second that `try_acquire` promises at most.
_TRIES: Final = 10
_PAUSE_S: Final = 0.01


class Holder(NamedTuple):
    """Who writes the database. `url` is where it answers, None before it listens."""

    pid: int
    host: str
    url: str | None
    started: str


class WriterLock:
    """The writer's lock of one database, the same for every path to it. Not shared between threads."""

    def __init__(self, db_path: Path, *, clock: Clock | None = None) -> None:
        file = followed(db_path)
        self.path = file.with_name(f"{file.name}.writer.lock")
        self._lock = FileLock(self.path)
        self._clock = clock or SystemClock()

    def try_acquire(self, url: str | None = None) -> bool:
        """Become the writer, or as the writer record `url`; return False when another process is the writer.

        Waits at most a tenth of a second, because a process that asks for the holder locks
        the file for an instant. Raises StoreUnavailableError when the file cannot be written.
        """
        try:
            make_private_dir(self.path.parent)
            if not self._acquire():
                return False
            self._lock.write(self._line(url))
        except OSError as problem:
            raise StoreUnavailableError(f"locking {self.path}: {problem.strerror or problem}") from problem
        return True

    def reacquire(self, url: str | None) -> bool:
        """Become the writer again where the lock's file was moved or removed with its folder; else as `try_acquire`."""
        if self._lock.taken_away():
            self._lock.release()
        return self.try_acquire(url)

    def _acquire(self) -> bool:
        """Take the lock; try again while a process that only asks for the holder has it."""
        for _ in range(_TRIES):
            if self._lock.try_acquire():
                return True
            time.sleep(_PAUSE_S)  # a prober holds the lock for microseconds
        return False

    def _line(self, url: str | None) -> bytes:
        """Return the line that names this process as the writer."""
        holder = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "url": url,
            "started": iso_utc(self._clock.now_ns()),
        }
        return json.dumps(holder).encode() + b"\n"

    def holder(self) -> Holder | None:
        """Return the current writer, None when there is none. Never creates the file, never raises."""
        try:
            return self.last_holder() if self._lock.held or is_locked(self.path) else None
        except OSError:
            return None

    def last_holder(self) -> Holder | None:
        """Return the last writer, which may have ended; None for none. Never creates the file, never raises."""
        try:
            with open_to_read(self.path) as file:
                return _holder_of(file.readline())
        except OSError:
            return None

    def describe_holder(self) -> str:
        """Return who writes the database, for a message: "the service at URL (process 7 on HOST, since TIME)"."""
        holder = self.holder()
        if holder is None:
            return "another process"
        who = f"the service at {holder.url}" if holder.url else "another process"
        # A stopped process keeps its lock: Ctrl-Z, a debugger, a paused container.
        state = ", which is stopped" if holder.host == socket.gethostname() and is_stopped(holder.pid) else ""
        return f"{who} (process {holder.pid} on {holder.host}, since {holder.started}{state})"

    def release(self) -> None:
        """Stop being the writer. Does nothing when this process is not."""
        self._lock.release()


def _holder_of(line: bytes) -> Holder | None:
    """Return the holder that a line names; None for a line that is torn or not ours."""
    try:
        # Read without the lock, so the holder may be writing the line at this moment.
        note: Any = json.loads(line)
        url = note["url"]
        return Holder(int(note["pid"]), str(note["host"]), None if url is None else str(url), str(note["started"]))
    except (ValueError, KeyError, TypeError):
        return None
