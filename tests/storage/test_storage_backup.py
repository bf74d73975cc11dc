"""Copies of a database in use, and the lock that names its writer."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest
from storage_cases import ROOT, T0, Database, rows_of, run, start_python
from version_7_database import dump

from otel_agent_telemetry.errors import StorageError, StoreUnavailableError
from otel_agent_telemetry.storage.database_backup import backup_database
from otel_agent_telemetry.storage.runs import upsert_runs
from otel_agent_telemetry.storage.writer_lock import WriterLock

SERVE = """
import pathlib, sys
from otel_agent_telemetry.storage.writer_lock import WriterLock
lock = WriterLock(pathlib.Path(sys.argv[1]))
print(lock.try_acquire("http://127.0.0.1:8765"), flush=True)
sys.stdin.readline()
"""
BACKUP_WITHOUT_ROOM = """
import resource, sys
from pathlib import Path
from otel_agent_telemetry.clock import SystemClock
from otel_agent_telemetry.errors import StorageError
from otel_agent_telemetry.storage.database_backup import backup_database
resource.setrlimit(resource.RLIMIT_FSIZE, (800 << 10, 800 << 10))
try:
    backup_database(Path(sys.argv[1]), Path(sys.argv[2]), SystemClock())
except StorageError as problem:
    print(type(problem).__name__)
"""
"""No file can grow past 800 KiB, as on a disk that is full then."""


class StoppedClock:
    def now_ns(self):
        return T0


@pytest.fixture
def database(sqlite_database):
    """A backup is a copy of a file; for PostgreSQL there is pg_dump."""
    return sqlite_database


def test_a_backup_is_a_whole_private_copy(database):
    """Named for its instant; a second one of the same instant does not overwrite it."""
    with database.writing() as connection:
        upsert_runs(connection, [run(number) for number in range(1, 50)])
    copy = backup_database(database.config.db_path, database.config.backups_dir, StoppedClock())
    again = backup_database(database.config.db_path, database.config.backups_dir, StoppedClock())
    assert copy.name == "telemetry-20251009T085320Z.sqlite"
    assert again.name == "telemetry-20251009T085320Z-2.sqlite"
    assert dump(copy) == dump(again) == dump(database.config.db_path)
    assert copy.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in copy.parent.iterdir()) == sorted([copy.name, again.name])


def test_a_backup_holds_what_is_committed(database):
    """While a writer is in the middle of a transaction."""
    with database.writing() as connection:
        upsert_runs(connection, [run(1)])
    with database.writing() as connection:
        upsert_runs(connection, [run(2)])
        copy = backup_database(database.config.db_path, database.config.backups_dir, StoppedClock())
    assert rows_of(copy, "SELECT run_id FROM agent_runs") == [("run-1",)]


def test_a_backup_of_a_wal_database_holds_what_is_in_the_wal(tmp_path):
    """And is one file."""
    database = Database(tmp_path, db_journal_mode="WAL")
    with database.writing() as connection:
        upsert_runs(connection, [run(1)])
    copy = backup_database(database.config.db_path, database.config.backups_dir, StoppedClock())
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]
    assert rows_of(copy, "SELECT run_id FROM agent_runs") == [("run-1",)]
    database.close()


def test_a_backup_on_a_full_disk_leaves_nothing(database):
    """Nor what SQLite had beside the half copy."""
    with database.writing() as connection:
        upsert_runs(connection, [run(number, input_summary="x" * 2000) for number in range(1000)])
    backing = start_python(BACKUP_WITHOUT_ROOM, database.config.db_path, database.config.backups_dir)
    out, err = backing.communicate(timeout=60)
    assert out == "StoreUnavailableError\n", err
    assert list(database.config.backups_dir.iterdir()) == []


@pytest.mark.parametrize("problem", ["missing", "damaged", "folder"])
def test_a_backup_that_fails_leaves_nothing(database, problem):
    """No half copy under any name."""
    source, folder = database.config.db_path, database.config.backups_dir
    database.close()
    if problem == "missing":
        source.unlink()
    elif problem == "damaged":
        with closing(sqlite3.connect(source)) as connection, connection:
            connection.execute("CREATE INDEX extra ON agent_runs(host)")
            connection.execute("PRAGMA writable_schema=ON")
            connection.execute("UPDATE sqlite_master SET rootpage = 3 WHERE name = 'extra'")
    else:
        folder.write_text("in the way")
    with pytest.raises(StorageError, match=str(source)):
        backup_database(source, folder, StoppedClock())
    assert not folder.is_dir() or list(folder.iterdir()) == []


def test_the_writer_is_known_while_it_lives(tmp_path):
    """Its pid, host and address; after its death nobody, though the file is still there."""
    db_path = tmp_path / "telemetry.sqlite"
    child = start_python(SERVE, db_path)
    assert child.stdout.readline() == "True\n"
    lock = WriterLock(db_path)
    holder = lock.holder()
    assert (holder.pid, holder.url) == (child.pid, "http://127.0.0.1:8765")
    assert not lock.try_acquire()
    child.kill()
    child.communicate(timeout=20)
    assert lock.path.exists()
    assert lock.holder() is None
    assert lock.try_acquire()
    lock.release()


def test_the_address_may_be_recorded_later(tmp_path):
    """A service takes the lock before it listens; a shorter line hides the longer one."""
    lock, other = WriterLock(tmp_path / "x.sqlite"), WriterLock(tmp_path / "x.sqlite")
    assert other.holder() is None
    assert list(tmp_path.iterdir()) == []
    assert lock.try_acquire("http://a-rather-long-name-of-a-host.example:8765")
    assert lock.try_acquire()
    assert other.holder().url is None
    assert lock.holder() == other.holder()
    lock.release()
    lock.release()
    assert other.holder() is None


def test_asking_for_the_holder_does_not_keep_it_from_starting(tmp_path):
    """A thousand questions beside it, and every start succeeds."""
    db_path = tmp_path / "x.sqlite"
    assert WriterLock(db_path).try_acquire()
    code = """
import pathlib, sys
from otel_agent_telemetry.storage.writer_lock import WriterLock
print("asking", flush=True)
for _ in range(3000):
    WriterLock(pathlib.Path(sys.argv[1])).holder()
"""
    child = start_python(code, db_path)
    assert child.stdout.readline() == "asking\n"
    while child.poll() is None:
        lock = WriterLock(db_path)
        assert lock.try_acquire()
        lock.release()
    assert child.communicate(timeout=20)[1] == ""


def test_a_lock_file_with_foreign_content_names_nobody(tmp_path):
    """Whatever stands in it."""
    lock = WriterLock(tmp_path / "x.sqlite")
    assert lock.try_acquire()
    for content in (b"", b"garbage\n", b"[]\n", json.dumps({"pid": "x"}).encode()):
        lock.path.write_bytes(content)
        assert lock.holder() is None
    lock.release()


def test_a_lock_that_cannot_be_made_is_unavailable(tmp_path):
    """The folder is a file."""
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailableError, match="locking"):
        WriterLock(tmp_path / "file" / "x.sqlite").try_acquire()
    assert WriterLock(tmp_path / "file" / "x.sqlite").holder() is None


def test_the_migration_folder_travels_with_the_package():
    """Its files are found beside the module that runs them."""
    folder = ROOT / "otel_agent_telemetry" / "storage" / "migrations"
    assert (folder / "env.py").is_file()
    assert list((folder / "versions").glob("v*.py"))
