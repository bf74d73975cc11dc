"""The real agents with the settings that `connect` writes, each started by `agent-telemetry run`."""

from __future__ import annotations

import subprocess
import sys

import pytest
from components import require
from on_disk import PATIENCE_S, ROOT, eventually

from otel_agent_telemetry.connect.agents import BY_NAME
from otel_agent_telemetry.connect.record import Records
from otel_agent_telemetry.connect.settings_file import undo, write
from otel_agent_telemetry.testing import isolated_config
from tests.emitters.coding_agents import AGENTS, Place
from tests.emitters.coding_model import CodingModel
from tests.service.running import running

NAMES = ("claude-code", "codex")
SWITCHES = ("OTEL_", "CLAUDE_CODE_EN")
"""What the variables begin with that switch an agent's telemetry on."""


def without_telemetry(name, place):
    """Write an agent's configuration without its telemetry; return its environment."""
    environment = AGENTS[name].environment(place)
    if name == "codex":
        file = place.home / ".codex" / "config.toml"
        file.write_text(file.read_text().partition("[otel]")[0])
    return {key: value for key, value in environment.items() if not key.startswith(SWITCHES)}


@pytest.mark.parametrize("name", NAMES)
def test_an_agent_follows_the_settings_and_its_run_belongs_to_the_command(tmp_path, name):
    """One run of `agent-telemetry run`, and in it the agent's prompt with its model calls; then all is undone."""
    program = require(AGENTS[name].component)
    config = isolated_config(tmp_path / "base", db_synchronous="OFF", silence_s=2.0)
    agent, records = BY_NAME[name], Records(tmp_path / "own")
    with running(config) as service, CodingModel() as model:
        place = Place(tmp_path / "home", tmp_path / "work", model.url, service.url)
        place.work.mkdir()
        environment = without_telemetry(name, place)
        file = place.home / agent.home.removeprefix("~/") / agent.files[-1]
        before = file.read_bytes() if file.exists() else None
        write(agent, file, agent.wanted(service.url, None), records, has_secret=False, replace=False)
        ours = {"PYTHONPATH": str(ROOT), "TELEMETRY_API_URL": service.url, "TELEMETRY_BASE_DIR": str(tmp_path / "own")}
        started = [sys.executable, "-m", "otel_agent_telemetry.cli", "run", "--label", "team=search", "--"]
        done = subprocess.run(
            [*started, str(program), *AGENTS[name].ask("say done")],
            cwd=place.work, env={**environment, **ours}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=PATIENCE_S * 2, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr + done.stdout

        def rows():
            found = service.client.get("/api/v1/runs", params={"limit": 1000}).json()
            found = [row for row in found if not row["plumbing"]]
            return found if len(found) >= 2 and all(row["status"] != "running" for row in found) else None

        found = eventually(rows)
        (command,) = [row for row in found if row["job_type"] == "command"]
        (prompt,) = [row for row in found if row["job_type"] != "command"]
        assert (prompt["agent_name"], prompt["model_calls"], prompt["status"]) == (name, 2, "success")
        assert prompt["parent_run_id"] == command["run_id"]
        assert prompt["labels"] == command["labels"] == {"team": "search"}
    undo(agent, file, records)
    assert (file.read_bytes() if file.exists() else None) == before
