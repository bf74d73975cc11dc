"""Runs written out for other programs: CSV, JSON lines or Parquet, in bounded memory.

All of an export is of one instant. On SQLite (but in WAL mode) a commit of anybody else
waits while runs are read, so a long export goes on in a private copy of that instant, and
what goes to a reader that may take its time is written to a file first.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from sqlalchemy import Connection

from otel_agent_telemetry.append import PRIVATE_FILE, sync_dir
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.errors import AgentTelemetryError, ConfigurationError
from otel_agent_telemetry.inspection.database import reading_database
from otel_agent_telemetry.model import RunRecord
from otel_agent_telemetry.storage.private_copy import holds_writers_up, private_copy
from otel_agent_telemetry.storage.queries import RunQuery, page_of_runs

_PAGE: Final = 500
_COPY_AFTER_RUNS: Final = 5_000

Progress = Callable[[int], None]
"""Called with the runs written so far."""


class RunSink(Protocol):
    """One format, being written to a file. Raises OSError."""

    def write(self, runs: Sequence[RunRecord]) -> None:
        """Write some more runs, soon."""

    def finish(self) -> None:
        """Write what must stand at the end; nothing is written after it."""

    def give_up(self) -> None:
        """Let go of everything; the file is worth nothing. Never raises."""


def export_runs(
    config: TelemetryConfig,
    query: RunQuery,
    sink: RunSink,
    *,
    limit: int | None = None,
    on_progress: Progress | None = None,
) -> int | None:
    """How many of a query's runs were written, newest first, at most `limit`; None when there is no database yet.

    The query's own limit, offset and cursor are not used. Raises StorageError for the
    database, AgentTelemetryError when the file cannot be written; the sink has given up then.
    """
    try:
        written = _written(config, _Pages(query, limit), sink, on_progress)
        with _told():
            sink.finish()
    except BaseException:
        sink.give_up()
        raise
    return written


def _written(config: TelemetryConfig, pages: _Pages, sink: RunSink, on_progress: Progress | None) -> int | None:
    written = 0
    with ExitStack() as view:
        connection = view.enter_context(reading_database(config))
        if connection is None:
            return None
        to_be_copied = holds_writers_up(connection)
        while runs := pages.next_page(connection):
            with _told():
                sink.write(runs)
            written += len(runs)
            if on_progress is not None:
                on_progress(written)
            if to_be_copied and written >= _COPY_AFTER_RUNS:
                connection, to_be_copied = _moved_to_a_copy(view, connection), False
    return written


def _moved_to_a_copy(view: ExitStack, connection: Connection) -> Connection:
    """A connection to a copy of the same instant; the one before is closed, and with it its lock."""
    with ExitStack() as made:
        own = made.enter_context(private_copy(connection))
        view.close()
        view.push(made.pop_all())
    return own


class _Pages:
    """The runs of a query, newest first, from wherever the caller reads them next."""

    def __init__(self, query: RunQuery, limit: int | None) -> None:
        self._query = replace(query, offset=0, cursor=None)
        self._left = limit

    def next_page(self, connection: Connection) -> list[RunRecord]:
        """Some more runs; none when there are no more."""
        size = _PAGE if self._left is None else min(_PAGE, self._left)
        page = page_of_runs(connection, replace(self._query, limit=size)) if size else []
        if self._left is not None:
            self._left -= size
        if page:
            self._query = replace(self._query, cursor=page[-1].position)
        return [run.record for run in page]


@contextmanager
def new_file(path: Path, *, overwrite: bool = False) -> Iterator[BinaryIO]:
    """A file to write that appears under its name (0600) when the block ends well, and not at all otherwise.

    Raises ConfigurationError when something stands there that may not be replaced,
    AgentTelemetryError when it cannot be written.
    """
    if path.is_dir() or (path.exists() and not (overwrite and path.is_file())):
        hint = "Name a file." if path.is_dir() or overwrite else "Name another file, or add --overwrite."
        raise ConfigurationError(f"exporting to {path}: it is there already", hint=hint)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with _told(f"exporting to {path}"), _private(partial) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        with _told(f"exporting to {path}"):
            partial.replace(path)
            sync_dir(path.parent)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def _private(path: Path) -> BinaryIO:
    path.unlink(missing_ok=True)  # of a process that was killed and had our pid
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE), "wb")


@contextmanager
def spool() -> Iterator[BinaryIO]:
    """A file without a name, for what goes on to a slow reader. Raises AgentTelemetryError."""
    with _told(), tempfile.TemporaryFile() as file:
        yield file


@contextmanager
def _told(doing: str = "writing the export") -> Iterator[None]:
    """Say of a full disk that it is the export's: inside a view, an OSError would pass for the database's."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as problem:
        hint = "Nothing of it was left behind."
        raise AgentTelemetryError(f"{doing}: {problem.strerror or problem}", hint=hint) from problem
