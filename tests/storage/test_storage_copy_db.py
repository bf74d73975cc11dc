"""A database copied into another of either kind: all of it, once, whatever interrupts, and never backwards."""

from __future__ import annotations

import random

import pytest
from sqlalchemy import insert
from storage_cases import Database, at, event_id, link, run, start_python
from trace_cases import deliver, names_of, run_of, step, usage_of

from otel_agent_telemetry.errors import ConfigurationError, SchemaError, StoreUnavailableError
from otel_agent_telemetry.model import RunEvent, RunSpan
from otel_agent_telemetry.storage.copied_tables import COPIED, RUNS, batches
from otel_agent_telemetry.storage.copy_db import copy_database
from otel_agent_telemetry.storage.counts import check_counts
from otel_agent_telemetry.storage.rollups import Agent, add_to_rollups
from otel_agent_telemetry.storage.runs import link_commits, upsert_runs
from otel_agent_telemetry.storage.session_metrics import SessionFigure, write_figures
from otel_agent_telemetry.storage.steps import EventRow, SpanRow, add_events, add_spans
from otel_agent_telemetry.storage.store import WriteBatch
from otel_agent_telemetry.storage.tables import run_keys, run_services
from otel_agent_telemetry.storage.writer_lock import WriterLock

KINDS = ["sqlite", "postgresql"]
TRACE = "ab" * 16

COPY = """
import sys
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.storage.copy_db import copy_database
folder, source, target = sys.argv[1:]
place = lambda word: TelemetryConfig(base_dir=folder, database_url=word, db_synchronous="OFF")
def show(done, total):
    print(done, flush=True)
copy_database(place(source), place(target), on_progress=show)
"""
COPY_AND_MEASURE = "import resource\n" + COPY.replace(
    "print(done, flush=True)", "print(done, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
)

