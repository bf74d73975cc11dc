"""The kept counts are those of the runs, whoever writes, deletes, packs or reads at the same time."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import event, text
from storage_cases import SECOND, T0, at, event_id, run, start_python

from otel_agent_telemetry.storage.counts import (
    RUNS_BETWEEN_PACKINGS,
    CountDifference,
    check_counts,
    count_by,
    count_kinds,
    count_since,
    pack_counts,
    repair_counts,
)
from otel_agent_telemetry.storage.run_stats import run_stats
from otel_agent_telemetry.storage.runs import upsert_runs
from otel_agent_telemetry.storage.store import Store

KINDS = [("running", 0), ("success", 2), ("failed", 1)]

WRITE_THE_SAME = """
import random, sys
sys.path.insert(0, "tests/storage")
from storage_cases import quick_config, run
from otel_agent_telemetry.storage.store import Store
folder, url, seed = sys.argv[1:]
chance = random.Random(int(seed))
store = Store(quick_config(folder, database_url=url))
store.open()
print("ready", flush=True)
sys.stdin.readline()
for _ in range(40):
    states = [(n, s, u) for n in chance.sample(range(1, 60), 20) for s, u in [("running", 0), ("success", 2)]]
    store.write([run(n, status=s, updated=u, agent_name=f"agent-{chance.randrange(3)}") for n, s, u in states])
