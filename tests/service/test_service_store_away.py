"""The store is away: locked, full, deleted, replaced. 503 in time, nothing half-stored, and it goes on afterwards."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from contextlib import closing

import pytest
from on_disk import eventually
from service_cases import ended, listed, post_states, problem, state

from otel_agent_telemetry.service import file_watch
from otel_agent_telemetry.storage.store import Store
from otel_agent_telemetry.storage.writer_lock import WriterLock


def test_a_locked_database_is_503_in_time_and_ok_afterwards(sqlite_settings, serving):
    """Another program holds it for longer than a write may wait; the answer comes before it lets go."""
    service = serving(sqlite_settings.with_(api_write_timeout_s=1.0))
    with closing(sqlite3.connect(sqlite_settings.db_path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        answer = service.client.post("/api/v1/runs", json=state())  # comes while the database is still locked
        assert "not committed within 1 s" in problem(answer, 503)
        assert int(answer.headers["Retry-After"]) > 0
        other.execute("ROLLBACK")
    assert post_states(service, state())[0] in ("created", "duplicate")  # the first may have been written after all
    assert listed(service) == ["run-1"]


@pytest.fixture
def disk(small_disk):
    """A file system of 512 KiB: the tables alone take a third of it."""
    subprocess.run(["mount", "-o", "remount,size=512k", small_disk], check=True)
    return small_disk


def test_a_disk_that_is_full_is_503_and_ok_after_space_is_made(disk, sqlite_settings, serving):
    """Whatever was answered 201 is there, whole; nothing else was; no restart is needed."""
    service = serving(sqlite_settings.with_(base_dir=disk / "base", db_max_retries=0))
    ballast = disk / "ballast"
    fill(ballast)
    kept = [n for n in range(1, 40) if attempt(service, state(n, input_summary="x" * 4000))]
    assert len(kept) < 39
    problem(service.client.post("/api/v1/runs", json=state(99, input_summary="x" * 100_000)), 503)
    assert sorted(listed(service)) == sorted(f"run-{n}" for n in kept)
    problem(
        service.client.post("/api/v1/runs/batch", json=[state(n, input_summary="x" * 9000) for n in range(200, 250)]),
        503,
    )
    assert sorted(listed(service)) == sorted(f"run-{n}" for n in kept)
    ballast.unlink()
    assert post_states(service, ended(1)) == ["updated" if 1 in kept else "created"]
    with closing(sqlite3.connect(service.settings.db_path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def fill(path):
    """Take all the room that is left."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 1024)
        except OSError:
            pass


def attempt(service, body):
    """Whether a run was kept; refused it is 503 and nothing else."""
    answer = service.client.post("/api/v1/runs", json=body)
    if answer.status_code != 201:
        problem(answer, 503)
        assert int(answer.headers["Retry-After"]) > 0
    return answer.status_code == 201


def test_a_database_file_that_is_deleted_is_never_written_to_unseen(sqlite_settings, serving):
    """A write into a file without a name would be lost: 503 until it is back, health included."""
    service = serving(sqlite_settings.with_(db_max_retries=0))
    post_states(service, state(1))
    aside = sqlite_settings.db_path.with_name("aside.sqlite")
    sqlite_settings.db_path.rename(aside)
    problem(service.client.post("/api/v1/runs", json=state(2)), 503)
    problem(service.client.get("/health"), 503)
    assert not sqlite_settings.db_path.exists() or sqlite_settings.db_path.stat().st_size == 0
    sqlite_settings.db_path.unlink(missing_ok=True)
    aside.rename(sqlite_settings.db_path)
    assert post_states(service, state(2)) == ["created"]
    assert sorted(listed(service)) == ["run-1", "run-2"]


def test_a_database_file_that_is_replaced_is_never_written_to_unseen(sqlite_settings, serving, tmp_path):
    """Another file under the same name: 503 or a write that the new file holds, never one that is lost."""
    service = serving(sqlite_settings.with_(db_max_retries=0))
    post_states(service, state(1))
    copy = tmp_path / "copy.sqlite"
    with closing(sqlite3.connect(sqlite_settings.db_path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    copy.replace(sqlite_settings.db_path)
    assert post_states(service, state(2)) == ["created"]
    with closing(sqlite3.connect(sqlite_settings.db_path)) as connection:
        stored = {row[0] for row in connection.execute("SELECT run_id FROM agent_runs")}
    assert stored == {"run-1", "run-2"}
    assert sorted(listed(service)) == ["run-1", "run-2"]


def test_reads_see_a_replaced_file_at_once(sqlite_settings, serving, tmp_path):
    """What is read comes from the file that stands there, and the log names it."""
    service = serving(sqlite_settings)
    post_states(service, state(1))
    assert listed(service) == ["run-1"]
    with closing(Store(sqlite_settings.with_(db_path=tmp_path / "empty.sqlite"))) as other:
        other.open()
    (tmp_path / "empty.sqlite").replace(sqlite_settings.db_path)
    assert listed(service) == []


def test_a_file_that_stays_away_is_made_anew(sqlite_settings, serving, monkeypatch):
    """After a while, with its folder; until then 503 with the reason."""
    service = serving(sqlite_settings.with_(db_max_retries=0))
    post_states(service, state(1))
    sqlite_settings.db_path.parent.rename(sqlite_settings.base_dir / "moved")
    assert "deleted or moved" in problem(service.client.post("/api/v1/runs", json=state(2)), 503)
    monkeypatch.setattr(file_watch, "MISSING_S", 0.0)
    assert post_states(service, state(2)) == ["created"]
    assert listed(service) == ["run-2"]
    assert WriterLock(sqlite_settings.db_path).holder().url == service.url


def test_a_file_of_another_program_in_its_place_is_refused_with_the_reason(sqlite_settings, serving, tmp_path):
    """And is not changed; ours back in its place is used again."""
    service = serving(sqlite_settings.with_(db_max_retries=0))
    post_states(service, state(1))
    aside, foreign = tmp_path / "aside.sqlite", tmp_path / "foreign.sqlite"
    with closing(sqlite3.connect(foreign)) as other:
        other.execute("CREATE TABLE theirs (a)")
    content = foreign.read_bytes()
    os.link(sqlite_settings.db_path, aside)
    foreign.replace(sqlite_settings.db_path)
    problem(service.client.post("/api/v1/runs", json=state(2)), 503)
    assert sqlite_settings.db_path.read_bytes() == content
    aside.replace(sqlite_settings.db_path)
    assert post_states(service, state(2)) == ["created"]


def test_health_is_answered_within_a_second_while_the_database_is_locked(sqlite_settings, serving):
    """However long a write may wait: 503, well before the write itself is given up."""
    service = serving(sqlite_settings.with_(api_write_timeout_s=60.0))
    with closing(sqlite3.connect(sqlite_settings.db_path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert "not committed within 0.8 s" in problem(service.client.get("/health"), 503)
        other.execute("ROLLBACK")
    eventually(lambda: service.client.get("/health").status_code == 200)


@pytest.mark.parametrize("method_and_path", [("POST", "/api/v1/runs"), ("GET", "/api/v1/runs"), ("GET", "/metrics")])
def test_a_database_that_was_overwritten_is_503(sqlite_settings, serving, method_and_path):
    """A corrupt file causes no 500."""
    service = serving(sqlite_settings.with_(db_max_retries=0))
    post_states(service, state(1))
    sqlite_settings.db_path.write_bytes(b"rubbish " * 4096)
    method, path = method_and_path
    answer = service.client.request(method, path, json=state(2) if method == "POST" else None)
    assert answer.status_code != 500
    if answer.status_code >= 400:
        problem(answer, 503)
