"""Databases of version 7 are upgraded with all that they hold."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing

from hypothesis import given, settings
from hypothesis import strategies as some
from schema_cases import UPGRADE, ensure, records_of
from storage_cases import ROOT, Database, quick_config, rows_of, run, start_python
from version_7_database import COLUMNS_7, dump, make_version_7, row_7

from otel_agent_telemetry.model import RunRecord, order_key
from otel_agent_telemetry.storage.queries import get_run
from otel_agent_telemetry.storage.runs import upsert_runs
from otel_agent_telemetry.storage.version_7 import COLUMNS_8, row_of_version_7


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
    """Child rows of a cascading key, views, triggers and tables of our names survive or step aside."""
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
        CREATE VIEW of_nothing AS SELECT * FROM a_table_that_is_gone;
        CREATE TRIGGER touched AFTER UPDATE ON agent_runs BEGIN UPDATE notes SET run_id = new.run_id; END;
        CREATE TRIGGER noted AFTER INSERT ON notes BEGIN
            UPDATE agent_runs SET agent_owner = 'noted' WHERE run_id = new.run_id;
        END;
    """
    make_version_7(config.db_path, [row_7(1)], key="run_id TEXT PRIMARY KEY", script=script)
    ensure(config)
    with closing(sqlite3.connect(config.db_path)) as connection, connection:
        connection.execute("INSERT INTO notes VALUES ('20251210T120530Z-agent-00000001')")
        connection.execute("DELETE FROM notes WHERE rowid > 1")
    assert rows_of(config.db_path, "SELECT agent_owner FROM agent_runs") == [("noted",)]
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
