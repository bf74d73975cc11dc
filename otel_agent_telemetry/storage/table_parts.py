"""What the declarations of tables share: the metadata that holds them all, the type of row ids, partial indexes."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import BigInteger, Column, ColumnElement, Index, Integer, MetaData, TextClause
from sqlalchemy.types import TypeEngine

metadata: Final = MetaData()
ROW_ID: Final[TypeEngine[int]] = BigInteger().with_variant(Integer(), "sqlite")


def partial_index(
    name: str, *columns: Column[Any], where: ColumnElement[bool] | TextClause, unique: bool = False
) -> None:
    """Declare an index of only the rows that its reads look for: the other inserts do not touch it."""
    Index(name, *columns, unique=unique, sqlite_where=where, postgresql_where=where)
