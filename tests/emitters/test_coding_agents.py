"""The real Claude Code and the real Codex, a model on loopback and a service: the rows of each scene, and the page.

A program that npm does not have any more is represented by its captures, and the summary of the tests says so. One that
npm has and this machine lacks fails in CI.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import warnings
from collections import defaultdict

import pytest
from components import COMPONENTS, find, in_ci, missing
from on_disk import PATIENCE_S, eventually

from otel_agent_telemetry.testing import isolated_config
from tests.emitters.coding_agents import AGENTS, Place
from tests.emitters.coding_model import CodingModel
from tests.emitters.test_captured_turns_over_http import CLAUDE, CODEX, SAID, figures_of, requests_of
from tests.service.running import running

pytestmark = pytest.mark.filterwarnings("default:the captures of")

SILENCE_S = 2.0
DOWN = "the model is down"
KILLED = ("claude-code", "failed", 0, 0, 0, 0, "no further telemetry", None, None, None)
SCENES = {
    ("claude-code", "tool_call"): [CLAUDE],
    ("claude-code", "two_prompts_one_session"): [CLAUDE, CLAUDE],
    ("claude-code", "api_error"): [("claude-code", "failed", 0, 0, 1, 0, DOWN, None, None, None)],
    ("claude-code", "sigterm"): [KILLED],
    ("claude-code", "sigkill"): [KILLED],
    ("codex", "tool_call"): [CODEX],
    ("codex", "two_prompts_one_session"): [CODEX, CODEX],
}
UNSENT = (("codex", "api_error"), ("codex", "sigterm"))
"""Of turns that fail or are killed `codex exec` sends nothing but what its exporter has sent already, once a second."""
STAND_IN = {
    ("claude-code", "tool_call"): "claude-code_*_prompts_logged",
    ("claude-code", "two_prompts_one_session"): "claude-code_logs_two_tool_calls_one_session*",
    ("claude-code", "api_error"): "claude-code_logs_api_error_once",
    ("claude-code", "sigterm"): "claude-code_*_sigterm",
    ("claude-code", "sigkill"): "claude-code_logs_sigkill",
    ("codex", "tool_call"): "codex_logs_tool_call",
    ("codex", "two_prompts_one_session"): "codex_logs_two_prompts_one_session*",
    ("codex", "api_error"): "codex_logs_sigterm",
    ("codex", "sigterm"): "codex_logs_sigterm",
}
"""The captures that show the same as a scene."""
CONTENT = dict.fromkeys(("OTEL_LOG_USER_PROMPTS", "OTEL_LOG_TOOL_DETAILS", "OTEL_LOG_TOOL_CONTENT"), "1")
AT_ONCE = {"OTEL_LOGS_EXPORT_INTERVAL": "50"}


class Stage:
    """A service, and coding agents that send to it; `play` runs a scene, `rows` returns what came of it."""

    def __init__(self, service, folder):
        self.service, self._folder = service, folder

    def play(self, name, scene):
        agent = AGENTS[name]
        if find(agent.component) is None:
            self._post_captures(name, scene)
            return
        place = self._folder / f"{name}_{scene}"
        extra = {**CONTENT, "OTEL_RESOURCE_ATTRIBUTES": f"agent.label.scene={name}_{scene}"}
        with CodingModel() as model:
            where = Place(place / "home", place / "work", model.url, self.service.url)
            getattr(self, f"_{scene}")(agent, where, model, extra)

    def rows(self, name, scene):
        """Return the runs of a scene that are no plumbing, oldest first."""
        rows = self.service.client.get("/api/v1/runs", params={"limit": 1000}).json()
        mine = {"scene": f"{name}_{scene}"}
        return [row for row in reversed(rows) if row["labels"] == mine and not row["plumbing"]]

    def _tool_call(self, agent, place, model, extra):
        code, printed = agent.run(place, "say done", extra=extra)
        assert code == 0, printed

    def _two_prompts_one_session(self, agent, place, model, extra):
        self._tool_call(agent, place, model, extra)
        code, printed = agent.run(place, "say done again", again=True, extra=extra)
        assert code == 0, printed

    def _api_error(self, agent, place, model, extra):
        model.status = 500
        code, printed = agent.run(place, "say done", extra=extra)
        assert code == 1, printed

    def _sigterm(self, agent, place, model, extra):
        model.hold()
        process = agent.start(place, "say done", extra=extra)
        model.was_asked()
        _end(process, signal.SIGTERM)

    def _sigkill(self, agent, place, model, extra):
        """Kill it once its prompt has been stored; it has sent nothing else."""
        model.hold()
        process = agent.start(place, "say done", extra={**extra, **AT_ONCE})
        model.was_asked()
        eventually(lambda: self.rows("claude-code", "sigkill"))
        _end(process, signal.SIGKILL)

    def _post_captures(self, name, scene):
        for request in requests_of(STAND_IN[name, scene]):
            ((_, groups),) = request["body"].items()
            for group in groups:
                label = {"key": "agent.label.scene", "value": {"stringValue": f"{name}_{scene}"}}
                group["resource"]["attributes"].append(label)
            assert self.service.client.post(request["path"], json=request["body"]).status_code == 200


def _end(process, number):
    os.killpg(process.pid, number)
    process.communicate(timeout=PATIENCE_S)


def _is_on_npm(component):
    package = COMPONENTS[component].install.rpartition(" ")[2]
    npm = shutil.which("npm")
    return (
        npm is None
        or subprocess.run([npm, "view", package, "version"], check=False, capture_output=True).returncode == 0
    )


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """Play every scene, one after the other, with the agents' own switches for content on."""
    for component in {AGENTS[name].component for name, _ in SCENES}:
        if find(component) is None:
            if in_ci() and _is_on_npm(component):
                missing(component)
            warnings.warn(f"the captures of {component} stand in for the program", stacklevel=1)
    folder = tmp_path_factory.mktemp("coding_agents")
    settings = isolated_config(folder / "base", db_synchronous="OFF", silence_s=SILENCE_S)
    with running(settings) as service:
        stage = Stage(service, folder)
        for name, scene in (*SCENES, *UNSENT):
            stage.play(name, scene)
        yield stage


