"""How statements are built and executed here, for both dialects: bulk writes, rows by many keys, row counts.

Owns the differences between SQLite and PostgreSQL in SQL, and spares the cost of SQLAlchemy's
own executemany: a statement that writes many rows is compiled to text once for each dialect.
Which rows are written, and what wins a conflict, is the caller's (`runs`, `traces`, `counts`).

Rows are found by many keys in one statement, each key by one step in an index. The keys are
one parameter of JSON, however many they are, so the statement is the same for any number:

- one column: `rows_with`, by `IN (SELECT … json_each)`, or `IN` of at most 500 on PostgreSQL.
- several columns: `key_lookup` and `rows_of_keys`. SQLite uses no index for
  `(a, b) IN (VALUES …)` of two rows and more, and `a IN … AND b IN …` looks for every pair,
  so the keys are a table that is joined. The join goes from the keys to the rows and is
  written so that it can go no other way: where a table was small, or had none of such rows,
  when it was last analysed, both databases would rather read all of it.
"""

from __future__ import annotations

import json
from collections import namedtuple
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final

import orjson
from sqlalchemy import (
    JSON,
    Column,
    ColumnElement,
    Connection,
    Dialect,
    FromClause,
    Select,
    Subquery,
    Table,
    Text,
    and_,
    bindparam,
    cast,
    column,
    func,
    literal_column,
    select,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.expression import Executable

from otel_agent_telemetry.storage.plain_sql import PlainSql
from otel_agent_telemetry.storage.rows import Row, clean_text

_LAST_CHARACTER: Final = "\U0010ffff"
_EMPTY_TEXT: Final[ColumnElement[str]] = literal_column("''")
_ROWS_WORTH_A_PLAN: Final = 10
_MAX_PARAMETERS: Final = 500
_COPY_ESCAPES: Final = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
"""What COPY takes for its own in a value → how it is written; the backslash first."""
_JSON_KEYS: Final = text("SELECT value FROM json_each(:keys)")


@dataclass(frozen=True, slots=True)
class Statement:
    """Compiled SQL and the order of its parameters; None where the driver takes them by name."""

    sql: str
    order: tuple[str, ...] | None

    def execute(self, connection: Connection, names: tuple[str, ...], rows: Iterable[Row]) -> None:
        """Execute the statement for each row, whose values have these names. Do nothing for no row."""
        if self.order == names:
            parameters: list[Any] = list(rows)
        elif self.order is not None:
            parameters = list(map(itemgetter(*map(names.index, self.order)), rows))
        else:
            parameters = [dict(zip(names, row, strict=True)) for row in rows]
        if parameters:
            with _planned_once(connection) if len(parameters) >= _ROWS_WORTH_A_PLAN else nullcontext():
                connection.exec_driver_sql(self.sql, parameters)


@contextmanager
def _planned_once(connection: Connection) -> Iterator[None]:
    """On PostgreSQL, let one plan serve every row of a statement; `engine` asks for a plan each time."""
    if connection.dialect.name != "postgresql":
        yield
        return
    connection.exec_driver_sql("SET LOCAL plan_cache_mode = force_generic_plan")
    yield
    connection.exec_driver_sql("SET LOCAL plan_cache_mode = force_custom_plan")


def driver_connection(connection: Connection) -> Any:
    """Return the driver's own connection, in the same transaction: SQLAlchemy costs more than SQLite's small writes."""
    return connection.connection.driver_connection


def plain_sql(connection: Connection) -> PlainSql:
    """Return what runs SQL as text in a connection's transaction."""
    if connection.dialect.name == "sqlite":
        return PlainSql.of_sqlite(driver_connection(connection))
    return PlainSql.of_postgresql(connection.exec_driver_sql)


def compile_statement(statement: Executable, dialect: Dialect, names: tuple[str, ...]) -> Statement:
    """Return the statement's text for many rows, with parameters of these names."""
    sql = statement.compile(dialect=dialect, column_keys=list(names))  # type: ignore[attr-defined]
    return Statement(str(sql), tuple(sql.positiontup) if sql.positional else None)


def insert_into(table: Table, dialect: Dialect) -> Any:
    """Return the dialect's INSERT that knows ON CONFLICT: the one place where the two differ."""
    return postgresql.insert(table) if dialect.name == "postgresql" else sqlite.insert(table)


def insert_rows_given_at_once(table: Table, names: Sequence[str]) -> Any:
    """Return PostgreSQL's INSERT of rows that are one parameter, see `rows_parameter`.

    For many rows: a statement for each costs the server five times as much as its row.
    """
    given = func.json_to_recordset(cast(bindparam("rows", type_=Text), JSON))
    rows = given.table_valued(*(column(name, table.c[name].type) for name in names), name="given")
    return postgresql.insert(table).from_select(list(names), select(rows.render_derived(with_types=True)))


def rows_parameter(names: Sequence[str], rows: Iterable[Row]) -> dict[str, str]:
    """Return the parameter of a statement of `insert_rows_given_at_once`."""
    keys = list(map(str, names))  # a column's name is of a class of its own, which orjson does not take
    return {"rows": orjson.dumps([dict(zip(keys, row, strict=True)) for row in rows]).decode()}


def copy_rows(connection: Connection, table: Table, names: Sequence[str], rows: Iterable[Row]) -> bool:
    """Write new rows to PostgreSQL by COPY; return False, and write none, where it refuses one of them.

    It refuses a row that is stored already, too. Its texts can be stored (`rows.storable_texts`). Within
    the connection's transaction.
    """
    savepoint = connection.begin_nested()
    dbapi = connection.dialect.dbapi
    assert dbapi is not None
    columns = ", ".join(f'"{name}"' for name in names)
    try:
        with (
            driver_connection(connection).cursor() as cursor,
            cursor.copy(f"COPY {table.name} ({columns}) FROM STDIN") as copy,
        ):
            copy.write(copy_text(rows))
    except dbapi.Error:  # of a lost connection the rollback raises SQLAlchemy's own error
        savepoint.rollback()
        return False
    savepoint.commit()
    return True


def copy_text(rows: Iterable[Row]) -> str:
    """Return rows in the text format of PostgreSQL's COPY. No text in them holds a NUL."""
    columns = map(_copy_column, zip(*rows, strict=True))
    return "".join([f"{row}\n" for row in map("\t".join, zip(*columns, strict=True))])


def _copy_column(values: tuple[Any, ...]) -> list[str]:
    """Return the values of a column as COPY reads them."""
    # Joined by a character that no value has: a look at each value would cost more than all else.
    try:
        joined = "\0".join(values)
    except TypeError:  # not all are texts
        joined = "\0".join(["" if value is None else str(value) for value in values])
    for character, escaped in _COPY_ESCAPES.items():
        if character in joined:
            joined = joined.replace(character, escaped)
    texts = joined.split("\0")
    return (
        [r"\N" if value is None else text for value, text in zip(values, texts, strict=True)]
        if None in values
        else texts
    )


def by_code_point(value: ColumnElement[Any], dialect: Dialect) -> ColumnElement[Any]:
    """Return a text that may be NULL as it is compared: NULL as the empty text, by code point.

    That is SQLite's own order, and the collation "C" on PostgreSQL.
    """
    compared: ColumnElement[Any] = func.coalesce(value, _EMPTY_TEXT)
    return compared.collate("C") if dialect.name == "postgresql" else compared


def count_rows(connection: Connection, table: FromClause, *conditions: ColumnElement[bool]) -> int:
    """Return the number of the table's rows for which all conditions hold."""
    counted = select(func.count()).select_from(table).where(*conditions)
    return int(connection.execute(counted).scalar_one())


def has_rows(connection: Connection, table: Table) -> bool:
    """Return whether the table has any row."""
    if connection.dialect.name == "sqlite":
        sql = f"SELECT 1 FROM {table.name} LIMIT 1"  # noqa: S608 - a constant
        return driver_connection(connection).execute(sql).fetchone() is not None
    return connection.execute(select(literal_column("1")).select_from(table).limit(1)).first() is not None


def begins_with(connection: Connection, column: ColumnElement[Any], prefix: str) -> ColumnElement[bool]:
    """Return the condition that a column begins with a text."""
    # A range is served by an index; LIKE would read every row.
    if connection.dialect.name != "sqlite":
        column = by_code_point(column, connection.dialect)
    # No BETWEEN: PostgreSQL takes no collation within it.
    return and_(column >= prefix, column <= prefix + _LAST_CHARACTER)


def rows_with(
    connection: Connection, selected: Select[Any], column: Column[str], values: Iterable[str]
) -> Iterator[Any]:
    """Yield the selected rows whose `column`, a text, has one of these values.

    On SQLite the text of `selected` is made once, so it is best a constant of its module.
    """
    keys = [clean_text(value) for value in values]
    if not keys:
        return
    if connection.dialect.name == "sqlite":
        # One parameter: SQLite takes longer to bind a list of them than to look them up.
        yield from rows_of_keys(connection, _lookup_by_column(selected, column, connection.dialect), keys)
        return
    for start in range(0, len(keys), _MAX_PARAMETERS):
        yield from connection.execute(selected.where(column.in_(keys[start : start + _MAX_PARAMETERS])))


@dataclass(frozen=True, slots=True)
class Lookup:
    """A statement with one parameter of many keys, ready for the driver where SQLAlchemy costs more than the search."""

    statement: Select[Any]
    sql: str
    parameters: tuple[Any, ...]
    """The values of its constants; None where the keys go."""
    make_row: Callable[[Iterable[Any]], Any]
    """Makes a row, whose values have the names of the columns, of the values that the driver returns."""


def _lookup(statement: Select[Any], dialect: Dialect) -> Lookup:
    """Return a compiled statement, and how its rows and parameters are named."""
    compiled = statement.compile(dialect=dialect)
    names = compiled.positiontup or () if dialect.name == "sqlite" else ()
    names_of_row = [column.name for column in statement.selected_columns]
    row = namedtuple("Found", names_of_row, rename=True)  # type: ignore[misc]  # noqa: PYI024 - names of the moment
    return Lookup(statement, str(compiled), tuple(compiled.params.get(name) for name in names), row._make)


@lru_cache(maxsize=64)
def _lookup_by_column(selected: Select[Any], column: Column[str], dialect: Dialect) -> Lookup:
    """Return the lookup of rows by the values of one column, given as a JSON array."""
    return _lookup(selected.where(column.in_(_JSON_KEYS)), dialect)


def key_lookup(
    dialect: Dialect, selected: Select[Any], columns: Sequence[Column[Any]], *conditions: ColumnElement[bool]
) -> Lookup:
    """Return a statement for `rows_of_keys`: the selected rows with a key in these columns.

    What is selected comes from one table, and the first of `columns` is never NULL in a row of it.
    """
    keys = _keys(dialect, columns)
    matches = and_(*(column == keys.c[column.name] for column in columns), *conditions)
    if dialect.name == "postgresql":
        # OFFSET 0 in a lateral query keeps the planner from turning the join round.
        return _lookup(select(selected.where(matches).offset(0).lateral()).select_from(keys), dialect)
    # So does a left join on SQLite; a key without a row gives a row of NULLs, which is left out by a function,
    # because of a plain condition SQLite sees that the join need not be a left one.
    is_found = func.typeof(columns[0]) != literal_column("'null'")
    return _lookup(selected.join_from(keys, columns[0].table, matches, isouter=True).where(is_found), dialect)


def rows_of_keys(connection: Connection, lookup: Lookup, keys: Iterable[Any]) -> Iterable[Any]:
    """Return the rows of these keys, in no order, by a statement of `key_lookup`."""
    text = json.dumps(list(keys))
    if connection.dialect.name != "sqlite":
        return connection.execute(lookup.statement, {"keys": text})
    given = list(lookup.parameters)
    given[given.index(None)] = text
    return map(lookup.make_row, driver_connection(connection).execute(lookup.sql, given))


def _keys(dialect: Dialect, columns: Sequence[Column[Any]]) -> Subquery:
    """Return the keys as a table whose columns have the names of those that they are values of."""
    given = bindparam("keys", type_=Text)
    values: list[ColumnElement[Any]]
    if dialect.name == "postgresql":
        key = func.json_array_elements(cast(given, JSON)).table_valued("value").render_derived().c.value
        values = [cast(key.op("->>")(literal_column(str(index))), column.type) for index, column in enumerate(columns)]
    else:
        key = func.json_each(given).table_valued("value").c.value
        values = [func.json_extract(key, literal_column(f"'$[{index}]'")) for index in range(len(columns))]
    named = [value.label(column.name) for value, column in zip(values, columns, strict=True)]
    return select(*named).subquery("wanted")
