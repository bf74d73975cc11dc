"""What spans say was used, in every spelling there is."""

from __future__ import annotations

import pytest

from otel_agent_telemetry.otel.conventions import ONLY_BESIDE, TOKEN_SPELLINGS
from otel_agent_telemetry.otel.usage import own_usage, step_usage, usage_by_model, usage_of_step
from otel_agent_telemetry.otel.usage_attributes import reported_cost, tokens_of
from otel_agent_telemetry.usage import added, shown_usage, summed
from tests.otel.span_views import view


@pytest.mark.parametrize(("name", "key"), [(name, key) for name, keys in TOKEN_SPELLINGS.items() for key in keys])
def test_every_spelling_of_tokens_is_read(name, key):
    """Old, new, and the other conventions'."""
    beside = {ONLY_BESIDE[key]: "x"} if key in ONLY_BESIDE else {}
    assert tokens_of({key: 7, **beside})[name] == 7


def test_the_first_spelling_counts_where_a_span_has_several():
    """Libraries write the old name beside the new one: never both."""
    assert tokens_of({"gen_ai.usage.prompt_tokens": 5, "gen_ai.usage.input_tokens": 5}) == {"input_tokens": 5}


def test_a_figure_that_is_text_is_read():
    """Some senders send all attributes as text."""
    assert tokens_of({"gen_ai.usage.input_tokens": "12"}) == {"input_tokens": 12}


@pytest.mark.parametrize(
    "value", ["12x", "", "-1", "9" * 30, "½", None, True, -1, float("nan"), float("inf"), 2**60, [3], b"4"]
)
def test_what_is_no_number_of_tokens_is_left_out(value):
    """Attributes come from anywhere."""
    assert tokens_of({"gen_ai.usage.input_tokens": value}) == {}


@pytest.mark.parametrize(
    ("attributes", "counted"),
    [
        ({"gen_ai.operation.name": "chat"}, "model_calls"),
        ({"gen_ai.operation.name": "text_completion"}, "model_calls"),
        ({"gen_ai.operation.name": "generate_content"}, "model_calls"),
        ({"gen_ai.operation.name": "embeddings"}, "model_calls"),
        ({"openinference.span.kind": "LLM"}, "model_calls"),
        ({"openinference.span.kind": "EMBEDDING"}, "model_calls"),
        ({"llm.request.type": "chat"}, "model_calls"),
        ({"gen_ai.operation.name": "execute_tool"}, "tool_calls"),
        ({"openinference.span.kind": "TOOL"}, "tool_calls"),
        ({"traceloop.span.kind": "tool"}, "tool_calls"),
    ],
)
def test_model_and_tool_calls_are_known_by_any_convention(attributes, counted):
    """One call each."""
    assert step_usage(view(attributes)) == {"steps": 1, counted: 1}


@pytest.mark.parametrize(
    "attributes",
    [
        {"gen_ai.operation.name": "invoke_agent"},
        {"openinference.span.kind": "CHAIN"},
        {"openinference.span.kind": "AGENT"},
    ],
)
def test_tokens_that_a_span_repeats_from_below_are_not_counted(attributes):
    """Agents and chains are no model calls."""
    told = {**attributes, "gen_ai.usage.input_tokens": 99, "llm.token_count.prompt": 99}
    assert step_usage(view(told)) == {"steps": 1}


def test_a_model_call_names_its_model_the_answering_one_first():
    """What was asked for may be an alias."""
    asked = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "latest", "gen_ai.response.model": "m-2026"}
    assert step_usage(view(asked))["models"] == ["m-2026"]
    assert step_usage(view({"openinference.span.kind": "LLM", "llm.model_name": "m"}))["models"] == ["m"]
    assert step_usage(view({**asked, "gen_ai.response.model": "none"}))["models"] == ["latest"]
    genkit = {"genkit:metadata:subtype": "model", "genkit:name": "fake/m"}
    assert step_usage(view(genkit))["models"] == ["fake/m"]
    assert step_usage(view({"mlflow.spanType": '"LLM"', "mlflow.llm.model": '"m"'}))["models"] == ["m"]
    assert len(step_usage(view({**asked, "gen_ai.response.model": "m" * 9999}))["models"][0]) == 200


