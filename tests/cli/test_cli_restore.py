"""`restore`: the old database or the new one, at every instant; and never a run lost unasked."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from command import agent_telemetry, record_runs
from on_disk import Fork, Process
from stored import aged, integrity, run_ids, store, tear_a_commit, wrong_counts

from otel_agent_telemetry.errors import StoreUnavailableError
from otel_agent_telemetry.storage.store import Store
from otel_agent_telemetry.storage.store_facts import store_id
from otel_agent_telemetry.storage.writer_lock import WriterLock
from otel_agent_telemetry.testing import isolated_config

HOLD = """
import pathlib, sys
from otel_agent_telemetry.storage.writer_lock import WriterLock
lock = WriterLock(pathlib.Path(sys.argv[1]))
print(lock.try_acquire("http://127.0.0.1:8765"), flush=True)
sys.stdin.readline()
"""


def backup_of(config, *records):
    """A backup with these runs; the database has them too."""
    store(config, *records)
    return Path(agent_telemetry(config, "backup", "--json").json["path"])


def beside(config):
    """Return the files of the database's folder without the lock file, which stays."""
    return sorted(path.name for path in config.db_path.parent.iterdir() if path.suffix != ".lock")


def id_of(config):
    """Return the id of the database, as a service that opens it now gives it."""
    opened = Store(config)
    try:
        return opened.transact(store_id)
    finally:
        opened.close()


def test_a_backup_comes_back_and_what_was_there_is_kept(config):
    """With --force, because the newer run is not in it; the kept one can be restored in turn."""
    backup = backup_of(config, aged(1, 3), aged(2, 3))
    store(config, aged(3, 1))
    refused = agent_telemetry(config, "restore", backup)
    assert refused.code == 2
    assert "1 of its runs" in refused.err
    assert "--force" in refused.err
    assert len(run_ids(config)) == 3
    result = agent_telemetry(config, "restore", backup, "--force", "--json")
    assert result.code == 0, result.err
    assert "replay" in result.err
    assert run_ids(config) == ["run-1", "run-2"]
    assert wrong_counts(config) == []
    assert config.db_path.stat().st_mode & 0o777 == 0o600
    assert beside(config) == ["telemetry.sqlite"]
    assert agent_telemetry(config, "restore", result.json["kept"]).code == 0
    assert len(run_ids(config)) == 3


def test_a_later_state_counts_as_newer(config):
    """The same runs, one of them ended since: --force is needed all the same."""
    backup = backup_of(config, aged(1, 3, status="running"))
    store(config, aged(1, 2))
    assert agent_telemetry(config, "restore", backup).code == 2


def test_the_journal_brings_back_what_came_since(config):
    """Restore, then replay: nothing is missing."""
    record_runs(config, 2)
    backup = backup_of(config)
    record_runs(config, 5)
    assert agent_telemetry(config, "restore", backup, "--force").code == 0
    assert len(run_ids(config)) == 2
    assert agent_telemetry(config, "replay").code == 0
    assert set(run_ids(config)) >= {"run-2", "run-3", "run-4"}


def test_a_restored_database_is_another_one_for_those_that_deliver_to_it(config):
    """Their cursors are ahead of the backup: by the same id they would send nothing of what it lacks."""
    store(config, aged(1, 3))
    before = id_of(config)
    backup = backup_of(config, aged(2, 3))
    assert id_of(config) == before
    assert agent_telemetry(config, "restore", backup).code == 0
    assert id_of(config) != before


def test_a_missing_database_is_made_from_a_backup(config):
    """By its name alone; a journal that a removed file left behind is not played into it."""
    backup = backup_of(config, aged(1, 3))
    config.db_path.unlink()
    config.db_path.with_name("telemetry.sqlite-journal").write_bytes(b"left behind")
    result = agent_telemetry(config, "restore", backup.name)
    assert result.code == 0, result.err
    assert run_ids(config) == ["run-1"]
    assert beside(config) == ["telemetry.sqlite"]


@pytest.mark.parametrize("mode", ["WAL", "TRUNCATE", "PERSIST"])
def test_nothing_of_the_old_file_is_left_in_any_journal_mode(config, mode):
    """Neither journal nor WAL."""
    config = config.with_(db_journal_mode=mode)
    backup = backup_of(config, aged(1, 3))
    store(config, aged(2, 2))
    env = {"TELEMETRY_DB_JOURNAL_MODE": mode}
    assert agent_telemetry(config, "restore", backup, "--force", env=env).code == 0
    assert run_ids(config) == ["run-1"]
    assert integrity(config.db_path) == "ok"
    assert [name for name in beside(config) if name.endswith("-journal")] == []


def test_who_writes_the_database_is_named(config):
    """A service of another process: its pid, host and address; nothing is changed."""
    backup = backup_of(config, aged(1, 3))
    with Process(HOLD, config.db_path) as service:
        assert service.line() == "True"
        result = agent_telemetry(config, "restore", backup)
    assert result.code == 4
    assert f"http://127.0.0.1:8765 (process {service.pid} on " in result.err
    assert beside(config) == ["telemetry.sqlite"]


