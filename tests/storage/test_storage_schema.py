"""A database is made, upgraded, found current, or refused and left as it was."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import runpy
import sqlite3
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from hypothesis import given, settings
from hypothesis import strategies as some
from sqlalchemy import inspect, update
from storage_cases import ROOT, Database, quick_config, rows_of, run, start_python
from version_7_database import COLUMNS_7, dump, make_version_7, row_7

from otel_agent_telemetry.columns import COLUMNS
from otel_agent_telemetry.errors import SchemaError, StorageError, StoreUnavailableError
from otel_agent_telemetry.locks import FileLock
from otel_agent_telemetry.model import RunRecord, order_key
from otel_agent_telemetry.storage import schema
from otel_agent_telemetry.storage.engine import make_engine, make_read_engine, reading, writing
from otel_agent_telemetry.storage.queries import get_run, list_runs
from otel_agent_telemetry.storage.run_filters import RunQuery
from otel_agent_telemetry.storage.runs import upsert_runs
from otel_agent_telemetry.storage.schema import HEAD_REVISION, KNOWN_REVISIONS, ensure_schema
from otel_agent_telemetry.storage.store import Store
from otel_agent_telemetry.storage.tables import agent_runs, metadata
from otel_agent_telemetry.storage.version_7 import COLUMNS_8, row_of_version_7

UPGRADE = """
import sys
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.storage.engine import make_engine
from otel_agent_telemetry.storage.schema import ensure_schema
config = TelemetryConfig(base_dir=sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
print(ensure_schema(make_engine(config), config).outcome, flush=True)
"""


def ensure(config):
    engine = make_engine(config)
    try:
        return ensure_schema(engine, config)
    finally:
        engine.dispose()


def records_of(config):
    engine = make_read_engine(config)
    try:
        with reading(engine, "reading") as connection:
            return list_runs(connection, RunQuery(limit=10_000))
    finally:
        engine.dispose()


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


def test_version_7_is_upgraded_with_all_its_rows(tmp_path):
    """Statuses and times in our words, counts whole, unknown columns in the context, the old file kept."""
    config = quick_config(tmp_path)
    rows = [
        row_7(1, status="failure", created_at="2025-12-10 12:05:30", duration_ms=4.7),
        row_7(2, status="weird", items_failed=-4, context_json='{"a": 1}', color="blue"),
        row_7(3, event_id=None, metrics_json="not json", context_json="[1]", color="red"),
        row_7(4, start_time=None, created_at=None, updated_at="about noon", agent_name=None),
    ]
    make_version_7(config.db_path, rows, extra=("color",))
    before = dump(config.db_path)
    report = ensure(config)
    assert report.outcome == "upgraded"
    assert report.backup.parent == config.backups_dir
    assert dump(report.backup) == before
    found = {record.items_discovered: record for record in records_of(config)}
    assert len(found) == 4
    assert (found[1].status, found[1].created_at) == ("failed", "2025-12-10T12:05:30.000000+00:00")
    assert found[1].duration_ms == 4
    assert found[2].status == "failed"
    assert json.loads(found[2].context_json) == {
        "a": 1,
        "version_7": {"color": "blue", "status": "weird", "items_failed": -4},
    }
    assert len(found[3].event_id) == 36
    assert json.loads(found[3].metrics_json) == "not json"
    assert json.loads(found[3].context_json) == {"context": [1], "version_7": {"color": "red"}}
    assert (found[4].created_at, found[4].updated_at, found[4].agent_name) == (
        "about noon",
        "about noon",
        "unknown",
    )
    assert all(record.schema_version == 8 for record in found.values())
    assert ensure(config).outcome == "current"


def test_an_upgraded_database_takes_part_as_a_new_one(tmp_path):
    """Its tables and indexes are those of a new one; later states find their runs; the counts are right."""
    new, old = quick_config(tmp_path / "new"), quick_config(tmp_path / "old")
    make_version_7(old.db_path, [row_7(number, status="running") for number in range(1, 30)])
    ensure(new)
    ensure(old)
    objects = "SELECT type, name FROM sqlite_master WHERE name NOT LIKE '%schema_migrations%' ORDER BY 1, 2"
    kept = [row for row in rows_of(old.db_path, objects) if not row[1].startswith("sqlite_sequence")]
    assert kept == rows_of(new.db_path, objects)
    database = Database(tmp_path / "old")
    with database.writing() as connection:
        end = run(event_id=row_7(1)["event_id"], run_id="x", status="success", updated=10**8)
        assert upsert_runs(connection, [end]) == ["updated"]
    counts = database.rows("SELECT status, sum(runs) FROM run_counts GROUP BY 1")
    assert sorted(counts) == [
        ("running", 28),
        ("success", 1),
    ]
    assert database.rows("SELECT version FROM schema_migrations") == [(7,)]
    database.close()


def test_version_7_is_upgraded_whatever_columns_later_versions_add(tmp_path):
    """The upgrade to version 8 has columns of its own; those of the code may grow."""
    config = quick_config(tmp_path)
    make_version_7(config.db_path, [row_7(1), row_7(2)])
    grown = "from otel_agent_telemetry import columns\ncolumns.COLUMNS = (*columns.COLUMNS, 'session_id')\n"
    child = start_python(grown + UPGRADE, tmp_path)
    out, err = child.communicate("\n", timeout=60)
    assert out.split() == ["ready", "upgraded"], err
    assert len(records_of(config)) == 2


def test_migrations_import_no_live_columns():
    """What later versions change (columns, tables, the SQL of writing) is out of reach of an upgrade."""
    storage = ROOT / "otel_agent_telemetry" / "storage"
    frozen = [storage / "version_7.py", *(storage / "migrations").rglob("*.py")]
    imports = re.compile(r"^\s*from otel_agent_telemetry\.?(\S*) import (.*)$", re.MULTILINE)
    found = {(module, names) for path in frozen for module, names in imports.findall(path.read_text("utf-8"))}
    live = ("", "columns", "model", "storage.tables", "storage.statements", "storage.runs", "storage.batch")
    assert not [module for module, _ in found if module in live]
    assert [names for module, names in found if module == "storage.rows"] == ["clean_text"]


def test_references_and_views_of_version_7_do_not_hinder(tmp_path):
    """Child rows of a cascading key, a view, a trigger and tables of our names survive or step aside."""
    config = quick_config(tmp_path)
    script = """
        CREATE TABLE run_events
            (id INTEGER PRIMARY KEY, run_id TEXT REFERENCES agent_runs(run_id) ON DELETE CASCADE);
        CREATE TABLE commits (commit_hash TEXT PRIMARY KEY, author TEXT);
        CREATE INDEX ix_commits_run_id ON commits(author);
        CREATE INDEX ux_agent_runs_event_id ON agent_runs(event_id);
        CREATE TABLE notes (run_id TEXT REFERENCES agent_runs(run_id) ON DELETE CASCADE);
        INSERT INTO run_events (run_id) VALUES ('20251210T120530Z-agent-00000001');
        INSERT INTO notes VALUES ('20251210T120530Z-agent-00000001');
        INSERT INTO commits VALUES ('abc', 'me');
        CREATE VIEW failures AS SELECT * FROM agent_runs WHERE status = 'failure';
        CREATE TRIGGER touched AFTER UPDATE ON agent_runs BEGIN UPDATE notes SET run_id = new.run_id; END;
    """
    make_version_7(config.db_path, [row_7(1)], key="run_id TEXT PRIMARY KEY", script=script)
    ensure(config)
    assert rows_of(config.db_path, "SELECT run_id FROM notes") == [("20251210T120530Z-agent-00000001",)]
    assert rows_of(config.db_path, "SELECT run_id FROM run_events_version_7") == [("20251210T120530Z-agent-00000001",)]
    assert rows_of(config.db_path, "SELECT * FROM commits_version_7") == [("abc", "me")]
    assert rows_of(config.db_path, "SELECT count(*) FROM failures") == [(0,)]
    database = Database(tmp_path)
    with database.writing() as connection:
        assert upsert_runs(connection, [run(1)]) == ["inserted"]
        assert get_run(connection, run_id="run-1") is not None
    database.close()


def test_commits_and_events_of_version_7_are_carried_over(tmp_path, caplog):
    """What names a run and what it says; the rest is counted, and the old tables stay."""
    config = quick_config(tmp_path)
    first = row_7(1)
    script = """
        CREATE TABLE commits (id INTEGER PRIMARY KEY, hash TEXT, run_id TEXT, source TEXT, author TEXT, created_at TEXT);
        CREATE TABLE run_events (id INTEGER PRIMARY KEY, run_id TEXT, event_type TEXT, timestamp TEXT, payload TEXT);
        CREATE TABLE run_spans (id INTEGER PRIMARY KEY);
        CREATE TRIGGER touched AFTER UPDATE ON agent_runs BEGIN SELECT 1; END;
    """
    make_version_7(config.db_path, [first], script=script)
    with closing(sqlite3.connect(config.db_path)) as connection, connection:
        connection.executemany(
            "INSERT INTO commits (hash, run_id, source, author, created_at) VALUES (?, ?, ?, ?, ?)",
            [("ABCDEF1", first["run_id"], "LLM", "me", "2025-12-10 13:00"), ("abcdef2", "unknown", "llm", "me", None)],
        )
        connection.executemany(
            "INSERT INTO run_events (run_id, event_type, timestamp, payload) VALUES (?, ?, ?, ?)",
            [(first["run_id"], "step", "2025-12-10T12:05:30Z", '{"n": 1}'), (first["run_id"], "end", 1765368331, "x")],
        )
    report = ensure(config)
    assert rows_of(config.db_path, "SELECT commit_hash, run_id, commit_source, commit_author FROM commits") == [
        ("ABCDEF1", first["run_id"], "llm", "me")
    ]
    events = rows_of(config.db_path, "SELECT event_id, event_type, payload_json FROM run_events ORDER BY id")
    assert events == [(first["event_id"], "step", '{"n": 1}'), (first["event_id"], "end", '"x"')]
    assert len(rows_of(config.db_path, "SELECT * FROM commits_version_7")) == 2
    notes = "\n".join(report.notes)
    assert "1 of 2 rows of commits were carried over; the table as it was is commits_version_7" in notes
    assert "2 of 2 rows of run_events" in notes
    assert "run_spans_version_7" in notes
    assert "index idx_agent_runs_agent_name" in notes
    assert "trigger touched" in notes
    assert all(note in caplog.text for note in report.notes)


def test_ids_stay_and_event_ids_have_one_spelling(tmp_path):
    """A UUID is in lower case, as a later state names it; another text stays; two spellings are one run."""
    config = quick_config(tmp_path)
    upper = row_7(0xABCDEF)["event_id"].upper()
    rows = [
        row_7(1, event_id="evt-One"),
        row_7(2, event_id=upper, status="running"),
        row_7(3, event_id=upper.lower(), updated_at="2025-12-10T12:09:00Z"),
    ]
    make_version_7(config.db_path, rows)
    with closing(sqlite3.connect(config.db_path)) as connection, connection:
        connection.execute("UPDATE agent_runs SET id = id * 10 + 100")
    report = ensure(config)
    found = rows_of(config.db_path, "SELECT id, event_id, items_discovered FROM agent_runs ORDER BY id")
    assert found == [(110, "evt-One", 1), (120, upper.lower(), 3)]
    assert any("1 rows were further states" in note for note in report.notes)
    make_version_7(tmp_path / "odd.sqlite", [{**row_7(n), "id": "same"} for n in range(3)], extra=("id",), key="k")
    odd = config.with_(db_path=tmp_path / "odd.sqlite")
    assert any("new ids" in note for note in ensure(odd).notes)
    assert rows_of(odd.db_path, "SELECT id FROM agent_runs ORDER BY id") == [(1,), (2,), (3,)]


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


ODD = some.one_of(
    some.none(),
    some.integers(-(2**63), 2**63 - 1),
    some.floats(allow_nan=False),
    some.text(max_size=8),
    some.binary(max_size=4),
    some.sampled_from(["2025-12-10T12:05:30Z", "2025-12-10 12:05:30", "Failure", "running", "{}", "[1]", "null"]),
)


@settings(max_examples=40, deadline=None)
@given(
    rows=some.lists(some.dictionaries(some.sampled_from([*COLUMNS_7, "color", "id2"]), ODD, max_size=12), max_size=20),
    missing=some.sets(some.sampled_from(sorted({*COLUMNS_7} - {"run_id", "agent_name", "status"})), max_size=12),
)
def test_any_version_7_database_is_upgraded(tmp_path_factory, rows, missing):
    """Whatever values and columns it has: as many runs as it had event ids, each the state that stands."""
    config = quick_config(tmp_path_factory.mktemp("seven"))
    make_version_7(config.db_path, rows, missing=missing, extra=("color", "id2"), indexed=())
    with closing(sqlite3.connect(config.db_path)) as connection:
        connection.row_factory = sqlite3.Row
        found = [dict(row) for row in connection.execute("SELECT * FROM agent_runs")]
    expected = {}
    nameless = 0
    for row in found:
        record = RunRecord(**dict(zip(COLUMNS_8, row_of_version_7(row), strict=True)))
        if row.get("event_id") in (None, "", b""):
            nameless += 1
            continue
        rival = expected.get(record.event_id)
        if rival is None or state_of(record) > state_of(rival):
            expected[record.event_id] = record
    assert ensure(config).outcome == "upgraded"
    stored = {record.event_id: record for record in records_of(config)}
    assert len(stored) == len(expected) + nameless
    for event, record in expected.items():
        assert state_of(stored[event])[:3] == state_of(record)[:3]


def state_of(record: RunRecord):
    return order_key(record)


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
