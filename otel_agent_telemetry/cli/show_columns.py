"""What `show` prints of a run besides its tree: first how it ended and what it cost, last its ids."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from otel_agent_telemetry.cli.output import (
    format_cost,
    format_count,
    format_duration,
    format_moment,
    printable,
    printable_lines,
    to_json_text,
)
from otel_agent_telemetry.model import RunRecord
from otel_agent_telemetry.operations.run_json import run_object
from otel_agent_telemetry.storage.tree_totals import TreeTotals
from otel_agent_telemetry.usage import LEFT_OUT_KEY, USAGE_KEY

_INDENT = 22
_IDS = ("run_id", "event_id", "parent_run_id", "session_id", "trace_id", "span_id", "insight_id", "change_id")
_IN_HEAD = frozenset({
    *("status", "agent_name", "job_type", "item_name", "input_summary", "output_summary", "error_summary"),
    *("start_time", "end_time", "duration_ms", "created_at", "updated_at", "model", "input_tokens", "output_tokens"),
    *("cost_usd", "model_calls", "tool_calls", "items_discovered", "items_succeeded", "items_failed"),
    *("items_skipped", "error_details", "schema_version"),
})  # fmt: skip
"""Columns that the lines above the tree, and the stack trace below it, hold."""


class Line(NamedTuple):
    """A line, and the status that colours it."""

    text: str
    status: str = ""


def head_of(run: RunRecord, whole: TreeTotals | None, *, utc: bool) -> Iterator[Line]:
    """Yield what a reader wants to know first: how the run ended and why, when, and what it used."""
    yield Line(printable(f"{run.status}  {run.agent_name} / {run.job_type}"), run.status)
    if run.error_summary:
        yield from map(Line, _field("cause", printable_lines(run.error_summary)))
    for name in ("item_name", "input_summary", "output_summary"):
        if value := getattr(run, name):
            yield from map(Line, _field(name.removesuffix("_name").removesuffix("_summary"), printable_lines(value)))
    began = format_moment(run.start_time, utc=utc)
    took = f"{format_duration(run.duration_ms)}" if run.ended else "not ended"
    yield from map(Line, _field("began", [f"{began}, {took}"]))
    if used := _used(run):
        yield from map(Line, _field("used", [used]))
    if items := _items(run):
        yield from map(Line, _field("items", [items]))
    if whole is not None and whole.runs > 1:
        yield from map(Line, _field("whole tree", [totals_text(whole)]))


def rest_of(run: RunRecord, git_hosts: Mapping[str, str]) -> Iterator[Line]:
    """Yield the stack trace, every other column that has a value, and last the ids."""
    # An error without a stack trace is in the head already.
    if run.error_details and run.error_details != run.error_summary:
        yield from map(Line, _field("error details", printable_lines(run.error_details)))
    values = run_object(run, git_hosts=git_hosts)
    for name, value in values.items():
        if name not in _IN_HEAD and name not in _IDS and (shown := _without_repeats(name, value)):
            yield from map(Line, _field(name, _lines_of(shown)))
    for name in _IDS:
        if value := values[name]:
            yield from map(Line, _field(name, [printable(value)]))


def _field(name: str, lines: list[str]) -> Iterator[str]:
    """Yield a name and its value, long ones on several lines."""
    yield f"{name:<{_INDENT - 2}}  {lines[0]}"
    yield from (" " * _INDENT + line for line in lines[1:])


def _without_repeats(name: str, value: Any) -> Any:
    """Return a value without what stands elsewhere: the sums above the tree, what was left out below it."""
    if not isinstance(value, dict):
        return value
    if name == "context_json":
        return {key: member for key, member in value.items() if key != LEFT_OUT_KEY}
    # What an application put there itself is shown, whatever stands beside it.
    usage = value.get(USAGE_KEY)
    if name != "metrics_json" or not isinstance(usage, dict):
        return value
    summed = ("input_tokens", "output_tokens", "cost_usd", "model_calls", "tool_calls")
    more = {key: member for key, member in usage.items() if key not in summed and not _is_only_model(key, usage)}
    return {key: more if key == USAGE_KEY else member for key, member in value.items() if key != USAGE_KEY or more}


def _is_only_model(key: str, usage: Mapping[str, Any]) -> bool:
    """Return whether a member says again what the line above the tree says of the only model."""
    by_model = usage.get("by_model")
    return key in ("models", "by_model") and isinstance(by_model, dict) and len(by_model) == 1


def _used(run: RunRecord) -> str:
    """Return the calls, tokens and cost of a run; "" for one that used nothing."""
    parts = [_counted(run.model_calls, "model call"), _counted(run.tool_calls, "tool call")]
    if run.input_tokens or run.output_tokens:
        parts.append(f"{format_count(run.input_tokens)} tokens in, {format_count(run.output_tokens)} out")
    if run.cost_usd is not None:
        parts.append(format_cost(run.cost_usd))
    if run.model:
        parts.append(printable(run.model))
    return ", ".join(filter(None, parts))


def _counted(number: int, noun: str) -> str:
    """Return `1 model call`, `3 model calls`, "" for none."""
    return f"{number:,} {noun}{'s' if number != 1 else ''}" if number else ""


def _items(run: RunRecord) -> str:
    """Return what became of the items of a run; "" for one without items."""
    counts = {
        "discovered": run.items_discovered,
        "succeeded": run.items_succeeded,
        "failed": run.items_failed,
        "skipped": run.items_skipped,
    }
    return ", ".join(f"{count:,} {word}" for word, count in counts.items() if count)


def _lines_of(value: Any) -> list[str]:
    """Return the printable lines of a value, JSON indented."""
    if isinstance(value, (dict, list)):
        return [printable(line) for line in to_json_text(value, indent=2).split("\n")]
    return [printable(value)]


def totals_text(whole: TreeTotals) -> str:
    """Return what a run and the runs inside it used together."""
    cost = "no known cost" if whole.cost_usd is None else format_cost(whole.cost_usd)
    notes = f" ({whole.unpriced_runs} runs without a known cost)" if whole.unpriced_runs else ""
    more = "" if whole.complete else ", and more runs that are not added"
    calls = [_counted(whole.model_calls, "model call"), _counted(whole.tool_calls, "tool call")]
    tokens = f"{format_count(whole.input_tokens)} tokens in, {format_count(whole.output_tokens)} out"
    return ", ".join([_counted(whole.runs, "run"), *filter(None, calls), tokens, cost + notes]) + more
