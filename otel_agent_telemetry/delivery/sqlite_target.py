"""The local SQLite file as a target: used by a recording process when no service takes the runs."""

from __future__ import annotations

import os
import sqlite3
from typing import Final

from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.delivery.outcome import Batch, Delivered, Outcome, RetryLater, deliver_bisected, is_link
from otel_agent_telemetry.errors import SchemaError, StoreUnavailableError
from otel_agent_telemetry.storage.plain_sql import PlainSql
from otel_agent_telemetry.storage.plumbing import Signs, mark_plumbing
from otel_agent_telemetry.storage.sqlite_file import HeldDescriptors, open_sqlite, transaction
from otel_agent_telemetry.storage.sqlite_runs import write_links, write_states
from otel_agent_telemetry.storage.writer_lock import WriterLock

_REFUSALS: Final = frozenset(
    {sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_RANGE}
)
"""What a value causes; trying it again does not help."""
_HINTS: Final = {
    sqlite3.SQLITE_BUSY: "Another process is writing to it; TELEMETRY_DB_BUSY_TIMEOUT_MS is how long we wait.",
    sqlite3.SQLITE_FULL: "Free some space on its disk.",
    sqlite3.SQLITE_IOERR: "Its disk is full or failing.",
    sqlite3.SQLITE_READONLY: "Make the file and its folder writable for this user.",
    sqlite3.SQLITE_CANTOPEN: "Check that its folder exists, can be entered, and that the path names a file.",
    sqlite3.SQLITE_NOTADB: "Move the file away, or point TELEMETRY_DB_PATH elsewhere.",
    sqlite3.SQLITE_CORRUPT: "Restore a backup, or move the file away and rebuild it with `agent-telemetry replay`.",
}
"""Primary result code → what to do."""


_never_closed: Final[list[sqlite3.Connection]] = []


class SqliteTarget:
    """Writes batches into the configured file, each in one transaction. Takes runs and commit associations.

    The file has one writer: while a service holds it, nothing is written here and the answer
    is `RetryLater`, upon which the deliverer looks for that service.
    """

    def __init__(self, config: TelemetryConfig) -> None:
        self.name = str(config.db_path)
        self._config = config
        self._writer_lock = WriterLock(config.db_path)
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] = (0, 0)
        self._held: HeldDescriptors

    def deliver(self, batch: Batch) -> Outcome:
        """Commit the batch.

        A file that is locked, full, read-only, of another version or not ours means later; one
        that refuses the content is asked again with halves of it.

        Blocks up to the busy timeout of the database; never raises.
        """
        try:
            # Held for one batch only, so that a service which starts meanwhile becomes the writer at once.
            if not self._writer_lock.try_acquire():
                return RetryLater(f"{self.name} is being written by {self._writer_lock.describe_holder()}")
            self._write(batch)
        except SchemaError as problem:
            return self._later(problem.with_hint())
        except (StoreUnavailableError, OSError) as problem:
            return self._later(str(problem))
        except (sqlite3.Error, OverflowError) as problem:
            code = getattr(problem, "sqlite_errorcode", 0) & 0xFF
            # No SQLite code: the binding refused a value (an integer too wide), so the content is at fault.
            if code in _REFUSALS or not isinstance(problem, sqlite3.DatabaseError) or not code:
                return deliver_bisected(self, batch, f"writing runs to {self.name}: {_first_line(problem)}")
            hint = _HINTS.get(code, "")
            text = f"writing runs to {self.name}: {_first_line(problem)}"
            return self._later(f"{text} ({hint})" if hint else text)
        finally:
            self._writer_lock.release()
        return Delivered()

    def _write(self, batch: Batch) -> None:
        """Write runs, their commits and what marks plumbing, in one transaction. Raises sqlite3.Error."""
        connection = self._opened()
        with transaction(connection):
            runs = batch.runs
            signs = Signs()
            signs.note_states(runs)
            write_states(connection, runs)
            write_links(connection, [(line["run_id"], line["payload"]) for line in batch.lines if is_link(line)])
            mark_plumbing(PlainSql.of_sqlite(connection), signs)

    def _opened(self) -> sqlite3.Connection:
        """Return the connection; opened anew when another file stands in the old one's place, as after `restore`."""
        if self._connection is not None and (self._file != self._file_now() or not self._held.intact()):
            self.close()
        if self._connection is None:
            self._connection = open_sqlite(self._config)
            # Which descriptors SQLite has: an application that closes all that it does not know leaves it with
            # numbers of other files.
            self._held = HeldDescriptors(self._config.db_path)
            self._file = self._file_now()
        return self._connection

    def _file_now(self) -> tuple[int, int]:
        """Return device and inode of the file at the path; zeros for none."""
        try:
            found = os.stat(self._config.db_path)
        except FileNotFoundError:
            return (0, 0)
        return found.st_dev, found.st_ino

    def _later(self, reason: str) -> RetryLater:
        """Close the connection and return that delivery is to be tried again."""
        self.close()
        return RetryLater(reason)

    def close(self) -> None:
        """Close the file."""
        # Before the close, so that a close that raises does not leave a half-closed connection for the next batch.
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if self._held.intact():
            connection.close()
        else:  # its numbers are the application's files now: closing it would close those
            _never_closed.append(connection)


def _first_line(problem: Exception) -> str:
    """Return the first line of an error, at most 200 characters."""
    return (str(problem).strip() or type(problem).__name__).splitlines()[0][:200]
