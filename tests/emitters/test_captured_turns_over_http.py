"""What a service makes of the captured logs, some with their traces and metrics, posted in several ways.

`tests/storage/test_storage_turns.py` shows the same of more orders, without a door.
"""

from __future__ import annotations

import json
import random

import pytest
from starlette.testclient import TestClient

from otel_agent_telemetry.service.app import create_app
from otel_agent_telemetry.testing import isolated_config
from tests.emitters.test_captures import CAPTURES

FIGURES = ("agent_name", "status", "input_tokens", "output_tokens", "model_calls", "tool_calls", "error_summary")
CACHED = ("cache_read_input_tokens", "cache_write_input_tokens", "reasoning_output_tokens")
CLAUDE = ("claude-code", "success", 300, 14, 2, 1, None, 60, 40, None)
CODEX = ("codex", "success", 200, 14, 2, 1, None, 60, 0, 4)
GEMINI = ("gemini-cli", "success", 200, 18, 2, 1, None, 60, None, 4)
QWEN = ("qwen-code", "success", 200, 14, 2, 1, None, 60, None, 4)
SILENT = ("no further telemetry", None, None, None)
TURNS = {
    "claude-code_logs_tool_call": [CLAUDE],
    "claude-code_logs_prompts_logged": [CLAUDE],
    "claude-code_*_332*": [CLAUDE],
    "claude-code_*_sigterm": [("claude-code", "failed", 0, 0, 0, 0, *SILENT)],
    "codex_logs_two_prompts*": [CODEX, CODEX],
    "codex_logs_sigterm": [],
    "gemini-cli_*_tool_call": [GEMINI],
    "gemini-cli_logs_two_prompts*": [GEMINI, GEMINI],
    "gemini-cli_logs_sigterm": [("gemini-cli", "failed", 0, 0, 0, 0, *SILENT)],
    "qwen-code_*_tool_call*": [QWEN],
    "qwen-code_logs_two_prompts*": [QWEN, QWEN],
    "qwen-code_*_api_error*": [("qwen-code", "failed", 0, 0, 1, 0, "401 the model is down", None, None, None)],
    "qwen-code_*_sigterm*": [("qwen-code", "failed", 0, 0, 1, 0, *SILENT)],
}
SAID = (b"say done", b"echo hi", b"It is on shelf", b"You are a non-interactive")
LEAVES = {"resourceLogs": ("scopeLogs", "logRecords"), "resourceSpans": ("scopeSpans", "spans")}


def requests_of(pattern):
    return [json.loads(path.read_text()) for path in sorted(CAPTURES.glob(f"{pattern}.json"))]


def records_of(request):
    """Yield a request for each log record or span of one; metrics stay together."""
    ((kind, groups),) = request["body"].items()
    if kind not in LEAVES:
        yield request
        return
    scopes, leaves = LEAVES[kind]
    for group in groups:
        for scope in group[scopes]:
            for leaf in scope[leaves]:
                yield {**request, "body": {kind: [{**group, scopes: [{**scope, leaves: [leaf]}]}]}}


def shuffled(requests):
    records = [record for request in requests for record in records_of(request)]
    random.Random(3).shuffle(records)
    return records


WAYS = {
    "as they were sent": list,
    "twice, backwards": lambda requests: [*requests[::-1], *requests],
    "record by record in any order": shuffled,
}


@pytest.fixture(scope="module", params=WAYS)
def stored(request, tmp_path_factory):
    """Post the captures in one way to a service; return its rows by session, what its files hold, and events' payloads."""
    folder, rows = tmp_path_factory.mktemp("turns"), {}
    with TestClient(create_app(isolated_config(folder, db_synchronous="OFF")), base_url="http://127.0.0.1") as client:
        for one in WAYS[request.param]([one for pattern in TURNS for one in requests_of(pattern)]):
            answer = client.post(one["path"], json=one["body"])
            assert (answer.status_code, answer.json()) == (200, {})
        for row in reversed(client.get("/api/v1/runs", params={"limit": 1000}).json()):
            rows.setdefault(row["session_id"], []).append(row)
        logged = [row for of_session in rows.values() for row in of_session if not row["plumbing"]]
        events = [event for row in logged for event in client.get(f"/api/v1/runs/{row['event_id']}/events").json()]
    files = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    return rows, files, [event["payload"] for event in events]


def session_of(pattern):
    """Return the one session of some captures."""
    text = json.dumps([request["body"] for request in requests_of(pattern)])
    keys = ('"session.id", "value": {"stringValue": "', '"conversation.id", "value": {"stringValue": "')
    return next(text.split(key)[1].split('"')[0] for key in keys if key in text)


def figures_of(row):
    used = (row["metrics_json"] or {}).get("gen_ai", {})
    return (*(row[name] for name in FIGURES), *map(used.get, CACHED))


@pytest.mark.parametrize("pattern", TURNS)
def test_every_way_gives_the_rows_that_a_user_expects(stored, pattern):
    """One for each prompt, none for the plumbing, with the time from the prompt to the last sign of life."""
    rows = stored[0].get(session_of(pattern), [])
    assert [figures_of(row) for row in rows if not row["plumbing"]] == TURNS[pattern]
    assert all(row["duration_ms"] > 0 for row in rows if row["status"] == "success")


def test_an_event_does_not_repeat_what_its_run_says(stored):
    """Neither its name and time nor session and prompt are members of its payload."""
    names = {name for payload in stored[2] for name in payload}
    assert {"tool_name", "model", "duration_ms", "event.sequence"} <= names
    assert {"event.name", "event.timestamp", "session.id", "conversation.id", "prompt.id", "prompt_id"} & names == set()


def test_nothing_that_was_said_is_in_a_file(stored):
    """Also where the agents' own switches let it out."""
    assert [text for text in SAID if text in stored[1]] == []
