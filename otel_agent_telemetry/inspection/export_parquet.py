"""Parquet of runs, with typed columns. Needs pyarrow, of the extra `export`.

Times are timestamps (microseconds, UTC; null where a stored text is no time), counts int64,
`api_posted` boolean, JSON and everything else text. A row group is at most 20,000 runs or
about 32 MiB of text.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, BinaryIO, Final

from otel_agent_telemetry.clock import parse_iso
from otel_agent_telemetry.columns import COLUMNS, COUNT_COLUMNS, TIME_COLUMNS
from otel_agent_telemetry.errors import ConfigurationError
from otel_agent_telemetry.model import RunRecord

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
