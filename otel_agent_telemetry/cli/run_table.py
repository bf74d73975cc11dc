"""The table of `runs` on a terminal: one line a run, whatever the width.

80 columns have the start, status, time taken, agent, job or error, tokens, cost and a short id; from 110 on the whole
date and the model, too.
"""

from collections.abc import Sequence
from datetime import datetime

from otel_agent_telemetry.cli.fitted_table import WIDE, Column, print_fitted
from otel_agent_telemetry.cli.output import (
    format_cost,
    format_count,
    format_duration,
    format_start,
    printable,
    shortened,
)
from otel_agent_telemetry.model import RunRecord

_SHORT_ID = 8
_OWN_ID = 16
_UNKNOWN = "-"
_MOST_AGENT = 0.3
"""The share of a line that the agents' names may take."""
_MOST_MODEL = 0.2


def print_runs(runs: Sequence[RunRecord], *, width: int, utc: bool, now: datetime) -> None:
    """Print one line a run, at most `width` characters; what is longer is cut with `…`."""
    columns = _columns(runs, is_wide=width >= WIDE, utc=utc, now=now)
    print_fitted(columns, width=width, statuses=[run.status for run in runs])


def _columns(runs: Sequence[RunRecord], *, is_wide: bool, utc: bool, now: datetime) -> list[Column]:
    """Return the columns of a terminal; the model's where it is wide and there is one."""
    columns = [
        Column("STARTED", [format_start(run.start_time, is_wide=is_wide, utc=utc, now=now) for run in runs]),
        Column("STATUS", [printable(run.status) for run in runs]),
        Column("TOOK", [format_duration(run.duration_ms) if run.ended else _UNKNOWN for run in runs], right=True),
        Column("AGENT", [printable(run.agent_name) for run in runs], share=_MOST_AGENT),
        Column("JOB OR ERROR", [printable(run.error_summary or _job(run)) for run in runs], rest=True),
        Column("TOKENS", [_tokens(run) for run in runs], right=True),
        Column("COST", [_UNKNOWN if run.cost_usd is None else format_cost(run.cost_usd) for run in runs], right=True),
        Column("ID", [short_id(run.run_id, run.event_id) for run in runs]),
    ]
    if is_wide and any(run.model for run in runs):
        columns.insert(5, Column("MODEL", [printable(run.model or _UNKNOWN) for run in runs], share=_MOST_MODEL))
    return columns


def _job(run: RunRecord) -> str:
    """Return what a run was about: its item, where it has one, else its job."""
    return run.item_name or run.job_type


def _tokens(run: RunRecord) -> str:
    """Return the tokens of a run, both ways together."""
    tokens = run.input_tokens + run.output_tokens
    return format_count(tokens) if tokens else _UNKNOWN


def short_id(run_id: str, event_id: str) -> str:
    """Return what `show` finds a run by: the beginning of the event id, of a run with an id of its own that one's."""
    beginning = event_id[:_SHORT_ID]
    return beginning if run_id.endswith(beginning) else shortened(printable(run_id), _OWN_ID)
