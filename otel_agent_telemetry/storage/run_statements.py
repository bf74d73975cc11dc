"""The SQL by which runs are written, compiled once for each dialect and table.

`upsert` inserts a state, or replaces the stored one where the new one is greater by
`model.order_key`: the condition stands in the statement, so that concurrent writers end in
the same row. `posting` raises the posting columns of a run, whichever state stands.

Texts are compared by code point: SQLite's own way, and the collation "C" on PostgreSQL.

The SQL by which commit associations are kept and shown, compiled once for each dialect.

Of the same commit told twice of one run the later `associated_at` stands, then the greater
text of the rest, so that any order of telling ends in the same row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Dialect,
    FromClause,
    Table,
    bindparam,
    case,
    func,
    literal_column,
    or_,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.expression import Executable

from otel_agent_telemetry.columns import COLUMNS, INTEGER_COLUMNS, POSTING_COLUMNS
from otel_agent_telemetry.model import ORDER_COLUMNS
from otel_agent_telemetry.storage.rows import EVENT_ID, Row, posting_of
from otel_agent_telemetry.storage.tables import agent_runs, commits

_EMPTY: Final[ColumnElement[str]] = literal_column("''")
_MANY: Final = 10
_NEVER_POSTED: Final = (0, None, 0)


@dataclass(frozen=True, slots=True)
class Statement:
    """Compiled SQL and the order of its parameters; None where the driver takes them by name."""

    sql: str
    order: tuple[str, ...] | None

    def execute(self, connection: Connection, names: tuple[str, ...], rows: Iterable[Row]) -> None:
        """Run it for each row, whose values have these names. Nothing happens for no row."""
        if self.order == names:
            parameters: list[Any] = list(rows)
        elif self.order is not None:
            places = [names.index(name) for name in self.order]
            parameters = [tuple(row[at] for at in places) for row in rows]
        else:
            parameters = [dict(zip(names, row, strict=True)) for row in rows]
        if parameters:
            with _planned_once(connection) if len(parameters) >= _MANY else nullcontext():
                connection.exec_driver_sql(self.sql, parameters)


@contextmanager
def _planned_once(connection: Connection) -> Iterator[None]:
    """On PostgreSQL: one plan serves every row of a statement, where `engine` asks for a plan each time."""
    if connection.dialect.name != "postgresql":
        yield
        return
    connection.exec_driver_sql("SET LOCAL plan_cache_mode = force_generic_plan")
    yield
    connection.exec_driver_sql("SET LOCAL plan_cache_mode = force_custom_plan")


def insert_into(table: Table, dialect: Dialect) -> Any:
    """An INSERT that knows ON CONFLICT, of the dialect: the one place where the two differ."""
    return postgresql.insert(table) if dialect.name == "postgresql" else sqlite.insert(table)


def by_code_point(text: ColumnElement[Any], dialect: Dialect) -> ColumnElement[Any]:
    """A text that may be NULL, as it is compared; NULL is the empty text."""
    value: ColumnElement[Any] = func.coalesce(text, _EMPTY)
    return value.collate("C") if dialect.name == "postgresql" else value


def compiled(statement: Executable, dialect: Dialect, names: tuple[str, ...]) -> Statement:
    """The statement's text for executemany, with parameters of these names."""
    text = statement.compile(dialect=dialect, column_keys=list(names))  # type: ignore[attr-defined]
    return Statement(str(text), tuple(text.positiontup) if text.positional else None)


def write_rows(connection: Connection, table: Table, rows: list[Row]) -> None:
    """Insert rows or let them stand against what is stored; any order, any repetition."""
    upsert, posting = _statements(table, connection.dialect)
    if connection.dialect.name == "postgresql":
        rows = sorted(rows, key=itemgetter(EVENT_ID))  # one locking order, so that two writers never deadlock
    upsert.execute(connection, COLUMNS, rows)
    posted = [(*values, row[EVENT_ID]) for row in rows if (values := posting_of(row)) != _NEVER_POSTED]
    posting.execute(connection, _POSTING_NAMES, posted)


