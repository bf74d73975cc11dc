"""A run as Markdown, to be pasted into an issue, a review or a chat. Text of the run stays text there too."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from otel_agent_telemetry.model import RunRecord
from otel_agent_telemetry.page import formats
from otel_agent_telemetry.page.run_details import EventsPage
from otel_agent_telemetry.page.waterfall import BarRow, Waterfall

_MAX_STEPS: Final = 50
_MAX_EVENTS: Final = 20
_MAX_TEXT: Final = 2_000
_MAX_LINE: Final = 200
_MEANS_SOMETHING: Final = re.compile(r"([\\`*_\[\]<>#|~@&])")
"""Signs that Markdown, or a site that shows it, takes for more than text: `@name` and `#12` are links there."""
_FENCE: Final = re.compile(r"`{3,}")


def run_markdown(run: RunRecord, timeline: Waterfall, events: EventsPage, *, address: str) -> str:
    """Return the run, its error, the beginning of its steps and of its events. `address` is that of its page."""
    lines = [f"### {_line(run.agent_name)}: {run.status}", ""]
    if run.error_summary:
        lines += [f"**{_line(run.error_summary)}**", ""]
    lines += ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in _facts(run)), ""]
    for title, text in (("Input", run.input_summary), ("Output", run.output_summary), ("Error", run.error_details)):
        if text:
            lines += [f"{title}:", "", *_fenced(text), ""]
    lines += _steps(timeline)
    lines += _events(events)
    return "\n".join([*lines, f"<{address}>", ""])


def _facts(run: RunRecord) -> Iterator[tuple[str, str]]:
    """Yield name and value of what a run is."""
    yield "run", _line(run.run_id)
    yield "job", _line(run.job_type)
    yield "started", formats.exact_time(run.start_time)
    if run.ended:
        yield "duration", formats.duration(run.duration_ms)
    if run.model:
        yield "model", _line(run.model)
    if run.model_calls or run.tool_calls:
        yield "calls", f"{formats.number(run.model_calls)} of models, {formats.number(run.tool_calls)} of tools"
    if run.input_tokens or run.output_tokens:
        yield "tokens", f"{formats.number(run.input_tokens)} in, {formats.number(run.output_tokens)} out"
    if run.cost_usd is not None:
        yield "cost", formats.cost(run.cost_usd)
    for name, value in (("host", run.host), ("commit", run.git_commit_hash), ("trace", run.trace_id)):
        if value:
            yield name, _line(value)


def _steps(timeline: Waterfall) -> Iterator[str]:
    """Yield the steps as a nested list."""
    if not timeline.rows:
        return
    yield f"Steps ({formats.number(timeline.steps)}):"
    yield ""
    for row in timeline.rows[:_MAX_STEPS]:
        yield f"{'  ' * (min(row.level, 12) - 1)}- {_step(row)}"
    if (more := timeline.steps - min(len(timeline.rows), _MAX_STEPS)) > 0:
        yield f"- … {formats.number(more)} more steps"
    yield ""


def _step(row: BarRow) -> str:
    """Return a step as one line of Markdown."""
    kind = "" if row.facts.kind == "step" else f" ({row.facts.kind})"
    failed = f" **failed** {_line(row.message)}" if row.step.failed else ""
    return f"{_line(row.step.name)}{kind} {formats.duration(row.duration_ms)}{failed}".rstrip()


def _events(events: EventsPage) -> Iterator[str]:
    """Yield the first events as a list."""
    if not events.lines:
        return
    yield "Events:"
    yield ""
    for line in events.lines[:_MAX_EVENTS]:
        payload = f" {_line(line.payload)}" if line.payload else ""
        yield f"- {formats.exact_time(line.timestamp)} {_line(line.event_type)}{payload}"
    if (more := events.types.counted - min(len(events.lines), _MAX_EVENTS)) > 0:
        yield f"- … {formats.number(more)} more events"
    yield ""


def _line(text: str) -> str:
    """Return text as one line in which no sign means anything to Markdown; a long one is cut visibly."""
    cut = " ".join(text.split())
    more = f" … {formats.number(len(cut) - _MAX_LINE)} more characters" if len(cut) > _MAX_LINE else ""
    return _MEANS_SOMETHING.sub(r"\\\1", cut[:_MAX_LINE]) + more


def _fenced(text: str) -> Iterator[str]:
    """Yield text between fences longer than any in it, cut visibly."""
    shown = text[:_MAX_TEXT]
    fence = "`" * max([3, *(len(found) + 1 for found in _FENCE.findall(shown))])
    yield f"{fence}text"
    yield shown
    yield fence
    if len(text) > _MAX_TEXT:
        yield f"… {formats.number(len(text) - _MAX_TEXT)} more characters"
