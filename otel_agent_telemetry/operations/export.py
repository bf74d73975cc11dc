"""Exporting runs as CSV, JSON lines or Parquet, in bounded memory.

An export shows the database at one instant. On SQLite outside WAL mode no other process can
commit while runs are read; so a long export continues in a private copy of the database, and
an export to a pipe is written to a temporary file first (`spool`).

CSV follows RFC 4180 in UTF-8: a heading, CRLF, quotes where needed, one column for each
column of a run, an empty cell for None. A spreadsheet runs a cell that begins with `=`, `+`,
`-`, `@`, TAB or CR as a formula, and anyone can write such an id or summary: these texts get
a `'` in front, which spreadsheets do not show, unless `raw` is set.

JSON lines hold one object a line, in the shape of the service's answers, in ASCII.

Parquet needs pyarrow (extra `export`). Times are timestamps (microseconds, UTC; null where a
stored text is not a time), counts int64, amounts double, flags boolean, JSON and everything else text.
A row group has at most 20,000 runs or about 32 MiB of text.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

from sqlalchemy import Connection

from otel_agent_telemetry.append import PRIVATE_FILE, sync_dir
from otel_agent_telemetry.clock import parse_iso
from otel_agent_telemetry.columns import COLUMNS, KIND_OF, TIME_COLUMNS
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.errors import AgentTelemetryError, ConfigurationError
from otel_agent_telemetry.model import RunRecord
from otel_agent_telemetry.operations.run_json import run_object
from otel_agent_telemetry.storage.database_backup import blocks_writers, private_copy
from otel_agent_telemetry.storage.queries import RunQuery, page_of_runs
from otel_agent_telemetry.storage.store import reading_database

_PAGE: Final = 500
_COPY_AFTER_RUNS: Final = 5_000

Progress = Callable[[int, int | None], None]
"""Called with the runs written so far, and None: how many there will be is not known."""


class ExportFormat(Protocol):
    """Writes runs to a file in one format. Methods raise OSError."""

    def write(self, runs: Sequence[RunRecord]) -> None:
        """Write these runs, now or with the next ones."""

    def finish(self) -> None:
        """Write what is left and the end of the file; nothing is written afterwards."""

    def abandon(self) -> None:
        """Release what is held after an error; the file is incomplete. Never raises."""


def export_runs(
    config: TelemetryConfig,
    query: RunQuery,
    sink: ExportFormat,
    *,
    limit: int | None = None,
    on_progress: Progress | None = None,
) -> int | None:
    """Write a query's runs, newest first, at most `limit` (default all). Returns how many; None without a database.

    The query's own limit, offset and cursor are not used. Raises StorageError for the
    database, AgentTelemetryError when the file cannot be written; `sink` is abandoned then.
    """
    try:
        written = _written(config, _Pages(query, limit), sink, on_progress)
        with _translate_errors():
            sink.finish()
    except BaseException:
        # Also after Ctrl-C: no file with half of the rows may stay under the name that was asked for.
        sink.abandon()
        raise
    return written


def _written(config: TelemetryConfig, pages: _Pages, sink: ExportFormat, on_progress: Progress | None) -> int | None:
    """Write all pages to the sink and return the number of runs; None without a database."""
    written = 0
    with ExitStack() as view:
        connection = view.enter_context(reading_database(config))
        if connection is None:
            return None
        # WAL mode and PostgreSQL let other processes commit while this reads.
        copy_later = blocks_writers(connection)
        while runs := pages.next_page(connection):
            with _translate_errors():
                sink.write(runs)
            written += len(runs)
            if on_progress is not None:
                on_progress(written, None)
            if copy_later and written >= _COPY_AFTER_RUNS:
                connection, copy_later = _switch_to_copy(view, connection), False
    return written


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
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE), "wb")


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


_GROUP_RUNS: Final = 20_000
_GROUP_BYTES: Final = 32 << 20
_LONG: Final = ("input_summary", "output_summary", "error_summary", "error_details", "metrics_json", "context_json")


class ParquetFormat:
    """Parquet, see the module. Raises ConfigurationError when pyarrow is not installed."""

    def __init__(self, file: BinaryIO) -> None:
        try:
            # Imported here: it is an optional extra, and takes long to import.
            import pyarrow as pa  # type: ignore[import-untyped]  # ships no types
            import pyarrow.parquet as pq  # type: ignore[import-untyped]  # likewise
        except ImportError as missing:
            raise ConfigurationError(
                f"exporting Parquet: {missing.name} is not installed",
                hint="pip install 'otel-agent-telemetry[export]'",
            ) from missing
        self._pa = pa
        self._schema = pa.schema([(name, _type_of(pa, name)) for name in COLUMNS])
        self._writer = pq.ParquetWriter(file, self._schema, compression="zstd")
        self._waiting: list[RunRecord] = []
        self._bytes = 0

    def write(self, runs: Sequence[RunRecord]) -> None:
        """Collect runs; a row group is written when it is full."""
        for run in runs:
            self._waiting.append(run)
            self._bytes += sum(len(getattr(run, name) or "") for name in _LONG)
            if len(self._waiting) >= _GROUP_RUNS or self._bytes >= _GROUP_BYTES:
                self._write_group()

    def _write_group(self) -> None:
        """Write the collected runs as one row group."""
        columns = {name: [_value(name, getattr(run, name)) for run in self._waiting] for name in COLUMNS}
        self._writer.write_table(self._pa.table(columns, schema=self._schema))
        self._waiting, self._bytes = [], 0

    def finish(self) -> None:
        """Write the last row group and the footer."""
        if self._waiting:
            self._write_group()
        self._writer.close()

    def abandon(self) -> None:
        """Close the writer while its file is still open."""
        with contextlib.suppress(Exception):
            self._writer.close()


def _type_of(pa: Any, name: str) -> Any:
    """Return the Arrow type of a column."""
    kind = KIND_OF[name]
    if kind == "time":
        return pa.timestamp("us", tz="UTC")
    if kind == "flag":
        return pa.bool_()
    if kind == "amount":
        return pa.float64()
    return pa.int64() if kind in ("count", "number") else pa.string()


def _value(name: str, value: Any) -> Any:
    """Return a column value as Parquet stores it."""
    if KIND_OF[name] == "flag":
        return bool(value)
    if value is None or name not in TIME_COLUMNS:
        return value
    try:
        return parse_iso(value) // 1000
    # Older versions let texts in that are not times.
    except (ValueError, OverflowError):
        return None


_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_values: Final = attrgetter(*COLUMNS)


class CsvFormat:
    """CSV, see the module. `raw` (default False) leaves texts that a spreadsheet would run as formulas."""

    def __init__(self, file: BinaryIO, *, raw: bool = False) -> None:
        self._file = file
        self._cell = _unchanged if raw else _escape_formula
        self._write_rows([COLUMNS])

    def write(self, runs: Sequence[RunRecord]) -> None:
        """Write one row for each run."""
        self._write_rows([tuple(map(self._cell, _values(run))) for run in runs])

    def _write_rows(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Write rows as CSV lines."""
        text = io.StringIO(newline="")
        csv.writer(text).writerows(rows)
        self._file.write(text.getvalue().encode())

    def finish(self) -> None:
        """Do nothing: the format has no end mark."""

    def abandon(self) -> None:
        """Do nothing: nothing is held."""


def _unchanged(value: Any) -> Any:
    """Return the value as it is."""
    return value


def _escape_formula(value: Any) -> Any:
    """Return text that a spreadsheet shows as text, never as a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


class JsonLinesFormat:
    """JSON lines, see the module. `git_hosts` are the configured hosts of `commit_url` and `repo_url`."""

    def __init__(self, file: BinaryIO, *, git_hosts: Mapping[str, str]) -> None:
        self._file = file
        self._git_hosts = git_hosts

    def write(self, runs: Sequence[RunRecord]) -> None:
        """Write one line for each run."""
        lines = [json.dumps(run_object(run, git_hosts=self._git_hosts), separators=(",", ":")) for run in runs]
        self._file.write("".join(f"{line}\n" for line in lines).encode("ascii"))

    def finish(self) -> None:
        """Do nothing: the format has no end mark."""

    def abandon(self) -> None:
        """Do nothing: nothing is held."""