DIE_IN_A_COMMIT = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size=5")
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE agent_runs SET input_summary = hex(randomblob(2000))")
os._exit(9)
"""
"""So many pages that some are in the file already, and the journal with those of before beside it."""


@pytest.fixture
def open_database(request, tmp_path):
    """Makes an empty database of the current schema, of a kind and under a name."""
    opened = []

    def make(kind, name):
        url = None
        if kind == "postgresql":
            server = request.getfixturevalue("postgres")
            url = server.make_url(request.getfixturevalue("postgres_template"))
        opened.append(Database(tmp_path / name, database_url=url))
        return opened[-1]

    yield make
    for database in opened:
        database.close()


@pytest.fixture(params=[("sqlite", "postgresql"), ("postgresql", "sqlite")], ids="-to-".join)
def ends(request, open_database):
    """A source with something in every table, and an empty target: there and back."""
    source, target = (open_database(kind, name) for kind, name in zip(request.param, ("from", "to"), strict=True))
    fill(source)
    return source, target


def fill(database, runs=40):
    ids = {"event_id": event_id(1), "run_id": "run-1", "trace_id": TRACE}
    spans = [
        RunSpan(**ids, span_id=f"{n:016x}", parent_span_id="f" * 16, name="żółw \U0001f422", start_time=at(n))
        for n in range(20)
    ]
    events = [RunEvent(**ids, span_id="f" * 16, event_type="e", timestamp=at(n), payload={"n": n}) for n in range(20)]
    orphan = RunSpan(
        **{**ids, "event_id": "", "run_id": ""},
        span_id="e" * 16,
        parent_span_id="d" * 16,
        name="lost",
        start_time=at(1),
    )
    with database.writing() as connection:
        ended = [run(n, status="success", updated=1, context_json='{"a":"ż"}', api_posted=1) for n in range(1, runs)]
        upsert_runs(connection, [run(runs), *ended])
        link_commits(connection, [link(2, "1234567"), link(2, "abcdef1", associated=5), link(999, "fffffff")])
        add_spans(connection, [*(SpanRow(span, usage={"steps": 1}) for span in spans), SpanRow(orphan)])
        add_events(connection, [EventRow(seq, event) for seq, event in enumerate(events)])
        parents = {event_id(number): "run-outside" for number in (1, 2)}
        add_to_rollups(connection, steps={event_id(1): [{"steps": 20}]}, own={}, parents=parents)
        add_to_rollups(
            connection, steps={}, own={}, parents={}, agents={event_id(1): Agent("a", "a", takes_child_name=False)}
        )
        connection.execute(insert(run_keys), [{"run_key": "idle:shop:1", "event_id": event_id(3)}])
        connection.execute(insert(run_services), [{"service_name": "shop"}])
        write_figures(connection, [SessionFigure("a", 1, 0, at(1), "codex", "s", "commits", "", 2.0)])


def contents(database):
    """Every row of every table that is copied, without its number."""
    found = {}
    for copied in COPIED:
        rows = [copied.values_of(row) for batch in batches(database.engine, copied) for row in batch]
        found[copied.table.name] = sorted(repr(sorted(row.items())) for row in rows)
    return found


def copied(source, target):
    report = copy_database(source.config, target.config)
    return report, {table.table: (table.rows, table.written, table.lacking) for table in report.tables}


def test_everything_is_copied_and_verified(ends):
    """Every row of every table; the counts of the target are right; the source is as it was."""
    source, target = ends
    before = contents(source)
    report, tables = copied(source, target)
    assert report.verified
    assert tables == {
        "commits": (3, 3, 0),
        "agent_runs": (40, 40, 0),
        "run_spans": (21, 21, 0),
        "run_events": (20, 20, 0),
        "run_events (lines)": (0, 0, 0),
        "run_rollups": (2, 2, 0),
        "run_keys": (1, 1, 0),
        "run_services": (1, 1, 0),
        "turns": (0, 0, 0),
        "turn_records": (0, 0, 0),
        "session_metrics": (1, 1, 0),
    }
    assert contents(target) == before == contents(source)
    with target.reading() as connection:
        assert check_counts(connection) == []


def test_copying_again_writes_nothing(ends):
    """And what came in between is copied."""
    source, target = ends
    copied(source, target)
    _, again = copied(source, target)
    assert {written for _, written, _ in again.values()} == {0}
    with source.writing() as connection:
        upsert_runs(connection, [run(77), run(40, status="failed", updated=9)])
    report, tables = copied(source, target)
    assert tables["agent_runs"] == (41, 2, 0)
    assert report.verified
    assert contents(target) == contents(source)


def test_later_states_in_the_target_stand(ends):
    """An end is not undone, nor a later commit, nor a step that had found its run."""
    source, target = ends
    with target.writing() as connection:
        upsert_runs(connection, [run(40, status="failed", updated=50), run(500)])
        link_commits(connection, [link(2, "9999999", associated=80)])
        found = RunSpan(
            event_id=event_id(1),
            run_id="run-1",
            trace_id=TRACE,
            span_id="e" * 16,
            parent_span_id="d" * 16,
            name="lost",
            start_time=at(1),
        )
        add_spans(connection, [SpanRow(found)])
        add_to_rollups(connection, steps={event_id(1): [{"steps": 21}]}, own={}, parents={})
    report, _ = copied(source, target)
    assert report.verified
    runs = target.runs()
    assert len(runs) == 41
    assert runs[event_id(40)]["status"] == "failed"
    assert runs[event_id(2)]["git_commit_hash"] == "9999999"
    lost = "SELECT event_id FROM run_spans WHERE name = 'lost'"
    assert target.rows(lost) == [(event_id(1),)]
    assert "21" in target.rows("SELECT usage_json FROM run_rollups ORDER BY event_id")[0][0]
    assert source.runs()[event_id(40)]["status"] == "running"


def test_a_step_that_found_its_run_in_the_source_finds_it_in_the_target(ends):
    """It had been copied before."""
    source, target = ends
    copied(source, target)
    source.execute("UPDATE run_spans SET event_id = :it, run_id = 'run-1' WHERE event_id = ''", it=event_id(1))
    report, tables = copied(source, target)
    assert tables["run_spans"] == (21, 1, 0)
    assert report.verified
    assert contents(target) == contents(source)


def test_a_parent_that_was_found_later_is_copied(ends):
    """The roll-up counts as much as before, and is another one all the same."""
    source, target = ends
    source.execute("UPDATE run_rollups SET parent_run_id = NULL")
    copied(source, target)
    source.execute("UPDATE run_rollups SET parent_run_id = 'run-outside'")
    report, tables = copied(source, target)
    assert tables["run_rollups"] == (2, 2, 0)
    assert report.verified
    assert contents(target) == contents(source)


def test_a_roll_up_that_counts_more_in_the_target_learns_its_parent(ends):
    """And goes on counting more."""
    source, target = ends
    with target.writing() as connection:
        add_to_rollups(connection, steps={event_id(1): [{"steps": 21}]}, own={}, parents={})
    report, tables = copied(source, target)
    assert report.verified
    assert tables["run_rollups"] == (2, 2, 0)
    rows = target.rows("SELECT parent_run_id, usage_json FROM run_rollups ORDER BY event_id")
    assert [parent for parent, _ in rows] == ["run-outside", "run-outside"]
    assert '"steps":21' in rows[0][1]


def test_steps_that_wait_in_the_target_find_a_run_that_is_copied(ends):
    """They came there before it, as they may anywhere."""
    source, target = ends
    deliver(source, WriteBatch((run_of(1),)))
    deliver(target, step(2, 1, tokens=7))
    report, _ = copied(source, target)
    assert report.verified
    assert names_of(target, 1) == ["span 2"]
    assert usage_of(target, 1) == {"input_tokens": 7, "steps": 1}


def test_what_a_killed_writer_left_of_a_commit_is_undone_first(open_database):
    """A reader that may not write cannot undo it, and would report that the file is read-only."""
    source, target = open_database("sqlite", "from"), open_database("sqlite", "to")
    fill(source, runs=300)
    before = contents(source)
    source.close()
    killed = start_python(DIE_IN_A_COMMIT, source.config.db_path)
    killed.communicate(timeout=30)
    assert killed.returncode == 9
    assert source.config.db_path.with_name("telemetry.sqlite-journal").stat().st_size > 0
    report, tables = copied(source, target)
    assert report.verified
    assert tables["agent_runs"] == (300, 300, 0)
    assert contents(target) == before


def test_a_row_that_the_target_refuses_does_not_stop_its_neighbours(open_database):
    """It is counted, its reason given, and the copy is not called whole."""
    source, target = open_database("sqlite", "from"), open_database("postgresql", "to")
    noise = random.Random(1).randbytes(20_000).hex()
    with source.writing() as connection:
        upsert_runs(connection, [run(n) for n in range(1, 30)] + [run(50, parent_run_id=noise)])
    report = copy_database(source.config, target.config)
    assert not report.verified
    (runs,) = [table for table in report.tables if table.table == "agent_runs"]
    assert (runs.rows, runs.written, runs.refused, runs.lacking) == (30, 29, 1, 1)
    assert "index row" in report.reasons[0]
    assert noise[:100] not in report.reasons[0]
    assert len(target.runs()) == 29


def test_what_is_lacking_after_all_is_counted(ends, monkeypatch):
    """The comparison looks at the target, whatever the writes reported."""
    from otel_agent_telemetry.storage import copy_db

    source, target = ends
    monkeypatch.setattr(copy_db, "write_rows_of", lambda _connection, **given: len(given["rows"]))
    report, tables = copied(source, target)
    assert not report.verified
    assert {name: lacking for name, (_, _, lacking) in tables.items()} == {
        "commits": 3,
        "agent_runs": 40,
        "run_spans": 21,
        "run_events": 20,
        "run_events (lines)": 0,
        "run_rollups": 2,
        "run_keys": 1,
        "run_services": 1,
        "turns": 0,
        "turn_records": 0,
        "session_metrics": 1,
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_database_is_not_copied_onto_itself(open_database, kind, tmp_path):
    """By whatever name it is called."""
    database = open_database(kind, "from")
    same = database.config
    if kind == "sqlite":
        (tmp_path / "link.sqlite").symlink_to(database.config.db_path)
        same = database.config.with_(db_path=tmp_path / "link.sqlite")
    else:
        same = database.config.with_(database_url=database.config.database_url + "?application_name=other")
    with pytest.raises(ConfigurationError, match="one database"):
        copy_database(database.config, same)


def test_a_source_that_is_missing_empty_or_not_ours_is_refused(open_database, tmp_path):
    """Before anything is made of the target."""
    there = open_database("sqlite", "to").config
    target = there.with_(db_path=tmp_path / "new" / "target.sqlite")
    with pytest.raises(StoreUnavailableError, match="unable to open"):
        copy_database(there.with_(db_path=tmp_path / "missing.sqlite"), target)
    (tmp_path / "empty.sqlite").touch()
    with pytest.raises(SchemaError, match="no runs"):
        copy_database(there.with_(db_path=tmp_path / "empty.sqlite"), target)
    (tmp_path / "text.sqlite").write_text("this is no database at all, whatever its name")
    with pytest.raises(SchemaError):
        copy_database(there.with_(db_path=tmp_path / "text.sqlite"), target)
    assert not target.db_path.parent.exists()


def test_a_target_that_a_service_writes_is_refused(ends):
    """A SQLite file has one writer; a server takes many."""
    source, target = ends
    if target.engine.dialect.name == "postgresql":
        assert copied(source, target)[0].verified
        return
    lock = WriterLock(target.config.db_path)
    assert lock.try_acquire("http://127.0.0.1:8765")
    with pytest.raises(StoreUnavailableError, match="8765"):
        copy_database(source.config, target.config)
    lock.release()
    assert target.runs() == {}


def many_runs(database, count):
    """Runs by the thousand, with a text each, made by the database itself."""
    is_server = database.engine.dialect.name == "postgresql"
    numbers = "SELECT i FROM generate_series(1, :count) AS i"
    if not is_server:
        numbers = "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < :count) SELECT i FROM c"
    number = "CAST(i AS text)"
    names = "event_id, run_id, created_at, updated_at, start_time, agent_name, job_type, status, output_summary"
    values = f"'e' || {number}, 'r' || {number}, :t, :t, :t, 'agent', 'job', 'success', :error"
    database.execute(
        f"INSERT INTO agent_runs ({names}) SELECT {values} FROM ({numbers}) AS numbers",
        count=count,
        t=at(0),
        error="x" * 500,
    )


def url_of(database):
    return database.config.database_url or f"sqlite:///{database.config.db_path}"


@pytest.mark.durability
def test_a_copy_that_is_killed_is_begun_again_and_ends_whole(ends, tmp_path):
    """By SIGKILL, twice, at different points; what was copied is passed over."""
    source, target = ends
    many_runs(source, 4000)
    for batch in (1, 2):
        child = start_python(COPY, tmp_path, url_of(source), url_of(target))
        for _ in range(batch + 1):
            assert child.stdout.readline(), child.stderr.read()
        child.kill()
        child.communicate(timeout=30)
    kept = target.rows("SELECT count(*) FROM agent_runs")[0][0]
    assert 1000 <= kept < 4040
    report, tables = copied(source, target)
    assert report.verified
    assert tables["agent_runs"] == (4040, 4040 - kept, 0)
    assert contents(target) == contents(source)


@pytest.mark.durability
@pytest.mark.parametrize("kind", KINDS)
def test_memory_does_not_grow_with_what_is_copied(open_database, kind, tmp_path):
    """Neither while copying nor while comparing does it take more than after a few batches."""
    count = 20_000  # a kilobyte kept of each after the first 5,000 would be seen
    source, target = open_database(kind, "from"), open_database("sqlite", "to")
    many_runs(source, count)
    child = start_python(COPY_AND_MEASURE, tmp_path, url_of(source), url_of(target))
    out, err = child.communicate(timeout=240)
    assert child.returncode == 0, err
    used_kib = {int(done): int(most) for done, most in (line.split() for line in out.splitlines())}
    assert max(used_kib) == 2 * count
    assert used_kib[2 * count] - used_kib[5000] < 16 << 10
    assert target.rows("SELECT count(*) FROM agent_runs") == [(count,)]


@pytest.mark.parametrize("kind", KINDS)
def test_batches_are_bounded_by_rows_and_by_text(open_database, kind):
    """And together hold every row once, in order."""
    database = open_database(kind, "from")
    with database.writing() as connection:
        upsert_runs(connection, [run(n) for n in range(1, 2100)])
    assert [len(rows) for rows in batches(database.engine, RUNS)] == [1000, 1000, 99]
    with database.writing() as connection:
        upsert_runs(connection, [run(n, output_summary="x" * 100_000, updated=1) for n in range(1, 2100, 10)])
    sizes = [len(rows) for rows in batches(database.engine, RUNS)]
    assert sum(sizes) == 2099
    assert max(sizes) < 1000
    seen = [row[-1] for rows in batches(database.engine, RUNS) for row in rows]
    assert seen == sorted(set(seen))