def test_a_failed_step_is_an_error_of_a_child():
    """Whatever kind of step it is."""
    assert step_usage(view({"gen_ai.operation.name": "chat"}, status="error")) == {
        "steps": 1,
        "child_errors": 1,
        "model_calls": 1,
    }


def test_a_run_says_what_the_whole_used():
    """Totals on the run's own span, pydantic-ai's aggregated names included."""
    assert own_usage(view({"gen_ai.aggregated_usage.input_tokens": 30, "gen_ai.response.model": "m"})) == {
        "input_tokens": 30,
        "models": ["m"],
    }
    assert own_usage(view({"gen_ai.usage.input_tokens": 5, "gen_ai.aggregated_usage.input_tokens": 30})) == {
        "input_tokens": 5
    }
    assert own_usage(view({"gen_ai.agent.name": "a", "gen_ai.request.model": "m"})) == {"model_inside": "m"}


@pytest.mark.parametrize(
    ("attributes", "tokens"),
    [
        ({"gen_ai.usage.text.input_tokens": 5, "gen_ai.usage.audio.input_tokens": 2}, {"input_tokens": 7}),
        ({"gen_ai.usage.input_tokens": 9, "gen_ai.usage.audio.input_tokens": 2}, {"input_tokens": 9}),
        ({"llm.token_count.total": 12}, {"total_tokens": 12}),
        ({"llm.token_count.total": 12, "llm.token_count.prompt": 10}, {"input_tokens": 10, "output_tokens": 2}),
        ({"ai.usage.totalTokens": 12, "ai.usage.outputTokens": 2}, {"input_tokens": 10, "output_tokens": 2}),
        ({"gen_ai.usage.total_tokens": 5, "gen_ai.usage.input_tokens": 5}, {"input_tokens": 5}),
        ({"gen_ai.usage.input_tokens": 4, "gen_ai.usage.cache_read_input_tokens": 30}, {"input_tokens": 34}),
        ({"gen_ai.usage.input_tokens": 40, "gen_ai.usage.cache_read_input_tokens": 30}, {"input_tokens": 40}),
        (
            {"langfuse.observation.usage_details": '{"input": 5, "output": "2"}'},
            {"input_tokens": 5, "output_tokens": 2},
        ),
        ({"langfuse.observation.usage_details": "not JSON"}, {}),
        ({"genkit:output": '{"usage": {"inputTokens": 5}, "message": {}}'}, {"input_tokens": 5}),
        ({"genkit:output": '{"usage": 5}'}, {}),
        ({"mlflow.chat.tokenUsage": {"input_tokens": 5}}, {"input_tokens": 5}),
        ({"gen_ai.usage.details.cache_read_tokens": 3, "gen_ai.usage.input_tokens": 5}, {"input_tokens": 5}),
        ({"input_tokens": 5, "output_tokens": 2}, {}),
    ],
)
def test_what_a_sender_leaves_out_is_worked_out(attributes, tokens):
    """Sums of modalities, parts of totals, cached tokens beside the input; bare names are anybody's."""
    found = tokens_of(attributes)
    assert {name: found[name] for name in found if name in ("input_tokens", "output_tokens", "total_tokens")} == tokens


