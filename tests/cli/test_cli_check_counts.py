"""`check-counts`: the numbers that are kept, against the runs."""

from __future__ import annotations

import pytest
from command import agent_telemetry
from on_disk import record
from sqlalchemy import text
from stored import store

from otel_agent_telemetry.storage.engine import make_engine, writing
from otel_agent_telemetry.storage.writer_lock import WriterLock


@pytest.fixture
def counted(either):
    """A configuration whose database holds three runs, and the environment that names it."""
    config, _ = either
    store(config, record(1), record(2), record(3, status="success"))
    return either


def tamper(config, statement="UPDATE run_counts SET runs = runs + 7 WHERE status = 'success'"):
    engine = make_engine(config)
    with writing(engine, "tampering with") as connection:
        connection.execute(text(statement))
    engine.dispose()


def test_counts_that_agree_are_no_problem(counted):
    """Status 0, and the word for it."""
    config, environment = counted
    result = agent_telemetry(config, "check-counts", env=environment)
    assert result.code == 0, result.err
    assert "stored counts match the runs" in result.out
    assert agent_telemetry(config, "check-counts", "--json", env=environment).json == {
        "ok": True,
        "repaired": False,
        "differences": [],
    }


def test_counts_that_differ_are_shown_and_repaired(counted):
    """Status 1 and what differs; --repair puts it right, after which nothing differs."""
    config, environment = counted
    tamper(config)
    result = agent_telemetry(config, "check-counts", env=environment)
    assert result.code == 1
    assert "8" in result.out
    assert "--repair" in result.out
    shown = agent_telemetry(config, "check-counts", "--json", env=environment)
    assert shown.code == 1
    (difference,) = shown.json["differences"]
    assert (difference["table"], difference["key"][2]) == ("run_counts", "success")
    assert (difference["kept"], difference["actual"]) == (8, 1)
    repaired = agent_telemetry(config, "check-counts", "--repair", "--json", env=environment)
    assert repaired.code == 0
    assert (repaired.json["repaired"], repaired.json["differences"]) == (True, [difference])
    assert agent_telemetry(config, "check-counts", env=environment).code == 0


def test_repairing_what_agrees_changes_nothing(counted):
    """The error names the service."""
    config, environment = counted
    result = agent_telemetry(config, "check-counts", "--repair", "--json", env=environment)
    assert (result.code, result.json["repaired"]) == (0, False)


def test_a_repair_waits_for_no_service(config):
    """SQLite has one writer: status 4 and who it is; checking goes on as ever."""
    store(config, record(1))
    tamper(config, "DELETE FROM run_hours")
    lock = WriterLock(config.db_path)
    assert lock.try_acquire("http://127.0.0.1:8765")
    refused = agent_telemetry(config, "check-counts", "--repair")
    assert refused.code == 4
    assert "http://127.0.0.1:8765" in refused.err
    assert agent_telemetry(config, "check-counts").code == 1
    lock.release()
    assert agent_telemetry(config, "check-counts", "--repair").code == 0


def test_without_a_database_there_is_nothing_to_count(config):
    """None is made."""
    result = agent_telemetry(config, "check-counts")
    assert result.code == 0
    assert "No runs yet" in result.err
    assert not config.base_dir.exists()