def test_a_writer_in_the_middle_of_a_transaction_is_waited_for(config):
    """At most for the busy timeout."""
    backup = backup_of(config, aged(1, 3))
    with closing(sqlite3.connect(config.db_path)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        result = agent_telemetry(config, "restore", backup, env={"TELEMETRY_DB_BUSY_TIMEOUT_MS": "50"})
    assert result.code == 4
    assert "is locked" in result.err
    assert len(list(config.backups_dir.iterdir())) == 1


def test_a_process_that_has_the_old_file_open_does_not_write_into_it(config):
    """Its write fails and can be tried again, upon which it is in the new file."""
    backup = backup_of(config, aged(1, 3))
    idle = Store(config.with_(db_max_retries=0))
    idle.open()
    idle.write([aged(1, 2)])
    assert agent_telemetry(config, "restore", backup, "--force").code == 0
    with pytest.raises(StoreUnavailableError):
        idle.write([aged(2, 1)])
    idle.close()
    idle.write([aged(2, 1)])
    idle.close()
    assert run_ids(config) == ["run-1", "run-2"]


def test_an_older_schema_is_upgraded(config):
    """A version 7 database kept as a backup comes back as one of today's."""
    old = config.base_dir / "old.sqlite"
    old.parent.mkdir(parents=True, exist_ok=True)
    columns = (
        "event_id TEXT, run_id TEXT, agent_name TEXT, job_type TEXT, status TEXT, created_at TEXT, start_time TEXT"
    )
    with closing(sqlite3.connect(old)) as connection:
        connection.execute(f"CREATE TABLE agent_runs ({columns})")
        connection.execute(
            "INSERT INTO agent_runs VALUES ('e', 'old', 'a', 'j', 'failure', '2025-01-01', '2025-01-01')"
        )
        connection.commit()
    assert "schema revision 7" in agent_telemetry(config, "restore", old, "--verify").out
    before = old.read_bytes()
    assert agent_telemetry(config, "restore", old).code == 0
    (run,) = agent_telemetry(config, "runs", "--json").json
    assert (run["run_id"], run["status"]) == ("old", "failed")
    assert old.read_bytes() == before


# --- what cannot be restored, or replaced


def damage(path):
    """Change bytes in the middle, where rows and indexes are."""
    content = bytearray(path.read_bytes())
    for at in range(4096 * 3, len(content), 4096):
        content[at : at + 64] = b"\xff" * 64
    path.write_bytes(content)


@pytest.mark.parametrize("what", ["missing", "empty", "garbage", "foreign", "damaged", "newer", "itself", "folder"])
def test_a_backup_that_does_not_verify_changes_nothing(config, what):
    """Whatever is wrong with it: one line names it, and the database is unchanged."""
    backup = backup_of(config, *(aged(n, 3) for n in range(1, 200)))
    if what in ("missing", "folder"):
        backup.unlink()
    if what == "folder":
        backup.mkdir()
    if what in ("empty", "garbage"):
        backup.write_bytes(b"garbage " * 1000 if what == "garbage" else b"")
    if what == "damaged":
        damage(backup)
    with closing(sqlite3.connect(backup if what in ("foreign", "newer") else ":memory:")) as connection:
        if what == "foreign":
            for table in ("agent_runs", "alembic_version"):
                connection.execute(f"DROP TABLE {table}")
        if what == "newer":
            connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    backup = config.db_path if what == "itself" else backup
    before = config.db_path.read_bytes()
    result = agent_telemetry(config, "restore", backup, "--force")
    assert result.code == (2 if what == "itself" else 4), result.err
    assert len(result.err.splitlines()) == 1
    assert config.db_path.read_bytes() == before
    assert beside(config) == ["telemetry.sqlite"]
    if what != "itself":
        assert agent_telemetry(config, "restore", backup, "--verify").code == 4


def test_verify_reports_what_a_backup_holds_and_changes_nothing(config):
    """And does so while a service writes the database."""
    backup = backup_of(config, aged(1, 3), aged(2, 1))
    before = backup.read_bytes()
    lock = WriterLock(config.db_path)
    assert lock.try_acquire()
    result = agent_telemetry(config, "restore", backup, "--verify", "--json")
    lock.release()
    assert result.code == 0
    assert (result.json["runs"], result.json["newest_run_id"], result.json["counts_agree"]) == (2, "run-2", True)
    assert backup.read_bytes() == before
    assert [path.name for path in backup.parent.iterdir()] == [backup.name]


def test_kept_counts_that_are_wrong_are_a_finding(config):
    """The runs are restored; the status and the note ask for a repair of the counts."""
    backup = backup_of(config, aged(1, 3))
    with closing(sqlite3.connect(backup)) as connection:
        connection.execute("UPDATE run_counts SET runs = 7")
        connection.commit()
    for options in (["--verify"], []):
        result = agent_telemetry(config, "restore", backup, *options)
        assert result.code == 1
        assert "check-counts --repair" in result.err
    assert run_ids(config) == ["run-1"]


def test_a_damaged_database_is_kept_as_it_is(config):
    """Only when forced; a copy of its bytes is there afterwards."""
    backup = backup_of(config, *(aged(n, 3) for n in range(1, 200)))
    damage(config.db_path)
    broken = config.db_path.read_bytes()
    refused = agent_telemetry(config, "restore", backup)
    assert refused.code == 2
    assert config.db_path.read_bytes() == broken
    result = agent_telemetry(config, "restore", backup, "--force", "--json")
    assert result.code == 0, result.err
    assert Path(result.json["kept"]).read_bytes() == broken
    assert len(run_ids(config)) == 199


def test_a_database_whose_first_page_is_damaged_is_kept_too(config):
    """SQLite reports it first."""
    backup = backup_of(config, *(aged(n, 3) for n in range(1, 200)))
    content = bytearray(config.db_path.read_bytes())
    content[100:1000] = b"\xff" * 900
    config.db_path.write_bytes(content)
    assert agent_telemetry(config, "restore", backup).code == 2
    result = agent_telemetry(config, "restore", backup, "--force", "--json")
    assert result.code == 0, result.err
    assert Path(result.json["kept"]).read_bytes() == content
    assert len(run_ids(config)) == 199


def test_another_applications_database_is_never_replaced(config):
    """Not even when forced."""
    backup = backup_of(config, aged(1, 3))
    config.db_path.unlink()
    with closing(sqlite3.connect(config.db_path)) as connection:
        connection.execute("CREATE TABLE damaged_and_malformed (a)")
        connection.commit()
    before = config.db_path.read_bytes()
    result = agent_telemetry(config, "restore", backup, "--force")
    assert result.code == 4
    assert "another application" in result.err
    assert config.db_path.read_bytes() == before


def test_a_full_disk_changes_nothing(config, small_disk):
    """The copy does not fit beside the database."""
    backup = backup_of(config, *(aged(n, 3) for n in range(1, 50)))
    result = agent_telemetry(config, "restore", backup, env={"TELEMETRY_DB_PATH": str(small_disk / "db.sqlite")})
    assert result.code == 4
    assert "full" in result.err
    assert [path.name for path in small_disk.iterdir() if path.suffix != ".lock"] == []


# --- killed


class DeathAtStep:
    """Kills this process before or after the n-th time that it renames, removes or forces a file."""

    STEPS = ((os, "fsync"), (Path, "rename"), (Path, "unlink"))

    def __init__(self, number, when):
        self._left = number
        self._when = when
        for place, name in self.STEPS:
            setattr(place, name, self._watched(getattr(place, name)))

    def _watched(self, call):
        def watched(*args, **kwargs):
            self._left -= 1
            if self._left == 0 and self._when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = call(*args, **kwargs)
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return watched


@pytest.fixture(scope="module")
def newer_runs_and_a_backup(tmp_path_factory):
    """A base folder whose database has five runs that its backup has not."""
    config = isolated_config(tmp_path_factory.mktemp("restored") / "base")
    backup = backup_of(config, *(aged(n, 3) for n in range(1, 4)))
    store(config, *(aged(n, 1) for n in range(4, 9)))
    return config.base_dir, backup.name


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("wanted", range(1, 16))
def test_killed_at_each_file_operation_one_of_the_two_is_there(config, newer_runs_and_a_backup, wanted, when):
    """Sound and whole, the old runs or the backup's; the next restore does the rest and leaves nothing else."""
    base, backup = newer_runs_and_a_backup
    shutil.copytree(base, config.base_dir)

    def restore():
        DeathAtStep(wanted, when)
        assert agent_telemetry(config, "restore", backup, "--force").code == 0

    status = Fork(restore).wait()
    assert status in (0, -signal.SIGKILL)
    assert len(run_ids(config)) in ((3,) if status == 0 else (3, 8))
    assert integrity(config.db_path) == "ok"
    assert wrong_counts(config) == []
    assert agent_telemetry(config, "restore", backup, "--force").code == 0
    assert len(run_ids(config)) == 3
    assert beside(config) == ["telemetry.sqlite"]
    assert [path.name for path in config.backups_dir.iterdir() if ".partial" in path.name] == []


def test_a_torn_commit_of_the_old_database_is_undone_first(config):
    """A writer that died during a commit left a hot journal: the kept backup is valid, the journal removed."""
    backup = backup_of(config, aged(1, 3))
    tear_a_commit(config)
    assert "telemetry.sqlite-journal" in beside(config)
    result = agent_telemetry(config, "restore", backup, "--json")
    assert result.code == 0, result.err
    with closing(sqlite3.connect(result.json["kept"])) as kept:
        assert kept.execute("SELECT run_id FROM agent_runs").fetchall() == [("run-1",)]
    assert beside(config) == ["telemetry.sqlite"]
    assert run_ids(config) == ["run-1"]
