"""Two runs side by side: what each has, and whether it differs. Pure; `compare_view` reads the runs.

Steps are matched by name and order: the second `search` of one run stands beside the second `search` of the other.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Final, NamedTuple

from otel_agent_telemetry.model import RunRecord
from otel_agent_telemetry.page import formats
from otel_agent_telemetry.wire import dumps_text, load_object

_CHANGED: Final = 0.1
"""From a tenth on a figure counts as greater or less: two runs never take the same time to the millisecond."""
_NEARLY_ALL_LESS: Final = -0.99
_MAX_MEMBERS: Final = 5_000
_MAX_DEPTH: Final = 12

Value = str | int | float | None


class Line(NamedTuple):
    """One line of a comparison: what it is of, both values as text, and how they differ; "" where they do not."""

    name: str
    left: str
    right: str
    difference: str


class Step(NamedTuple):
    """A step of a run, as far as two are compared."""

    name: str
    status: str
    duration_ms: int


@dataclass(frozen=True, slots=True)
class _Field:
    """A line of the overview: its name, its column, how a value is shown, and whether it is a figure."""

    name: str
    column: str
    show: Callable[[Any], str] = str
    is_figure: bool = False


_FIELDS: Final = (
    _Field("status", "status"),
    _Field("agent", "agent_name"),
    _Field("agent version", "agent_version"),
    _Field("job", "job_type"),
    _Field("duration", "duration_ms", formats.duration, is_figure=True),
    _Field("error", "error_summary"),
    _Field("items found", "items_discovered", formats.number, is_figure=True),
    _Field("items succeeded", "items_succeeded", formats.number, is_figure=True),
    _Field("items failed", "items_failed", formats.number, is_figure=True),
    _Field("items skipped", "items_skipped", formats.number, is_figure=True),
    _Field("model", "model"),
    _Field("model calls", "model_calls", formats.number, is_figure=True),
    _Field("tool calls", "tool_calls", formats.number, is_figure=True),
    _Field("tokens read", "input_tokens", formats.number, is_figure=True),
    _Field("tokens written", "output_tokens", formats.number, is_figure=True),
    _Field("cost", "cost_usd", formats.cost, is_figure=True),
    _Field("input", "input_summary"),
    _Field("output", "output_summary"),
    _Field("source", "source_ref"),
    _Field("target", "target_ref"),
    _Field("trigger", "trigger_type"),
    _Field("environment", "environment"),
    _Field("host", "host"),
    _Field("service", "service_name"),
    _Field("session", "session_id"),
    _Field("change", "change_id"),
    _Field("began on commit", "start_commit"),
    _Field("made commit", "git_commit_hash"),
    _Field("branch", "git_branch"),
)
_JSON: Final = ("metrics_json", "context_json", "labels")


def overview(left: RunRecord, right: RunRecord) -> list[Line]:
    """Return the columns that either run has a value for.

    Neither run is changed; figures of a run that goes on are those of now.
    """
    lines = []
    for field in _FIELDS:
        values = _known(left, field.column), _known(right, field.column)
        if values == (None, None):
            continue
        shown = [formats.NOTHING if value is None else field.show(value) for value in values]
        lines.append(Line(field.name, shown[0], shown[1], difference(*values, is_figure=field.is_figure)))
    return lines


def _known(run: RunRecord, column: str) -> Value:
    """Return a column's value; None where 0 only means that nothing was counted."""
    value: Value = getattr(run, column)
    if column == "duration_ms":
        return value if run.ended else None
    return None if value == 0 and column != "cost_usd" else value


def difference(left: Value, right: Value, *, is_figure: bool = False) -> str:
    """Return how the right value differs from the left one, in a word; "" where it does not."""
    if left == right:
        return ""
    if left is None or right is None:
        return "only right" if left is None else "only left"
    if not is_figure or isinstance(left, str) or isinstance(right, str):
        return "differs"
    if left == 0:
        return "more"
    # Of the left one: it is the run that the reader came from.
    share = right / left - 1
    # Nothing is left only at -100 %.
    digits = 1 if -1 < share < _NEARLY_ALL_LESS else 0
    return "" if abs(share) < _CHANGED else f"{share * 100:+,.{digits}f} %"


def attributes(left: RunRecord, right: RunRecord) -> list[Line]:
    """Return the members of metrics, context and labels, in order of their paths."""
    sides = [dict(_members_of(run)) for run in (left, right)]
    lines = []
    for path in sorted(sides[0].keys() | sides[1].keys()):
        values = sides[0].get(path), sides[1].get(path)
        is_figure = all(isinstance(value, (int, float)) for value in values)
        shown = [formats.NOTHING if value is None else str(value) for value in values]
        lines.append(Line(path, shown[0], shown[1], difference(*values, is_figure=is_figure)))
    return lines


def _members_of(run: RunRecord) -> Iterator[tuple[str, Value]]:
    """Yield the members of a run's JSON columns, at most 5,000."""
    number = 0
    for column in _JSON:
        name = column.removesuffix("_json")
        for member in _flat(load_object(getattr(run, column) or "{}") or {}, name, 0):
            # Bounded: a run may hold a megabyte of JSON, and a page is not the place to read that.
            if (number := number + 1) > _MAX_MEMBERS:
                return
            yield member


