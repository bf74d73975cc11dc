"""A database is made, found current, or upgraded: at once or not at all, by one process at a time."""

from __future__ import annotations

import runpy
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from schema_cases import UPGRADE, ensure, records_of
from sqlalchemy import inspect, update
from storage_cases import ROOT, quick_config, rows_of, run, start_python
from version_7_database import dump, make_version_7, row_7

from otel_agent_telemetry.columns import COLUMNS
from otel_agent_telemetry.errors import StoreUnavailableError
from otel_agent_telemetry.locks import FileLock
from otel_agent_telemetry.storage import schema
from otel_agent_telemetry.storage.runs import upsert_runs
from otel_agent_telemetry.storage.schema import HEAD_REVISION, KNOWN_REVISIONS
from otel_agent_telemetry.storage.store import Store
from otel_agent_telemetry.storage.tables import agent_runs, metadata


def test_a_new_database_is_made_then_current(tmp_path):
    """With private modes, the version table and nothing left lying beside it."""
    config = quick_config(tmp_path / "base")
    assert ensure(config).outcome == "created"
    assert ensure(config).outcome == "current"
    assert rows_of(config.db_path, "SELECT version_num FROM alembic_version") == [(HEAD_REVISION,)]
    assert config.db_path.stat().st_mode & 0o777 == 0o600
    assert config.db_path.parent.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in config.db_path.parent.iterdir()] == ["telemetry.sqlite"]
    assert not config.backups_dir.exists()


def test_a_current_database_needs_no_alembic(tmp_path):
    """Its import is what the usual start must not pay for."""
    ensure(quick_config(tmp_path))
    child = start_python(UPGRADE + "print('alembic' in sys.modules)", tmp_path)
    out, err = child.communicate("\n", timeout=60)
    assert out.split() == ["ready", "current", "False"], err


def test_revisions_are_those_of_the_migration_folder():
    """The constant that the quick check compares with is the head of the scripts."""
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(ROOT / "otel_agent_telemetry" / "storage" / "migrations"))
    assert scripts.get_heads() == [HEAD_REVISION]
    assert [script.revision for script in scripts.walk_revisions()] == list(reversed(KNOWN_REVISIONS))


def test_migrations_make_what_the_tables_say(database):
    """Tables, columns, types, defaults and indexes, as the code reads and writes them."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with database.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, metadata) == []
        stored = [column["name"] for column in inspect(connection).get_columns("agent_runs")]
    assert stored == ["id", *COLUMNS]


def test_an_event_id_in_capitals_is_respelled_by_the_next_upgrade(database):
    """A database of version 7 that an earlier release has upgraded: on either kind of database."""
    alone, twice = "10000000-0000-4000-8000-0000000ABCDE", "20000000-0000-4000-8000-0000000ABCDE"
    before = (alone, twice, twice.lower(), "No-UUID")
    (path,) = Path(schema.__file__).with_name("migrations").glob("versions/v0016_*.py")
    with database.writing() as connection:
        upsert_runs(connection, [run(number) for number in range(len(before))])
        for number, event_id in enumerate(before):
            change = update(agent_runs).where(agent_runs.c.run_id == f"run-{number}").values(event_id=event_id)
            connection.execute(change)
        with Operations.context(MigrationContext.configure(connection)):
            runpy.run_path(str(path))["upgrade"]()
    ids = {event_id for (event_id,) in database.rows("SELECT event_id FROM agent_runs")}
    assert ids == {alone.lower(), twice, twice.lower(), "No-UUID"}


@pytest.mark.durability
def test_an_upgrade_that_fails_leaves_the_database_as_it_was(tmp_path):
    """Not enough room for the second table: an error that may pass; later the upgrade goes through."""
    config = quick_config(tmp_path)
    make_version_7(
        config.db_path, [row_7(n, input_summary="x" * 3000) for n in range(1, 400)], script="PRAGMA page_size"
    )
    before = dump(config.db_path)
    code = """
