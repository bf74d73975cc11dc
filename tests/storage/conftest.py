"""Databases for the tests of `storage`: what holds for one of the two kinds holds for the other."""

from __future__ import annotations

import pytest
from storage_cases import Database

KINDS = ["sqlite", "postgresql"]


@pytest.fixture(params=KINDS)
def database(request):
    """An open, empty database of the current schema, of either kind."""
    return request.getfixturevalue(f"{request.param}_database")


@pytest.fixture
def sqlite_database(tmp_path):
    """For what is SQLite's alone: files, locks of files, PRAGMAs, version 7."""
    opened = Database(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def postgresql_database(tmp_path, current_postgres_url):
    """For what is PostgreSQL's alone: a server, its locks and permissions, writers at the same time."""
    opened = Database(tmp_path, database_url=current_postgres_url)
    yield opened
    opened.close()