def _over(stage, name, scene):
    """Return the rows of a scene once none of them is open, None before."""
    rows = stage.rows(name, scene)
    return rows if all(row["status"] != "running" for row in rows) else None


@pytest.mark.parametrize(("name", "scene"), SCENES, ids=map("-".join, SCENES))
def test_a_real_agents_prompts_are_runs(stage, name, scene):
    """One for each prompt, with its figures; of one session where they were put in one."""
    rows = eventually(lambda: _over(stage, name, scene))
    assert [figures_of(row) for row in rows] == SCENES[name, scene]
    assert len({row["session_id"] for row in rows}) == 1


@pytest.mark.parametrize(("name", "scene"), UNSENT, ids=map("-".join, UNSENT))
def test_a_turn_that_was_hardly_sent_is_no_success(stage, name, scene):
    """There is no row, or a failed one where the prompt was sent in time."""
    eventually(lambda: _over(stage, name, scene) is not None)
    rows = stage.rows(name, scene)
    assert [row["status"] for row in rows] in ([], ["failed"])


def test_the_page_shows_them_and_nothing_that_was_said(stage):
    """The list, a run and its session, and every file of the service's folder."""
    rows = stage.rows("claude-code", "tool_call") + stage.rows("codex", "tool_call")
    read = defaultdict(str)
    for path in ("/", *(f"/runs/{row['event_id']}" for row in rows), f"/sessions/{rows[0]['session_id']}"):
        answer = stage.service.client.get(path)
        assert answer.status_code == 200, path
        read[path] = answer.text
    assert all(name in read["/"] for name in ("claude-code", "codex"))
    assert "Bash" in read[f"/runs/{rows[0]['event_id']}"]
    base = stage.service.settings.base_dir
    kept = b"".join(path.read_bytes() for path in base.rglob("*") if path.is_file())
    assert [text for text in SAID if text in kept or text.decode() in "".join(read.values())] == []
