"""How the events, steps and child runs of one run nest, for whoever shows them as a tree.

Under each step stand its events and inner steps by time; under the run the items that name no step of it, and its
child runs where they began. Every item appears exactly once, whatever its ids are: a step whose parents lead back
to itself appears under the run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from otel_agent_telemetry.model import RunEvent
from otel_agent_telemetry.operations.line_items import Item
from otel_agent_telemetry.operations.nesting import NO_STEP, steps_around
from otel_agent_telemetry.operations.run_tree import ChildRun, RunTree


@dataclass(frozen=True, slots=True)
class OutlineRow:
    """One item, and for each level above it whether more items follow on that level."""

    item: Item
    more_follows: tuple[bool, ...]

    @property
    def guides(self) -> str:
        """Return the branches drawn in front of the item, three characters a level."""
        if not self.more_follows:
            return ""
        *above, here = self.more_follows
        return "".join("│  " if more else "   " for more in above) + ("├─ " if here else "└─ ")


@dataclass(slots=True)
class _Node:
    """An item and the items directly under it."""

    item: Item
    below: list[_Node] = field(default_factory=list)


def outline(tree: RunTree) -> Iterator[OutlineRow]:
    """Yield the run itself, then everything under it, depth first."""
    waiting: list[tuple[_Node, tuple[bool, ...]]] = [(_nested(tree), ())]
    while waiting:
        node, levels = waiting.pop()
        yield OutlineRow(node.item, levels)
        last = len(node.below) - 1
        # Reversed, because the last one pushed is the next one popped.
        waiting.extend((child, (*levels, at != last)) for at, child in reversed(list(enumerate(node.below))))


def _nested(tree: RunTree) -> _Node:
    """Return the tree of items, each list ordered by time."""
    top = _Node(tree.record)
    nodes = [_Node(step) for step in tree.steps]
    places = steps_around(
        [step.span_id for step in tree.steps],
        [step.parent_span_id for step in tree.steps],
        [step.start_time for step in tree.steps],
    )
    for node, around in zip(nodes, places, strict=True):
        (top if around == NO_STEP else nodes[around]).below.append(node)
    steps: defaultdict[str, list[_Node]] = defaultdict(list)
    for step, node in zip(tree.steps, nodes, strict=True):
        steps[step.span_id].append(node)
    for event in tree.events:
        (_begun_before(event.timestamp, steps.get(event.span_id or "")) or top).below.append(_Node(event))
    top.below.extend(_run_node(child) for child in tree.children)
    for node in (top, *nodes):
        node.below.sort(key=lambda child: _time_of(child.item))
    return top


def _begun_before(time: str, nodes: Sequence[_Node] | None) -> _Node | None:
    """Return the last of several steps with one span id that had begun at a time, else the first.

    Ids repeat within a run that seeds `random` several times.
    """
    if not nodes:
        return None
    earlier = [node for node in nodes if _time_of(node.item) <= time]
    return max(earlier, key=lambda node: _time_of(node.item)) if earlier else nodes[0]


def _run_node(child: ChildRun) -> _Node:
    """Return a child run with its own child runs in order of time."""
    return _Node(child.record, sorted(map(_run_node, child.children), key=lambda below: _time_of(below.item)))


def _time_of(item: Item) -> str:
    """Return the time that orders an item."""
    return item.timestamp if isinstance(item, RunEvent) else item.start_time
