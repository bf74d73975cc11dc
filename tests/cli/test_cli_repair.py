"""`init-db`, `verify`, `replay` and `close-stale`: finding what is missing or outdated, and repairing it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from command import OPEN_A_RUN, agent_telemetry, record_runs
from on_disk import Process, eventually, nobody_delivers, record, rows_of

from otel_agent_telemetry import TelemetryClient
from otel_agent_telemetry.buffer.health import live_counters
from otel_agent_telemetry.journal import journal_files, journal_path
from otel_agent_telemetry.storage.store import Store
from otel_agent_telemetry.storage.writer_lock import WriterLock
from otel_agent_telemetry.wire import encode_line


def journal_of(config):
    (path,) = journal_files(config.ndjson_dir)
    return path


def edit(path, change):
    """Rewrite a journal with its lines changed by `change`."""
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))


def execute(config, sql):
    with closing(sqlite3.connect(config.db_path)) as connection:
        connection.execute(sql)
        connection.commit()


def store(config, *records):
    opened = Store(config)
    opened.open()
    opened.write(records)
    opened.close()


# --- init-db


def test_init_db_creates_and_then_changes_nothing(config):
    """The first call reports a new database, the second that nothing changed."""
    assert "Created" in agent_telemetry(config, "init-db").out
    before = config.db_path.read_bytes()
    again = agent_telemetry(config, "init-db")
    assert again.code == 0
    assert "nothing changed" in again.out
    assert config.db_path.read_bytes() == before


def test_init_db_upgrades_version_7_and_names_the_backup(config):
    """Reads refuse the old schema and name `init-db`, which upgrades it and keeps a backup."""
    config.db_path.parent.mkdir(parents=True)
    columns = (
        "event_id TEXT, run_id TEXT, agent_name TEXT, job_type TEXT, status TEXT, created_at TEXT, start_time TEXT"
    )
    execute(config, f"CREATE TABLE agent_runs ({columns})")
    execute(config, "INSERT INTO agent_runs VALUES ('e', 'old', 'a', 'j', 'failure', '2025-01-01', '2025-01-01')")
    refused = agent_telemetry(config, "runs")
    assert refused.code == 4
    assert "init-db" in refused.err
    result = agent_telemetry(config, "init-db")
    assert result.code == 0
    backup = next(line.rpartition(": ")[2] for line in result.out.splitlines() if line.startswith("Backup"))
    assert Path(backup).exists()
    (run,) = agent_telemetry(config, "runs", "--json").json
    assert (run["run_id"], run["status"]) == ("old", "failed")


# --- verify


def test_verify_of_a_whole_record_is_ok(config):
    """Nothing is missing: status 0, and the numbers agree."""
    record_runs(config)
    result = agent_telemetry(config, "verify", "--json")
    assert result.code == 0
    report = result.json
    assert report["ok"]
    assert report["journalled"] == report["stored"] == 3
    assert report["lines"] == 9


def test_verify_of_nothing_is_ok(config):
    """An empty base folder misses nothing and stays empty."""
    assert agent_telemetry(config, "verify").code == 0
    assert not config.base_dir.exists()


@pytest.mark.parametrize("cut", [0, 4, 7])
def test_verify_finds_a_line_that_was_cut_out(config, cut):
    """A writer's first line or any other: its number is named."""
    client = TelemetryClient(config)
    for number in range(3):
        run_id = client.start_run("agent", "job", run_id=f"run-{number}")
        client.log_event(run_id, "tick", {})
        client.end_run(run_id)
    assert client.flush()
    client.close()
    edit(journal_of(config), lambda lines: lines[:cut] + lines[cut + 1 :])
    result = agent_telemetry(config, "verify", "--json")
    assert result.code == 1
    assert result.json["missing_lines"] == 1
    (gap,) = result.json["gaps"]
    assert gap["first"] == gap["last"] == cut + 1
    assert f"number {cut + 1}" in agent_telemetry(config, "verify").out


def test_verify_finds_that_the_last_line_of_a_live_writer_is_missing(config):
    """A writer's lock file has the number of lines that it issued."""
    client = TelemetryClient(config)
    for number in range(3):
        client.end_run(client.start_run("agent", "job", run_id=f"run-{number}"))
    (writer,) = eventually(lambda: [w for w, note in live_counters(config.buffer_dir).items() if note.get("counters")])
    eventually(lambda: live_counters(config.buffer_dir)[writer]["counters"]["last_seq"] == 6)
    assert client.flush()
    edit(journal_of(config), lambda lines: lines[:-1])
    result = agent_telemetry(config, "verify", "--json")
    assert result.code == 1
    assert result.json["gaps"] == [{"writer": writer, "first": 6, "last": 6}]


