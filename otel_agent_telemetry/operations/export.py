"""Exporting runs as CSV, JSON lines or Parquet, in bounded memory.

Runs that go to a service are read there, page by page; what is written meanwhile may be missing.
Else an export shows the database at one instant. On SQLite outside WAL mode no other process can
commit while runs are read; so a long export continues in a private copy of the database, and
an export to a pipe is written to a temporary file first (`spool`).

The formats are those of `export_formats`.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final

from sqlalchemy import Connection

from otel_agent_telemetry.append import sync_dir
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.delivery.stats import service_with_runs
from otel_agent_telemetry.errors import AgentTelemetryError, ConfigurationError
from otel_agent_telemetry.model import RunRecord
from otel_agent_telemetry.operations.export_formats import ExportFormat
from otel_agent_telemetry.operations.remote_runs import RemoteRuns
from otel_agent_telemetry.storage.database_backup import blocks_writers, private_copy
from otel_agent_telemetry.storage.queries import page_of_runs
from otel_agent_telemetry.storage.run_filters import RunQuery
from otel_agent_telemetry.storage.store import reading_database
from otel_agent_telemetry.storage.tree_totals import TreeTotals, trees_of
from otel_agent_telemetry.trusted_files import open_file

_PAGE: Final = 500
_COPY_AFTER_RUNS: Final = 5_000

_Page = tuple[list[RunRecord], Sequence[TreeTotals]]
"""Runs, and what each and the runs inside it used together, where that is asked for."""
Progress = Callable[[int, int | None], None]
"""Called with the runs written so far, and None: how many there will be is not known."""


def export_runs(
    config: TelemetryConfig,
    query: RunQuery,
    sink: ExportFormat,
    *,
    limit: int | None = None,
    trees: bool = False,
    on_progress: Progress | None = None,
) -> int | None:
    """Write a query's runs, newest first, at most `limit` (default all). Returns how many; None without a database.

    `trees` (default False): with what each run and the runs inside it used together; a page of 500
    runs adds at most `tree_totals.MAX_RUNS` runs inside. The query's own limit, offset and cursor
    are not used. Raises StorageError for the database or the service, AgentTelemetryError when the
    file cannot be written; `sink` is abandoned then.
    """
    try:
        written = _written(config, _Pages(query, limit), sink, trees=trees, on_progress=on_progress)
        with _translate_errors():
            sink.finish()
    except BaseException:
        # Also after Ctrl-C: no file with half of the rows may stay under the name that was asked for.
        sink.abandon()
        raise
    return written


def _written(
    config: TelemetryConfig, pages: _Pages, sink: ExportFormat, *, trees: bool, on_progress: Progress | None
) -> int | None:
    """Write all pages to the sink and return the number of runs; None without a database."""
    written = 0
    with ExitStack() as view:
        if (url := service_with_runs(config)) is not None:
            found = _service_pages(view.enter_context(closing(RemoteRuns(url, config))), pages, trees=trees)
        elif (connection := view.enter_context(reading_database(config))) is not None:
            found = _database_pages(view, connection, pages, trees=trees)
        else:
            return None
        for runs, totals in found:
            with _translate_errors():
                sink.write(runs, totals)
            written += len(runs)
            if on_progress is not None:
                on_progress(written, None)
    return written


def _database_pages(view: ExitStack, connection: Connection, pages: _Pages, *, trees: bool) -> Iterator[_Page]:
    """Yield the pages of the database as it is now; `view` has the connection."""
    read = 0
    # WAL mode and PostgreSQL let other processes commit while this reads.
    copy_later = blocks_writers(connection)
    while runs := pages.next_page(connection):
        yield runs, trees_of(connection, runs) if trees else ()
        read += len(runs)
        if copy_later and read >= _COPY_AFTER_RUNS:
            connection, copy_later = _switch_to_copy(view, connection), False


def _service_pages(remote: RemoteRuns, pages: _Pages, *, trees: bool) -> Iterator[_Page]:
    """Yield the pages of a service, which may be written to meanwhile; a page is requested when it is needed."""
    found = remote.runs(pages.whole)
    while runs := list(islice(found, _PAGE)):
        yield runs, [remote.tree(run.event_id) for run in runs] if trees else ()


def _switch_to_copy(view: ExitStack, connection: Connection) -> Connection:
    """Return a connection to a private copy; the first connection is closed, which releases its lock."""
    with ExitStack() as made:
        own = made.enter_context(private_copy(connection))
        # Only now: until the copy is complete, the first connection keeps the instant.
        view.close()
        view.push(made.pop_all())
    return own


class _Pages:
    """Pages of a query, newest first; each page may be read from another connection."""

    def __init__(self, query: RunQuery, limit: int | None) -> None:
        self._query = replace(query, offset=0, cursor=None)
        self._left = limit

    @property
    def whole(self) -> RunQuery:
        """Return the query of all pages together."""
        return replace(self._query, limit=sys.maxsize if self._left is None else self._left)

    def next_page(self, connection: Connection) -> list[RunRecord]:
        """Return the next runs; an empty list at the end."""
        size = _PAGE if self._left is None else min(_PAGE, self._left)
        # By cursor, so that another connection can continue.
        page = page_of_runs(connection, replace(self._query, limit=size)) if size else []
        if self._left is not None:
            self._left -= size
        if page:
            self._query = replace(self._query, cursor=page[-1].cursor)
        return [run.record for run in page]


@contextmanager
def new_file(path: Path, *, overwrite: bool = False) -> Iterator[BinaryIO]:
    """Yield a file to write, which appears under its name (mode 0600) only when the block succeeds.

    Raises ConfigurationError when the path exists and may not be replaced,
    AgentTelemetryError when the file cannot be written.
    """
    if path.is_dir() or (path.exists() and not (overwrite and path.is_file())):
        hint = "Name a file." if path.is_dir() or overwrite else "Name another file, or add --overwrite."
        raise ConfigurationError(f"exporting to {path}: it exists already", hint=hint)
    # In the same folder, because a rename does not cross file systems.
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with _translate_errors(f"exporting to {path}"), _private(partial) as file:
            yield file
            # On the disk before it gets its name: after a power cut the name must not stand for an empty file.
            file.flush()
            os.fsync(file.fileno())
        with _translate_errors(f"exporting to {path}"):
            partial.replace(path)
            # The rename is durable when the folder is.
            sync_dir(path.parent)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def _private(path: Path) -> BinaryIO:
    """Create a file that only its owner may read; it must not exist."""
    path.unlink(missing_ok=True)  # left by a killed process that had the same pid
    return os.fdopen(open_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb")


@contextmanager
def spool() -> Iterator[BinaryIO]:
    """Yield a temporary file without a name, for an export to a pipe. Raises AgentTelemetryError."""
    with _translate_errors(), tempfile.TemporaryFile() as file:
        yield file


@contextmanager
def _translate_errors(doing: str = "writing the export") -> Iterator[None]:
    """Raise AgentTelemetryError for an OSError of the output: `reading_database` would report it as the database's."""
    try:
        yield
    # Of a reader that closed the pipe; the command treats it as success.
    except BrokenPipeError:
        raise
    except OSError as problem:
        hint = "No incomplete file was left behind."
        raise AgentTelemetryError(f"{doing}: {problem.strerror or problem}", hint=hint) from problem
