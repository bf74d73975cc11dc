"""CSV and JSON lines of runs, UTF-8.

CSV is RFC 4180 (a heading, CRLF, quotes where they are needed), one column for each column
of a run, "" for "not known". Ids and summaries were written by anyone, and a spreadsheet
takes a cell that begins with `=`, `+`, `-`, `@`, TAB or CR for a formula: such a text gets a
`'` before it, which spreadsheets do not show, unless `raw` asks for the texts as they are.

JSON lines hold one object a line, in the shape of the service's answers, ASCII.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, BinaryIO, Final

from otel_agent_telemetry.columns import COLUMNS
from otel_agent_telemetry.inspection.run_object import run_object
from otel_agent_telemetry.model import RunRecord

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
