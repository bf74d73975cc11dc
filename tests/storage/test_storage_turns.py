"""Turns of coding agents from what the programs really sent: one row each, whatever comes first, however often."""

from __future__ import annotations

import json
import random
from itertools import pairwise

import pytest
from sqlalchemy import text
from storage_cases import SECOND, T0, Database, at
from turn_cases import after

from otel_agent_telemetry.storage.deletions import delete_run
from otel_agent_telemetry.storage.queries import list_runs
from otel_agent_telemetry.storage.run_filters import RunQuery
from otel_agent_telemetry.storage.steps import spans_of
from otel_agent_telemetry.storage.store import write_batch
from tests.emitters.captured_turns import batch_of, captured_nodes, captured_records

READ = (captured_records, captured_nodes)
LATER_S = (1_795_900_000 * SECOND - T0) // SECOND
"""A day after the captures were made, as the tests count."""
TURNS = {
    "claude": (
        ("claude-code_logs_with_trace_ids_and_tool_details",),
        ("claude-code_traces_beta_tool_call",),
        [("claude-code", "success", None, 300, 14, 2, 1, 0.000978, "ef9477c2-de6f-4fa3-940f-b62b90d3690d")],
        {"cache_read_input_tokens": 60, "cache_write_input_tokens": 40},
    ),
    "claude, two prompts": (
        ("claude-code_logs_two_prompts_one_session_1", "claude-code_logs_two_prompts_one_session_2"),
        ("claude-code_traces_two_prompts_one_session_1",),
        [("claude-code", "success", None, 150, 7, 1, 0, 0.000489, "e2e61f25-8431-4998-b249-de22e5e9475d")] * 2,
        {"cache_read_input_tokens": 30, "cache_write_input_tokens": 20},
    ),
    "claude, error": (
        ("claude-code_logs_api_error",),
        ("claude-code_traces_api_error",),
        [("claude-code", "failed", "made-up failure", 0, 0, 1, 0, None, "8ce31e1e-09fe-417a-820c-efe8f56b8c1b")],
        {"child_errors": 1},
    ),
    "claude, retries exhausted": (
        ("claude-code_logs_api_retries_exhausted",),
        (),
        [("claude-code", "failed", "made-up failure", 0, 0, 1, 0, None, "82cf882b-5034-4ee5-b80c-e53718877b42")],
        {"child_errors": 1},
    ),
    "codex": (
        ("codex_logs_tool_call",),
        ("codex_traces_014_selected", "codex_traces_015_selected"),
        [("codex", "success", None, 200, 14, 2, 1, None, "01a21ebd-4575-7a21-9577-81286eeda3a0")],
        {"cache_read_input_tokens": 60, "reasoning_output_tokens": 4},
    ),
    "gemini": (
        ("gemini-cli_logs_tool_call",),
        ("gemini-cli_traces_tool_call",),
        [("gemini-cli", "success", None, 200, 18, 2, 1, None, "ae630963-7dc3-45d4-ac86-cf37e7ccf89f")],
        {"cache_read_input_tokens": 60, "reasoning_output_tokens": 4},
    ),
    "gemini, error": (
        ("gemini-cli_logs_api_error",),
        (),
        [("gemini-cli", "failed", "made-up failure", 0, 0, 1, 0, None, "a7d8ce50-cb3e-4ac6-8a00-330754695124")],
        {"child_errors": 1},
    ),
}


def reports_cost(run):
    """Whether its agent does; a price list, which changes, gives that of the others."""
    return run.agent_name == "claude-code"


def rows_of(connection):
    """Every run that is no plumbing, as its user sees it."""
    return [
        (
            *(run.agent_name, run.status, run.error_summary, run.input_tokens, run.output_tokens),
            *(run.model_calls, run.tool_calls, run.cost_usd if reports_cost(run) else None, run.session_id),
        )
        for run in list_runs(connection, RunQuery(limit=1000))
        if not run.plumbing
    ]


def parts_of(connection):
    """What each run used besides; its events and steps name it, and no call is a step twice."""
    runs = [run for run in list_runs(connection, RunQuery(limit=1000)) if not run.plumbing]
    for table in ("run_events", "run_spans"):
        named = f"SELECT count(*) FROM {table} p JOIN agent_runs a USING (event_id) WHERE p.run_id <> a.run_id"
        assert connection.execute(text(named)).scalar() == 0
    of_logs = "SELECT event_id FROM run_spans WHERE writer = 'logs' AND event_id <> ''"
    both = f"SELECT count(*) FROM run_spans WHERE writer = '' AND is_run = 0 AND event_id IN ({of_logs})"
    assert connection.execute(text(both)).scalar() == 0
    return [json.loads(run.metrics_json)["gen_ai"] for run in runs]


