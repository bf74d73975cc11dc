"""`backup`: a whole, verified copy of a database in use, and no half one."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing

import pytest
from command import agent_telemetry, start_command
from on_disk import Process, eventually
from stored import aged, ago, integrity, run_ids, store, tear_a_commit
from test_cli_retention import WITH_TESTS, WRITE

NAME = r"telemetry-\d{8}T\d{6}Z(-\d+)?\.sqlite"


def backups(config):
    return sorted(config.backups_dir.iterdir()) if config.backups_dir.is_dir() else []


def test_a_backup_reports_its_path_and_what_it_holds(config):
    """Path, size, rows, and the run that is the newest; the file is private."""
    store(config, aged(1, 3), aged(2, 2, run_id="=newest\x1b[2J"))
    result = agent_telemetry(config, "backup")
    (made,) = backups(config)
    assert result.code == 0
    assert str(made) in result.out
    assert "2 runs" in result.out
    assert "=newest\\x1b[2J" in result.out
    assert made.stat().st_mode & 0o777 == 0o600
    summary = agent_telemetry(config, "backup", "--json").json
    assert (summary["runs"], summary["tables"]["agent_runs"], summary["newest_run_id"]) == (2, 2, "=newest\x1b[2J")
    assert summary["counts_agree"] is True
    assert summary["newest"] == aged(2, 2).created_at[:11] + summary["newest"][11:]
    assert integrity(summary["path"]) == "ok"


def test_a_backup_is_written_to_the_given_place(config, tmp_path):
    """A folder that is made, and a file; never over one that is there."""
    store(config, aged(1, 1))
    folder, file = tmp_path / "one" / "two", tmp_path / "three" / "mine.sqlite"
    assert agent_telemetry(config, "backup", "--to", folder).code == 0
    assert agent_telemetry(config, "backup", "--to", file).code == 0
    assert len(list(folder.iterdir())) == 1
    assert folder.stat().st_mode & 0o777 == 0o700
    before = file.read_bytes()
    again = agent_telemetry(config, "backup", "--to", file)
    assert (again.code, file.read_bytes()) == (2, before)
    assert agent_telemetry(config, "backup", "--to", tmp_path / "x.sqlite", "--keep", "2").code == 2


def test_keep_removes_older_backups_of_this_database_alone(config):
    """The new one stays whatever the names are; other files and folders are never removed."""
    store(config, aged(1, 1))
    config.backups_dir.mkdir()
    old = [config.backups_dir / f"telemetry-2020010{n}T000000Z.sqlite" for n in range(1, 5)]
    future = config.backups_dir / "telemetry-29990101T000000Z.sqlite"
    others = [
        config.backups_dir / name
        for name in ("telemetry.sqlite", "other-20200101T000000Z.sqlite", "telemetry-x.sqlite")
    ]
    for path in (*old, future, *others):
        path.write_bytes(b"")
    link = config.backups_dir / "telemetry-20190101T000000Z.sqlite"
    link.symlink_to(others[0])
    summary = agent_telemetry(config, "backup", "--keep", "3", "--json").json
    left = set(backups(config))
    assert sorted(summary["pruned"]) == sorted(map(str, old[:3]))
    assert left == {old[3], future, link, *others, config.backups_dir / os.path.basename(summary["path"])}  # noqa: PTH119
    agent_telemetry(config, "backup", "--keep", "1")
    assert len(left & set(backups(config))) == len(others) + 1


def test_a_backup_while_another_process_writes(config):
    """Each backup is of one instant: it has all that was committed before it, and no writer fails."""
    store(config, aged(1, 3))
    with Process(WRITE, config.base_dir, 300, ago(0), env=WITH_TESTS) as writer:
        assert writer.line() == "open"
        counts = []
        while writer.popen.poll() is None and len(counts) < 5:
            seen = int(writer.line() or 0)
            summary = agent_telemetry(config, "backup", "--json").json
            assert summary["runs"] - 1 >= seen - 999_999
            counts.append(summary["runs"])
        status, _, err = writer.end(within_s=60)
    assert status == 0, err
    assert counts == sorted(counts)
    assert len(run_ids(config)) == 301


def test_a_killed_backup_leaves_what_the_next_one_removes(config):
    """Half a copy has no backup's name, and does not stay."""
    store(config, *(aged(n, 1, error_details="x" * 20_000) for n in range(1, 1501)))
    process = start_command(config, "backup")
    eventually(lambda: backups(config) or process.poll() is not None)
    process.kill()
    process.communicate()
    names = [path.name for path in backups(config)]
    assert names
    assert agent_telemetry(config, "backup").code == 0
    assert [path for path in backups(config) if ".partial" in path.name] == []
    assert all(integrity(path) == "ok" for path in backups(config))


def test_a_full_disk_leaves_nothing(config, small_disk):
    """No partial copy is left, the database is unchanged, and the error names the full disk."""
    store(config, *(aged(n, 1, error_details="x" * 5000) for n in range(1, 101)))
    result = agent_telemetry(config, "backup", "--to", small_disk / "backups")
    assert result.code == 4
    assert "full" in result.err
    assert list((small_disk / "backups").iterdir()) == []
    assert len(run_ids(config)) == 100


def test_what_is_no_database_of_ours_is_refused(config):
    """Missing, empty, another application's, damaged: nothing is left in the folder, nothing is changed."""
    assert agent_telemetry(config, "backup").code == 4
    config.db_path.parent.mkdir(parents=True)
    config.db_path.write_bytes(b"")
    assert agent_telemetry(config, "backup").code == 4
    config.db_path.write_bytes(b"no database, but long enough to be taken for one by a careless reader " * 20)
    assert agent_telemetry(config, "backup").code == 4
    config.db_path.unlink()
    with closing(sqlite3.connect(config.db_path)) as connection:
        connection.execute("CREATE TABLE theirs (a)")
        connection.commit()
    before = config.db_path.read_bytes()
    result = agent_telemetry(config, "backup")
    assert (result.code, config.db_path.read_bytes(), backups(config)) == (4, before, [])
    assert "another application" in result.err


def test_a_torn_commit_is_undone_first(config):
    """A writer died in the middle of one: the backup holds what was committed."""
    store(config, aged(1, 1))
    tear_a_commit(config)
    summary = agent_telemetry(config, "backup", "--json")
    assert (summary.code, summary.json["newest_run_id"]) == (0, "run-1"), summary.err


def test_an_empty_database_has_a_backup(config):
    """No run yet is no problem."""
    store(config)
    result = agent_telemetry(config, "backup")
    assert result.code == 0
    assert "0 runs" in result.out


def test_a_database_that_is_named_by_a_url_is_found(config, tmp_path):
    """sqlite:/// is a file as well; a name with a space is a name."""
    store(config, aged(1, 1))
    other = tmp_path / "an other.sqlite"
    config.db_path.rename(other)
    result = agent_telemetry(config, "backup", env={"TELEMETRY_DATABASE_URL": f"sqlite:///{other}"})
    assert result.code == 0
    assert [path.name[:9] for path in backups(config)] == ["an other-"]


@pytest.mark.parametrize("command", [("backup",), ("restore", "x.sqlite")])
def test_postgresql_has_its_own_tools(config, postgres_url, command):
    """A usage error that names them, without the password."""
    result = agent_telemetry(config, *command, env={"TELEMETRY_DATABASE_URL": postgres_url})
    assert result.code == 2
    assert "pg_dump" in result.err
    assert "not-to-be-shown" not in result.err