def test_verify_notes_what_the_database_alone_knows_the_end_of(config):
    """A journal that lost its last line after its writer had ended: the database is ahead, which is a note."""
    record_runs(config, 1)
    edit(journal_of(config), lambda lines: lines[:-1])
    result = agent_telemetry(config, "verify")
    assert "1 runs have a later state" in result.out


def test_verify_finds_torn_lines(config):
    """A line cut in half is torn, and its number is missing."""
    record_runs(config)
    path = journal_of(config)
    edit(path, lambda lines: [*lines[:3], lines[3][: len(lines[3]) // 2], *lines[4:]])
    result = agent_telemetry(config, "verify", "--json")
    assert result.code == 1
    assert result.json["torn"] == {path.name: 1}
    assert result.json["missing_lines"] == 1
    assert agent_telemetry(config, "doctor", "--json").code == 0
    assert any(
        finding["about"] == "journal" and finding["level"] == "warn"
        for finding in agent_telemetry(config, "doctor", "--json").json["findings"]
    )


def test_verify_finds_runs_that_are_missing_or_behind_in_the_database(config):
    """A deleted row and an outdated row are reported; replay repairs both."""
    record_runs(config)
    execute(config, "DELETE FROM agent_runs WHERE run_id = 'run-0'")
    execute(config, "UPDATE agent_runs SET status = 'running', updated_at = created_at WHERE run_id = 'run-1'")
    result = agent_telemetry(config, "verify", "--json")
    assert result.code == 1
    assert [run["run_id"] for run in result.json["missing"]["runs"]] == ["run-0"]
    assert [run["run_id"] for run in result.json["older"]["runs"]] == ["run-1"]
    assert agent_telemetry(config, "replay").code == 0
    assert agent_telemetry(config, "verify").code == 0


def test_verify_does_not_miss_what_waits_in_the_buffer(config):
    """Journalled and not stored, but on its way: no problem."""
    with nobody_delivers(config), Process(OPEN_A_RUN, config.base_dir, "waits") as process:
        process.line()
        result = agent_telemetry(config, "verify", "--json")
        process.kill()
    assert result.code == 0
    assert (result.json["waiting"], result.json["stored"]) == (1, 0)


def test_verify_names_refused_runs_as_such(config):
    """Runs in rejected/ are missing, with an explanation of their own."""
    record_runs(config, 1)
    bad = {"event_id": "no uuid", "run_id": "poison", "updated_at": "2026-01-01", "status": "success"}
    with journal_of(config).open("ab") as file:
        file.write(encode_line("run", bad))
    assert agent_telemetry(config, "verify", "--json").json["missing"]["count"] == 1
    from otel_agent_telemetry.delivery.rejected import store_rejected

    store_rejected(config.buffer_dir, {"record_type": "run", **bad}, target="t", reason="r", now_ns=0)
    report = agent_telemetry(config, "verify", "--json")
    assert report.code == 1
    assert (report.json["missing"]["count"], report.json["refused"]["count"]) == (0, 1)


def test_verify_reports_stored_runs_without_a_journal_as_a_note(config):
    """They may come from another host: no problem."""
    record_runs(config, 1)
    store(config, record(7, status="success"))
    result = agent_telemetry(config, "verify", "--json")
    assert result.code == 0
    assert result.json["unjournalled"]["count"] == 1


def test_verify_does_not_miss_days_that_were_taken_away(config):
    """A writer that began on a day whose file is archived has no gap for it."""
    config.ndjson_dir.mkdir(parents=True)
    line = encode_line("event", {"writer": "20260101T235959-1-00000001", "seq": 5, "run_id": "r", "event_type": "e"})
    journal_path(config.ndjson_dir, "20260102").write_bytes(line)
    assert agent_telemetry(config, "verify").code == 0
    journal_path(config.ndjson_dir, "20260101").write_bytes(b"")
    assert agent_telemetry(config, "verify", "--json").json["missing_lines"] == 4


def test_verify_while_others_write_finds_nothing_missing(config):
    """A busy writer of several threads is no gap and no missing run."""
    code = """
import sys, threading
from otel_agent_telemetry import TelemetryClient, TelemetryConfig
client = TelemetryClient(TelemetryConfig(base_dir=sys.argv[1], discover_service=False, db_synchronous="OFF"))
stop = threading.Event()
def work(name):
    number = 0
    while not stop.is_set():
        number += 1
        with client.track_run("agent", "job", run_id=f"{name}-{number}") as run:
            run.log_event("tick", {"n": number})
threads = [threading.Thread(target=work, args=(f"t{n}",)) for n in range(3)]
[thread.start() for thread in threads]
print("busy", flush=True)
sys.stdin.readline()
stop.set()
[thread.join() for thread in threads]
"""
    with Process(code, config.base_dir) as process:
        assert process.line() == "busy"
        for _ in range(5):
            result = agent_telemetry(config, "verify")
            assert result.code == 0, result.out + result.err
        process.tell()
        process.end()
    assert agent_telemetry(config, "sync").code == 0
    assert agent_telemetry(config, "verify").code == 0


# --- replay


def test_replay_of_a_wiped_database_gives_the_original_rows(config):
    """Runs, ends, closings of killed processes and commits: every column of every row."""
    record_runs(config, 12)
    with Process(OPEN_A_RUN, config.base_dir, "killed") as process:
        process.line()
        process.kill()
    agent_telemetry(config, "sync")
    assert agent_telemetry(config, "associate-commit", "run-3", "abcdef1", "--source", "llm").code == 0
    original = rows_of(config)
    assert len(original) == 13
    config.db_path.unlink()
    result = agent_telemetry(config, "replay", "--json")
    assert result.code == 0
    assert (result.json["inserted"], result.json["commits"], result.json["refused"]) == (13, 1, 0)
    assert rows_of(config) == original
    again = agent_telemetry(config, "replay", "--json").json
    assert (again["inserted"], again["updated"]) == (0, 0)
    assert rows_of(config) == original


def test_replay_into_another_file_leaves_the_database_alone(config, tmp_path):
    """--into makes a database of its own."""
    record_runs(config)
    before = config.db_path.read_bytes()
    other = config.with_(db_path=tmp_path / "other" / "copy.sqlite")
    assert agent_telemetry(config, "replay", "--into", other.db_path).code == 0
    assert config.db_path.read_bytes() == before
    assert rows_of(other) == rows_of(config)


def test_replay_of_some_days_reads_only_those(config):
    """Days are inclusive and written either way."""
    config.ndjson_dir.mkdir(parents=True)
    for number, day in enumerate(("20260101", "20260102", "20260103")):
        line = encode_line("run", {"writer": "w", "seq": 1, **record(number, status="success").to_fields()})
        journal_path(config.ndjson_dir, day).write_bytes(line)
    result = agent_telemetry(config, "replay", "--from-day", "2026-01-02", "--to-day", "20260102", "--json")
    assert (result.json["files"], result.json["inserted"]) == (1, 1)
    assert list(rows_of(config)) == ["run-1"]


def test_replay_counts_what_it_refuses_and_keeps_the_rest(config):
    """Poison, torn halves and strangers do not stop their neighbours: status 1 and the reasons."""
    record_runs(config)
    config.db_path.unlink()
    with journal_of(config).open("ab") as file:
        file.write(b'{"record_type":"run","writer":"w","seq":1,"event_id":"no uuid","run_id":"x"}\n')
        file.write(b'{"record_type":"event","event_type":"agent.run.commit","run_id":"x","payload":3}\n')
        file.write(b'{"record_type":"run","writer":"w","se\n')
        file.write(b"not ours at all\n")
    result = agent_telemetry(config, "replay", "--json")
    assert result.code == 1
    assert (result.json["refused"], result.json["torn"], result.json["inserted"]) == (2, 2, 3)
    assert "UUID" in result.err


def test_replay_of_many_runs_goes_in_batches(config):
    """More runs than one batch holds, each with several states, end as one row each."""
    config.ndjson_dir.mkdir(parents=True)
    with journal_path(config.ndjson_dir, "20260101").open("wb") as file:
        for status, updated in (("running", 0), ("success", 5)):
            for number in range(5500):
                file.write(encode_line("run", record(number, status=status, updated=updated).to_fields()))
    report = agent_telemetry(config, "replay", "--json").json
    assert report["states"] == 11_000
    assert (report["inserted"], report["updated"]) == (5500, 5500)
    assert {row["status"] for row in rows_of(config).values()} == {"success"}


def test_replay_keeps_what_stands_whatever_the_order_of_states(config):
    """An end before its start, a posting that only the start has, a start that breaks a rule, and an end that does."""
    states = [
        record(1, status="success", updated=5).to_fields(),
        record(1).to_fields(),
        record(2, api_posted=1, api_retry_count=3).to_fields(),
        record(2, status="failed", updated=5).to_fields(),
        {**record(3).to_fields(), "parent_run_id": "not/allowed"},
        record(3, status="success", updated=5).to_fields(),
        record(4).to_fields(),
        {**record(4, status="success", updated=5).to_fields(), "created_at": "never"},
    ]
    config.ndjson_dir.mkdir(parents=True)
    content = b"".join(encode_line("run", state) for state in states)
    journal_path(config.ndjson_dir, "20260101").write_bytes(content)
    report = agent_telemetry(config, "replay", "--json").json
    rows = rows_of(config)
    assert (report["inserted"], report["refused"]) == (4, 1)
    assert [rows[f"run-{number}"]["status"] for number in (1, 2, 3, 4)] == ["success", "failed", "success", "running"]
    assert (rows["run-2"]["api_posted"], rows["run-2"]["api_retry_count"]) == (1, 3)


def test_replay_refuses_a_database_that_a_service_writes(config):
    """SQLite has one writer: status 4, who it is, and nothing is written."""
    record_runs(config, 1)
    config.db_path.unlink()
    lock = WriterLock(config.db_path)
    assert lock.try_acquire("http://127.0.0.1:8765")
    result = agent_telemetry(config, "replay")
    assert result.code == 4
    assert "http://127.0.0.1:8765" in result.err
    assert not config.db_path.exists()
    lock.release()
    assert agent_telemetry(config, "replay").code == 0


# --- close-stale


def test_close_stale_closes_only_old_runs_that_nobody_has_open(config):
    """Old runs without a process are closed; young, ended and open ones are not changed."""
    store(config, record(1), record(2, status="success"))
    with Process(OPEN_A_RUN, config.base_dir, "alive") as process:
        process.line()
        eventually(lambda: "alive" in rows_of(config))
        dry = agent_telemetry(config, "close-stale", "--older-than", "24h", "--dry-run")
        assert dry.code == 0
        assert "1 runs would be closed" in dry.out
        assert rows_of(config)["run-1"]["status"] == "running"
        assert agent_telemetry(config, "close-stale", "--older-than", "0s", "--json").json["closed"] == 1
        rows = rows_of(config)
        process.kill()
    assert rows["run-1"]["status"] == "failed"
    assert "last sign of life" in rows["run-1"]["error_summary"]
    assert rows["run-1"]["end_time"] == record(1).updated_at
    assert rows["run-2"]["status"] == "success"
    assert rows["alive"]["status"] == "running"


def test_what_close_stale_closed_stays_closed_after_a_replay(config):
    """The closing is in the journal as well."""
    config.ndjson_dir.mkdir(parents=True)
    journal_path(config.ndjson_dir, "20260101").write_bytes(encode_line("run", record(1).to_fields()))
    agent_telemetry(config, "replay")
    assert agent_telemetry(config, "close-stale", "--older-than", "1h").code == 0
    closed = rows_of(config)
    config.db_path.unlink()
    agent_telemetry(config, "replay")
    assert rows_of(config) == closed
    assert closed["run-1"]["status"] == "failed"


def test_close_stale_counts_events_as_signs_of_life(config):
    """A run without a new state for long, but with a recent event, is not stale."""
    store(config, record(1))
    config.ndjson_dir.mkdir(parents=True)
    members = {"event_id": record(1).event_id, "run_id": "run-1", "event_type": "tick"}
    line = encode_line("event", {**members, "timestamp": "2999-01-01T00:00:00.000000+00:00"})
    journal_path(config.ndjson_dir, "20990101").write_bytes(line)
    assert "0 runs closed" in agent_telemetry(config, "close-stale", "--older-than", "1h").out
    assert rows_of(config)["run-1"]["status"] == "running"


def test_close_stale_wants_a_duration(config):
    """Without one, or with nonsense, nothing is closed."""
    assert agent_telemetry(config, "close-stale").code == 2
    assert agent_telemetry(config, "close-stale", "--older-than", "ages").code == 2
