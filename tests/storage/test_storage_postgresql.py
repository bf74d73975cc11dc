"""What PostgreSQL alone has: a server that goes away, permissions, replicas that start and write at once."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from alembic import command
from alembic.config import Config
from postgres import PASSWORD
from sqlalchemy import text
from storage_cases import (
    ROOT,
    Database,
    expected_rows,
    link,
    observations,
    quick_config,
    run,
    start_python,
    write_shuffled,
)

from otel_agent_telemetry.errors import SchemaError, StorageError, StoreUnavailableError
from otel_agent_telemetry.storage.counts import RUNS_BETWEEN_PACKINGS, check_counts
from otel_agent_telemetry.storage.engine import make_engine, make_read_engine, reading, writing
from otel_agent_telemetry.storage.runs import link_commits, upsert_runs
from otel_agent_telemetry.storage.schema import HEAD_REVISION, ensure_schema
from otel_agent_telemetry.storage.store import Store

UPGRADE = """
import sys
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.storage.store import Store
store = Store(TelemetryConfig(base_dir=sys.argv[1], database_url=sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()
print(store.open().outcome, flush=True)
store.close()
"""
WRITE = """
import sys
sys.path.insert(0, "tests/storage")
from storage_cases import quick_config, write_shuffled
from otel_agent_telemetry.storage.store import Store
store = Store(quick_config(sys.argv[1], database_url=sys.argv[2], db_max_retries=0))
store.open()
print("ready", flush=True)
sys.stdin.readline()
write_shuffled(store, int(sys.argv[3]), int(sys.argv[4]))
store.close()
"""

_count_of_runs = text("SELECT count(*) FROM agent_runs")


@pytest.fixture
def store(postgresql_database):
    opened = Store(postgresql_database.config)
    opened.open()
    yield opened
    opened.close()


def at_revision_8(url, folder):
    """Make the schema as it was at revision 0008, with runs that are not counted yet."""
    config = quick_config(folder, database_url=url)
    engine = make_engine(config)
    settings = Config()
    settings.set_main_option("script_location", str(ROOT / "otel_agent_telemetry" / "storage" / "migrations"))
    settings.set_main_option("path_separator", "os")
    columns = "event_id, run_id, created_at, updated_at, start_time, agent_name, job_type, status"
    with writing(engine, "making an older schema in") as connection:
        settings.attributes["connection"] = connection
        command.upgrade(settings, "0008")
        connection.execute(
            text(
                f"INSERT INTO agent_runs ({columns}) SELECT 'e' || i, 'r' || i, t, t, t, 'agent-' || i % 3, 'job',"
                " 'success' FROM (SELECT i, '2026-01-0' || 1 + i % 3 || 'T00:00:00.000000+00:00' AS t"
                " FROM generate_series(1, 300) AS i) AS numbers"
            )
        )
    engine.dispose()
    return config


def go_on_together(children):
    """Release processes that wait, at the same instant, and return what each printed."""
    for child in children:
        assert child.stdout.readline() == "ready\n", child.stderr.read()
    for child in children:
        child.stdin.write("\n")
        child.stdin.flush()
    printed = []
    for child in children:
        out, err = child.communicate(timeout=120)
        assert (child.returncode, err) == (0, "")
        printed.append(out.strip())
    return printed


# --- the schema


def test_revision_8_is_upgraded_with_its_runs_and_counts(postgres_url, tmp_path):
    """From then on the triggers count."""
    config = at_revision_8(postgres_url, tmp_path)
    engine = make_engine(config)
    report = ensure_schema(engine, config)
    assert (report.outcome, report.revision, report.backup) == ("upgraded", HEAD_REVISION, None)
    assert ensure_schema(engine, config).outcome == "current"
    with writing(engine, "writing to") as connection:
        assert check_counts(connection) == []
        assert connection.execute(_count_of_runs).scalar_one() == 300
        upsert_runs(connection, [run(1)])
        connection.execute(text("DELETE FROM agent_runs WHERE agent_name = 'agent-1'"))
        assert check_counts(connection) == []
    engine.dispose()


@pytest.mark.durability
@pytest.mark.parametrize(("older", "outcome"), [(False, "created"), (True, "upgraded")])
def test_of_replicas_that_start_together_one_upgrades(postgres_url, tmp_path, older, outcome):
    """The others find it done; none fails."""
    if older:
        at_revision_8(postgres_url, tmp_path)
    children = [start_python(UPGRADE, tmp_path, postgres_url) for _ in range(4)]
    assert sorted(go_on_together(children)) == sorted([outcome, "current", "current", "current"])
    database = Database(tmp_path, database_url=postgres_url)
    assert database.rows("SELECT count(*) FROM agent_runs") == [(300 if older else 0,)]
    with database.reading() as connection:
        assert check_counts(connection) == []
    database.close()


@pytest.mark.parametrize(
    "script",
    [
        "CREATE TABLE customers (id INTEGER)",
        "CREATE TABLE agent_runs (run_id TEXT, agent_name TEXT, status TEXT)",
        "CREATE TABLE alembic_version (version_num TEXT); INSERT INTO alembic_version VALUES ('9999')",
    ],
)
def test_a_database_of_another_application_is_refused_untouched(postgres, tmp_path, script):
    """With what to do, and no table more than before."""
    name = postgres.make_database()
    postgres.server.execute(script, database=name)
    store = Store(quick_config(tmp_path, database_url=postgres.server.url(name)))
    with pytest.raises(SchemaError) as caught:
        store.open()
    store.close()
    assert "Nothing was changed" in caught.value.hint
    assert "TELEMETRY_DB_PATH" not in caught.value.hint
    tables = postgres.server.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", database=name)
    assert tables == [(1,)]


# --- permissions, and who may come in


@contextmanager
def role(server, name):
    """A user with a password who has been granted nothing."""
    server.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
    try:
        yield name
    finally:
        server.execute(f"DROP ROLE {name}")


def test_a_user_without_the_right_to_create_tables_gets_a_hint(postgres, tmp_path):
    """An administrator can fix it while the writer waits; nothing was made."""
    name = postgres.make_database()
    with role(postgres.server, "guest") as guest:
        url = postgres.server.url(name, user=guest)
        store = Store(quick_config(tmp_path, database_url=url, db_max_retries=0))
        with pytest.raises(StoreUnavailableError, match="permission denied") as caught:
            store.open()
        assert "docs/postgresql.md" in caught.value.hint
        postgres.server.execute(f"GRANT CREATE ON SCHEMA public TO {guest}", database=name)
        assert store.open().outcome == "created"
        assert store.write([run(1)]).outcomes == ("inserted",)
        store.close()
        postgres.server.execute(f"DROP OWNED BY {guest}", database=name)


def test_a_user_who_may_only_read_reads(postgres, postgres_template, tmp_path):
    """All rights that the documentation names for a reader; writing is refused with a reason."""
    name = postgres.make_database(postgres_template)
    with role(postgres.server, "reader") as reader:
        postgres.server.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {reader}", database=name)
        config = quick_config(tmp_path, database_url=postgres.server.url(name, user=reader), db_max_retries=0)
        engine = make_read_engine(config)
        with reading(engine, "reading") as connection:
            assert connection.execute(_count_of_runs).scalar_one() == 0
        engine.dispose()
        store = Store(config)
        with pytest.raises(StoreUnavailableError, match="permission denied"):
            store.write([run(1)])
        store.close()
        postgres.server.execute(f"DROP OWNED BY {reader}", database=name)


def test_a_user_who_owns_nothing_writes_with_the_documented_grants(postgres, postgres_template, tmp_path):
    """Packing included; only the sweeping is left to the server."""
    name = postgres.make_database(postgres_template)
    with role(postgres.server, "writer") as writer:
        for rights in ("SELECT, INSERT, UPDATE, DELETE ON ALL TABLES", "USAGE ON ALL SEQUENCES"):
            postgres.server.execute(f"GRANT {rights} IN SCHEMA public TO {writer}", database=name)
        store = Store(quick_config(tmp_path, database_url=postgres.server.url(name, user=writer), db_max_retries=0))
        assert store.open().outcome == "current"
        store.write([run(number) for number in range(RUNS_BETWEEN_PACKINGS + 1)], [link(1)])
        with store.reading() as connection:
            assert check_counts(connection) == []
            assert connection.execute(text("SELECT count(*) FROM run_counts")).scalar() == 1
        store.close()
        postgres.server.execute(f"DROP OWNED BY {writer}", database=name)


@pytest.mark.parametrize(
    ("change", "sign", "hint"),
    [
        ({"password": "wrong-and-secret"}, "authentication failed", "password"),
        ({"user": "stranger"}, "authentication failed", "user"),
        ({"database": "nowhere"}, "does not exist", "createdb"),
    ],
)
def test_a_refused_login_is_reported_without_the_password(postgres_server, tmp_path, change, sign, hint):
    """A setting can be fixed while records wait, so it is an error that may pass."""
    url = postgres_server.url(**{"database": "postgres", **change})
    store = Store(quick_config(tmp_path, database_url=url, db_max_retries=0))
    with pytest.raises(StoreUnavailableError, match=sign) as caught:
        store.open()
    shown = f"{caught.value} {caught.value.hint} {caught.value.__cause__!r} {store.name}"
    assert hint in caught.value.hint
    assert PASSWORD not in shown
    assert "wrong-and-secret" not in shown
    store.close()


# --- a server that goes away


def test_a_server_that_was_restarted_is_written_again(store, postgres):
    """By the store that was open before; what had been committed is there."""
    store.write([run(1)])
    postgres.server.stop()
    postgres.server.start()
    assert store.write([run(1), run(2)]).outcomes == ("duplicate", "inserted")


def test_a_server_that_is_down_may_come_back(postgresql_database, postgres):
    """Until then an error that says where it is looked for, and no password."""
    store = Store(postgresql_database.config.with_(db_max_retries=1))
    store.open()
    postgres.server.stop()
    try:
        with pytest.raises(StoreUnavailableError, match="refused") as caught:
            store.write([run(1)])
    finally:
        postgres.server.start()
    assert "reachable" in caught.value.hint
    assert str(postgres.server.port) in str(caught.value)
    assert PASSWORD not in f"{caught.value} {caught.value.hint} {caught.value.__cause__!r}"
    assert store.write([run(1)]).outcomes == ("inserted",)
    store.close()


def test_a_connection_lost_in_the_middle_is_tried_again(store, postgresql_database):
    """The transaction was rolled back as a whole, so the second attempt does all of it, once."""
    attempts = []

    def write_and_lose_the_connection_once(connection):
        attempts.append(upsert_runs(connection, [run(len(attempts) + 1), run(9)]))
        if len(attempts) == 1:
            connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    store.transact(write_and_lose_the_connection_once)
    assert attempts == [["inserted", "inserted"]] * 2
    assert sorted(row["run_id"] for row in postgresql_database.runs().values()) == ["run-2", "run-9"]
    with store.reading() as connection:
        assert check_counts(connection) == []


def test_a_text_too_long_for_an_index_is_refused_for_good(store, postgresql_database):
    """Trying again would not help, and its neighbours must not wait for it."""
    noise = random.Random(1).randbytes(20_000).hex()
    with pytest.raises(StorageError, match="index row") as caught:
        store.write([run(1), run(2, parent_run_id=noise)])
    assert not isinstance(caught.value, (StoreUnavailableError, SchemaError))
    assert postgresql_database.runs() == {}


# --- a dump


def test_a_restored_dump_is_the_same_database(store, postgresql_database, postgres, tmp_path):
    """Counts and triggers included; nothing has to be upgraded or repaired."""
    write_shuffled(store, 5, 1)
    dump, server = tmp_path / "telemetry.dump", postgres.server
    restored = postgres.make_database()
    server.run("pg_dump", "--format=custom", f"--file={dump}", postgresql_database.engine.url.database)
    server.run("pg_restore", "--no-owner", f"--dbname={restored}", str(dump))
    other = Store(quick_config(tmp_path, database_url=server.url(restored)))
    assert other.open().outcome == "current"
    again = Database(tmp_path, database_url=server.url(restored))
    assert again.runs() == postgresql_database.runs()
    other.write([run(900)])
    with other.reading() as connection:
        assert check_counts(connection) == []
        assert connection.execute(_count_of_runs).scalar_one() == len(again.runs()) > 10
    again.close()
    other.close()


def test_a_plan_made_while_the_table_was_small_is_not_kept(store):
    """Reads are planned each time, for the table as it is; of the many rows of a batch only the first is."""
    for start in range(0, 2000, 100):
        store.write([run(number) for number in range(start, start + 100)])
    kept = "SELECT statement, generic_plans, custom_plans FROM pg_prepared_statements"
    plans = store.transact(lambda connection: connection.execute(text(kept)).all())
    reads = [plan for plan in plans if plan.statement.startswith("SELECT") and "FROM agent_runs" in plan.statement]
    (insert,) = [plan for plan in plans if plan.statement.startswith("INSERT INTO agent_runs")]
    assert reads
    assert {plan.generic_plans for plan in reads} == {0}
    assert insert.generic_plans > 1000
    assert insert.custom_plans == 0


# --- many writers


@pytest.mark.durability
def test_writers_in_any_order_end_in_the_rows_of_the_plain_order(postgresql_database, tmp_path):
    """Three processes and three threads write the same states and links, each in its own way; no deadlock."""
    seed, url = 11, postgresql_database.config.database_url
    children = [start_python(WRITE, tmp_path, url, seed, order) for order in range(3)]
    stores = [Store(postgresql_database.config.with_(db_max_retries=0)) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        writers = [pool.submit(write_shuffled, store, seed, order) for order, store in enumerate(stores, start=10)]
        go_on_together(children)
        for writer in writers:
            writer.result(60)
    for store in stores:
        store.close()
    records, links = observations(seed)
    assert postgresql_database.runs() == expected_rows(records, links)
    with postgresql_database.reading() as connection:
        assert check_counts(connection) == []
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    assert postgresql_database.rows(deadlocks) == [(0,)]


@pytest.mark.parametrize("first", ["state", "link"])
def test_a_commit_associated_while_a_state_is_being_written_shows(postgresql_database, first):
    """Whichever transaction begins first, the other waits, and the row shows the commit."""
    acts = {
        "state": lambda connection: upsert_runs(connection, [run(1, status="success", updated=5)]),
        "link": lambda connection: link_commits(connection, [link(1, "1234567")]),
    }
    (second,) = set(acts) - {first}
    with postgresql_database.writing() as connection:
        upsert_runs(connection, [run(1)])
    begun = threading.Event()

    def write_second():
        with postgresql_database.writing() as connection:
            connection.execute(text("SET LOCAL application_name = 'second'"))
            begun.set()
            acts[second](connection)

    with ThreadPoolExecutor(1) as pool:
        with postgresql_database.writing() as connection:
            acts[first](connection)
            later = pool.submit(write_second)
            assert begun.wait(20)
            while not postgresql_database.rows("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"):
                assert not later.done()
        later.result(20)
    (row,) = postgresql_database.runs().values()
    assert (row["status"], row["git_commit_hash"]) == ("success", "1234567")
