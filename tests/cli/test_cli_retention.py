"""`retention`: what is old goes with all that belongs to it, and nothing else does."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import time
from contextlib import closing

import pytest
from command import agent_telemetry, record_runs, start_command
from on_disk import ROOT, Process, eventually, nobody_delivers
from stored import aged, ago, belong, integrity, query, rows_by_table, run_ids, store, wrong_counts

from otel_agent_telemetry import TelemetryClient
from otel_agent_telemetry.clock import day_of
from otel_agent_telemetry.journal import day_of_file, journal_files, journal_path
from otel_agent_telemetry.model import CommitLink
from otel_agent_telemetry.storage.writer_lock import WriterLock

DAY_NS = 86_400 * 10**9
WRITE = """
import sys
from pathlib import Path
from on_disk import record
from otel_agent_telemetry import TelemetryConfig
from otel_agent_telemetry.storage.store import Store
config = TelemetryConfig.from_env().with_(base_dir=Path(sys.argv[1]))
store = Store(config.with_(db_synchronous="OFF", db_max_retries=0))
store.open()
print("open", flush=True)
for number in range(1_000_000, 1_000_000 + int(sys.argv[2])):
    store.write([record(number, created_at=sys.argv[3], status="success")])
    print(number, flush=True)
"""
"""A writer that prints what it has committed and does not retry on a locked database."""
WITH_TESTS = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}


def link(run_id, sha, days):
    return CommitLink(run_id=run_id, commit_hash=sha, commit_source="llm", associated_at=ago(days))


def fill(config):
    """Three old runs with belongings and commits, two young ones, and what found no run."""
    runs = [aged(n, 40 + n) for n in (1, 2, 3)] + [aged(n, 1) for n in (4, 5)]
    shared = aged(6, 1, run_id="run-3")
    links = [link("run-1", "aaaaaaa", 40), link("run-3", "bbbbbbb", 40), link("run-4", "ccccccc", 40)]
    lone = [link("nobody", "ddddddd", 40), link("not-yet", "eeeeeee", 1)]
    store(config, *runs, shared, links=[*links, *lone])
    belong(config, *(run.event_id for run in runs), days=40)
    belong(config, "", days=40)
    belong(config, "", days=1)


def test_what_is_old_goes_with_all_that_belongs_to_it(either):
    """Events, steps, roll-ups, commits that no other run has, orphans; young ones stay; counts stay exact."""
    config, env = either
    fill(config)
    result = agent_telemetry(config, "retention", "--days", "30", "--json", env=env)
    assert result.code == 0, result.err
    summary = result.json["database"]
    assert summary == {"runs": 3, "events": 8, "spans": 4, "rollups": 3, "commits": 2, "still_running": 0}
    assert run_ids(config) == ["run-3", "run-4", "run-5"]
    assert rows_by_table(config) == {
        "agent_runs": 3, "run_events": 6, "run_spans": 3, "run_rollups": 2, "commits": 3,
    }  # fmt: skip
    kept = {sha for (sha,) in query(config, "SELECT commit_hash FROM commits")}
    assert kept == {"bbbbbbb", "ccccccc", "eeeeeee"}
    assert wrong_counts(config) == []
    stats = agent_telemetry(config, "stats", "--json", "--no-sync", env=env).json
    assert stats["total_runs"] == sum(stats["agents"].values()) == 3


def test_a_dry_run_reports_the_same_and_changes_nothing(either):
    """Its numbers are those of the run that follows; twice is as once."""
    config, env = either
    fill(config)
    before = rows_by_table(config)
    expected = agent_telemetry(config, "retention", "--days", "30", "--dry-run", "--json", env=env).json
    assert rows_by_table(config) == before
    done = agent_telemetry(config, "retention", "--days", "30", "--json", env=env).json
    assert done["database"] == expected["database"]
    again = agent_telemetry(config, "retention", "--days", "30", "--json", env=env).json
    assert again["database"] == dict.fromkeys(done["database"], 0)


def test_open_runs_and_those_that_ended_lately_stay(either):
    """A run that ran for weeks is not deleted the moment it ends; one that is open is named."""
    config, env = either
    store(config, aged(1, 90, status="running"), aged(2, 90, ended=1), aged(3, 90, ended=80), aged(4, 29.9))
    result = agent_telemetry(config, "retention", env=env)
    assert run_ids(config) == ["run-1", "run-2", "run-4"]
    assert "1 runs deleted" in result.out
    assert "1 older runs are still running" in result.err
    assert "close-stale" in result.err


def test_the_days_default_to_the_setting(config):
    """TELEMETRY_RETENTION_DAYS, then --days."""
    store(config, aged(1, 10), aged(2, 3))
    agent_telemetry(config, "retention", env={"TELEMETRY_RETENTION_DAYS": "7"})
    assert run_ids(config) == ["run-2"]
    agent_telemetry(config, "retention", "--days", "1", env={"TELEMETRY_RETENTION_DAYS": "7"})
    assert run_ids(config) == []


def test_events_and_steps_may_go_before_their_run(either):
    """By their own age, once their run has ended; those of a run that never came go with the runs of that age."""
    config, env = either
    runs = [aged(1, 20), aged(2, 20, status="running"), aged(3, 2)]
    store(config, *runs)
    belong(config, *(run.event_id for run in runs[:2]), days=20)
    belong(config, runs[2].event_id, days=2)
    belong(config, "00000000-0000-4000-8000-00000000dead", days=40)
    call = ("retention", "--days", "30", "--parts-days", "7", "--json")
    expected = agent_telemetry(config, *call, "--dry-run", env=env).json
    done = agent_telemetry(config, *call, env=env).json
    assert done["database"] == expected["database"]
    assert (done["database"]["runs"], done["database"]["events"], done["database"]["spans"]) == (0, 4, 2)
    left = {event_id for (event_id,) in query(config, "SELECT DISTINCT event_id FROM run_events")}
    assert left == {runs[1].event_id, runs[2].event_id}
    assert run_ids(config) == ["run-1", "run-2", "run-3"]


def test_journal_and_refused_records_have_a_size(config):
    """The oldest files go, however young; never today's, nor yesterday's journal."""
    folder = config.buffer_dir / "rejected"
    for days in range(5):
        day = day_of(time.time_ns() - days * DAY_NS)
        for path in (journal_path(config.ndjson_dir, day), folder / f"{day}.jsonl"):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.write_bytes(b"x" * 1000 + b"\n")
    env = {"TELEMETRY_JOURNAL_MAX_BYTES": "2500", "TELEMETRY_REJECTED_MAX_BYTES": "2500"}
    result = agent_telemetry(config, "retention", "--journal", "--rejected", "--json", env=env)
    assert [result.json[name]["files"] for name in ("journal", "rejected")] == [1, 2]
    assert len(journal_files(config.ndjson_dir)) == 4
    assert len(list(folder.iterdir())) == 3


def test_many_batches_end_as_one(config):
    """Runs of the same instant on both sides of a batch's end, too."""
    instant = ago(50)
    same = {"created_at": instant, "start_time": instant, "end_time": instant, "updated_at": instant}
    store(config, *(aged(n, 50, **same) for n in range(1, 1002)), aged(2000, 1))
    result = agent_telemetry(config, "retention", "--json").json
    assert result["database"]["runs"] == 1001
    assert run_ids(config) == ["run-2000"]
    assert wrong_counts(config) == []