def _flat(value: Any, path: str, depth: int) -> Iterator[tuple[str, Value]]:
    """Yield path and value of everything in a value that has no members."""
    if isinstance(value, Mapping) and value and depth < _MAX_DEPTH:
        for name, inner in value.items():
            yield from _flat(inner, f"{path}.{name}", depth + 1)
    elif isinstance(value, (str, int, float)) and not isinstance(value, bool):
        yield path, value
    else:
        yield path, dumps_text(value)


def steps_by_name(left: Sequence[Step], right: Sequence[Step]) -> list[Line]:
    """Return each name of a step with the number, time and failures of its steps together, longest first."""
    sums = [_summed(left), _summed(right)]
    names = sorted(sums[0].keys() | sums[1].keys(), key=lambda name: (-max(_time(one, name) for one in sums), name))
    lines = []
    for name in names:
        one, other = sums[0].get(name), sums[1].get(name)
        times = [None if found is None else found[1] for found in (one, other)]
        counts = "" if one is None or other is None or one[::2] == other[::2] else "other number"
        lines.append(Line(name, _sum_words(one), _sum_words(other), counts or difference(*times, is_figure=True)))
    return lines


def _summed(steps: Iterable[Step]) -> dict[str, tuple[int, int, int]]:
    """Return name → (steps, their milliseconds, how many failed)."""
    sums: dict[str, tuple[int, int, int]] = {}
    for step in steps:
        number, time_ms, failed = sums.get(step.name, (0, 0, 0))
        sums[step.name] = number + 1, time_ms + step.duration_ms, failed + (step.status == "error")
    return sums


def _time(sums: Mapping[str, tuple[int, int, int]], name: str) -> int:
    """Return the milliseconds of the steps of a name, 0 for none."""
    return sums[name][1] if name in sums else 0


def _sum_words(found: tuple[int, int, int] | None) -> str:
    """Return the steps of one name in words: how many, how long, how many failed."""
    if found is None:
        return formats.NOTHING
    number, time_ms, failed = found
    return f"{number:,} in {formats.duration(time_ms)}" + (f", {failed:,} failed" if failed else "")


def steps_in_order(left: Sequence[Step], right: Sequence[Step]) -> list[Line]:
    """Return the steps of both in their order, each beside the other's step of the same name and number."""
    partner = _partners(left, right)
    alone = sorted(set(range(len(right))) - set(partner.values()), reverse=True)
    lines = []
    for position, step in enumerate(left):
        same = partner.get(position)
        # A step of the right run alone stands where it happened: before the next one that both have.
        while same is not None and alone and alone[-1] < same:
            lines.append(_step_line(None, right[alone.pop()]))
        lines.append(_step_line(step, None if same is None else right[same]))
    return [*lines, *(_step_line(None, right[position]) for position in reversed(alone))]


def _partners(left: Sequence[Step], right: Sequence[Step]) -> dict[int, int]:
    """Return position in the left run → that of the step with the same name and number in the right one."""
    waiting: defaultdict[str, deque[int]] = defaultdict(deque)
    for position, step in enumerate(right):
        waiting[step.name].append(position)
    return {position: waiting[step.name].popleft() for position, step in enumerate(left) if waiting[step.name]}


def _step_line(left: Step | None, right: Step | None) -> Line:
    """Return a line of two steps of one name, of which one may be missing."""
    one = left or right
    shown = [formats.NOTHING if step is None else _step_words(step) for step in (left, right)]
    if left is None or right is None:
        return Line(one.name if one else "", shown[0], shown[1], "only right" if left is None else "only left")
    word = "other status" if left.status != right.status else ""
    return Line(left.name, shown[0], shown[1], word or difference(left.duration_ms, right.duration_ms, is_figure=True))


def _step_words(step: Step) -> str:
    """Return a step in words: how long it took, and whether it failed."""
    return formats.duration(step.duration_ms) + (", failed" if step.status == "error" else "")


def events_by_type(left: Sequence[str], right: Sequence[str]) -> list[Line]:
    """Return how often each type of event comes, the most frequent first."""
    counts = Counter(left), Counter(right)
    names = sorted(counts[0].keys() | counts[1].keys(), key=lambda name: (-max(one[name] for one in counts), name))
    lines = []
    for name in names:
        one, other = (count[name] or None for count in counts)
        lines.append(Line(name, formats.number(one), formats.number(other), _count_difference(one, other)))
    return lines


def _count_difference(left: int | None, right: int | None) -> str:
    """Return how two counts differ: any difference counts."""
    if left is None or right is None or left == right:
        return difference(left, right)
    return f"{right - left:+,d}"


def first_difference(left: Sequence[str], right: Sequence[str]) -> int | None:
    """Return the position of the first event whose type the other run has not at its place; None for equal orders."""
    for position, (one, other) in enumerate(zip_longest(left, right)):
        if one != other:
            return position
    return None
