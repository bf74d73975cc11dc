"""Another language's own SDK, through a real collector: its spans are runs."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from components import CACHE, missing, require
from on_disk import PATIENCE_S, child_environment, eventually
from stored_runs import stored_runs, stored_steps

from otel_agent_telemetry.run_id import span_event_id

PROGRAM = Path(__file__).parent / "javascript"
PACKAGES = ("package.json", "package-lock.json")


@pytest.fixture(scope="session")
def installed():
    """The program beside the packages that its lock file names, in the cache folder."""
    require("Node.js")
    wanted = hashlib.sha256(b"".join((PROGRAM / name).read_bytes() for name in PACKAGES)).hexdigest()[:12]
    folder = CACHE / "collector" / f"javascript-{wanted}"
    if not (folder / "complete").exists():
        install(folder)
    shutil.copy(PROGRAM / "agent.js", folder)
    return folder


def install(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name in PACKAGES:
        shutil.copy(PROGRAM / name, folder)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=10 * PATIENCE_S)
    if done.returncode:
        missing("Node.js", f"npm ci: {done.stderr[-500:]}")
    (folder / "complete").touch()


def test_spans_of_the_javascript_sdk_become_runs(collect, service, installed, tmp_path):
    """Agent name, status, tokens, events and steps, under the ids that the SDK gave them."""
    collector = collect("gateway.yaml", TELEMETRY_API_URL=service.url)

    done = subprocess.run(
        ["node", "agent.js"],
        cwd=installed,
        env=child_environment({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}),
        capture_output=True,
        text=True,
        check=False,
        timeout=3 * PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    spans = json.loads(done.stdout)
    well, badly = (span_event_id(span["traceId"], span["spanId"], int(span["startNs"])) for span in spans)
    eventually(lambda: len(stored_runs(tmp_path / "service")) == 2)

    rows = stored_runs(tmp_path / "service")
    assert rows.keys() == {well, badly}
    for row in rows.values():
        assert (row["agent_name"], row["job_type"]) == ("buyer", "invoke_agent buyer")
        assert (row["service_name"], row["environment"]) == ("shop-js", "prod")
        assert json.loads(row["metrics_json"])["gen_ai"]["input_tokens"] == 12
    assert (rows[well]["status"], rows[well]["error_summary"]) == ("success", None)
    assert (rows[badly]["status"], rows[badly]["error_summary"]) == ("failed", "RangeError: no such card")
    assert "agent.js" in rows[badly]["error_details"]
    assert json.loads(rows[well]["context_json"]) == {"basket": ["a", "b"]}
    assert stored_steps(tmp_path / "service") == {well: (1, 1), badly: (1, 2)}


def test_lock_file_names_no_registry():
    """What is installed is known by its hash; where from is for each machine to say."""
    packages = json.loads((PROGRAM / "package-lock.json").read_text())["packages"]
    locked = {path: entry for path, entry in packages.items() if path}
    assert all(entry["integrity"].startswith("sha512-") for entry in locked.values())
    assert not any("resolved" in entry for entry in locked.values())