# --- beside others


def test_a_writer_goes_on_meanwhile(either):
    """Another process writes without pause and without a second chance: none of its writes fails or is lost."""
    config, env = either
    store(config, *(aged(n, 40) for n in range(1, 3001)))
    with Process(WRITE, config.base_dir, 400, ago(0), env={**WITH_TESTS, **env}) as writer:
        assert writer.line() == "open"
        result = agent_telemetry(config, "retention", "--json", env=env)
        status, out, err = writer.end(within_s=60)
    assert status == 0, err
    assert result.json["database"]["runs"] == 3000
    assert len(run_ids(config)) == len(out.split()) == 400
    assert wrong_counts(config) == []


def test_a_service_does_not_keep_it_from_working(config):
    """It needs SQLite's lock for moments, not the service's."""
    store(config, aged(1, 40))
    lock = WriterLock(config.db_path)
    assert lock.try_acquire("http://127.0.0.1:8765")
    result = agent_telemetry(config, "retention")
    lock.release()
    assert result.code == 0
    assert run_ids(config) == []


def test_killed_at_random_it_leaves_whole_runs(either):
    """Killed again and again: sound, exact, no belonging without its run; the last one ends it."""
    config, env = either
    runs = [aged(n, 40) for n in range(1, 1501)]
    store(config, *runs, aged(5000, 1))
    belong(config, *(run.event_id for run in runs[::5]), days=40)
    dice, deaths = random.Random(int(os.environ.get("DURABILITY_SEED", "7"))), 0
    for _ in range(3):
        process, before = start_command(config, "retention", env=env), number_of_runs(config)
        eventually(lambda: process.poll() is not None or number_of_runs(config) != before)  # noqa: B023
        time.sleep(dice.random() * 0.05)  # the random point at which it dies
        process.kill()
        process.communicate()
        deaths += process.returncode == -9
        assert wrong_counts(config) == []
        for table in ("run_events", "run_spans", "run_rollups"):
            lost = f"SELECT count(*) FROM {table} WHERE event_id NOT IN (SELECT event_id FROM agent_runs)"
            assert query(config, lost) == [(0,)]
        assert env or integrity(config.db_path) == "ok"
    assert deaths
    assert agent_telemetry(config, "retention", env=env).code == 0
    assert run_ids(config) == ["run-5000"]
    assert rows_by_table(config)["run_events"] == 0


