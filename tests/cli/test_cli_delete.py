"""`delete`: a run goes for every reader at once, and nothing of ours brings it back."""

from __future__ import annotations

import pytest
from command import agent_telemetry, record_runs
from stored import aged, ago, run_ids, store

from otel_agent_telemetry import TelemetryClient
from otel_agent_telemetry.journal import journal_files


def event_ids(config):
    return {run["run_id"]: run["event_id"] for run in agent_telemetry(config, "runs", "--json").json}


def journal_bytes(config):
    return b"".join(path.read_bytes() for path in journal_files(config.ndjson_dir))


def test_a_deleted_run_is_shown_by_no_reader(config):
    """Not by `runs`, `show`, `tail` or `verify`, which is green; its receipt stays, without content."""
    record_runs(config)
    result = agent_telemetry(config, "delete", "run-1", "--yes", "--json")
    assert result.code == 0
    (receipt,) = result.json["deleted"]
    assert receipt["run_id"] == "run-1"
    assert run_ids(config) == ["run-0", "run-2"]
    assert agent_telemetry(config, "show", "run-1").code == 3
    assert agent_telemetry(config, "show", receipt["event_id"]).code == 3
    tail = agent_telemetry(config, "tail", "-n", "100").out
    assert [line for line in tail.splitlines() if "run-1" in line] == [
        line for line in tail.splitlines() if "agent.run.deleted" in line
    ]
    assert agent_telemetry(config, "verify").code == 0
    again = agent_telemetry(config, "delete", "run-1", "--yes", "--json")
    assert again.json["deleted"] == [receipt]


def test_replay_and_restore_leave_a_deleted_run_deleted(config):
    """Into the same database, into a new one, and from a backup that has the run."""
    record_runs(config)
    assert agent_telemetry(config, "backup").code == 0
    agent_telemetry(config, "delete", "run-1", "--yes")
    assert agent_telemetry(config, "replay", "--json").json["deleted"] == 1
    assert run_ids(config) == ["run-0", "run-2"]
    agent_telemetry(config, "replay", "--into", config.base_dir / "new.sqlite")
    assert run_ids(config.with_(db_path=config.base_dir / "new.sqlite")) == ["run-0", "run-2"]
    (backup,) = config.backups_dir.glob("*.sqlite")
    assert agent_telemetry(config, "restore", backup, "--json").json["deleted"] == 1
    assert run_ids(config) == ["run-0", "run-2"]
    assert agent_telemetry(config, "verify").code == 0


def test_replay_finds_the_receipt_in_the_day_file_too(config):
    """Where the file with all marks is lost."""
    record_runs(config)
    agent_telemetry(config, "delete", "run-1", "--yes")
    (config.ndjson_dir / "deletions.ndjson").unlink()
    config.db_path.unlink()
    agent_telemetry(config, "replay")
    assert run_ids(config) == ["run-0", "run-2"]


def test_the_end_of_a_deleted_run_does_not_bring_it_back(config):
    """A process has the run open while it is deleted."""
    client = TelemetryClient(config)
    run_id = client.start_run("agent", "job", run_id="long")
    assert client.flush()
    assert agent_telemetry(config, "delete", "long", "--yes").code == 0
    client.end_run(run_id)
    assert client.flush()
    client.close()
    assert run_ids(config) == []
    assert agent_telemetry(config, "verify").code == 0


def test_retention_leaves_verify_green_and_replay_without_its_runs(config):
    """And a backup from before it."""
    store(config, aged(1, 40), aged(2, 1))
    record_runs(config, 1)
    agent_telemetry(config, "backup")
    assert agent_telemetry(config, "retention", "--days", "30").code == 0
    assert run_ids(config) == ["run-0", "run-2"]
    (backup,) = config.backups_dir.glob("*.sqlite")
    restored = agent_telemetry(config, "restore", backup, "--json")
    assert restored.json["deleted"] == 1
    agent_telemetry(config, "replay")
    assert run_ids(config) == ["run-0", "run-2"]
    assert agent_telemetry(config, "verify").code == 0


def test_verify_and_replay_pass_over_runs_that_a_retention_has_deleted(config):
    """The journal still has their lines."""
    client = TelemetryClient(config)
    for number, days in enumerate((40, 1)):
        moment = ago(days)
        run_id = client.start_run("agent", "job", run_id=f"run-{number}", created_at=moment, start_time=moment)
        client.end_run(run_id, end_time=moment)
    assert client.flush()
    client.close()
    config.db_path.unlink()
    assert agent_telemetry(config, "replay", "--json").json["inserted"] == 2
    assert agent_telemetry(config, "verify").code == 0


def test_purge_overwrites_the_lines_and_names_the_backups(config):
    """No byte of the run but its receipt is left in the journal, no number is missing, and it can be done later."""
    record_runs(config)
    agent_telemetry(config, "backup")
    before = len(journal_bytes(config))
    assert agent_telemetry(config, "delete", "run-1", "--yes").code == 0
    assert b'"n":1' in journal_bytes(config)
    result = agent_telemetry(config, "delete", "run-1", "--purge", "--json")
    assert result.code == 0
    assert (result.json["purged"]["lines"], result.json["purged"]["files"]) == (3, 1)
    assert len(result.json["purged"]["backups"]) == 1
    left = [line for line in journal_bytes(config).splitlines() if b"run-1" in line]
    assert len(left) == 1
    assert b"agent.run.deleted" in left[0]
    assert len(journal_bytes(config)) == before + len(left[0]) + 1
    assert agent_telemetry(config, "verify").code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("nobody", "--yes"), 3, "no run"),
        (("run-", "--yes"), 3, "no run"),
        (("run-2", "--yes"), 0, ""),
        (("run-2",), 2, "--yes"),
    ],
)
def test_what_a_deletion_needs(config, arguments, code, words):
    """The whole id of one run, and a yes."""
    record_runs(config)
    result = agent_telemetry(config, "delete", *arguments)
    assert result.code == code
    assert words in result.err
    assert ("run-2" in run_ids(config)) is (code != 0)
