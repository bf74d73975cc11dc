"""What a run used whose process was killed: the sum of the steps that had ended, as at the end of a run."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from on_disk import PATIENCE_S, Process, rows_of

from otel_agent_telemetry.operations.deliver import deliver_now
from otel_agent_telemetry.otel.left_open_usage import LeftOpenUsage
from otel_agent_telemetry.testing import isolated_config

CALL = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "gpt-4o-mini",
    "gen_ai.usage.input_tokens": 100,
    "gen_ai.usage.output_tokens": 7,
}
TOOL = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search"}


def step(span_id, attributes, *, around=None, **more):
    times = {"start_time": "2026-01-01T00:00:00Z", "end_time": "2026-01-01T00:00:01Z"}
    return {"span_id": span_id, "parent_span_id": around, "name": "step", "attributes": attributes, **times, **more}


def used_by(*steps):
    found = LeftOpenUsage()
    for one in steps:
        found.add(one)
    return found.shown()


STEPS = [
    step("1", {}),
    step("2", CALL, around="1"),
    step("3", CALL, around="2"),  # a second instrumentation of the same call
    step("4", TOOL, around="1", status="error"),
    step("5", {}, around="never ended"),
    step("6", CALL, around="5"),
]


@given(st.permutations(STEPS), st.integers(0, 2))
def test_calls_are_counted_once_in_any_order_of_the_lines(steps, repeated):
    """A call inside a call is one call, and a line that comes again changes nothing."""
    used = used_by(*steps, *steps[:repeated])
    assert (used["model_calls"], used["input_tokens"], used["output_tokens"]) == (2, 200, 14)
    assert (used["tool_calls"], used["steps"], used["child_errors"]) == (1, 6, 1)


def test_no_step_is_no_usage_and_a_step_that_became_a_run_counts_there():
    """A run that was killed before its first step ended has used nothing that is known."""
    assert used_by() == used_by(step("1", CALL, became_run="another")) == {}


@pytest.mark.parametrize(
    "odd",
    [
        {"attributes": None, "start_time": 7, "end_time": "x"},
        {"span_id": "1", "parent_span_id": "1", "attributes": {}},
        {"span_id": "1", "parent_span_id": 5, "attributes": {"gen_ai.usage.input_tokens": "many"}},
        {"attributes": ["x"], "name": None, "status": None},
    ],
)
def test_damaged_lines_cost_only_themselves(odd):
    """The journal may hold lines of any version."""
    assert used_by(odd, step("2", CALL))["input_tokens"] == 100


def test_steps_whose_parents_lead_in_a_circle_are_counted():
    """Ids come from anyone."""
    around = {"1": "2", "2": "3", "3": "1"}
    steps = [step(span_id, TOOL, around=above) for span_id, above in around.items()]
    random.Random(7).shuffle(steps)
    assert used_by(*steps)["steps"] == 3


AGENT = """
import json, os, signal, sys
from opentelemetry import trace
from otel_agent_telemetry import TelemetryConfig, instrument
instrument(TelemetryConfig(base_dir=sys.argv[1], discover_service=False))
tracer, call, tool = trace.get_tracer("app"), json.loads(sys.argv[2]), json.loads(sys.argv[3])
with tracer.start_as_current_span("invoke_agent guide", attributes={"gen_ai.operation.name": "invoke_agent"}):
    for _ in range(2):
        tracer.start_span("chat", attributes=call).end()
    with tracer.start_as_current_span("execute_tool search", attributes=tool):
        pass
    with tracer.start_as_current_span("chat", attributes=call):
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_has_used_what_its_ended_steps_had(tmp_path):
    """Tokens and calls of an agent that was killed during its third model call."""
    config = isolated_config(tmp_path / "base")
    Process(AGENT, config.base_dir, json.dumps(CALL), json.dumps(TOOL)).end()
    deliver_now(config, timeout_s=PATIENCE_S)
    (row,) = rows_of(config).values()
    assert row["status"] == "failed"
    assert (row["model_calls"], row["tool_calls"], row["model"]) == (2, 1, "gpt-4o-mini")
    assert (row["input_tokens"], row["output_tokens"]) == (200, 14)
