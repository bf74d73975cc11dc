"""`sync` and `associate-commit`: getting what waits to where it belongs."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from command import OPEN_A_RUN, agent_telemetry, record_runs, start_command
from on_disk import Process, eventually, nobody_delivers, rows_of

from otel_agent_telemetry import TelemetryClient
from otel_agent_telemetry.buffer.layout import undelivered
from otel_agent_telemetry.delivery.rejected import store_rejected
from tests.storage.version_7_database import make_version_7

RECORD_AND_DIE = """
import os, sys
from otel_agent_telemetry import TelemetryClient, TelemetryConfig
client = TelemetryClient(TelemetryConfig(base_dir=sys.argv[1], discover_service=False))
for number in range(int(sys.argv[2])):
    client.end_run(client.start_run("agent", "job", run_id=f"run-{number}"))
client.start_run("agent", "job", run_id="open")
os._exit(9)
"""


def leave_undelivered(config, count=20):
    """Run a process that records and dies, so that its runs stay in the buffer."""
    with nobody_delivers(config), Process(RECORD_AND_DIE, config.base_dir, count) as process:
        assert process.end()[0] == 9
    assert undelivered(config.buffer_dir)


def test_sync_delivers_what_a_dead_process_left(config):
    """Everything is stored, its open run is closed, and the report counts both."""
    leave_undelivered(config)
    result = agent_telemetry(config, "sync", "--json")
    assert result.code == 0
    report = result.json
    assert report["done"]
    assert report["delivered"] == 22  # 20 ended, 1 open and its closing
    assert report["closed_runs"] == 1
    assert (report["waiting_bytes"], report["rejected"]) == (0, 0)
    rows = rows_of(config)
    assert len(rows) == 21
    assert rows["open"]["status"] == "failed"


def test_sync_of_nothing_makes_nothing(config):
    """An empty base folder stays empty."""
    assert agent_telemetry(config, "sync").code == 0
    assert not config.base_dir.exists()


def test_sync_waits_for_the_process_that_delivers(config):
    """While another process holds the lock, sync ends when that one has confirmed all, not before."""
    leave_undelivered(config, 5)
    holder = """
import sys
from pathlib import Path
from otel_agent_telemetry.locks import FileLock
from otel_agent_telemetry.buffer.layout import undelivered, write_acknowledged
buffer = Path(sys.argv[1])
lock = FileLock(buffer / "drain.lock")
assert lock.try_acquire()
print("holds", flush=True)
sys.stdin.readline()
for segment, size in undelivered(buffer).items():
    write_acknowledged(segment, size)
print("confirmed", flush=True)
sys.stdin.readline()
"""
    with Process(holder, config.buffer_dir) as process:
        assert process.line() == "holds"
        short = agent_telemetry(config, "sync", "--timeout", "0.3")
        assert short.code == 5
        assert "another process" in short.err
        waiting = start_command(config, "sync", "--timeout", "60")
        assert waiting.poll() is None
        process.tell()
        assert process.line() == "confirmed"
        out, err = waiting.communicate(timeout=60)
        assert (waiting.returncode, err) == (0, "")
        assert "by another process" in out


def test_sync_takes_over_when_the_holder_dies(config):
    """A lock that is freed while sync waits is taken, and everything is delivered."""
    leave_undelivered(config, 5)
    holder = """