def number_of_runs(config):
    return query(config, "SELECT count(*) FROM agent_runs")[0][0]


# --- vacuum


def test_vacuum_gives_the_room_back(config):
    """Without it the file keeps its size, and a note reports it."""
    store(config, *(aged(n, 40, error_details="x" * 2000) for n in range(1, 301)))
    size = config.db_path.stat().st_size
    result = agent_telemetry(config, "retention")
    assert "--vacuum" in result.err
    assert config.db_path.stat().st_size == size
    summary = agent_telemetry(config, "retention", "--vacuum", "--json").json["vacuum"]
    assert summary["bytes_before"] == size
    assert summary["bytes_after"] == config.db_path.stat().st_size < size / 2
    assert integrity(config.db_path) == "ok"


def test_vacuum_refuses_while_a_service_writes(config):
    """Before anything is deleted; the error names the service."""
    store(config, aged(1, 40))
    lock = WriterLock(config.db_path)
    assert lock.try_acquire("http://127.0.0.1:8765")
    result = agent_telemetry(config, "retention", "--vacuum")
    lock.release()
    assert result.code == 4
    assert f"http://127.0.0.1:8765 (process {os.getpid()}" in result.err
    assert run_ids(config) == ["run-1"]


def test_vacuum_is_for_sqlite(config, postgres_url):
    """PostgreSQL does it by itself; the password is not shown."""
    result = agent_telemetry(config, "retention", "--vacuum", env={"TELEMETRY_DATABASE_URL": postgres_url})
    assert result.code == 2
    assert "autovacuum" in result.err
    assert "not-to-be-shown" not in result.err


# --- the journal


def journal(config, *days):
    config.ndjson_dir.mkdir(parents=True, exist_ok=True)
    for number in days:
        name = day_of(time.time_ns() - number * 86_400 * 10**9)
        journal_path(config.ndjson_dir, name).write_bytes(b"{}\n")


def ages(config):
    today = time.time_ns()
    names = {day_of(today - n * 86_400 * 10**9): n for n in range(100)}
    return sorted(names[day_of_file(path)] for path in journal_files(config.ndjson_dir))


def test_old_day_files_go_only_when_asked(config):
    """Compressed ones too; a dry run leaves them, and strangers stay."""
    store(config)
    journal(config, 0, 1, 29, 31, 60)
    last = journal_files(config.ndjson_dir)[0]
    last.rename(last.with_name(f"{last.name}.gz"))
    other = config.ndjson_dir / "events_20200101.ndjson.bak"
    other.write_bytes(b"")
    agent_telemetry(config, "retention")
    expected = agent_telemetry(config, "retention", "--journal", "--dry-run", "--json").json["journal"]
    assert ages(config) == [0, 1, 29, 31, 60]
    assert agent_telemetry(config, "retention", "--journal", "--json").json["journal"] == expected
    assert expected == {"files": 2, "bytes": 6, "held_back": 0}
    assert ages(config) == [0, 1, 29]
    assert other.exists()


def test_today_and_yesterday_stay_whatever_is_asked(config):
    """A process may be writing them."""
    journal(config, 0, 1, 2, 3)
    result = agent_telemetry(config, "retention", "--days", "1", "--journal")
    assert ages(config) == [0, 1]
    assert "No runs yet" in result.err


def test_days_that_the_buffer_may_need_stay(config):
    """A record that waits there since a day holds that day and all later ones back."""
    with nobody_delivers(config):
        client = TelemetryClient(config)
        client.end_run(client.start_run("agent", "job", run_id="waits"))
        client.close()
        for segment in config.buffer_dir.glob("*.jsonl"):
            today = ago(0)[:10].encode()
            segment.write_bytes(segment.read_bytes().replace(today, ago(40)[:10].encode()))
        for path in journal_files(config.ndjson_dir):
            path.unlink()
        journal(config, 0, 35, 39, 41, 50)
        result = agent_telemetry(config, "retention", "--journal", "--json").json
    assert ages(config) == [0, 35, 39]
    assert result["journal"]["held_back"] == 2


