"""Rows found by many keys in one statement, each key by one step in an index.

SQLite uses no index for `(a, b) IN (VALUES …)` of two rows and more, and `a IN … AND b IN …`
looks for every pair. So keys come as a table that is joined, out of JSON: one parameter,
however many they are, and the same statement for any number of them.

The join goes from the keys to the rows, and is written so that it can go no other way:
where a table was small, or had none of such rows, when it was last analysed, both databases
would rather read all of it.

Many values for `IN (…)`, in parts of as many as one statement should take.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

from sqlalchemy import (
    JSON,
    Column,
    ColumnElement,
    Connection,
    Dialect,
    Select,
    Subquery,
    Text,
    and_,
    bindparam,
    cast,
    func,
    select,
)
from sqlalchemy import literal_column as word


def key_lookup(
    dialect: Dialect, chosen: Select[Any], columns: Sequence[Column[Any]], *more: ColumnElement[bool]
) -> Select[Any]:
    """A statement for `look_up`: what is chosen of the rows with a key in these columns, for which `more` holds.

    What is chosen comes from one table, and first a column of it that is never NULL.
    """
    keys = _keys(dialect, columns)
    is_wanted = and_(*(column == keys.c[column.name] for column in columns), *more)
    if dialect.name == "postgresql":
        return select(chosen.where(is_wanted).offset(0).lateral()).select_from(keys)
    return chosen.join_from(keys, columns[0].table, is_wanted, isouter=True)


def look_up(connection: Connection, lookup: Select[Any], keys: Iterable[Sequence[Any]]) -> Iterator[Any]:
    """The rows of these keys; for a key without a row, none."""
    for row in connection.execute(lookup, {"keys": json.dumps(list(keys))}):
        if row[0] is not None:
            yield row


def _keys(dialect: Dialect, columns: Sequence[Column[Any]]) -> Subquery:
    """The keys as a table, whose columns have the names of those that they are values of."""
    given = bindparam("keys", type_=Text)
    if dialect.name == "postgresql":
        value = func.json_array_elements(cast(given, JSON)).table_valued("value").render_derived().c.value
        return _named(columns, [cast(value.op("->>")(word(str(at))), one.type) for at, one in enumerate(columns)])
    value = func.json_each(given).table_valued("value").c.value
    return _named(columns, [func.json_extract(value, word(f"'$[{at}]'")) for at in range(len(columns))])


def _named(columns: Sequence[Column[Any]], parts: Sequence[ColumnElement[Any]]) -> Subquery:
    return select(*(part.label(column.name) for part, column in zip(parts, columns, strict=True))).subquery("wanted")


T = TypeVar("T")

_MAX_PARAMETERS: Final = 500


def in_parts(values: Iterable[T]) -> Iterator[list[T]]:
    """The values in lists of at most 500; none for none."""
    whole = list(values)
    for start in range(0, len(whole), _MAX_PARAMETERS):
        yield whole[start : start + _MAX_PARAMETERS]
