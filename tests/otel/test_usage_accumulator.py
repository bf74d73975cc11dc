"""What the steps of a run used: sums that lose nothing."""

from __future__ import annotations

import json
import threading

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from otel_agent_telemetry import AgentRunSpanProcessor
from otel_agent_telemetry.otel.usage_accumulator import UsageAccumulator
from otel_agent_telemetry.testing import MemoryRecorder, capture_runs, isolated_config
from otel_agent_telemetry.usage import added, shown_usage

CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.response.model": "gpt-4o-mini",
    "gen_ai.usage.input_tokens": 1000,
    "gen_ai.usage.output_tokens": 100,
}


def test_usages_add_up_in_any_grouping():
    """Counts by sum, words by union."""
    usages = [{"steps": 1}, {"steps": 1, "models": ["b"]}, {"models": ["a", "b"], "tool_calls": 3}, {"tool_calls": 4}]
    assert added(usages) == {"tool_calls": 7, "models": ["a", "b"], "steps": 2}
    assert added([added(usages[:1]), added(usages[1:])]) == added(usages)


def test_own_totals_stand_in_only_where_no_step_tells_tokens():
    """Frameworks repeat the sum on the root."""
    own = {"input_tokens": 70}
    assert shown_usage(own=own, steps={"steps": 2}) == {"input_tokens": 70, "steps": 2}
    assert shown_usage(own=own, steps={"steps": 2, "input_tokens": 7}) == {"input_tokens": 7, "steps": 2}


def test_sums_under_threads_lose_nothing():
    """Steps end in several threads while others sum."""
    usage = UsageAccumulator()

    def work():
        for _ in range(2_000):
            usage.add({"steps": 1, "tool_calls": 1})

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert usage.shown() == {"steps": 16_000, "tool_calls": 16_000}


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
    return {name: value for name, value in used.items() if name != "by_model"}


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


INNER = {**CHAT, "gen_ai.usage.output_tokens": 90}
FIND = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "find"}
BARE = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "alias"}


@pytest.mark.parametrize(
    ("outer", "inner", "used"),
    [
        pytest.param(CHAT, [INNER], {**CHAT_USED, "output_tokens": 90}, id="two instrumentations"),
        pytest.param(BARE, [INNER, INNER], {**CHAT_USED, "model_calls": 2, "input_tokens": 2000, "output_tokens": 180}),
        pytest.param(CHAT, [BARE], {**CHAT_USED, "models": ["alias", "gpt-4o-mini"]}, id="only the outer knows"),
        pytest.param(CHAT, [], CHAT_USED, id="alone"),
    ],
)
@pytest.mark.parametrize("late", [False, True])
def test_a_model_call_inside_a_model_call_is_one_call(tmp_path, outer, inner, used, late):
    """Also where a span is between them, and where the inner one ends after the outer one."""
    recorder = MemoryRecorder(isolated_config(tmp_path))
    tracer = tracer_of(recorder)
    with tracer.start_as_current_span("root"):
        with tracer.start_as_current_span("outer", attributes=outer), tracer.start_as_current_span("between"):
            spans = [tracer.start_span("inner", attributes=attributes) for attributes in inner]
            for span in [] if late else spans:
                span.end()
        for span in spans if late else []:
            span.end()
    found = used_by(recorder.states[-1])
    assert found.pop("steps") == 2 + len(inner)
    counted = ("model_calls", "input_tokens") if late else used  # the outer one was counted by its own figures
    assert {name: found[name] for name in counted} == {name: used[name] for name in counted}


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    ("inside", "calls"),
    [
        pytest.param([], 1, id="alone"),
        pytest.param([FIND], 1, id="two instrumentations"),
        pytest.param([FIND, FIND], 2, id="two inside one"),
        pytest.param([CHAT, FIND], 2, id="an agent as a tool"),
    ],
)
def test_a_tool_call_inside_a_tool_call_is_one_call(tmp_path, inside, calls, late):
    """Also where a span is between them, and where the inner one ends after the outer one."""
    recorder = MemoryRecorder(isolated_config(tmp_path))
    tracer = tracer_of(recorder)
    with tracer.start_as_current_span("root"):
        with tracer.start_as_current_span("outer", attributes=FIND), tracer.start_as_current_span("between"):
            spans = [tracer.start_span("inner", attributes=attributes) for attributes in inside]
            for span in [] if late else spans:
                span.end()
        for span in spans if late else []:
            span.end()
    assert used_by(recorder.states[-1])["tool_calls"] == calls


def test_a_root_that_is_a_model_call_is_counted_with_its_model(tmp_path):
    """And once where an instrumentation below reports the same call."""
    recorder = MemoryRecorder(isolated_config(tmp_path))
    tracer = tracer_of(recorder)
    tracer.start_span("chat", attributes=CHAT).end()
    alone = json.loads(recorder.states[-1].metrics_json)["gen_ai"]
    with tracer.start_as_current_span("chat", attributes=CHAT):
        tracer.start_span("chat", attributes=CHAT).end()
    assert used_by(recorder.states[-1]) == {**CHAT_USED, "steps": 1}
    assert alone["model_calls"] == alone["by_model"]["gpt-4o-mini"]["model_calls"] == 1


def test_an_agent_that_is_a_step_counts_its_sum_only_where_no_call_inside_it_does():
    """The total that agents repeat, of a run that only marked spans are."""
    whole = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "a", "gen_ai.usage.input_tokens": 1000}
    for calls in (0, 1):
        with capture_runs(runs="marked") as captured:
            tracer = captured.provider.get_tracer("app")
            with tracer.start_as_current_span("root", attributes={"agent.run.product": "p"}):
                with tracer.start_as_current_span("invoke_agent a", attributes=whole):
                    for _ in range(calls):
                        tracer.start_span("chat", attributes=CHAT).end()
        used = used_by(captured.runs[0])
        assert (used["input_tokens"], used.get("model_calls", 0)) == (1000, calls)


def tracer_of(recorder):
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(AgentRunSpanProcessor(recorder=recorder))
    return provider.get_tracer("app")


def test_tokens_below_a_span_that_names_the_model_are_a_call_of_it(tmp_path):
    """Live, at any depth, and also where the run's own span names it."""
    recorder = MemoryRecorder(isolated_config(tmp_path))
    tracer = tracer_of(recorder)
    tokens = {"gen_ai.usage.input_tokens": 1000}
    with tracer.start_as_current_span("root") as root, tracer.start_as_current_span("step", attributes={"model": "m"}):
        with tracer.start_as_current_span("between"), tracer.start_as_current_span("receive") as receive:
            receive.set_attributes(tokens)
    root.set_attribute("late", 1)
    assert used_by(recorder.states[-1]) == {"input_tokens": 1000, "model_calls": 1, "models": ["m"], "steps": 3}
    with tracer.start_as_current_span("root", attributes={"model": "m"}):
        tracer.start_span("receive", attributes=tokens).end()
    assert used_by(recorder.states[-1]) == {"input_tokens": 1000, "model_calls": 1, "models": ["m"], "steps": 1}
