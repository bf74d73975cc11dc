"""SQL as text in the transaction that is under way, on either database; no SQLAlchemy where the driver is SQLite's.

For what a recording process writes too: it imports nothing third-party on its background thread.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Any

Row = tuple[Any, ...]


class PlainSql:
    """Runs statements. In their text `{}` stands for a parameter and `IN {}` for one of many texts, `texts` of them."""

    __slots__ = ("_any_of", "_place", "_query", "_texts", "_write")

    def __init__(
        self,
        query: Callable[[str, Sequence[Any]], Iterable[Any]],
        write: Callable[[str, list[Row]], Any],
        place: str,
        any_of: str,
        texts: Callable[[list[str]], Any],
    ) -> None:
        self._query = query
        self._write = write
        self._place = place
        self._any_of = any_of
        self._texts = texts

    @classmethod
    def of_sqlite(cls, connection: sqlite3.Connection) -> PlainSql:
        """Return the statements of a connection of the standard library."""
        return cls(connection.execute, connection.executemany, "?", "IN (SELECT value FROM json_each(?))", json.dumps)

    @classmethod
    def of_postgresql(cls, execute: Callable[..., Any]) -> PlainSql:
        """Return the statements of a connection of SQLAlchemy: its `exec_driver_sql`."""
        return cls(lambda sql, values: execute(sql, tuple(values)), execute, "%s", "= ANY(%s)", list)

    def rows(self, sql: str, *values: Any) -> list[Row]:
        """Return the rows of a query; a list among the values is that of an `IN {}`. Raises the driver's errors."""
        given = [self._texts(value) if isinstance(value, list) else value for value in values]
        return [tuple(row) for row in self._query(self._text(sql), given)]

    def write(self, sql: str, rows: Iterable[Row]) -> None:
        """Execute a statement once for each row of parameters; not at all for none. Raises the driver's errors."""
        if given := list(rows):
            self._write(self._text(sql), given)

    def _text(self, sql: str) -> str:
        """Return a statement with the placeholders of its driver."""
        return sql.replace("IN {}", self._any_of).replace("{}", self._place)
