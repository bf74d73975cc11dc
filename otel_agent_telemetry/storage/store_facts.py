"""What a database knows of itself: its size, and values that the first process to ask for them makes for good.

Owns the table `store_facts`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, Final
from uuid import uuid4

from sqlalchemy import Connection, select

from otel_agent_telemetry.storage.statements import insert_into
from otel_agent_telemetry.storage.tables import store_facts

STORE_ID: Final = "store_id"
_PAGE_SECRET: Final = "page_secret"  # noqa: S105 - the name of a row
_SECRET_BYTES: Final = 32


def store_id(connection: Connection) -> str:
    """Return the id of this database, which a deliverer's cursor belongs to. Writes when it is first asked for."""
    return _fact(connection, STORE_ID, lambda: uuid4().hex)


def page_secret(connection: Connection) -> str:
    """Return 32 random bytes in hex that sign the sessions of browsers. Writes when it is first asked for.

    In the database, so that several services over it accept each other's sessions; whoever reads
    it still cannot sign in, see `service.sessions`.
    """
    return _fact(connection, _PAGE_SECRET, lambda: secrets.token_bytes(_SECRET_BYTES).hex())


def database_bytes(connection: Connection) -> int:
    """Return how large the database is, indexes and free pages included."""
    if connection.dialect.name == "sqlite":
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        return int(pages) * int(connection.exec_driver_sql("PRAGMA page_size").scalar_one())
    return int(connection.exec_driver_sql("SELECT pg_database_size(current_database())").scalar_one())


def _fact(connection: Connection, name: str, make: Callable[[], str]) -> str:
    """Return the value of a row; of two processes that make it at once, both return the one that is stored."""
    query = select(store_facts.c.value).where(store_facts.c.name == name)
    known = connection.execute(query).scalar()
    if known is None:
        new: dict[str, Any] = {"name": name, "value": make()}
        connection.execute(insert_into(store_facts, connection.dialect).on_conflict_do_nothing(), new)
        known = connection.execute(query).scalar_one()
    return str(known)
