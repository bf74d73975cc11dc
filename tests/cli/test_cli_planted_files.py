"""Every command, and a recording, over folders in which another user has put what is no file of ours."""

import os
from pathlib import Path

import pytest
from command import agent_telemetry
from other_users import PLANTS, as_user, shared_folder

from otel_agent_telemetry.buffer.layout import (
    ack_path,
    drain_lock_path,
    health_path,
    lock_path,
    rejected_path,
    segment_path,
)
from otel_agent_telemetry.capture.telemetry_capture import TelemetryCapture
from otel_agent_telemetry.cli.error_handling import ExitCode
from otel_agent_telemetry.client import TelemetryClient
from otel_agent_telemetry.clock import SystemClock, day_of
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.journal import journal_path
from otel_agent_telemetry.storage.database_place import sidecar
from otel_agent_telemetry.testing import isolated_config

pytestmark = pytest.mark.requires("POSIX")
WRITER = "20260101T000000-1-0123abcd"
COMMANDS = (
    ("verify",),
    ("doctor",),
    ("runs", "--no-sync"),
    ("tail",),
    ("show", "mine", "--no-sync"),
    ("sync", "--timeout", "0.2"),
    ("replay",),
    ("retention", "--journal", "--captures"),
    ("backup",),
    ("delete", "mine", "--purge", "--yes"),
    ("capture-query",),
)


def _names(config: TelemetryConfig) -> dict[str, list[Path]]:
    """The paths to plant something at, in groups that do not hide one another."""
    buffer, today = config.buffer_dir, day_of(SystemClock().now_ns())
    segment = segment_path(buffer, WRITER, 0)
    return {
        "files of lines": [
            journal_path(config.ndjson_dir, today),
            journal_path(config.ndjson_dir, "20260101"),
            health_path(buffer),
            health_path(buffer).with_suffix(".new"),
            ack_path(segment),
            rejected_path(buffer, "20260101"),
            config.capture_file,
            config.backups_dir / "telemetry-20260101T000000Z.sqlite",
        ],
        "segment and locks": [segment, lock_path(buffer, WRITER), sidecar(config.db_path, ".writer.lock")],
        "delivery and database": [drain_lock_path(buffer), config.db_path, sidecar(config.db_path, "-journal")],
    }


def _use_everything(config: TelemetryConfig) -> str:
    """Record a run and a captured entry, and run every command; return the run's id."""
    client = TelemetryClient(config)
    run_id = client.start_run("agent", "job", run_id="mine")
    client.log_event(run_id, "step")
    client.end_run(run_id)
    client.flush(0.2)
    TelemetryCapture(config.capture_file).capture("skill", "success", 1, "caller")
    client.close()
    for command in COMMANDS:
        assert agent_telemetry(config, *command).code != ExitCode.USAGE
    return run_id


@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize("group", _names(isolated_config("/")))
def test_nothing_that_another_user_planted_holds_up_or_misleads_a_command(plant: str, group: str) -> None:
    """In folders that everybody may write: each call returns, and the file that was aimed at stays as it is."""
    with shared_folder(0o777) as base:
        config = isolated_config(base, exit_timeout_s=0.2, db_busy_timeout_ms=200)
        victim = base / "victim"
        victim.write_bytes(b"precious")
        for path in _names(config)[group]:
            for folder in reversed([path.parent, *path.parent.parents]):
                if folder.is_relative_to(base) and not folder.exists():
                    folder.mkdir()
                    folder.chmod(0o777)
            PLANTS[plant](path, victim)

        assert as_user(os.geteuid(), lambda: _use_everything(config)) == "mine"

        assert victim.read_bytes() == b"precious"
