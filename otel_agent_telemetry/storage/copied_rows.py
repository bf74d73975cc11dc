"""What `copy_db` copies: the tables, their rows in bounded batches, and which of them a target has.

A batch is at most 1000 rows or about 8 MiB of text, in the order of the table's key, read in
a transaction of its own: a long copy holds no lock on its source, and memory stays flat.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import Connection, Engine, Select, Table, func, select, tuple_

from otel_agent_telemetry.storage.engine import reading
from otel_agent_telemetry.storage.key_lookup import key_lookup, look_up
from otel_agent_telemetry.storage.rows import Row
from otel_agent_telemetry.storage.tables import agent_runs, commits, run_events, run_rollups, run_spans

_MAX_ROWS: Final = 1000
_MAX_TEXT: Final = 8 << 20
_ROWS_AT_A_TIME: Final = 50


@dataclass(frozen=True, slots=True)
class CopiedTable:
    """A table, the key by which its batches go on, and the columns that make a row the same elsewhere."""

    table: Table
    key: tuple[str, ...]
    identity: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of a row's values; a row's number, which is its own database's, comes last."""
        return _columns_of(self.table)

    def values_of(self, row: Row) -> dict[str, Any]:
        """Column → value, without the number."""
        return {name: value for name, value in zip(self.columns, row, strict=True) if name != "id"}

    def identity_of(self, row: Row) -> Row:
        """What the row is known by in any database."""
        return tuple(row[at] for at in _places_of(self.table, self.identity))


@lru_cache(maxsize=8)
def _columns_of(table: Table) -> tuple[str, ...]:
    names = tuple(column.name for column in table.c if column.name != "id")
    return (*names, "id") if "id" in table.c else names


@lru_cache(maxsize=8)
def _places_of(table: Table, names: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(map(_columns_of(table).index, names))


COMMITS: Final = CopiedTable(commits, ("commit_hash", "run_id"), ("commit_hash", "run_id"))
RUNS: Final = CopiedTable(agent_runs, ("id",), ("event_id",))
SPANS: Final = CopiedTable(run_spans, ("id",), ("trace_id", "span_id"))
EVENTS: Final = CopiedTable(run_events, ("id",), ("trace_id", "span_id", "seq"))
ROLLUPS: Final = CopiedTable(run_rollups, ("event_id",), ("event_id",))
COPIED: Final = (COMMITS, RUNS, SPANS, EVENTS, ROLLUPS)
"""In the order of copying: commits first, so that a run shows its commit as soon as it is there."""


def count_rows(connection: Connection, copied: CopiedTable) -> int:
    """All rows of the table."""
    return int(connection.execute(select(func.count()).select_from(copied.table)).scalar_one())


def batches(engine: Engine, copied: CopiedTable) -> Iterator[list[Row]]:
    """All rows of the table, of what is committed when each batch is read. Raises StorageError."""
    key_of = itemgetter(*map(copied.columns.index, copied.key))
    last: Any = None
    while rows := _next_batch(engine, copied, last):
        yield rows
        last = key_of(rows[-1])


def _next_batch(engine: Engine, copied: CopiedTable, last: Any) -> list[Row]:
    rows: list[Row] = []
    size = 0
    with (
        reading(engine, "copying from") as connection,
        connection.execute(_rows_after(copied, last), execution_options={"stream_results": True}) as found,
    ):
        for part in found.partitions(_ROWS_AT_A_TIME):
            rows += map(tuple, part)
            size += sum(len(value) for row in part for value in row if isinstance(value, str))
            if size >= _MAX_TEXT:
                break
    return rows


def _rows_after(copied: CopiedTable, last: Any) -> Select[Any]:
    columns = copied.table.c
    key = [columns[name] for name in copied.key]
    chosen: Select[Any] = select(*(columns[name] for name in copied.columns)).order_by(*key).limit(_MAX_ROWS)
    if last is None:
        return chosen
    return chosen.where(tuple_(*key) > last if len(key) > 1 else key[0] > last)


def found_in(
    connection: Connection, copied: CopiedTable, rows: Sequence[Row], *names: str, lock: bool = False
) -> dict[Row, tuple[Any, ...]]:
    """Identity → the values of some columns, for those of the rows that a database has.

    With `lock` they stay as they are until the transaction ends.
    """
    columns = copied.table.c
    identity = [columns[name] for name in copied.identity]
    chosen = select(*identity, *(columns[name] for name in names))
    chosen = chosen.with_for_update() if lock else chosen
    lookup = key_lookup(connection.dialect, chosen, identity)
    found = look_up(connection, lookup, map(copied.identity_of, rows))
    return {tuple(row[: len(identity)]): tuple(row[len(identity) :]) for row in found}
