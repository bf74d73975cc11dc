"""The formats of an export: CSV, JSON lines, Parquet. With the totals of trees each has them beside the run's columns.

CSV follows RFC 4180 in UTF-8: a heading, CRLF, quotes where needed, one column for each
column of a run, an empty cell for None. A spreadsheet runs a cell that begins with `=`, `+`,
`-`, `@`, TAB or CR as a formula, and anyone can write such an id or summary: these texts get
a `'` in front, which spreadsheets do not show, unless `raw` is set.

JSON lines hold one object a line, in the shape of the service's answers, in ASCII.

Parquet needs pyarrow (extra `export`). Times are timestamps (microseconds, UTC; null where a
stored text is not a time), counts int64, amounts double, flags boolean, JSON and everything else text.
A row group has at most 20,000 runs or about 32 MiB of text.

The totals of the tree of a run (`storage.tree_totals`) are the columns `tree_runs`,
`tree_model_calls` and so on, in JSON the member `tree`.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, fields
from itertools import zip_longest
from operator import attrgetter
from typing import Any, BinaryIO, Final, Protocol

from otel_agent_telemetry.clock import parse_iso
from otel_agent_telemetry.columns import COLUMNS, KIND_OF, TIME_COLUMNS
from otel_agent_telemetry.errors import ConfigurationError
from otel_agent_telemetry.model import RunRecord
from otel_agent_telemetry.operations.run_json import run_object
from otel_agent_telemetry.storage.tree_totals import TreeTotals

Trees = Sequence[TreeTotals]
"""The totals of the tree of each run, or of none."""

_TREE_COLUMNS: Final = {f"tree_{field.name}": field.name for field in fields(TreeTotals)}


class ExportFormat(Protocol):
    """Writes runs to a file in one format. Methods raise OSError."""

    def write(self, runs: Sequence[RunRecord], trees: Trees = ()) -> None:
        """Write these runs, now or with the next ones, with the totals of their trees if the format has them."""

    def finish(self) -> None:
        """Write what is left and the end of the file; nothing is written afterwards."""

    def abandon(self) -> None:
        """Release what is held after an error; the file is incomplete. Never raises."""


_GROUP_RUNS: Final = 20_000
_GROUP_BYTES: Final = 32 << 20
_LONG: Final = ("input_summary", "output_summary", "error_summary", "error_details", "metrics_json", "context_json")


class ParquetFormat:
    """Parquet, see the module. Raises ConfigurationError when pyarrow is not installed."""

    def __init__(self, file: BinaryIO, *, trees: bool = False) -> None:
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
        self._tree_columns = _TREE_COLUMNS if trees else {}
        of_trees = [(column, _type_of_tree(pa, name)) for column, name in self._tree_columns.items()]
        self._schema = pa.schema([*((name, _type_of(pa, name)) for name in COLUMNS), *of_trees])
        self._writer = pq.ParquetWriter(file, self._schema, compression="zstd")
        self._waiting: list[tuple[RunRecord, TreeTotals | None]] = []
        self._bytes = 0

    def write(self, runs: Sequence[RunRecord], trees: Trees = ()) -> None:
        """Collect runs; a row group is written when it is full."""
        for run, tree in zip_longest(runs, trees):
            self._waiting.append((run, tree))
            # Characters of the long columns: what decides about memory, at a fraction of the cost of encoding them.
            self._bytes += sum(len(getattr(run, name) or "") for name in _LONG)
            if len(self._waiting) >= _GROUP_RUNS or self._bytes >= _GROUP_BYTES:
                self._write_group()

    def _write_group(self) -> None:
        """Write the collected runs as one row group."""
        columns = {name: [_value(name, getattr(run, name)) for run, _ in self._waiting] for name in COLUMNS}
        for column, name in self._tree_columns.items():
            columns[column] = [getattr(tree, name) for _, tree in self._waiting]
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


def _type_of_tree(pa: Any, name: str) -> Any:
    """Return the Arrow type of one of the totals of a tree."""
    return {"cost_usd": pa.float64(), "complete": pa.bool_()}.get(name, pa.int64())


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

    def __init__(self, file: BinaryIO, *, raw: bool = False, trees: bool = False) -> None:
        self._file = file
        self._cell = _unchanged if raw else _escape_formula
        self._write_rows([(*COLUMNS, *(_TREE_COLUMNS if trees else ()))])

    def write(self, runs: Sequence[RunRecord], trees: Trees = ()) -> None:
        """Write one row for each run."""
        rows = [tuple(map(self._cell, _values(run))) for run in runs]
        self._write_rows([(*row, *astuple(tree)) for row, tree in zip(rows, trees, strict=True)] if trees else rows)

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

    def write(self, runs: Sequence[RunRecord], trees: Trees = ()) -> None:
        """Write one line for each run."""
        lines = [json.dumps(members, separators=(",", ":")) for members in self._objects(runs, trees)]
        self._file.write("".join(f"{line}\n" for line in lines).encode("ascii"))

    def _objects(self, runs: Sequence[RunRecord], trees: Trees) -> Iterator[dict[str, Any]]:
        """Yield the object of each run."""
        for run, tree in zip_longest(runs, trees):
            members = run_object(run, git_hosts=self._git_hosts)
            yield members if tree is None else {**members, "tree": asdict(tree)}

    def finish(self) -> None:
        """Do nothing: the format has no end mark."""

    def abandon(self) -> None:
        """Do nothing: nothing is held."""
