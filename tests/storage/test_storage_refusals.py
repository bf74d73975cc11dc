"""Files that are no database of ours, and databases that cannot be used now."""

from __future__ import annotations

import contextlib
import os
import random
import re
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from schema_cases import ensure, records_of
from storage_cases import Database, quick_config, run
from version_7_database import make_version_7, row_7

from otel_agent_telemetry.errors import SchemaError, StorageError, StoreUnavailableError
from otel_agent_telemetry.storage.engine import make_read_engine, writing
from otel_agent_telemetry.storage.runs import upsert_runs


@pytest.mark.parametrize("journal", ["DELETE", "WAL"])
@pytest.mark.parametrize(
    "script",
    [
        "CREATE TABLE customers (id INTEGER); INSERT INTO customers VALUES (1)",
        "CREATE TABLE agent_runs (id INTEGER, speed REAL)",
        "CREATE TABLE alembic_version (version_num TEXT); INSERT INTO alembic_version VALUES ('9999')",
        "CREATE TABLE customers (id INTEGER); CREATE TABLE alembic_version (version_num TEXT)",
    ],
)
def test_a_database_that_is_not_ours_or_newer_is_refused_untouched(tmp_path, script, journal):
    """Byte for byte, even its journal mode."""
    config = quick_config(tmp_path)
    config.db_path.parent.mkdir()
    with closing(sqlite3.connect(config.db_path)) as connection:
        connection.execute(f"PRAGMA journal_mode={journal}")
        connection.executescript(script)
    before = config.db_path.read_bytes()
    with pytest.raises(SchemaError) as caught:
        ensure(config)
    assert str(config.db_path) in str(caught.value)
    assert "Nothing was changed" in caught.value.hint
    assert config.db_path.read_bytes() == before
    assert not config.backups_dir.exists()


def test_an_empty_file_is_an_empty_database(tmp_path):
    """What a process killed right after making the file leaves."""
    config = quick_config(tmp_path)
    config.db_path.parent.mkdir()
    config.db_path.touch()
    assert ensure(config).outcome == "created"


@pytest.mark.parametrize("size", [1, 100, 5000])
def test_a_file_of_random_bytes_is_refused_untouched(tmp_path, size):
    """It is no database, and stays what it is."""
    config = quick_config(tmp_path)
    config.db_path.parent.mkdir()
    config.db_path.write_bytes(random.Random(size).randbytes(size))
    before = config.db_path.read_bytes()
    with pytest.raises(SchemaError, match="not a database"):
        ensure(config)
    assert config.db_path.read_bytes() == before


@pytest.mark.parametrize("part", [0.01, 0.3, 0.9])
def test_a_truncated_database_is_a_storage_error(tmp_path, part):
    """On opening or on reading, with the file's name in the message."""
    database = Database(tmp_path)
    with database.writing() as connection:
        upsert_runs(connection, [run(number) for number in range(1, 300)])
    database.close()
    path = database.config.db_path
    os.truncate(path, int(path.stat().st_size * part))
    with pytest.raises(StorageError, match=re.escape(str(path))):
        open_and_read(database.config)


def open_and_read(config):
    ensure(config)
    records_of(config)


def test_a_folder_where_the_file_should_be_is_unavailable(tmp_path):
    """So is a file where the folder should be."""
    config = quick_config(tmp_path)
    config.db_path.mkdir(parents=True)
    with pytest.raises(StoreUnavailableError, match="a folder stands where a file should be"):
        ensure(config)
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailableError, match="file stands where a folder"):
        ensure(quick_config(tmp_path / "file"))


@contextlib.contextmanager
def as_a_user_whom_modes_bind(*owned):
    """Root may write whatever a mode is; so be nobody, who owns these files, for the time being."""
    if os.geteuid() != 0:
        yield
        return
    for path in owned:
        os.chown(path, 65534, 65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_read_only_file_is_unavailable():
    """A version 7 file that may not be written is not upgraded, and stays as it is."""
    with tempfile.TemporaryDirectory() as folder:
        config = quick_config(Path(folder))
        make_version_7(config.db_path, [row_7(1)])
        config.db_path.chmod(0o400)
        before = config.db_path.read_bytes()
        with (
            as_a_user_whom_modes_bind(folder, config.db_path.parent, config.db_path),
            pytest.raises(StoreUnavailableError),
        ):
            ensure(config)
        assert config.db_path.read_bytes() == before


def test_writing_through_a_read_engine_is_unavailable(database):
    """The database itself refuses, and the message names the reason."""
    engine = make_read_engine(database.config)
    with (
        pytest.raises(StoreUnavailableError, match=r"read-?only") as caught,
        writing(engine, "writing to") as connection,
    ):
        upsert_runs(connection, [run(1)])
    engine.dispose()
    assert "writable" in caught.value.hint
