"""Every stored run with its content (`run_content`), in one pass and bounded memory: what `verify` compares.

The content is put together by the database: fetching some fifty columns of a million runs one by one
would cost several times as much.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from operator import itemgetter
from typing import Final

from sqlalchemy import Connection

from otel_agent_telemetry.run_content import CONTENT_COLUMNS, CONTENT_NUMBERS, SEPARATOR

_AT_A_TIME: Final = 5000


StoredContent = tuple[str, str, str, str]
"""A stored run: its `event_id`, `status` and `updated_at`, and its content."""
_without_id: Final = itemgetter(slice(1, None))


def iter_contents(connection: Connection) -> Iterator[StoredContent]:
    """Yield every run, in order of id."""
    query = _query(connection.dialect.name)
    last = 0
    # The driver's own rows: SQLAlchemy's, and a class of ours, would cost as much again as reading them.
    while rows := connection.exec_driver_sql(query, (last,)).cursor.fetchall():
        yield from map(_without_id, rows)
        last = rows[-1][0]


@lru_cache(maxsize=2)
def _query(dialect: str) -> str:
    """Return the statement that reads the next runs after an id."""
    is_server = dialect == "postgresql"
    values = ", ".join(_value(name, is_server=is_server) for name in CONTENT_COLUMNS)
    if is_server:
        content, mark = f"concat_ws(chr({ord(SEPARATOR)}), {values})", "%s"
    else:  # `printf`, because `concat_ws` is newer than the SQLite of the oldest Python here
        content, mark = f"printf('{SEPARATOR.join(['%s'] * len(CONTENT_COLUMNS))}', {values})", "?"
    return (
        f"SELECT id, event_id, status, updated_at, {content} FROM agent_runs "  # noqa: S608 - names of our own columns
        f"WHERE id > {mark} ORDER BY id LIMIT {_AT_A_TIME}"
    )


def _value(name: str, *, is_server: bool) -> str:
    """Return the SQL of a column's value as both databases spell it: their texts are compared."""
    if name not in CONTENT_NUMBERS:
        return f"coalesce({name}, '')"
    return f"CAST({name} AS text)" if is_server else name