_POSTING_NAMES: Final = (*(f"new_{name}" for name in POSTING_COLUMNS), "of_event_id")


@lru_cache(maxsize=16)
def _statements(table: Table, dialect: Dialect) -> tuple[Statement, Statement]:
    return (
        compiled(_upsert(table, dialect), dialect, COLUMNS),
        compiled(_raise_posting(table, dialect), dialect, ()),
    )


def _upsert(table: Table, dialect: Dialect) -> Executable:
    statement = insert_into(table, dialect)
    new = statement.excluded
    changes: dict[str, Any] = {name: new[name] for name in COLUMNS if name != "event_id"}
    for name in POSTING_COLUMNS:
        changes[name] = _greater(name, new[name], table.c[name], dialect)
    return statement.on_conflict_do_update(  # type: ignore[no-any-return]  # the two dialects share no type
        index_elements=["event_id"], set_=changes, where=_order(new, dialect) > _order(table, dialect)
    )


def _order(side: Any, dialect: Dialect) -> Any:
    """`model.order_key` as a row value."""
    columns = side.c if isinstance(side, FromClause) else side
    ended = case((columns["status"] == literal_column("'running'"), literal_column("0")), else_=literal_column("1"))
    return tuple_(
        ended,
        *(
            columns[name] if name in INTEGER_COLUMNS else by_code_point(columns[name], dialect)
            for name in ORDER_COLUMNS
        ),
    )


def _raise_posting(table: Table, dialect: Dialect) -> Executable:
    grows = [
        _is_greater(name, bindparam(f"new_{name}", type_=table.c[name].type), table.c[name], dialect)
        for name in POSTING_COLUMNS
    ]
    changes = {
        name: _greater(name, bindparam(f"new_{name}", type_=table.c[name].type), table.c[name], dialect)
        for name in POSTING_COLUMNS
    }
    return update(table).where(table.c.event_id == bindparam("of_event_id"), or_(*grows)).values(changes)


def _is_greater(name: str, new: Any, old: Any, dialect: Dialect) -> Any:
    if name in INTEGER_COLUMNS:
        return new > old
    return by_code_point(new, dialect) > by_code_point(old, dialect)


def _greater(name: str, new: Any, old: Any, dialect: Dialect) -> Any:
    return case((_is_greater(name, new, old, dialect), new), else_=old)


COMMIT_KEYS: Final = tuple(column.name for column in commits.c)
_ORDER: Final = ("associated_at", "commit_source", "commit_author", "commit_timestamp")
_SHOWN: Final = {
    "git_commit_hash": "new_hash",
    "git_commit_source": "new_source",
    "git_commit_author": "new_author",
    "git_commit_timestamp": "new_timestamp",
}


@lru_cache(maxsize=8)
def link_statement(dialect: Dialect) -> Statement:
    """Keeps one association; parameters are the columns of `commits`."""
    statement = insert_into(commits, dialect)
    new = statement.excluded

    def order(side: Any) -> Any:
        return tuple_(*(by_code_point(side[name], dialect) for name in _ORDER))

    return compiled(
        statement.on_conflict_do_update(
            index_elements=["commit_hash", "run_id"],
            set_={name: new[name] for name in _ORDER},
            where=order(new) > order(commits.c),
        ),
        dialect,
        COMMIT_KEYS,
    )


@lru_cache(maxsize=8)
def show_statement(dialect: Dialect) -> Statement:
    """Shows a commit in every row of a run that does not show it yet."""
    differs = [agent_runs.c[column].is_distinct_from(bindparam(name)) for column, name in _SHOWN.items()]
    return compiled(
        update(agent_runs)
        .where(agent_runs.c.run_id == bindparam("of_run_id"), or_(*differs))
        .values({column: bindparam(name) for column, name in _SHOWN.items()}),
        dialect,
        (),
    )
