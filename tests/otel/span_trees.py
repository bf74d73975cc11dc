"""Trees of spans of every kind that matters, in every way that they arrive; and what must come of them."""

from __future__ import annotations

import json
from collections import Counter

from hypothesis import strategies as some
from opentelemetry import trace

CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "m",
    "gen_ai.usage.input_tokens": 5,
    "gen_ai.input.messages": "my knee hurts",
}
SUMS = {"spring.ai.model.request.tool.names": "[]", "gen_ai.request.model": "m", "gen_ai.operation.name": "chat"}
CONTENT = {"gen_ai.input.messages", "tool.args", "ai.prompt"}
KINDS = [
    {},
    CHAT,
    {**SUMS, "gen_ai.usage.input_tokens": 3, "gen_ai.response.finish_reasons": "tool_calls"},
    {**SUMS, "gen_ai.usage.input_tokens": 7, "gen_ai.response.finish_reasons": "stop"},
    {"gen_ai.operation.name": "execute_tool", "tool.args": "my knee"},
    {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "planner"},
    {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "writer", "ai.prompt": "and my foot"},
    {"openinference.span.kind": "AGENT"},
    {"openinference.span.kind": "CHAIN"},
    {"agent.run.product": "p"},
]


@some.composite
def traces(draw, *, run_last=False):
    """Spans, each with its kind, its parent and whether its attributes come after its start; how they arrive.

    `run_last`: the root after what gives it its name.
    """
    size = draw(some.integers(1, 8))
    kinds = draw(some.lists(some.sampled_from(KINDS), min_size=size, max_size=size))
    parents = [None, *(draw(some.integers(0, number - 1)) for number in range(1, size))]
    late = draw(some.lists(some.booleans(), min_size=size, max_size=size))
    order = draw(some.permutations(range(size)))
    if run_last and any("openinference.span.kind" in kind for kind in kinds):
        # A run that names no agent takes the name of the first one inside: for the exporter those must not come after it.
        order = [*(number for number in order if number), 0]
    again = draw(some.lists(some.integers(0, size - 1), max_size=3))
    cuts = draw(some.lists(some.booleans(), min_size=size + 3, max_size=size + 3))
    return list(zip(kinds, parents, late, strict=True)), [*order, *again], cuts


def record_tree(tracer, tree):
    """Start the spans in order, each below its parent, and end them children first.

    Late attributes come before anything begins inside the span, as frameworks set them.
    """
    spans = []
    for number, (kind, parent, is_late) in enumerate(tree):
        context = None if parent is None else trace.set_span_in_context(spans[parent])
        span = tracer.start_span(f"span {number}", context=context, attributes={} if is_late else kind)
        if is_late:
            span.set_attributes(kind)
        spans.append(span)
    for span in reversed(spans):
        span.end()


def left_out_of(tree, runs, steps):
    """What was left out of each run by what is stored, and by the spans that belong to it; runs by their spans' names."""
    stored = {run.job_type: json.loads(run.context_json or "{}").get("dropped", {}) for run in runs}
    names = {run.run_id: run.job_type for run in runs}
    run_of = {step.name: names[step.run_id] for step in steps} | {name: name for name in stored}
    expected = {name: Counter() for name in stored}
    for number, (kind, *_) in enumerate(tree):
        expected[run_of[f"span {number}"]].update(CONTENT & kind.keys())
    return stored, {name: dict(counts) for name, counts in expected.items()}


def shape_of(runs, steps):
    """What must be the same, by the names of spans: each run with its parent, and each step with its run."""
    names = {run.run_id: run.job_type for run in runs}
    shown = {run.job_type: (run.agent_name, names.get(run.parent_run_id), run.metrics_json, run.status) for run in runs}
    return shown, {step.name: names[step.run_id] for step in steps}
