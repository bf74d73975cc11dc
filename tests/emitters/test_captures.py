"""Requests that coding agents sent, posted as they were: OTLP in JSON, one row for each prompt.

`captures/README.md` describes the requests and the rows that a user expects of them.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from otel_agent_telemetry.service.app import create_app
from otel_agent_telemetry.testing import isolated_config

CAPTURES = Path(__file__).parent / "captures"
FIGURES = ("agent_name", "status", "model_calls", "tool_calls", "input_tokens", "output_tokens")
PROMPTS = {
    "claude-code_traces_beta_tool_call": [("claude-code", "success", 2, 1, 300, 14)],
    "claude-code_traces_prompts_logged": [("claude-code", "success", 2, 1, 300, 14)],
    "claude-code_traces_332_prompts_logged": [("claude-code", "success", 2, 1, 300, 14)],
    "claude-code_traces_tool_rejected": [("claude-code", "success", 2, 1, 300, 14)],
    "claude-code_traces_two_prompts_one_session_1": [("claude-code", "success", 1, 0, 150, 7)] * 2,
    "copilot-cli_traces_tool_call": [("github-copilot", "success", 2, 1, 200, 14)],
    "qwen-code_traces_tool_call": [("qwen-code", "success", 2, 1, 200, 14)],
}
TRACES = sorted(CAPTURES.glob("*_traces_*.json"))
CONTENT = (b"say done", b"echo hi", b"You are a non-interactive", b"This tool executes")


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Post every captured trace twice to one service; return its runs by trace id, and all that its files hold."""
    folder = tmp_path_factory.mktemp("captures")
    with TestClient(create_app(isolated_config(folder, db_synchronous="OFF")), base_url="http://127.0.0.1") as client:
        for path in TRACES * 2:
            request = json.loads(path.read_text())
            answer = client.post(request["path"], json=request["body"])
            assert (answer.status_code, answer.json()) == (200, {})
        rows = client.get("/api/v1/runs", params={"limit": 1000}).json()
    return rows, b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def rows_of(stored, *names):
    """Return the runs of some captures, in the order in which they began."""
    traces = set()
    for name in names:
        body = json.loads((CAPTURES / f"{name}.json").read_text())["body"]
        scopes = [scope for group in body["resourceSpans"] for scope in group["scopeSpans"]]
        traces |= {span["traceId"] for scope in scopes for span in scope["spans"]}
    return sorted((row for row in stored[0] if row["trace_id"] in traces), key=lambda row: row["start_time"])


@pytest.mark.parametrize("name", PROMPTS)
def test_traces_make_one_row_for_each_prompt(stored, name):
    """With the figures of the model, cached tokens in the input, and the session."""
    rows = rows_of(stored, name)
    assert [tuple(row[figure] for figure in FIGURES) for row in rows] == PROMPTS[name]
    assert len({row["session_id"] for row in rows}) == 1
    assert rows[0]["session_id"]


def test_a_turn_of_opencode_is_a_run_although_its_root_is_never_sent(stored):
    """With the call that made up the session's title; its session is on the steps alone."""
    rows = rows_of(stored, "opencode_traces_tool_call_3_selected", "opencode_traces_tool_call_4_selected")
    assert [tuple(row[figure] for figure in FIGURES) for row in rows] == [("opencode", "success", 3, 1, 300, 21)]
    assert not rows[0]["plumbing"]


@pytest.mark.parametrize(
    "names",
    [("gemini-cli_traces_tool_call",), ("codex_traces_014_selected", "codex_traces_015_selected")],
    ids=["gemini", "codex"],
)
def test_traces_that_lack_figures_count_nothing_twice(stored, names):
    """Gemini's spans name no tokens, and of Codex's only one, whose root is not sent."""
    used = Counter()
    for row in rows_of(stored, *names):
        used.update({figure: row[figure] or 0 for figure in FIGURES[2:]})
    assert used["input_tokens"] in (0, 100)
    assert used["output_tokens"] in (0, 7)
    assert used["model_calls"] <= 2
    assert used["tool_calls"] <= 1


def test_what_was_said_is_not_stored(stored):
    """No prompt, command, instruction or description of a tool is in the database."""
    assert [text for text in CONTENT if text in stored[1]] == []