def by_chance(seed, items):
    """The items in some order, each twice, cut into requests."""
    draw = random.Random(seed)
    shuffled = draw.sample(items * 2, k=len(items) * 2)
    cuts = sorted(draw.sample(range(len(shuffled)), k=min(3, len(shuffled))))
    return [shuffled[start:end] for start, end in pairwise([0, *cuts, len(shuffled)])]


SIGNALS = {
    "logs": lambda records, _: [records],
    "backwards": lambda records, _: [[one] for one in records[::-1]],
    "one by one, then traces": lambda records, nodes: [*([one] for one in records), nodes],
    "traces, then one by one": lambda records, nodes: [nodes, *([one] for one in records)],
    "traces backwards, between": lambda records, nodes: [records[:2], *([one] for one in nodes[::-1]), records[2:]],
    "by chance, twice": lambda records, nodes: by_chance(1, [*records, *nodes]),
}


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    opened = Database(tmp_path_factory.mktemp("turns"))
    yield opened
    opened.close()


@pytest.mark.parametrize("order", SIGNALS)
@pytest.mark.parametrize("name", TURNS)
def test_a_turn_is_one_row_whatever_comes_first(database, name, order):
    """With the figures that its user expects."""
    logs, traces, rows, more = TURNS[name]
    parts = SIGNALS[order](list(captured_records(*logs)), list(captured_nodes(*traces)))
    batches = [batch_of(*part) for part in parts]
    found, used = after(
        database, batches, lambda connection: (rows_of(connection), parts_of(connection)), now_s=LATER_S
    )
    assert found == rows
    assert all(more.items() <= one.items() for one in used)


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("claude", [("execute_tool Bash", 92), ("chat claude-sonnet-4-5", 95), ("chat claude-sonnet-4-5", 13)]),
        ("codex", [("chat gpt-5", 0), ("execute_tool exec_command", 53), ("chat gpt-5", 0)]),
        (
            "gemini",
            [("chat gemini-2.5-pro", 592), ("execute_tool run_shell_command", 297), ("chat gemini-2.5-pro", 69)],
        ),
        ("gemini, error", [("chat gemini-2.5-pro", 24)]),
    ],
)
def test_without_traces_the_calls_of_the_logs_are_the_steps(database, name, steps):
    """With their durations, and of a failed one its error."""

    def read(connection):
        (run,) = list_runs(connection, RunQuery())
        return spans_of(connection, run.event_id)

    found = after(database, [batch_of(*captured_records(*TURNS[name][0]))], read, now_s=LATER_S)
    assert sorted((step.name, step.duration_ms) for step in found) == sorted(steps)
    assert {step.status for step in found} == ({"error"} if "error" in name else {"unset"})
    assert "made-up failure" in (found[0].status_message or "made-up failure")


@pytest.mark.parametrize("name", ["claude", "codex", "gemini"])
def test_a_deleted_turn_does_not_come_back_with_its_late_spans(database, name):
    """Nor with its records, each again and one by one."""
    records, nodes = (captured(*names) for captured, names in zip(READ, TURNS[name][:2], strict=True))

    def story(connection):
        for run in list_runs(connection, RunQuery()):
            delete_run(connection, run.event_id, deleted_at=at(LATER_S), deleted_by="test")
        for one in (*nodes, *records):
            write_batch(connection, batch_of(one), received_at=at(LATER_S + 1))
        return rows_of(connection)

    assert after(database, [batch_of(*records)], story, now_s=LATER_S) == []


def test_all_of_them_at_once_on_postgresql(postgresql_database):
    """In requests that mix the programs; each turn is one row as on SQLite."""
    named = [TURNS[name] for name in TURNS]
    items = [one for logs, traces, _, _ in named for one in (*captured_records(*logs), *captured_nodes(*traces))]
    parts = [batch_of(*part) for part in by_chance(3, items)]
    found = after(postgresql_database, parts, rows_of, now_s=LATER_S)
    assert sorted(map(str, found)) == sorted(str(row) for _, _, rows, _ in named for row in rows)