def test_a_total_says_whether_cached_tokens_are_beside_the_input():
    """Strands sends what its model's provider counts: Bedrock leaves the cached ones out of the input, OpenAI does not."""
    figures = {"gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 7}
    cached = {"gen_ai.usage.cache_read_input_tokens": 30}
    assert tokens_of({**figures, **cached, "gen_ai.usage.total_tokens": 107})["input_tokens"] == 100
    assert tokens_of({**figures, **cached, "gen_ai.usage.total_tokens": 137})["input_tokens"] == 130


def test_claude_code_counts_its_cached_tokens_beside_the_input():
    """Whatever the figures are: the sender is known by its service."""
    attributes = {
        "span.type": "llm_request",
        "gen_ai.request.model": "m",
        "input_tokens": 100,
        "output_tokens": 7,
        "cache_read_tokens": 30,
        "cache_creation_tokens": 20,
    }
    sent = view(attributes)._replace(resource={"service.name": "claude-code"})
    assert step_usage(sent) == {
        "steps": 1,
        "model_calls": 1,
        "input_tokens": 150,
        "output_tokens": 7,
        "cache_read_input_tokens": 30,
        "cache_write_input_tokens": 20,
        "models": ["m"],
        "last_model_call": "2025-10-09T08:53:21.000000+00:00 ok",
    }


def test_a_coding_agents_root_leaves_its_status_to_the_last_model_call():
    """Unless it says one itself."""
    sent = view({"span.type": "interaction"}, status="unset")._replace(resource={"service.name": "claude-code"})
    assert own_usage(sent) == {"last_model_call_decides": 1}
    assert own_usage(sent._replace(status="ok")) == {}
    assert own_usage(sent._replace(resource={"service.name": "app"})) == {}


SERVED, CALLED = {"steps": 1, "served_tool_calls": 1}, {"steps": 1, "tool_calls": 1}


@pytest.mark.parametrize(
    ("steps", "calls"),
    [
        ([(CALLED, -1), (SERVED, -1)], 1),
        ([(CALLED, -1), (SERVED, 0)], 1),
        ([(CALLED, -1), (SERVED, 0), (SERVED, 1)], 1),
        ([(SERVED, -1), (CALLED, 0)], 1),
        ([(SERVED, -1), (SERVED, -1)], 2),
        ([(CALLED, -1), (CALLED, -1), (SERVED, -1)], 2),
    ],
)
def test_a_call_that_a_protocol_reports_too_counts_once(steps, calls):
    """Inside its caller's span or beside it, where the protocol's task knows only the trace that it was started in."""
    assert shown_usage(own={}, steps=summed(steps))["tool_calls"] == calls


def test_a_call_that_the_model_context_protocol_reports_is_a_served_one():
    """By its client or its server; a framework's own span of the call is the caller's."""
    called = {"gen_ai.operation.name": "execute_tool"}
    assert usage_of_step(view({"mcp.method.name": "tools/call", **called})) == SERVED
    assert usage_of_step(view(called)) == CALLED


def spring_call(tokens, reason, provider="openai"):
    """A model call of Spring AI 1: it adds the tokens of the calls before it in the same turn to its own."""
    reported = {"gen_ai.usage.input_tokens": str(tokens), "gen_ai.response.finish_reasons": f'["{reason}"]'}
    offered = {"spring.ai.model.request.tool.names": '["weather"]', "gen_ai.system": provider}
    return usage_of_step(
        view(attributes={"gen_ai.operation.name": "chat", **offered, **reported, "gen_ai.request.model": "m"})
    )


@pytest.mark.parametrize(
    ("calls", "tokens"),
    [
        ([(100, "TOOL_CALLS"), (200, "STOP")], 200),
        ([(200, "STOP"), (100, "TOOL_CALLS")], 200),
        ([(100, "tool_use"), (200, "tool_use"), (300, "end_turn")], 300),
        ([(100, "TOOL_CALLS"), (200, "TOOL_CALLS")], 200),
        ([(100, "stop", "ollama"), (200, "stop", "ollama")], 200),
        ([(100, "STOP"), (120, "STOP")], 220),
    ],
)
def test_calls_that_add_up_what_those_before_them_used_count_once_a_turn(calls, tokens):
    """In whatever order they are counted; and also for their model, on whose figures the price depends."""
    turn = [({}, -1), *((spring_call(*call), 0) for call in calls)]
    used = shown_usage(own={}, steps=summed([*turn, (spring_call(50, "STOP"), -1)]))
    assert used["input_tokens"] == used["by_model"]["m"]["input_tokens"] == tokens + 50
    assert used["model_calls"] == used["by_model"]["m"]["model_calls"] == len(calls) + 1


@pytest.mark.parametrize(("provider", "tokens"), [("anthropic", 100), ("openai", 50)])
def test_a_senders_rule_may_hold_for_one_provider(provider, tokens):
    """OpenLIT hands on what Anthropic's client counts."""
    attributes = {
        "telemetry.sdk.name": "openlit",
        "gen_ai.provider.name": provider,
        "gen_ai.usage.input_tokens": 50,
        "gen_ai.usage.cache_read.input_tokens": 50,
    }
    assert tokens_of(attributes)["input_tokens"] == tokens


@pytest.mark.parametrize(
    "attributes",
    [
        {"gen_ai.operation.name": "unheard of", "gen_ai.usage.input_tokens": 5, "gen_ai.request.model": "m"},
        {"gen_ai.usage.input_tokens": 5, "gen_ai.response.model": "m"},
        {"openinference.span.kind": "RETRIEVER", "llm.token_count.prompt": 5, "llm.model_name": "m"},
        {"ai.usage.promptTokens": 5, "ai.model.id": "m"},
    ],
)
def test_tokens_and_a_model_make_a_model_call(attributes):
    """Whatever the span's operation is called."""
    assert step_usage(view(attributes)) == {"steps": 1, "model_calls": 1, "input_tokens": 5, "models": ["m"]}


@pytest.mark.parametrize(
    "kind",
    [
        {"gen_ai.operation.name": "invoke_agent"},
        {"openinference.span.kind": "chain"},
        {"gen_ai.operation.name": "execute_tool"},
        {"ai.operationId": "ai.streamText"},
    ],
)
def test_agents_chains_and_tools_with_tokens_and_a_model_are_none(kind):
    """They repeat the sum of what is below them."""
    assert "model_calls" not in step_usage(view({**kind, "gen_ai.usage.input_tokens": 5, "gen_ai.request.model": "m"}))


TOKENS_ALONE = {"gen_ai.usage.input_tokens": 5}


@pytest.mark.parametrize(
    "above",
    [
        {"gen_ai.request.model": "m"},
        {"gen_ai.operation.name": "invoke_agent", "gen_ai.request.model": "m"},
        {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"},
    ],
)
def test_a_span_above_may_name_the_model(above):
    """However far above: a span with tokens and no model of its own is a call of that model."""
    steps = [(step_usage(view(TOKENS_ALONE)), 1), (step_usage(view({"a": 1})), 2), (usage_of_step(view(above)), -1)]
    used = summed(steps)
    assert (used["model_calls"], used["input_tokens"], used["models"], used["steps"]) == (1, 5, ["m"], 3)
    assert used["by_model"] == {"m": {"model_calls": 1, "input_tokens": 5}}


def test_a_runs_own_span_may_name_the_model():
    """Of the calls in it that name none; others keep theirs."""
    named = usage_by_model(view(), {"steps": 1, "model_calls": 1, "input_tokens": 2, "models": ["other"]})
    used = shown_usage(
        own=own_usage(view({"gen_ai.request.model": "m"})), steps=added([named, step_usage(view(TOKENS_ALONE))])
    )
    assert (used["model_calls"], used["input_tokens"], used["models"]) == (2, 7, ["m", "other"])


def test_tokens_whose_model_nobody_names_are_kept_and_are_no_call():
    """The span may repeat what an untraced call used."""
    used = shown_usage(own={}, steps=step_usage(view(TOKENS_ALONE)))
    assert used == {"input_tokens": 5, "steps": 1}


def test_a_run_that_is_itself_a_model_call_is_one():
    """With its model and what it used, for its price."""
    chat = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 5}
    assert own_usage(view(chat)) == {
        "model_calls": 1,
        "input_tokens": 5,
        "models": ["m"],
        "by_model": {"m": {"model_calls": 1, "input_tokens": 5}},
    }
    assert own_usage(view({"gen_ai.operation.name": "execute_tool"})) == {"tool_calls": 1}


@pytest.mark.parametrize(
    ("attributes", "nusd"),
    [
        ({"gen_ai.usage.cost": 0.25}, 250_000_000),
        ({"llm.cost.total": "0.25"}, 250_000_000),
        ({"operation.cost": 0}, None),
        ({"gen_ai.usage.cost": 0, "operation.cost": 0.5}, 500_000_000),
        ({"cost_usd": 1}, 1_000_000_000),
        ({"llm.cost.prompt": 0.1, "llm.cost.completion": 0.2}, 300_000_000),
        ({"langfuse.observation.cost_details": '{"total": 0.5}'}, 500_000_000),
        ({"gen_ai.usage.cost": "a lot", "operation.cost": 0.5}, 500_000_000),
        ({"gen_ai.usage.cost": float("nan")}, None),
        ({"gen_ai.usage.cost": -1}, None),
        ({"gen_ai.usage.cost": True}, None),
        ({}, None),
    ],
)
def test_a_cost_that_a_span_reports_is_read(attributes, nusd):
    """In US dollars, kept as whole billionths."""
    assert reported_cost(attributes) == nusd