def test_verify_is_content_afterwards(config):
    """Lines of a writer on a deleted day do not count as missing."""
    record_runs(config, 3)
    (today,) = journal_files(config.ndjson_dir)
    old = ago(40)[:10].replace("-", "").encode()
    lines = [
        line.replace(day_of(time.time_ns()).encode() + b"T", old + b"T")
        for line in today.read_bytes().splitlines(keepends=True)
    ]
    today.write_bytes(b"".join(lines[4:]))
    journal_path(config.ndjson_dir, old.decode()).write_bytes(b"".join(lines[:4]))
    (config.buffer_dir / "health.json").unlink()  # it knows the writer by its real name
    assert agent_telemetry(config, "retention", "--journal", "--json").json["journal"]["files"] == 1
    result = agent_telemetry(config, "verify", "--json")
    assert (result.code, result.json["missing_lines"]) == (0, 0), result.out


# --- what it refuses


def test_without_a_database_nothing_is_made(config):
    """A note on stderr, and status 0."""
    result = agent_telemetry(config, "retention")
    assert result.code == 0
    assert "No runs yet" in result.err
    assert not config.db_path.exists()


def test_databases_that_are_not_ours_to_touch_stay_as_they_are(config):
    """Another application's, one of an older schema, and garbage."""
    config.db_path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(config.db_path)) as connection:
        connection.execute("CREATE TABLE agent_runs (mine TEXT)")
        connection.commit()
    content = config.db_path.read_bytes()
    assert agent_telemetry(config, "retention").code == 4
    assert config.db_path.read_bytes() == content
    config.db_path.write_bytes(b"not a database at all, but long enough to be looked at twice")
    assert agent_telemetry(config, "retention", "--vacuum").code == 4
    assert config.db_path.read_bytes().startswith(b"not a database")


@pytest.mark.parametrize("days", ["0", "-1", "x", "36501"])
def test_days_that_mean_nothing_are_refused(config, days):
    """An invalid number of days deletes nothing."""
    store(config, aged(1, 40))
    assert agent_telemetry(config, "retention", "--days", days).code == 2
    assert run_ids(config) == ["run-1"]


def test_a_locked_database_is_unavailable(config):
    """The error names the lock, and nothing is deleted."""
    store(config, aged(1, 40))
    with closing(sqlite3.connect(config.db_path)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        env = {"TELEMETRY_DB_BUSY_TIMEOUT_MS": "50", "TELEMETRY_DB_MAX_RETRIES": "0"}
        result = agent_telemetry(config, "retention", env=env)
    assert result.code == 4
    assert "is locked" in result.err
    assert run_ids(config) == ["run-1"]


def test_a_database_that_cannot_be_written_can_still_be_looked_at(config, small_disk):
    """On a read-only disk, commands that write report it; reading and copying work."""
    remount(small_disk, "size=16m")
    store(config.with_(db_path=small_disk / "db.sqlite"), aged(1, 40))
    env = {"TELEMETRY_DB_PATH": str(small_disk / "db.sqlite")}
    remount(small_disk, "ro")
    backup = agent_telemetry(config, "backup", "--json", env=env)
    assert backup.json["runs"] == 1
    assert agent_telemetry(config, "audit", "--json", env=env).json["runs"]["rows"]["agent_runs"] == 1
    assert agent_telemetry(config, "retention", "--dry-run", "--json", env=env).json["database"]["runs"] == 1
    for command in (["retention"], ["retention", "--vacuum"], ["restore", backup.json["path"]]):
        result = agent_telemetry(config, *command, env={**env, "TELEMETRY_DB_MAX_RETRIES": "0"})
        assert result.code == 4
        assert "read" in result.err.lower()
    assert [path.name for path in small_disk.iterdir()] == ["db.sqlite"]


def remount(place, options):
    subprocess.run(["mount", "-o", f"remount,{options}", place], check=True)


# --- captured entries


def test_old_rotated_captures_are_deleted_when_asked(config):
    """Files whose last entry is older than the cutoff; never the file in use, nor what was set aside."""
    folder = config.capture_file.parent
    folder.mkdir(parents=True)
    stamp = ago(40).replace("-", "").replace(":", "")[:22] + "Z"
    recent = ago(5).replace("-", "").replace(":", "")[:22] + "Z"
    names = [
        *("telemetry.json", f"telemetry.{stamp}.json", f"telemetry.{recent}.json"),
        *(f"telemetry.{stamp}.json.set-aside", "telemetry.old.json"),
    ]
    for name in names:
        (folder / name).write_text("[]")
    expected = agent_telemetry(config, "retention", "--captures", "--dry-run", "--json").json["captures"]
    assert expected == {"files": 1, "bytes": 2, "held_back": 0}
    assert len(list(folder.iterdir())) == 5
    assert "captures  1 rotated files deleted" in agent_telemetry(config, "retention", "--captures").out
    assert sorted(path.name for path in folder.iterdir()) == sorted(set(names) - {f"telemetry.{stamp}.json"})
