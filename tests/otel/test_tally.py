"""What the steps of a run used: sums that lose nothing, and costs that come when the price list does."""

from __future__ import annotations

import json
import threading

import pytest
from opentelemetry.sdk.trace import TracerProvider

from otel_agent_telemetry import AgentRunSpanProcessor
from otel_agent_telemetry.otel.pricing import PRICES, PriceList
from otel_agent_telemetry.otel.tally import RunTally
from otel_agent_telemetry.otel.usage import ModelCall
from otel_agent_telemetry.testing import MemoryRecorder, capture_runs, isolated_config
from otel_agent_telemetry.usage import COST, added, shown_usage
from tests.otel.span_views import view

CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.response.model": "gpt-4o-mini",
    "gen_ai.usage.input_tokens": 1000,
    "gen_ai.usage.output_tokens": 100,
}
COST_OF_CHAT = 210_000
"""10^-9 dollars: 1000 tokens in at 0.15, 100 out at 0.60 dollars a million."""


@pytest.fixture(scope="module")
def prices():
    loaded = PriceList()
    loaded.load()
    return loaded


def test_usages_add_up_in_any_grouping():
    """Counts by sum, words by union."""
    usages = [{"steps": 1}, {"steps": 1, "models": ["b"]}, {"models": ["a", "b"], COST: 3}, {COST: 4}]
    assert added(usages) == {COST: 7, "models": ["a", "b"], "steps": 2}
    assert added([added(usages[:1]), added(usages[1:])]) == added(usages)


def test_own_totals_stand_in_only_where_no_step_tells_tokens():
    """Frameworks repeat the sum on the root."""
    own = {"input_tokens": 70}
    assert shown_usage(own=own, steps={"steps": 2}) == {"input_tokens": 70, "steps": 2}
    assert shown_usage(own=own, steps={"steps": 2, "input_tokens": 7}) == {"input_tokens": 7, "steps": 2}


def test_cost_is_shown_in_dollars():
    """Counted in integers, because sums of fractions depend on their order."""
    assert shown_usage(own={}, steps={COST: COST_OF_CHAT}) == {"cost_usd": 0.00021}


def test_a_model_call_has_its_price(prices):
    """By model and provider, as the list says."""
    assert prices.cost_of(ModelCall({"input_tokens": 1000, "output_tokens": 100}, "gpt-4o-mini", "openai", 0)) == (
        COST_OF_CHAT
    )


@pytest.mark.parametrize("provider", [None, "openai", "a gateway of our own"])
def test_a_provider_that_is_not_known_does_not_hide_the_model(prices, provider):
    """The model's name finds it."""
    call = ModelCall({"input_tokens": 1000, "output_tokens": 100}, "gpt-4o-mini", provider, 1_760_000_000_000_000_000)
    assert prices.cost_of(call) == COST_OF_CHAT


@pytest.mark.parametrize(
    ("usage", "model"),
    [
        ({"input_tokens": 5}, "a model of our own"),
        ({}, "gpt-4o-mini"),
        ({"input_tokens": 1, "cache_read_input_tokens": 5}, "gpt-4o-mini"),
        ({"input_tokens": 5}, ""),
    ],
)
def test_what_has_no_known_price_has_none(prices, usage, model):
    """Unknown is not zero; figures that cannot be are nobody's error."""
    assert prices.cost_of(ModelCall(usage, model, None, 0)) is None


def test_a_tally_under_threads_loses_nothing(prices):
    """Steps end in several threads while others sum."""
    tally = RunTally()

    def work():
        for _ in range(2_000):
            tally.add(view(attributes={"gen_ai.operation.name": "execute_tool"}), prices)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tally.shown(None) == {"steps": 16_000, "tool_calls": 16_000}


def test_cost_that_comes_late_comes_in_a_later_state(tmp_path, monkeypatch):
    """The price list is not there when the run ends: the run is closed at once, its cost follows."""
    slow, arrived = PriceList(), threading.Event()
    real_load = slow.load
    monkeypatch.setattr(slow, "load", lambda: (arrived.wait(20), real_load()))
    for module in ("processor", "late_costs"):
        monkeypatch.setattr(f"otel_agent_telemetry.otel.{module}.PRICES", slow)
    recorder = MemoryRecorder(isolated_config(tmp_path))
    tracer = tracer_of(recorder)
    with tracer.start_as_current_span("root"), tracer.start_as_current_span("chat", attributes=CHAT):
        pass

    ended = recorder.states[-1]
    assert ended.status == "success"
    assert "cost_usd" not in json.loads(ended.metrics_json)["gen_ai"]
    assert threading.active_count() > 1
    arrived.set()
    join_named("agent-telemetry-prices")
    later = recorder.states[-1]
    assert later.updated_at > ended.updated_at
    assert json.loads(later.metrics_json)["gen_ai"]["cost_usd"] == 0.00021
    assert {**later.to_fields(), "updated_at": "", "metrics_json": ""} == {
        **ended.to_fields(),
        "updated_at": "",
        "metrics_json": "",
    }


def test_once_the_list_is_there_a_run_ends_with_its_cost(tmp_path):
    """In its one last state."""
    PRICES.load()
    recorder = MemoryRecorder(isolated_config(tmp_path))
    tracer = tracer_of(recorder)
    with tracer.start_as_current_span("root"):
        for _ in range(3):
            with tracer.start_as_current_span("chat", attributes=CHAT):
                pass
    assert len(recorder.states) == 2
    assert json.loads(recorder.states[-1].metrics_json)["gen_ai"] == {
        "cost_usd": 0.00063,
        "input_tokens": 3000,
        "model_calls": 3,
        "models": ["gpt-4o-mini"],
        "output_tokens": 300,
        "steps": 3,
    }


def test_what_a_run_says_it_used_counts_before_what_was_counted(tmp_path):
    """Figure by figure."""
    with capture_runs() as captured:
        tracer = captured.provider.get_tracer("app")
        said = {"agent.run.metrics": json.dumps({"gen_ai": {"input_tokens": 7}, "pages": 3})}
        with tracer.start_as_current_span("root", attributes=said), tracer.start_as_current_span("c", attributes=CHAT):
            pass
        metrics = json.loads(captured.runs[0].metrics_json)
    assert metrics["pages"] == 3
    assert (metrics["gen_ai"]["input_tokens"], metrics["gen_ai"]["output_tokens"]) == (7, 100)


def tracer_of(recorder):
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(AgentRunSpanProcessor(recorder=recorder))
    return provider.get_tracer("app")


def join_named(name):
    for thread in threading.enumerate():
        if thread.name == name:
            thread.join(20)
