"""The table of `runs` on a terminal: one line a run, whatever the width.

80 columns have the start, status, time taken, agent, job or error, tokens, cost and a short id; from 110 on the whole
date and the model, too.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from otel_agent_telemetry.cli.output import (
    format_cost,
    format_count,
    format_duration,
    local_time,
    print_line,
    printable,
    shortened,
    style_of,
)
from otel_agent_telemetry.model import RunRecord

_WIDE = 110
_SHORT_ID = 8
_OWN_ID = 16
_UNKNOWN = "-"
_FLEXIBLE = "JOB OR ERROR"
_MOST_AGENT = 0.3
"""The share of a line that the agents' names may take."""
_LEAST_AGENT = 8


class _Column(NamedTuple):
    """A heading and the cells below it; `right`: whether they end at one line, as numbers do."""

    heading: str
    cells: list[str]
    right: bool = False


def print_runs(runs: Sequence[RunRecord], *, width: int, utc: bool, now: datetime) -> None:
    """Print one line a run, at most `width` characters; what is longer is cut with `…`."""
    columns = _columns(runs, is_wide=width >= _WIDE, utc=utc, now=now)
    widths = {one.heading: max(map(len, (one.heading, *one.cells))) for one in columns}
    widths["AGENT"] = min(widths["AGENT"], max(int(width * _MOST_AGENT), len("AGENT")))
    used = sum(widths[one.heading] for one in columns if one.heading != _FLEXIBLE) + len(columns) - 1
    missing = max(used + len(_FLEXIBLE) - width, 0)
    widths["AGENT"] = max(widths["AGENT"] - missing, _LEAST_AGENT)
    widths[_FLEXIBLE] = max(min(widths[_FLEXIBLE], width - used), len(_FLEXIBLE))
    print_line(_line([one.heading for one in columns], columns, widths))
    for number, run in enumerate(runs):
        print_line(_line([one.cells[number] for one in columns], columns, widths), style_of(run.status))


def _columns(runs: Sequence[RunRecord], *, is_wide: bool, utc: bool, now: datetime) -> list[_Column]:
    """Return the columns of a terminal; the model's where it is wide and there is one."""
    columns = [
        _Column("STARTED", [_started(run.start_time, is_wide=is_wide, utc=utc, now=now) for run in runs]),
        _Column("STATUS", [printable(run.status) for run in runs]),
        _Column("TOOK", [format_duration(run.duration_ms) if run.ended else _UNKNOWN for run in runs], right=True),
        _Column("AGENT", [printable(run.agent_name) for run in runs]),
        _Column(_FLEXIBLE, [printable(run.error_summary or _job(run)) for run in runs]),
        _Column("TOKENS", [_tokens(run) for run in runs], right=True),
        _Column("COST", [_UNKNOWN if run.cost_usd is None else format_cost(run.cost_usd) for run in runs], right=True),
        _Column("ID", [short_id(run) for run in runs]),
    ]
    if is_wide and any(run.model for run in runs):
        columns.insert(5, _Column("MODEL", [printable(run.model or _UNKNOWN) for run in runs]))
    return columns


def _line(cells: Iterable[str], columns: Sequence[_Column], widths: dict[str, int]) -> str:
    """Return one line of the table."""
    fitted = [
        shortened(cell, widths[one.heading]).rjust(widths[one.heading])
        if one.right
        else shortened(cell, widths[one.heading]).ljust(widths[one.heading])
        for cell, one in zip(cells, columns, strict=True)
    ]
    return " ".join(fitted).rstrip()


def _started(text: str, *, is_wide: bool, utc: bool, now: datetime) -> str:
    """Return the time of today, the day of an earlier one; both where there is room."""
    moment = local_time(text, utc=utc)
    if moment is None:
        return printable(text)
    if is_wide:
        return f"{moment:%Y-%m-%d %H:%M:%S}"
    if moment.date() == now.astimezone(moment.tzinfo).date():
        return f"{moment:%H:%M}"
    return f"{moment:%d %b}" if moment.year == now.year else f"{moment:%Y-%m}"


def _job(run: RunRecord) -> str:
    """Return what a run was about: its item, where it has one, else its job."""
    return run.item_name or run.job_type


def _tokens(run: RunRecord) -> str:
    """Return the tokens of a run, both ways together."""
    tokens = run.input_tokens + run.output_tokens
    return format_count(tokens) if tokens else _UNKNOWN


def short_id(run: RunRecord) -> str:
    """Return what `show` finds a run by: the beginning of the event id, of a run with an id of its own that one's."""
    beginning = run.event_id[:_SHORT_ID]
    return beginning if run.run_id.endswith(beginning) else shortened(printable(run.run_id), _OWN_ID)
