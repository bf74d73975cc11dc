"""What spans say was used, in every spelling there is."""

from __future__ import annotations

import pytest

from otel_agent_telemetry.otel.conventions import ONLY_BESIDE, TOKEN_SPELLINGS
from otel_agent_telemetry.otel.usage import own_usage, step_usage, tokens_of
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
        {"http.request.method": "POST"},
    ],
)
def test_tokens_that_a_span_repeats_from_below_are_not_counted(attributes):
    """Agents, chains and plain spans are no model calls."""
    told = {**attributes, "gen_ai.usage.input_tokens": 99, "llm.token_count.prompt": 99}
    assert step_usage(view(told)) == {"steps": 1}


def test_a_model_call_names_its_model_the_answering_one_first():
    """What was asked for may be an alias."""
    asked = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "latest", "gen_ai.response.model": "m-2026"}
    assert step_usage(view(asked))["models"] == ["m-2026"]
    assert step_usage(view({"openinference.span.kind": "LLM", "llm.model_name": "m"}))["models"] == ["m"]
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
    assert own_usage(view({"gen_ai.agent.name": "a", "gen_ai.request.model": "m"})) == {}
