"""`copy-db`: from a file to a server and back, killed and continued, refused between a database and itself."""

from __future__ import annotations

import os
import pty
import sqlite3
import subprocess
from contextlib import closing

import pytest
from command import COMMAND, agent_telemetry, record_runs, start_command
from on_disk import ROOT, child_environment, eventually, record, rows_of
from postgres import PASSWORD

from otel_agent_telemetry.storage.store import Store


def fill(config, count):
    store = Store(config)
    store.open()
    for start in range(0, count, 1000):
        store.write([record(number, status="success") for number in range(start, min(start + 1000, count))])
    store.close()


def test_runs_go_to_a_server_and_back(config, postgres_url, tmp_path):
    """The same rows at the end of the way; the counts on the server are exact; no password is printed."""
    record_runs(config, 12)
    agent_telemetry(config, "associate-commit", "run-3", "abcdef1", "--source", "llm")
    there = agent_telemetry(config, "copy-db", config.db_path, postgres_url)
    assert there.code == 0, there.err
    assert "Everything of" in there.out
    assert PASSWORD not in there.out + there.err
    checked = agent_telemetry(config, "check-counts", env={"TELEMETRY_DATABASE_URL": postgres_url})
    assert checked.code == 0
    back = tmp_path / "back" / "again.sqlite"
    result = agent_telemetry(config, "copy-db", postgres_url, back, "--json")
    assert result.code == 0
    assert result.json["verified"]
    assert result.json["tables"]["agent_runs"] == {"rows": 12, "written": 12, "refused": 0, "lacking": 0}
    assert PASSWORD not in result.out + result.err
    assert rows_of(config.with_(db_path=back)) == rows_of(config)


@pytest.mark.durability
def test_a_copy_killed_in_the_middle_is_begun_again(config, postgres_url, postgres):
    """Status 0 at the end, and only what was missing was written then."""
    fill(config, 8000)
    name = postgres_url.rpartition("/")[2]

    def arrived():
        tables = postgres.server.execute("SELECT count(*) FROM pg_tables WHERE tablename = 'run_hours'", database=name)
        if tables == [(0,)]:
            return 0
        return postgres.server.execute("SELECT count(*) FROM agent_runs", database=name)[0][0]

    copying = start_command(config, "copy-db", config.db_path, postgres_url)
    eventually(lambda: arrived() >= 1000)
    copying.kill()
    copying.communicate(timeout=30)
    kept = arrived()
    result = agent_telemetry(config, "copy-db", config.db_path, postgres_url, "--json")
    assert result.code == 0, result.err
    assert result.json["tables"]["agent_runs"] == {"rows": 8000, "written": 8000 - kept, "refused": 0, "lacking": 0}


def test_the_source_is_opened_for_reading_alone(config, tmp_path):
    """Byte for byte as it was, in a folder where nothing may be written."""
    record_runs(config, 3)
    before = config.db_path.read_bytes()
    names = sorted(path.name for path in config.db_path.parent.iterdir())
    assert agent_telemetry(config, "copy-db", config.db_path, tmp_path / "copy.sqlite").code == 0
    assert config.db_path.read_bytes() == before
    assert sorted(path.name for path in config.db_path.parent.iterdir()) == names


def test_what_the_target_does_not_take_is_a_problem(config, postgres_url):
    """Status 1, the reason on stderr, the neighbours copied."""
    fill(config, 5)
    with closing(sqlite3.connect(config.db_path)) as connection, connection:
        connection.execute("UPDATE agent_runs SET parent_run_id = hex(randomblob(20000)) WHERE id = 2")
    result = agent_telemetry(config, "copy-db", config.db_path, postgres_url)
    assert result.code == 1
    assert "Not everything of" in result.out
    assert "index row" in result.err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["{file}", "{file}"], 2),
        (["{url}", "{url}"], 2),
        (["{file}"], 2),
        (["{file}", "mysql://me:hunter2@host/db"], 2),
        (["{file}", "postgresql:/me:hunter2@host/db"], 2),
        (["{file}", "postgresql+psycopg://me:hunter2@127.0.0.1:1/db"], 4),
        (["{file}", "postgresql+psycopg://me:hunter2@127.0.0.1:port/db"], 2),
        (["missing.sqlite", "{url}"], 4),
        (["{url}", "new.sqlite"], 4),
    ],
)
def test_what_cannot_be_copied_is_reported_in_one_line(config, postgres_url, tmp_path, monkeypatch, arguments, code):
    """The same database twice, no database, an empty one, one that is not there; never with a password."""
    monkeypatch.chdir(tmp_path)
    record_runs(config, 1)
    words = [word.format(file=config.db_path, url=postgres_url) for word in arguments]
    result = agent_telemetry(config, "copy-db", *words)
    assert result.code == code, result.err
    assert "hunter2" not in result.out + result.err
    assert PASSWORD not in result.out + result.err
    assert "Traceback" not in result.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base"]


def test_progress_is_shown_on_a_terminal_alone(config, tmp_path):
    """A bar over rows on stderr; the table goes to stdout as ever."""
    fill(config, 3000)
    screen, terminal = pty.openpty()
    command = [*COMMAND, "--base-dir", config.base_dir, "copy-db", config.db_path, tmp_path / "copy.sqlite"]
    environment = {**child_environment(), "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(
        list(map(str, command)), cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=terminal
    )
    os.close(terminal)
    shown = "".join(parts_until_closed(screen))
    out, _ = process.communicate(timeout=30)
    assert "copying" in shown
    assert "/6000" in shown
    assert b"agent_runs" in out


def parts_until_closed(screen):
    """Return what a terminal receives until every process has closed it."""
    with os.fdopen(screen, "rb", buffering=0) as file:
        while True:
            try:
                yield file.read(4096).decode(errors="replace")
            except OSError:
                return
