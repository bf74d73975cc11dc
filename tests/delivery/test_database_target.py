"""The database as a target: one writer of a SQLite file, and what each failure means."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from otel_agent_telemetry import TelemetryConfig
from otel_agent_telemetry.delivery.database_target import DatabaseTarget
from otel_agent_telemetry.delivery.outcome import Batch, Delivered, RetryLater
from otel_agent_telemetry.model import RunRecord
from otel_agent_telemetry.run_id import new_event_id
from otel_agent_telemetry.storage.writer_lock import WriterLock

NOW = "2026-01-01T00:00:00.000000+00:00"


@pytest.fixture
def config(tmp_path: Path) -> TelemetryConfig:
    return TelemetryConfig(base_dir=tmp_path, discover_service=False, db_busy_timeout_ms=50, db_max_retries=0)


@pytest.fixture
def target(config: TelemetryConfig) -> Iterator[DatabaseTarget]:
    with closing(DatabaseTarget(config)) as opened:
        yield opened


def batch() -> Batch:
    return Batch.of((RunRecord.from_fields({"event_id": new_event_id(), "run_id": "r", "start_time": NOW,
                                         "agent_name": "a", "job_type": "j"}),))  # fmt: skip


def rows(config: TelemetryConfig) -> int:
    connection = sqlite3.connect(config.db_path)
    try:
        return connection.execute("select count(*) from agent_runs").fetchone()[0]
    finally:
        connection.close()


def test_delivered_means_committed(config, target):
    """After `Delivered` another connection sees the row, and the writer's lock is free again."""
    assert target.deliver(batch()) == Delivered()
    assert rows(config) == 1
    assert WriterLock(config.db_path).try_acquire()


def test_nothing_is_written_while_a_service_holds_the_database(config, target):
    """The answer names who holds it and where it answers; once it is gone, the same batch goes through."""
    code = (
        "import sys; from pathlib import Path\n"
        "from otel_agent_telemetry.storage.writer_lock import WriterLock\n"
        f"lock = WriterLock(Path({str(config.db_path)!r}))\n"
        "assert lock.try_acquire('http://127.0.0.1:9999'); print('held', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as service:
        assert service.stdout is not None
        assert service.stdout.readline() == b"held\n"
        waiting = batch()
        outcome = target.deliver(waiting)
        assert isinstance(outcome, RetryLater)
        assert f"process {service.pid}" in outcome.reason
        assert "http://127.0.0.1:9999" in outcome.reason
        assert not config.db_path.exists()
        os.kill(service.pid, signal.SIGKILL)
    assert target.deliver(waiting) == Delivered()
    assert rows(config) == 1


def test_a_locked_database_means_later(config, target):
    """Another program's transaction: nothing is confirmed, and the reason says locked."""
    target.deliver(batch())
    other = sqlite3.connect(config.db_path)
    other.execute("begin exclusive")
    outcome = target.deliver(batch())
    other.rollback()
    other.close()
    assert isinstance(outcome, RetryLater)
    assert "locked" in outcome.reason
    assert target.deliver(batch()) == Delivered()


@pytest.mark.parametrize("content", [b"not a database at all, but long enough to be looked at" * 40])
def test_a_file_that_is_no_database_means_later_and_stays_as_it_is(config, target, content):
    """Somebody else's file is neither written nor deleted."""
    config.db_path.parent.mkdir(parents=True)
    config.db_path.write_bytes(content)
    assert isinstance(target.deliver(batch()), RetryLater)
    assert config.db_path.read_bytes() == content


def test_a_folder_where_the_database_should_be_means_later(config, target):
    """The agent goes on; the reason names the path."""
    config.db_path.mkdir(parents=True)
    outcome = target.deliver(batch())
    assert isinstance(outcome, RetryLater)
    assert str(config.db_path) in outcome.reason
