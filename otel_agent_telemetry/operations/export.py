"""Runs written out for other programs: CSV, JSON lines or Parquet, in bounded memory.

All of an export is of one instant. On SQLite (but in WAL mode) a commit of anybody else
waits while runs are read, so a long export goes on in a private copy of that instant, and
what goes to a reader that may take its time is written to a file first.

Parquet of runs, with typed columns. Needs pyarrow, of the extra `export`.

Times are timestamps (microseconds, UTC; null where a stored text is no time), counts int64,
`api_posted` boolean, JSON and everything else text. A row group is at most 20,000 runs or
about 32 MiB of text.

CSV and JSON lines of runs, UTF-8.

CSV is RFC 4180 (a heading, CRLF, quotes where they are needed), one column for each column
of a run, "" for "not known". Ids and summaries were written by anyone, and a spreadsheet
takes a cell that begins with `=`, `+`, `-`, `@`, TAB or CR for a formula: such a text gets a
`'` before it, which spreadsheets do not show, unless `raw` asks for the texts as they are.

JSON lines hold one object a line, in the shape of the service's answers, ASCII.
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
from otel_agent_telemetry.columns import COLUMNS, COUNT_COLUMNS, TIME_COLUMNS
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.errors import AgentTelemetryError, ConfigurationError
from otel_agent_telemetry.model import RunRecord
from otel_agent_telemetry.operations.database import reading_database
from otel_agent_telemetry.operations.lookup import run_object
from otel_agent_telemetry.storage.database_backup import holds_writers_up, private_copy
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


_GROUP_RUNS: Final = 20_000
_GROUP_BYTES: Final = 32 << 20
_LONG: Final = ("input_summary", "output_summary", "error_summary", "error_details", "metrics_json", "context_json")


class ParquetSink:
    """An `export.RunSink`. Raises ConfigurationError when pyarrow is not installed."""

    def __init__(self, file: BinaryIO) -> None:
        try:
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
        """Take runs in; a row group is written when it is full."""
        for run in runs:
            self._waiting.append(run)
            self._bytes += sum(len(getattr(run, name) or "") for name in _LONG)
            if len(self._waiting) >= _GROUP_RUNS or self._bytes >= _GROUP_BYTES:
                self._write_group()

    def _write_group(self) -> None:
        columns = {name: [_value(name, getattr(run, name)) for run in self._waiting] for name in COLUMNS}
        self._writer.write_table(self._pa.table(columns, schema=self._schema))
        self._waiting, self._bytes = [], 0

    def finish(self) -> None:
        """Write the last group and the footer."""
        if self._waiting:
            self._write_group()
        self._writer.close()

    def give_up(self) -> None:
        """Let the writer go while its file is open still."""
        with contextlib.suppress(Exception):
            self._writer.close()


def _type_of(pa: Any, name: str) -> Any:
    if name in TIME_COLUMNS:
        return pa.timestamp("us", tz="UTC")
    if name in COUNT_COLUMNS or name == "schema_version":
        return pa.int64()
    return pa.bool_() if name == "api_posted" else pa.string()


def _value(name: str, value: Any) -> Any:
    if name == "api_posted":
        return bool(value)
    if value is None or name not in TIME_COLUMNS:
        return value
    try:
        return parse_iso(value) // 1000
    except (ValueError, OverflowError):
        return None


_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_values: Final = attrgetter(*COLUMNS)


class CsvSink:
    """An `export.RunSink`."""

    def __init__(self, file: BinaryIO, *, raw: bool = False) -> None:
        self._file = file
        self._cell = _as_it_is if raw else _no_formula
        self._put([COLUMNS])

    def write(self, runs: Sequence[RunRecord]) -> None:
        """Write a row for each run."""
        self._put([tuple(map(self._cell, _values(run))) for run in runs])

    def _put(self, rows: Sequence[tuple[Any, ...]]) -> None:
        text = io.StringIO(newline="")
        csv.writer(text).writerows(rows)
        self._file.write(text.getvalue().encode())

    def finish(self) -> None:
        """Nothing stands at the end."""

    def give_up(self) -> None:
        """Nothing is held."""


def _as_it_is(value: Any) -> Any:
    return value


def _no_formula(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


class JsonLinesSink:
    """An `export.RunSink`."""

    def __init__(self, file: BinaryIO, *, git_hosts: Mapping[str, str]) -> None:
        self._file = file
        self._git_hosts = git_hosts

    def write(self, runs: Sequence[RunRecord]) -> None:
        """Write a line for each run."""
        lines = [json.dumps(run_object(run, git_hosts=self._git_hosts), separators=(",", ":")) for run in runs]
        self._file.write("".join(f"{line}\n" for line in lines).encode("ascii"))

    def finish(self) -> None:
        """Nothing stands at the end."""

    def give_up(self) -> None:
        """Nothing is held."""
