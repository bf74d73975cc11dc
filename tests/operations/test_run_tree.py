"""How steps and events nest, whatever their ids are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from on_disk import record

from otel_agent_telemetry.model import RunEvent, RunSpan
from otel_agent_telemetry.operations.run_outline import outline
from otel_agent_telemetry.operations.run_tree import ChildRun, RunTree

IDS = st.sampled_from(["a", "b", "c", "d", "e"])


def step(span_id, parent, start="0"):
    return RunSpan(
        event_id="e", run_id="r", trace_id="t", span_id=span_id, parent_span_id=parent, name=span_id, start_time=start
    )


def event(span_id, when="0"):
    return RunEvent(event_id="e", run_id="r", event_type="x", timestamp=when, span_id=span_id)


@given(st.dictionaries(IDS, st.one_of(st.none(), IDS, st.just("run"))), st.lists(st.one_of(st.none(), IDS)))
def test_every_item_stands_exactly_once(parents, owners):
    """Circles, strangers and steps that are their own parents included."""
    steps = [step(span_id, parent) for span_id, parent in parents.items()]
    events = [event(owner) for owner in owners]
    rows = list(outline(RunTree(record(1, span_id="run"), events, steps)))
    assert len(rows) == 1 + len(steps) + len(events)
    assert {row.item.span_id for row in rows if isinstance(row.item, RunSpan)} == set(parents)
    assert sum(isinstance(row.item, RunEvent) for row in rows) == len(events)


def test_items_stand_in_order_of_time_and_child_runs_last():
    """Guides show the branch that an item hangs on."""
    tree = RunTree(
        record(1, span_id="run"), [event("a", "3"), event(None, "1")], [step("b", "a", "4"), step("a", "run", "2")]
    )
    tree.children = (ChildRun(record(2), (ChildRun(record(3)),)),)
    rows = [row.guides + getattr(row.item, "span_id", None).__str__() for row in outline(tree)]
    assert rows == ["run", "├─ None", "├─ a", "│  ├─ a", "│  └─ b", "└─ None", "   └─ None"]


def test_steps_with_one_span_id_are_each_shown_with_what_is_below_them():
    """A run that seeds `random` before each step draws the same ids again."""
    steps = [step("a", "run", "1"), step("b", "a", "2"), step("a", "run", "5"), step("b", "a", "6")]
    rows = list(outline(RunTree(record(1, span_id="run"), [event("b", "7")], steps)))
    shown = [(len(row.guides) // 3, getattr(row.item, "start_time", None) or row.item.timestamp) for row in rows[1:]]
    assert shown == [(1, "1"), (2, "2"), (1, "5"), (2, "6"), (3, "7")]


def test_a_deep_nest_needs_no_deep_stack():
    """Five thousand steps inside each other are walked without recursion."""
    steps = [step(str(n), str(n - 1), f"{n:05d}") for n in range(5000)]
    assert len(list(outline(RunTree(record(1), steps=steps)))) == 5001