import resource, signal, sys
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.errors import StoreUnavailableError
from otel_agent_telemetry.storage.engine import make_engine
from otel_agent_telemetry.storage.schema import ensure_schema
config = TelemetryConfig(base_dir=sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limit = int(config.db_path.stat().st_size * 1.3)
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    ensure_schema(make_engine(config), config)
except StoreUnavailableError as problem:
    print("unavailable", len(list(config.backups_dir.glob("*.sqlite"))), problem, file=sys.stdout)
"""
    child = start_python(code, tmp_path)
    out, err = child.communicate(timeout=120)
    assert out.startswith("unavailable 1"), (out, err)
    assert dump(config.db_path) == before
    assert ensure(config).outcome == "upgraded"
    assert len(records_of(config)) == 399


def test_no_backup_no_upgrade(tmp_path):
    """Where the copy cannot be made nothing is changed."""
    config = quick_config(tmp_path)
    make_version_7(config.db_path, [row_7(1)])
    config.backups_dir.write_text("in the way")
    before = dump(config.db_path)
    with pytest.raises(StoreUnavailableError, match="backing up"):
        ensure(config)
    assert dump(config.db_path) == before
    config.backups_dir.unlink()
    assert ensure(config).outcome == "upgraded"


@pytest.mark.durability
def test_of_two_processes_one_upgrades_and_the_other_finds_it_done(tmp_path):
    """Released at the same instant, on a database that takes a while."""
    config = quick_config(tmp_path)
    make_version_7(config.db_path, [row_7(number) for number in range(1, 3000)])
    children = [start_python(UPGRADE, tmp_path) for _ in range(2)]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("\n")
        child.stdin.flush()
    outcomes = []
    for child in children:
        out, err = child.communicate(timeout=120)
        assert child.returncode == 0, err
        outcomes.append(out.strip())
    assert sorted(outcomes) == ["current", "upgraded"]
    assert len(list(config.backups_dir.iterdir())) == 1
    assert len(records_of(config)) == 2999


@pytest.mark.durability
def test_an_upgrade_killed_in_the_middle_is_done_again(tmp_path):
    """The kernel drops the lock, SQLite rolls back, nothing is lost."""
    config = quick_config(tmp_path)
    make_version_7(config.db_path, [row_7(number) for number in range(1, 1200)])
    before = dump(config.db_path)
    code = """
import os, sys
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.storage import version_7
from otel_agent_telemetry.storage.engine import make_engine
from otel_agent_telemetry.storage.schema import ensure_schema
written = version_7.write_rows
def write_and_die(connection, *rest):
    written(connection, *rest)
    connection.exec_driver_sql("PRAGMA cache_spill=1")
    os.kill(os.getpid(), 9)
version_7.write_rows = write_and_die
config = TelemetryConfig(base_dir=sys.argv[1])
ensure_schema(make_engine(config), config)
"""
    child = start_python(code, tmp_path)
    child.communicate(timeout=60)
    assert child.returncode == -9
    assert dump(config.db_path) == before
    assert ensure(config).outcome == "upgraded"
    assert len(records_of(config)) == 1199


def test_waiting_for_another_upgrade_is_bounded(tmp_path):
    """The lock of a process that does not finish is an error that may pass."""
    config = quick_config(tmp_path, db_busy_timeout_ms=50)
    make_version_7(config.db_path, [row_7(1)])
    other = FileLock(config.db_path.with_name("telemetry.sqlite.upgrade.lock"))
    assert other.try_acquire()
    with pytest.raises(StoreUnavailableError, match="another process"):
        ensure(config)
    other.release()
    assert ensure(config).outcome == "upgraded"


def test_the_lock_key_of_postgresql_fits_64_bits():
    """An advisory lock takes a signed 64-bit number."""
    assert 0 < schema._UPGRADE_LOCK < 2**63


def test_databases_are_made_at_once_by_threads_of_one_process(tmp_path: Path) -> None:
    """Each configuration has a background of its own; the migration tool has one context for all."""

    def made(number: int) -> str:
        store = Store(quick_config(tmp_path / str(number)))
        try:
            return store.open().outcome
        finally:
            store.close()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(made, range(24))) == ["created"] * 24
