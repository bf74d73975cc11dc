"""Full disks and file-size limits: counted and reported, never raised, nothing that was kept is torn."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from otel_agent_telemetry.buffer.health import live_counters, read_health
from tests.durability.agent import config_for
from tests.durability.ledger import read_events, read_rows, settle

pytestmark = pytest.mark.durability

ROOT = Path(__file__).parents[2]
SCRIPT = """
import json, sys
from pathlib import Path
from otel_agent_telemetry import TelemetryClient
from tests.durability.agent import config_for
{limit}
client = TelemetryClient(config_for(Path(sys.argv[1]), segment_bytes=1 << 20))
done = []
for number in range(400):
    run_id = client.start_run("agent", "job", run_id=f"r{{number}}", input_summary="x" * 500)
    client.log_event(run_id, "step", {{"n": 0, "filler": "", "crc": 0}})
    client.end_run(run_id, "success")
    done.append(run_id)
{relief}
client.end_run(client.start_run("agent", "job", run_id="after"), "success")
print(json.dumps({{"done": len(done), "counters": client._recorder.counters.as_dict()}}))
client.close()
"""


def run_agent(base: Path, *, limit: str = "", relief: str = "") -> dict[str, object]:
    code = SCRIPT.format(limit=limit, relief=relief)
    done = subprocess.run(
        [sys.executable, "-c", code, str(base)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_a_full_disk_is_counted_and_never_raised(small_disk: Path) -> None:
    """400 runs into a small disk: all calls return, the failures are counted and visible to others afterwards."""
    told = run_agent(small_disk / "base")
    assert told["done"] == 400
    counters = told["counters"]
    assert isinstance(counters, dict)
    assert counters["journal_failed"] > 0
    assert counters["lost"] > 0
    assert "No space left" in counters["last_error"]
    config = config_for(small_disk / "base")
    seen = sum(
        note.get("counters", {}).get("lost", 0) for note in live_counters(config.buffer_dir).values()
    ) + read_health(config.buffer_dir).counters.get("lost", 0)
    assert seen > 0, "doctor would not see the loss"


def test_what_a_full_disk_took_is_whole(small_disk: Path, tmp_path: Path) -> None:
    """What was written before the disk was full can be delivered elsewhere, and no torn line is believed."""
    run_agent(small_disk / "base")
    rescued = tmp_path / "rescued"
    shutil.copytree(small_disk / "base", rescued, ignore=shutil.ignore_patterns("db"))
    config = config_for(rescued)
    settle(config)
    rows = read_rows(config)
    assert len(rows) >= 5
    assert {row["status"] for row in rows.values()} <= {"success", "failed"}
    assert all(event.endswith(" 0") for event in read_events(config))


def test_a_file_size_limit_is_survived_and_recovered_from(tmp_path: Path) -> None:
    """A limit on the size of a file cuts lines short; once it is lifted, records are kept again."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))"
    relief = "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))"
    told = run_agent(tmp_path, limit=limit, relief=relief)
    counters = told["counters"]
    assert isinstance(counters, dict)
    assert counters["journal_failed"] > 0
    config = config_for(tmp_path)
    settle(config)
    rows = read_rows(config)
    assert rows["after"]["status"] == "success"
    assert rows["r0"]["status"] == "success"
    assert all(event.endswith(" 0") for event in read_events(config))


def test_a_folder_that_cannot_be_written_costs_nothing_but_the_records(tmp_path: Path) -> None:
    """A file stands where the base directory should be: every call returns, the loss is counted."""
    base = tmp_path / "base"
    base.write_text("in the way")
    told = run_agent(base)
    counters = told["counters"]
    assert isinstance(counters, dict)
    assert told["done"] == 400
    assert counters["lost"] >= 1200
    assert base.read_text() == "in the way"
    assert os.listdir(tmp_path) == ["base"]
