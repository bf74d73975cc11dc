"""What a log record of a coding agent says of its turn: by the rows of the table, whatever the types and names."""

from __future__ import annotations

import pytest

from otel_agent_telemetry.otel.log_records import LoggedEvent
from otel_agent_telemetry.otel.turn_records import TurnReader
from otel_agent_telemetry.recording.active_runs import ResourceDefaults
from otel_agent_telemetry.usage import LAST_CALL

NOW_NS = 1_760_000_000 * 10**9
SESSION = {
    "claude-code": "session.id",
    "codex_exec": "conversation.id",
    "gemini-cli": "session.id",
    "qwen-code": "session.id",
}


def event(name, attributes=None, *, sender="claude-code", time_ns=NOW_NS, scope="", session="s", **more):
    given = {SESSION.get(sender, "session.id"): session} if session else {}
    resource = {"service.name": sender} | more.pop("resource", {})
    values = {"trace_id": "", "span_id": "", "body": None, "severity": "", "identity": "1" * 32, **more}
    return LoggedEvent(
        sender=sender,
        resource=resource,
        scope=scope,
        name=name,
        time_ns=time_ns,
        attributes={**given, **(attributes or {})},
        **values,
    )


def read(*arguments, around=None, received_ns=NOW_NS, **more):
    reader = TurnReader(around=around or ResourceDefaults(), silence_s=600)
    return reader.read(event(*arguments, **more), received_ns=received_ns)


@pytest.mark.parametrize(
    ("sender", "name", "attributes", "role"),
    [
        ("claude-code", "user_prompt", {}, "begins"),
        ("claude-code", "claude_code.user_prompt", {}, "begins"),
        ("claude-code", "api_error", {"error": "no"}, "model_error"),
        ("claude-code", "plugin_loaded", {}, "nothing"),
        ("claude-code", "made_next_year", {}, "other"),
        ("codex_exec", "codex.sse_event", {"event.kind": "response.completed"}, "sign"),
        ("codex_exec", "codex.sse_event", {"input_token_count": "7"}, "model_call"),
        ("codex_exec", "codex.sse_event", {"error.message": "stream closed"}, "model_error"),
        ("codex_exec", "codex.api_request", {"http.response.status_code": 200}, "sign"),
        ("codex_exec", "codex.api_request", {"http.response.status_code": "429"}, "model_error"),
        ("gemini-cli", "gen_ai.client.inference.operation.details", {"gen_ai.usage.input_tokens": 9}, "nothing"),
        ("qwen-code", "qwen-code.api_response", {}, "model_call"),
        ("qwen-code", "session.end", {}, "ends"),
    ],
)
def test_events_mean_what_the_table_says(sender, name, attributes, role):
    """With and without the prefix; an unknown name is an event and nothing more."""
    assert read(name, attributes, sender=sender).role == role


@pytest.mark.parametrize(
    ("sender", "name", "attributes", "figures"),
    [
        # ccusage's users: input without the cache is a tenth of what was read, and is priced otherwise.
        (
            "claude-code",
            "api_request",
            {"input_tokens": "4", "output_tokens": 7, "cache_read_tokens": 30.0, "cache_creation_tokens": "20"},
            {"input_tokens": 54, "output_tokens": 7, "cache_read_input_tokens": 30, "cache_write_input_tokens": 20},
        ),
        (
            "codex_exec",
            "codex.sse_event",
            {
                "input_token_count": "100",
                "output_token_count": "7",
                "cached_token_count": "30",
                "reasoning_token_count": 2,
            },
            {"input_tokens": 100, "output_tokens": 7, "cache_read_input_tokens": 30, "reasoning_output_tokens": 2},
        ),
        (
            "gemini-cli",
            "gemini_cli.api_response",
            {
                "input_token_count": 100,
                "output_token_count": 7,
                "thoughts_token_count": 2,
                "cached_content_token_count": None,
            },
            {"input_tokens": 100, "output_tokens": 9, "reasoning_output_tokens": 2},
        ),
        (
            "qwen-code",
            "qwen-code.api_response",
            {"output_token_count": 7, "thoughts_token_count": 2},
            {"output_tokens": 7},
        ),
        (
            "claude-code",
            "api_request",
            {"input_tokens": "many", "output_tokens": -1, "cost_usd": "nan"},
            {"model_calls": 1},
        ),
        ("claude-code", "tool_result", {"success": "false"}, {"tool_calls": 1, "child_errors": 1}),
        ("claude-code", "tool_decision", {"decision": "reject"}, {"tool_decisions": 1, "rejected_tools": 1}),
        ("codex_exec", "codex.tool_decision", {"decision": "approved"}, {"tool_decisions": 1}),
        ("gemini-cli", "gemini_cli.tool_call", {"success": False, "decision": "reject"}, {"rejected_tools": 1}),
        ("claude-code", "internal_error", {}, {"child_errors": 1}),
    ],
)
def test_figures_follow_the_rules_of_their_sender(sender, name, attributes, figures):
    """Numbers come as integers, doubles, texts and nulls."""
    usage = read(name, attributes, sender=sender).usage
    assert figures.items() <= usage.items()
    assert "steps" not in usage


@pytest.mark.parametrize(
    ("attributes", "failure"),
    [
        ({"error": "Overloaded\nRetry later"}, "Overloaded"),
        ({"error": '{"type":"error","error":{"message":"no quota left"}}'}, "no quota left"),
        ({"status_code": "529"}, "HTTP status 529"),
        ({}, "the last model call failed"),
        ({"error": "the key sk-ant-api03-" + "A" * 40 + " is not valid"}, "the key ***REDACTED*** is not valid"),
    ],
)
def test_a_failed_call_says_why(attributes, failure):
    """In one line, with secrets masked."""
    assert read("api_error", attributes).usage[LAST_CALL].partition(" failed ")[2] == failure