store.close()
"""
"""A process that writes states of 60 runs again and again, in an order of its own."""


def write(database, *records):
    with database.writing() as connection:
        upsert_runs(connection, records)


def differences(database):
    with database.reading() as connection:
        return check_counts(connection)


def lines(database, table="run_counts"):
    return database.rows(f"SELECT count(*) FROM {table}")[0][0]


def some_states(chance, many):
    """States of few runs in several kinds, so that writers meet."""
    for _ in range(many):
        number, (status, updated) = chance.randrange(1, 40), chance.choice(KINDS)
        yield run(number, status=status, updated=updated, agent_name=f"agent-{chance.randrange(3)}")


def test_counts_follow_inserts_changes_deletions_and_replays(database):
    """Of every kind and hour, by the check that reads the runs."""
    chance = random.Random(7)
    states = list(some_states(chance, 300))
    for start in range(0, 300, 50):
        write(database, *states[start : start + 50])
    write(database, *states)
    write(database, run(1, status="success", updated=9, created_at=at(90_000)))
    database.execute("DELETE FROM agent_runs WHERE agent_name = 'agent-1'")
    assert differences(database) == []
    write(database, *states)
    assert differences(database) == []
    with database.reading() as connection:
        total = sum(count_by(connection, "status").values())
    assert [(total,)] == database.rows("SELECT count(*) FROM agent_runs")


def test_kinds_are_counted_each(database):
    """Kinds without runs are left out."""
    write(database, run(1), run(2), run(3, status="failed", agent_name="b"), run(4, job_type="x"))
    write(database, run(4, job_type="x", status="success", updated=1))
    with database.reading() as connection:
        assert count_kinds(connection) == {
            ("agent", "job", "running"): 2,
            ("agent", "x", "success"): 1,
            ("b", "job", "failed"): 1,
        }


def test_counts_since_an_instant_are_exact_at_any_instant(database):
    """On the hour, in the middle of one, before everything and after it."""
    moments = [0, 1, 1799, 3599.5, 3600, 3600.5, 7199, 7200, 90_000]
    hour = T0 - T0 % (3600 * SECOND)
    shift = (hour - T0) / SECOND
    write(database, *(run(n, created_at=at(shift + moment)) for n, moment in enumerate(moments, start=1)))
    with database.reading() as connection:
        for since in (-1, 0, 1, 1800, 3599.5, 3600, 5000, 7200, 80_000, 90_000, 10**6):
            expected = sum(moment > since for moment in moments)
            assert count_since(connection, at(shift + since)) == expected, since


def test_the_check_names_what_differs_and_the_repair_puts_it_right(database):
    """Too many, too few, a kind without runs and an hour that is missing."""
    write(database, run(1), run(2), run(3, status="failed"))
    database.execute("UPDATE run_counts SET runs = runs + 4 WHERE status = 'failed'")
    database.execute("INSERT INTO run_counts VALUES ('ghost', 'job', 'success', 2)")
    database.execute("DELETE FROM run_hours")
    expected = [
        CountDifference("run_counts", ("agent", "job", "failed"), 5, 1),
        CountDifference("run_counts", ("ghost", "job", "success"), 2, 0),
        CountDifference("run_hours", (at(1)[:13],), 0, 3),
    ]
    assert differences(database) == expected
    with database.writing() as connection:
        assert repair_counts(connection) == expected
    assert differences(database) == []
    write(database, run(1, status="success", updated=5))
    database.execute("DELETE FROM agent_runs WHERE status = 'failed'")
    assert differences(database) == []


def test_a_repair_that_is_rolled_back_changes_nothing(database):
    """It is one transaction."""
    write(database, run(1))
    database.execute("DELETE FROM run_hours")

    def repair_and_fail():
        with database.writing() as connection:
            assert repair_counts(connection)
            raise LookupError

    with pytest.raises(LookupError):
        repair_and_fail()
    assert len(differences(database)) == 1


def test_counting_by_kind_reads_no_run(database):
    """Nor does counting since an instant read more than those of its first hour, by their index."""
    statements = []
    with database.reading() as connection:
        is_server = connection.dialect.name == "postgresql"
        if is_server:
            connection.execute(text("SET LOCAL enable_seqscan = off"))
        first_hour = "SELECT count(*) FROM agent_runs WHERE created_at > :since AND created_at <= :end"
        explain = "EXPLAIN" if is_server else "EXPLAIN QUERY PLAN"
        found = connection.execute(text(f"{explain} {first_hour}"), {"since": at(0), "end": at(1)})
        assert "ix_agent_runs_created_at" in " ".join(row[-1] for row in found)
        event.listen(connection, "before_cursor_execute", lambda *call: statements.append(call[2]))
        count_by(connection, "agent_name")
        count_since(connection, at(0))
    reads = [statement for statement in statements if "agent_runs" in statement]
    assert len(statements) == 3
    assert len(reads) == 1
    assert "created_at" in reads[0]


def test_packing_leaves_one_line_for_each_kind_and_hour(postgresql_database):
    """And none for deleted runs; the numbers stay."""
    write(postgresql_database, *(run(number) for number in range(1, 30)))
    write(postgresql_database, *(run(number, status="success", updated=1) for number in range(1, 30)))
    write(postgresql_database, run(50, status="failed"))
    postgresql_database.execute("DELETE FROM agent_runs WHERE status = 'failed'")
    assert lines(postgresql_database) > 80
    with postgresql_database.writing() as connection:
        pack_counts(connection)
    assert postgresql_database.rows("SELECT status, runs FROM run_counts") == [("success", 29)]
    assert lines(postgresql_database, "run_hours") == 1
    assert differences(postgresql_database) == []


def test_writing_packs_now_and_then(postgresql_database):
    """Whatever door is used: neither lines nor the pages that deleted ones lay in pile up."""
    store = Store(postgresql_database.config)
    store.open()
    batch = RUNS_BETWEEN_PACKINGS // 4
    most, pages = [], []
    for start in range(0, 24 * batch, batch):
        records = [run(number) for number in range(start, start + batch)]
        store.transact(lambda connection, records=records: upsert_runs(connection, records))
        most.append(lines(postgresql_database))
        pages.append(postgresql_database.rows("SELECT pg_relation_size('run_counts') / 8192")[0][0])
    store.close()
    assert max(most) <= RUNS_BETWEEN_PACKINGS + batch
    assert max(pages[12:]) <= 2 * max(pages[:12])
    assert differences(postgresql_database) == []


def test_opening_packs(postgresql_database):
    """So that many short processes leave no more lines than a long one."""
    write(postgresql_database, *(run(number) for number in range(1, 200)))
    store = Store(postgresql_database.config)
    store.open()
    store.close()
    assert lines(postgresql_database) == 1


def test_of_two_that_pack_at_once_one_goes_on(postgresql_database):
    """Without waiting, and without counting anything twice."""
    write(postgresql_database, *(run(number) for number in range(1, 20)))
    with postgresql_database.writing() as first, postgresql_database.writing() as second:
        pack_counts(first)
        pack_counts(second)
        upsert_runs(second, [run(99)])
    assert postgresql_database.rows("SELECT sum(runs), count(*) FROM run_counts") == [(20, 2)]
    assert differences(postgresql_database) == []


def test_readers_see_exact_numbers_while_others_write_pack_delete_and_repair(postgresql_database):
    """At every instant, from real connections."""
    stop, wrong = threading.Event(), []

    def writer(seed):
        chance = random.Random(seed)
        for _ in range(60):
            write(postgresql_database, *some_states(chance, 20))
            postgresql_database.execute("DELETE FROM agent_runs WHERE event_id = :one", one=event_id(seed))

    def keep_doing(act):
        while not stop.is_set():
            with postgresql_database.writing() as connection:
                act(connection)

    def reader():
        while not stop.is_set():
            with postgresql_database.reading() as connection:
                stats = run_stats(connection, T0)
                counted = connection.execute(text("SELECT count(*) FROM agent_runs")).scalar()
                found = check_counts(connection)
            if found or {stats["total_runs"], sum(stats["statuses"].values()), counted} != {counted}:
                wrong.append((found, stats, counted))

    with ThreadPoolExecutor(8) as pool:
        others = [pool.submit(keep_doing, act) for act in (pack_counts, pack_counts, repair_counts)]
        others.append(pool.submit(reader))
        writers = [pool.submit(writer, seed) for seed in range(1, 4)]
        for done in writers:
            done.result(60)
        stop.set()
        for done in others:
            done.result(60)
    assert wrong == []
    assert differences(postgresql_database) == []


@pytest.mark.durability
def test_processes_that_write_the_same_runs_count_them_once(postgresql_database, tmp_path):
    """Four replicas with the same states in other orders, one of them killed in the middle."""
    url = postgresql_database.config.database_url
    children = [start_python(WRITE_THE_SAME, tmp_path, url, seed) for seed in range(4)]
    for child in children:
        assert child.stdout.readline() == "ready\n", child.stderr.read()
    for child in children:
        child.stdin.write("\n")
        child.stdin.flush()
    while lines(postgresql_database) < 100:
        pass
    children[0].kill()
    for child in children:
        _, err = child.communicate(timeout=60)
        assert err == ""
    assert [child.returncode for child in children[1:]] == [0, 0, 0]
    assert differences(postgresql_database) == []
    assert lines(postgresql_database) > 0
