"""`reset`: what was recorded goes, and nothing else, whatever stands in the folders."""

from __future__ import annotations

import os

import pytest
from command import agent_telemetry, record_runs

from otel_agent_telemetry import TelemetryClient
from otel_agent_telemetry.capture.telemetry_capture import TelemetryCapture
from otel_agent_telemetry.cli.error_handling import ExitCode
from otel_agent_telemetry.operations.reset import inventory, remove
from otel_agent_telemetry.storage.writer_lock import WriterLock

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no folder descriptors")


def files_of(folder):
    """Every path below a folder that is no folder itself."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_symlink() or path.is_file())


def used(config):
    """Record runs, an entry and a backup, and put files of the user's own beside them."""
    record_runs(config)
    client = TelemetryClient(config)
    TelemetryCapture(client=client).capture("skill", "success", 1.0, "CLI")
    client.close()
    assert agent_telemetry(config, "backup").code == 0
    for name in ("alerts.toml", "raw/notes.txt", "db/mine.sqlite", "buffer/readme.md", "telemetry.sqlite"):
        (config.base_dir / name).write_text("mine")
    (config.base_dir / "connections").mkdir()
    (config.base_dir / "connections/codex-12345678.json").write_text("{}")


OWN = ["alerts.toml", "buffer/readme.md", "connections/codex-12345678.json", "db/mine.sqlite", "raw/notes.txt", "telemetry.sqlite"]  # fmt: skip


def test_what_was_recorded_goes_and_everything_else_stays(config):
    """Files are named with their number and size first; the folders stay, and recording begins anew."""
    used(config)
    asked = agent_telemetry(config, "reset")
    assert asked.code == ExitCode.USAGE
    assert "--yes" in asked.err
    assert {line.split()[0] for line in asked.out.splitlines()[1:]} == {
        "journal",
        "buffer",
        "database",
        "backups",
        "captured",
    }
    before = files_of(config.base_dir)
    result = agent_telemetry(config, "reset", "--yes")
    assert (result.code, result.err) == (0, "")
    assert set(before) > set(OWN)
    assert files_of(config.base_dir) == OWN
    assert (config.base_dir / "raw").is_dir()
    assert agent_telemetry(config, "runs", "--json").json == []
    record_runs(config, 1)
    assert len(agent_telemetry(config, "runs", "--json").json) == 1


def test_an_empty_folder_is_left_as_it_is(config):
    """Nothing is made, and nothing is asked."""
    result = agent_telemetry(config, "reset")
    assert (result.code, result.out) == (0, f"Nothing was recorded under {config.base_dir}.\n")
    assert not config.base_dir.exists()


def test_planted_links_are_never_followed(config, tmp_path):
    """Neither of a file nor of a folder, also where one takes a file's place between the look and the removal."""
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("events_20260101.ndjson", "telemetry-20260101T000000Z.sqlite", "20260101.jsonl"):
        (outside / name).write_text("precious")
    used(config)
    (config.base_dir / "raw/events_20260102.ndjson").symlink_to(outside / "events_20260101.ndjson")
    (config.base_dir / "buffer/rejected").symlink_to(outside)
    for path in (config.base_dir / "backups").iterdir():
        path.unlink()
    (config.base_dir / "backups").rmdir()
    (config.base_dir / "backups").symlink_to(outside)
    os.mkfifo(config.base_dir / "raw/events_20260103.ndjson")
    (config.base_dir / "raw/events_20260104.ndjson").mkdir()
    found = inventory(config)
    assert set(found.left) == {
        *("backups", "buffer/rejected"),
        *(f"raw/events_2026010{day}.ndjson" for day in (2, 3, 4)),
    }
    journal = next(one for one in found.recorded if one.what == "journal")
    swapped = config.base_dir / "raw" / journal.names[0]
    swapped.unlink()
    swapped.symlink_to(outside / "events_20260101.ndjson")
    remove(config, found)
    assert swapped.is_symlink()
    assert [path.read_text() for path in outside.iterdir()] == ["precious"] * 3
    result = agent_telemetry(config, "reset", "--yes", "--json")
    assert set(result.json["left"]) == {*found.left, f"raw/{journal.names[0]}"}


def test_it_is_refused_while_a_process_records_or_a_service_runs(config):
    """Status 4, nothing is removed, and who is in the way is said."""
    used(config)
    before = files_of(config.base_dir)
    client = TelemetryClient(config)
    client.start_run("agent", "job", run_id="open")
    result = agent_telemetry(config, "reset", "--yes")
    assert result.code == ExitCode.STORE_UNAVAILABLE
    assert "recording" in result.err
    client.end_run("open")
    client.close()
    service = WriterLock(config.db_path)
    assert service.try_acquire("http://127.0.0.1:8765")
    try:
        result = agent_telemetry(config, "reset", "--yes")
    finally:
        service.release()
    assert result.code == ExitCode.STORE_UNAVAILABLE
    assert "service" in result.err
    assert set(before) <= set(files_of(config.base_dir))
    assert len(agent_telemetry(config, "runs", "--json").json) == 5


def test_what_is_configured_elsewhere_stays(config, tmp_path):
    """Only what is under the base directory is removed."""
    elsewhere = config.with_(ndjson_dir=tmp_path / "elsewhere")
    record_runs(elsewhere)
    kept = files_of(tmp_path / "elsewhere")
    assert kept
    result = agent_telemetry(config, "reset", "--yes", env={"TELEMETRY_NDJSON_DIR": str(tmp_path / "elsewhere")})
    assert result.code == 0
    assert files_of(tmp_path / "elsewhere") == kept