def test_a_failed_call_leaves_the_cost_of_the_others_known():
    """It has neither tokens nor a price: a retry must not make the whole turn's cost unknown."""
    failed = read("api_error", {"model": "claude-sonnet-4-5", "error": "no"}).usage
    assert failed["model_calls"] == 1
    assert "by_model" not in failed


def test_turns_are_told_apart_by_agent_host_session_and_prompt():
    """And the same whatever else the resource says, which collectors add to."""
    one = read("user_prompt", {"prompt.id": "p"})
    assert read("user_prompt", {"prompt.id": "p"}, resource={"cloud.region": "x"}).own_turn == one.own_turn
    others = [
        read("user_prompt", {"prompt.id": "q"}),
        read("user_prompt", {"prompt.id": "p"}, session="t"),
        read("user_prompt", {"prompt.id": "p"}, resource={"host.name": "other"}),
        read("qwen-code.user_prompt", {"prompt_id": "p"}, sender="qwen-code"),
    ]
    assert len({one.own_turn, *(other.own_turn for other in others)}) == 5


def test_a_program_under_another_service_name_is_known_all_the_same():
    """By its scope or the names of its events; it is called as its user calls it."""
    for more in ({"scope": "com.anthropic.claude_code.events"}, {"scope": "x"}):
        name = "user_prompt" if more["scope"] != "x" else "claude_code.user_prompt"
        record = read(name, {"prompt.id": "p"}, sender="my-coder", **more)
        assert (record.role, record.base["agent_name"], record.base["service_name"]) == (
            "begins",
            "my-coder",
            "my-coder",
        )
    assert (
        read("user_prompt", {}, sender="unknown_service:node", scope="com.anthropic.claude_code.events").base[
            "agent_name"
        ]
        == "claude-code"
    )
    assert read("user_prompt", {}, sender="my-app") is None


def test_without_a_session_the_trace_is_one_and_without_both_nothing_is_known():
    """The session may stand on the resource."""
    assert read("user_prompt", session="") is None
    traced = read("user_prompt", session="", trace_id="a" * 32)
    assert traced.own_turn
    assert "session_id" not in traced.base
    assert read("user_prompt", session="", resource={"session.id": "s"}).stretch == read("user_prompt").stretch


def test_a_record_that_comes_by_two_ways_is_one():
    """Users of tools that sum such logs report doubled usage: a collector on one way adds to the record."""
    numbered = {"event.sequence": 3, "input_tokens": 7}
    one = read("api_request", numbered, identity="1" * 32)
    assert read("api_request", {**numbered, "collector": "c"}, identity="2" * 32).identity == one.identity
    others = [
        read("api_request", {**numbered, "event.sequence": 4}),
        read("api_request", numbered, time_ns=NOW_NS + 1),  # of a session that was resumed, which counts from 0 again
        read("api_request", numbered, session="t"),
    ]
    assert one.identity not in {other.identity for other in others}
    unnumbered = [read("codex.tool_result", sender="codex_exec", identity=digit * 32).identity for digit in "12"]
    assert len(set(unnumbered)) == 2


def test_ids_are_anybodys_text():
    """A secret in one is masked, and nulls, surrogates and a megabyte harm nobody."""
    secret = "ghp_" + "a1B2" * 9
    record = read("user_prompt", {"prompt.id": "\ud800\0" * 500_000}, session=secret)
    assert secret not in str(record)
    assert len(record.own_turn) == 36
    for odd in (7, True, None, ["x"], {"a": 1}):
        assert read("user_prompt", {"session.id": odd}, session="", trace_id="b" * 32).own_turn


def test_what_was_said_is_left_out_and_counted():
    """Also where the agent's own switch let it out; with the setting it stays."""
    said = {"prompt": "say done", "tool_input": "x", "full_command": "echo", "prompt_length": 8}
    record = read("user_prompt", said)
    assert "say done" not in str(record)
    assert record.usage["left_out"] == {"prompt": 1, "tool_input": 1, "full_command": 1}
    kept = read("user_prompt", said, around=ResourceDefaults(capture_content=True))
    assert kept.payload["prompt"] == "say done"


def test_a_clock_that_is_ahead_does_not_keep_a_turn_open():
    """It is silent by the clock of the service, from when the record came."""
    record = read("user_prompt", time_ns=NOW_NS + 10**15)
    assert record.silent_ns == NOW_NS + 600 * 10**9
    assert read("user_prompt", time_ns=0).time_ns == NOW_NS


@pytest.mark.parametrize(("given", "parent"), [("20260101T000000Z-make-a1b2c3d4", True), ("a/b", False), (7, False)])
def test_a_turn_belongs_to_the_run_that_its_resource_names(given, parent):
    """As `agent-telemetry run` has it in OTEL_RESOURCE_ATTRIBUTES; an id that none can have is no run's."""
    for name in ("user_prompt", "api_request"):
        base = read(name, {}, resource={"agent_run.id": given}).base
        assert base.get("parent_run_id") == (given if parent else None)


def test_the_prompt_gives_the_columns_of_the_run():
    """Version, host, labels and what else a span's resource would give; ids of its span, where that is the run."""
    resource = {
        "service.version": "2.1",
        "host.name": "h",
        "agent.label.team": "core",
        "deployment.environment.name": "dev",
    }
    base = read("user_prompt", {}, resource=resource, trace_id="a" * 32, span_id="b" * 16).base
    given = {
        "agent_version": "2.1",
        "host": "h",
        "labels": '{"team":"core"}',
        "environment": "dev",
        "span_id": "b" * 16,
    }
    assert given.items() <= base.items()