import sys
from pathlib import Path
from otel_agent_telemetry.locks import FileLock
lock = FileLock(Path(sys.argv[1]) / "drain.lock")
assert lock.try_acquire()
print("holds", flush=True)
sys.stdin.readline()
"""
    with Process(holder, config.buffer_dir) as process:
        assert process.line() == "holds"
        waiting = start_command(config, "sync", "--timeout", "60")
        process.kill()
        out, _ = waiting.communicate(timeout=60)
    assert waiting.returncode == 0
    assert "delivered 7" in out
    assert len(rows_of(config)) == 6


def test_sync_into_a_locked_database_reports_what_it_waits_for(config):
    """Status 4 once the time is over, the reason, and nothing is lost."""
    record_runs(config, 1)
    leave_undelivered(config, 3)
    with closing(sqlite3.connect(config.db_path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        result = agent_telemetry(config, "sync", "--timeout", "0.5")
    assert result.code == 4
    assert "locked" in result.err
    assert undelivered(config.buffer_dir)
    assert agent_telemetry(config, "sync").code == 0
    assert not undelivered(config.buffer_dir)


def test_sync_to_a_service_that_is_away_keeps_everything(config):
    """TELEMETRY_API_URL without an answer: status 4, and the buffer as it was."""
    leave_undelivered(config, 2)
    waiting = undelivered(config.buffer_dir)
    result = agent_telemetry(config, "sync", "--timeout", "0.5", env={"TELEMETRY_API_URL": "http://127.0.0.1:9"})
    assert result.code == 4
    assert "127.0.0.1:9" in result.err
    assert undelivered(config.buffer_dir) == waiting


def test_sync_reports_refused_records(config):
    """A record that the model refuses is set aside: status 1, its neighbours stored."""
    leave_undelivered(config, 2)
    (segment,) = undelivered(config.buffer_dir)
    with segment.open("ab") as file:
        file.write(b'{"record_type":"run","writer":"w","seq":99,"event_id":"no uuid","run_id":"poison"}\n')
    result = agent_telemetry(config, "sync", "--json")
    assert result.code == 1
    assert result.json["rejected"] == 1
    assert len(rows_of(config)) == 3


def test_associate_commit_shows_in_the_run(config):
    """From a process that only knows the run id; author and time included."""
    record_runs(config, 1)
    result = agent_telemetry(
        config, "associate-commit", "run-0", "ABCDEF1234", "--source", "llm",
        "--author", "A <a@example.org>", "--timestamp", "2026-01-02T03:04:05Z",
    )  # fmt: skip
    assert result.code == 0
    row = rows_of(config)["run-0"]
    assert (row["git_commit_hash"], row["git_commit_source"]) == ("ABCDEF1234", "llm")
    assert row["git_commit_author"] == "A <a@example.org>"
    assert row["git_commit_timestamp"] == "2026-01-02T03:04:05.000000+00:00"


def test_associate_commit_of_an_open_run_of_another_process(config):
    """A run that is still running in another process gets its commit, and keeps it when it ends."""
    with Process(OPEN_A_RUN, config.base_dir, "busy") as process:
        process.line()
        assert agent_telemetry(config, "associate-commit", "busy", "abcdef1", "--source", "ci").code == 0
        process.tell()
        process.end()
    agent_telemetry(config, "sync")
    assert rows_of(config)["busy"]["git_commit_hash"] == "abcdef1"
    assert rows_of(config)["busy"]["status"] == "failed"  # the interpreter ended with the run open


def test_associate_commit_of_an_unknown_run_is_kept(config):
    """Status 3 for a run that is not stored; the association is applied when the run arrives."""
    record_runs(config, 1)
    result = agent_telemetry(config, "associate-commit", "later", "abcdef1", "--source", "manual")
    assert result.code == 3
    assert "kept" in result.err
    client = TelemetryClient(config)
    client.end_run(client.start_run("agent", "job", run_id="later"))
    assert client.flush()
    assert rows_of(config)["later"]["git_commit_hash"] == "abcdef1"


@pytest.mark.parametrize(
    "arguments",
    [
        ["run-0", "xyz", "--source", "llm"],
        ["run-0", "abcdef1", "--source", "me"],
        ["run-0", "abcdef1"],
        ["a/b", "abcdef1", "--source", "llm"],
        ["run-0", "abcdef1", "--source", "llm", "--timestamp", "yesterday"],
    ],
)
def test_associate_commit_refuses_what_is_no_commit(config, arguments):
    """A usage error, and nothing is written."""
    result = agent_telemetry(config, "associate-commit", *arguments)
    assert result.code == 2
    assert not config.base_dir.exists()


def test_an_association_refused_before_does_not_count_as_this_one(config):
    """Only what was refused since this command began is reported."""
    record_runs(config, 1)
    old = {"record_type": "event", "run_id": "run-0", "commit_hash": "abcdef1", "associated_at": "2020-01-01"}
    store_rejected(config.buffer_dir, old, target="t", reason="r", now_ns=0)
    assert agent_telemetry(config, "associate-commit", "run-0", "abcdef1", "--source", "ci").code == 0


def test_deliver_delivers_until_it_is_stopped(config):
    """What dead processes left and what live ones record; SIGTERM ends it with 0."""
    leave_undelivered(config, 3)
    running = start_command(config, "deliver")
    eventually(lambda: len(rows_of(config)) == 4)
    leave_undelivered_again = Process(RECORD_AND_DIE.replace("run-", "late-"), config.base_dir, 2)
    with leave_undelivered_again:
        assert leave_undelivered_again.end()[0] == 9
    eventually(lambda: "late-1" in rows_of(config))
    running.terminate()
    out, err = running.communicate(timeout=60)

    assert (running.returncode, out, err) == (0, "", "")


def test_sync_upgrades_a_file_of_an_older_version(config):
    """A recording process leaves that to a command: its records wait, then everything is stored."""
    make_version_7(config.db_path, [])
    leave_undelivered(config, 2)
    with Process(RECORD_AND_DIE.replace("os._exit(9)", "client.close(); print(client.flush(1.0))"),
                 config.base_dir, 1) as process:  # fmt: skip
        code, out, err = process.end()
    assert (code, out.strip()) == (0, "False")
    assert "older than this version" in err

    assert agent_telemetry(config, "sync").code == 0

    assert {"run-0", "run-1", "open"} <= rows_of(config).keys()
