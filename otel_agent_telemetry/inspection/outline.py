"""How a run's events, steps and child runs nest, as rows with a depth. Pure.

Under each step its events and the steps within it, in order of time; under the run what
names no step of it, then its child runs. Whatever the ids say, every item has exactly one
place: a step whose parents lead back to itself stands under the run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from otel_agent_telemetry.inspection.run_tree import ChildRun, RunTree
from otel_agent_telemetry.model import RunEvent, RunRecord, RunSpan

Item = RunRecord | RunSpan | RunEvent


@dataclass(frozen=True, slots=True)
class OutlineRow:
    """One item and the lines that lead to it: for each level above, whether more follows there."""

    item: Item
    more_follows: tuple[bool, ...]

    @property
    def guides(self) -> str:
        """The branch in front of the item, three characters a level."""
        if not self.more_follows:
            return ""
        *above, here = self.more_follows
        return "".join("│  " if more else "   " for more in above) + ("├─ " if here else "└─ ")


@dataclass(slots=True)
class _Node:
    item: Item
    below: list[_Node] = field(default_factory=list)


def outline(tree: RunTree) -> Iterator[OutlineRow]:
    """The run itself, then everything under it, depth first."""
    waiting: list[tuple[_Node, tuple[bool, ...]]] = [(_nested(tree), ())]
    while waiting:
        node, levels = waiting.pop()
        yield OutlineRow(node.item, levels)
        last = len(node.below) - 1
        waiting.extend((child, (*levels, at != last)) for at, child in reversed(list(enumerate(node.below))))


def _nested(tree: RunTree) -> _Node:
    top = _Node(tree.record)
    steps = {step.span_id: _Node(step) for step in tree.steps}
    parents = {step.span_id: step.parent_span_id for step in tree.steps}
    for step in tree.steps:
        above = None if _leads_back(step.span_id, parents) else steps.get(step.parent_span_id or "")
        (above or top).below.append(steps[step.span_id])
    for event in tree.events:
        (steps.get(event.span_id or "") or top).below.append(_Node(event))
    for node in (top, *steps.values()):
        node.below.sort(key=lambda child: _time_of(child.item))
    top.below.extend(_run_node(child) for child in tree.children)
    return top


def _leads_back(span_id: str, parents: dict[str, str | None]) -> bool:
    """Whether the way up from a step returns to it, or runs into a circle."""
    seen, at = {span_id}, parents.get(span_id)
    while at is not None and at in parents:
        if at in seen:
            return True
        seen.add(at)
        at = parents[at]
    return False


def _run_node(child: ChildRun) -> _Node:
    return _Node(child.record, [_run_node(below) for below in child.children])


def _time_of(item: Item) -> str:
    return item.timestamp if isinstance(item, RunEvent) else item.start_time
