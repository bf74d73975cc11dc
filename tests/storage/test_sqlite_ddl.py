"""The frozen description of a new SQLite file is what the migrations make."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from freeze_ddl import migrated_statements, module_text, statements_of

from otel_agent_telemetry.storage import schema, sqlite_ddl
from otel_agent_telemetry.storage.sqlite_file import open_sqlite
from otel_agent_telemetry.storage.store import Store
from otel_agent_telemetry.testing import isolated_config


def test_the_frozen_description_is_that_of_the_migrations():
    """Run `python tests/storage/freeze_ddl.py` after adding a migration."""
    assert Path(sqlite_ddl.__file__).read_text("utf-8") == module_text()
    assert sqlite_ddl.HEAD_REVISION == schema.HEAD_REVISION


def test_a_file_made_from_it_is_one_that_the_migrations_make(tmp_path):
    """Tables, indexes, triggers and the migration tool's row; and SQLAlchemy's side finds it current."""
    config = isolated_config(tmp_path)
    with closing(open_sqlite(config)) as connection:
        assert sorted(statements_of(connection)) == sorted(migrated_statements())
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(schema.HEAD_REVISION,)]
    store = Store(config)
    assert store.open().outcome == "current"
    store.close()


def test_the_file_is_private_and_made_once(tmp_path):
    """Nobody else may read what runs hold; opened again it stays as it is."""
    config = isolated_config(tmp_path)
    open_sqlite(config).close()
    before = config.db_path.read_bytes()
    open_sqlite(config).close()

    assert config.db_path.stat().st_mode & 0o777 == 0o600
    assert config.db_path.read_bytes() == before


def test_two_processes_that_make_it_at_once_agree(tmp_path):
    """The one that comes later into the transaction finds it made."""
    config = isolated_config(tmp_path)
    with closing(open_sqlite(config)), closing(sqlite3.connect(config.db_path)) as other:
        assert other.execute("SELECT count(*) FROM agent_runs").fetchone() == (0,)
