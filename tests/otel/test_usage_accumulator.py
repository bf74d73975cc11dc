"""What the steps of a run used: sums that lose nothing, and costs that come when the price list does."""

from __future__ import annotations

import json
import subprocess
import sys
import threading

import pytest
from on_disk import ROOT
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from otel_agent_telemetry import AgentRunSpanProcessor
from otel_agent_telemetry.otel.pricing import PRICES, PriceList
from otel_agent_telemetry.otel.usage import ModelCall
from otel_agent_telemetry.otel.usage_accumulator import UsageAccumulator
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
    tally = UsageAccumulator()

    def work():
        for _ in range(2_000):
            tally.add(view(attributes={"gen_ai.operation.name": "execute_tool"}), prices)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tally.shown() == {"steps": 16_000, "tool_calls": 16_000}


def test_cost_that_comes_late_comes_in_a_later_state(tmp_path, monkeypatch):
    """The price list is not there when the run ends: the run is closed at once, its cost follows."""
    slow, arrived = PriceList(), threading.Event()
    real_load = slow.load
    monkeypatch.setattr(slow, "load", lambda: (arrived.wait(20), real_load()))
    for module in ("processor", "pending_costs"):
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


CHAT_USED = {"input_tokens": 1000, "model_calls": 1, "models": ["gpt-4o-mini"], "output_tokens": 100}


def used_by(run):
    used = json.loads(run.metrics_json or "{}").get("gen_ai", {})
    return {name: value for name, value in used.items() if name != "cost_usd"}


def test_a_step_that_ends_after_its_run_is_counted_by_a_later_state(tmp_path):
    """Streams and background tasks outlive the span around them."""
    recorder = MemoryRecorder(isolated_config(tmp_path))
    tracer = tracer_of(recorder)
    with tracer.start_as_current_span("root"):
        late = tracer.start_span("chat", attributes=CHAT)
    ended = recorder.states[-1]
    late.end()
    assert (ended.status, used_by(ended)) == ("success", {})
    assert used_by(recorder.states[-1]) == {**CHAT_USED, "steps": 1}
    assert recorder.states[-1].updated_at > ended.updated_at


def test_a_step_below_one_that_has_ended_belongs_to_the_run(tmp_path):
    """And an agent that begins there has its parent, also when the run itself has ended."""
    recorder = MemoryRecorder(isolated_config(tmp_path))
    tracer = tracer_of(recorder)
    with tracer.start_as_current_span("root"):
        with tracer.start_as_current_span("prepare") as step:
            pass
        with trace.use_span(step), tracer.start_as_current_span("chat", attributes=CHAT):
            pass
    root = recorder.states[-1]
    with trace.use_span(step):
        agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "afterwards"}
        tracer.start_span("invoke_agent afterwards", attributes=agent).end()
    assert used_by(root) == {**CHAT_USED, "steps": 2}
    assert recorder.states[-1].parent_run_id == root.run_id


def test_a_run_that_is_closed_at_exit_has_what_it_used(tmp_path):
    """A framework that leaks its root does not lose the rest."""
    recorder = MemoryRecorder(isolated_config(tmp_path))
    provider = TracerProvider(shutdown_on_exit=False)
    processor = AgentRunSpanProcessor(recorder=recorder)
    provider.add_span_processor(processor)
    tracer = provider.get_tracer("app")
    leaked = tracer.start_span("leaked")
    with trace.use_span(leaked), tracer.start_as_current_span("chat", attributes=CHAT):
        leaked.set_attribute("agent.run.items_succeeded", 7)
    processor.close_open_runs()
    closed = recorder.states[-1]
    assert (closed.status, closed.items_succeeded, used_by(closed)) == ("failed", 7, {**CHAT_USED, "steps": 1})


def test_one_run_that_cannot_be_closed_spares_the_others(tmp_path, monkeypatch):
    """Without threads to be had, as at the end of an interpreter."""
    recorder = MemoryRecorder(isolated_config(tmp_path))
    provider = TracerProvider(shutdown_on_exit=False)
    processor = AgentRunSpanProcessor(recorder=recorder)
    provider.add_span_processor(processor)
    slow = PriceList()
    for module in ("processor", "pending_costs"):
        monkeypatch.setattr(f"otel_agent_telemetry.otel.{module}.PRICES", slow)

    def refused(_thread):
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refused)
    tracer = provider.get_tracer("app")
    for number in range(3):
        with trace.use_span(tracer.start_span(f"leaked {number}")):
            tracer.start_span("chat", attributes=CHAT).end()
    processor.close_open_runs()
    assert [state.status for state in recorder.states[-3:]] == ["failed"] * 3


FORKING = """
import os, sys, threading, time
from otel_agent_telemetry.otel.pricing import PRICES
from otel_agent_telemetry.otel.usage import ModelCall
threading.Thread(target=PRICES.load, daemon=True).start()
time.sleep(float(sys.argv[1]))
child = os.fork()
if child == 0:
    PRICES.load()
    os._exit(0 if PRICES.cost_of(ModelCall({"input_tokens": 1000}, "gpt-4o-mini", "openai", 0)) == 150_000 else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize("delay_s", ["0", "0.1", "0.2"])
def test_a_fork_while_the_list_is_loaded_leaves_the_child_a_whole_one(delay_s):
    """Neither half a module nor a lock that is held for ever."""
    command = [sys.executable, "-W", "ignore", "-c", FORKING, delay_s]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "0", done.stderr


def tracer_of(recorder):
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(AgentRunSpanProcessor(recorder=recorder))
    return provider.get_tracer("app")


def join_named(name):
    for thread in threading.enumerate():
        if thread.name == name:
            thread.join(20)
