"""`agent-telemetry audit`.

Prints the figures of `operations.audit_report`: agents, open runs, and sizes of all folders.
"""

from typing import TYPE_CHECKING, Annotated

import typer

from otel_agent_telemetry.cli.error_handling import ExitCode
from otel_agent_telemetry.cli.fitted_table import Column, print_columns
from otel_agent_telemetry.cli.invocation import (
    AsJson,
    NoSync,
    invocation_of,
    note_missing_database,
    now_ns,
    sync_before_read,
)
from otel_agent_telemetry.cli.output import (
    fill,
    format_cost,
    format_count,
    format_duration,
    format_size,
    format_time,
    print_json,
    print_line,
    print_table,
    printable,
    width_of_stdout,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from otel_agent_telemetry.operations.audit_report import FileFigures
    from otel_agent_telemetry.storage.audit_queries import AgentStats, OpenRun, RunFigures


def audit(
    context: typer.Context,
    days: Annotated[
        int | None, typer.Option(min=1, max=36_500, help="Only runs created in the last N days; default all.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, max=1000, help="Number of agents and of open runs to list.")] = 10,
    as_json: AsJson = False,
    no_sync: NoSync = False,
) -> ExitCode:
    """Report runs, success, tokens and cost by agent, the runs open longest, and the space that everything takes."""
    from otel_agent_telemetry.operations.audit_report import file_figures, run_figures
    from otel_agent_telemetry.operations.maintenance import cutoff_of

    invocation, now = invocation_of(context), now_ns()
    if not no_sync:
        sync_before_read(invocation)
    since = None if days is None else cutoff_of(days, now)
    runs = run_figures(invocation.config, since=since, top=top, days=days, now_ns=now)
    files = file_figures(invocation.config)
    if runs is None:
        note_missing_database(invocation)
    if as_json:
        print_json(_object(runs, files, since))
        return ExitCode.OK
    if runs is not None:
        _print_runs(runs, now)
    _print_files(files)
    return ExitCode.OK


def _object(runs: "RunFigures | None", files: "FileFigures", since: str | None) -> dict[str, object]:
    """Return the report for `--json`: `{"since", "runs", "files"}`.

    `runs` is None without a database; each of its agents gets its success rate.
    """
    from dataclasses import asdict

    figures = None if runs is None else asdict(runs)
    if runs is not None and figures is not None:
        # `asdict` leaves properties out.
        rates = [agent.success_rate for agent in runs.agents]
        figures["agents"] = [
            {**agent, "success_rate": rate} for agent, rate in zip(figures["agents"], rates, strict=True)
        ]
    return {"since": since, "runs": figures, "files": asdict(files)}


def _print_runs(runs: "RunFigures", now: int) -> None:
    """Print the totals, then the tables of agents, statuses, days and open runs."""
    period = f", from {format_time(runs.oldest)} to {format_time(runs.newest)} UTC" if runs.oldest else ""
    print_line(f"runs      {sum(runs.statuses.values()):,}{period}")
    print_line(f"tokens    {runs.input_tokens:,} in, {runs.output_tokens:,} out")
    left_out = f"; {runs.unpriced_tokens:,} tokens have no price" if runs.unpriced_tokens else ""
    print_line(f"cost      {_cost(runs)}{left_out}")
    rows = ", ".join(f"{number:,} {name}" for name, number in runs.rows.items() if number)
    _print_wrapped("database  ", f"{format_size(runs.bytes)}; rows: {rows or 'none'}")
    if runs.agents:
        print_line()
        print_columns(_agent_columns(runs.agents), statuses=[""] * len(runs.agents))
    _section(("STATUS", "RUNS"), _count_rows(runs.statuses), status_column=0)
    _section(("DAY (UTC)", "RUNS"), _count_rows(runs.days))
    if runs.open:
        print_line()
        print_columns(_open_columns(runs.open, now), statuses=[""] * len(runs.open))


def _print_wrapped(label: str, text: str) -> None:
    """Print a text after its label; on a terminal its further lines are indented."""
    width = width_of_stdout()
    for line in [label + text] if width is None else fill(text, width=width, first=label):
        print_line(line)


def _section(headings: tuple[str, ...], rows: "Iterable[tuple[str, ...]]", *, status_column: int = -1) -> None:
    """Print a table after an empty line; nothing when there are no rows."""
    cells = [tuple(map(printable, row)) for row in rows]
    if cells:
        print_line()
        print_table(headings, cells, status_column=status_column)


def _count_rows(counts: dict[str, int]) -> list[tuple[str, str]]:
    """Return a row for each name and its count."""
    return [(name, str(number)) for name, number in counts.items()]


def _agent_columns(agents: "Sequence[AgentStats]") -> list[Column]:
    """Return the columns of the agents; "-" where one has no ended run, or no cost that is known."""

    def took(duration: int | None) -> str:
        return "-" if duration is None else format_duration(duration)

    rates = ["-" if one.success_rate is None else f"{one.success_rate:.1%}" for one in agents]
    return [
        Column("AGENT", [printable(one.agent_name) for one in agents], rest=True),
        Column("RUNS", [f"{one.runs:,}" for one in agents], right=True),
        Column("SUCCESS", rates, right=True),
        Column("FAILED", [f"{one.failed:,}" for one in agents], right=True),
        Column("MEDIAN", [took(one.median_ms) for one in agents], right=True),
        Column("P95", [took(one.p95_ms) for one in agents], right=True),
        Column("TOKENS", [format_count(one.input_tokens + one.output_tokens) for one in agents], right=True),
        Column("COST", list(map(_cost, agents)), right=True),
    ]


def _cost(used: "RunFigures | AgentStats") -> str:
    """Return US dollars, with `≥` where tokens without a price are left out; "-" where nothing has one."""
    if used.cost_usd is None:
        return "-"
    return ("≥ " if used.unpriced_tokens else "") + format_cost(used.cost_usd)


def _open_columns(runs: "Sequence[OpenRun]", now: int) -> list[Column]:
    """Return the columns of runs that have not ended; the id, which a command takes, is never cut."""
    from otel_agent_telemetry.clock import parse_iso

    return [
        Column("OPEN SINCE (UTC)", [format_time(run.start_time) for run in runs]),
        Column("FOR", [_age(now - parse_iso(run.start_time)) for run in runs], right=True),
        Column("AGENT", [printable(run.agent_name) for run in runs], share=0.2),
        Column("JOB", [printable(run.job_type) for run in runs], share=0.1),
        Column("RUN ID", [printable(run.run_id) for run in runs], rest=True),
    ]


def _agent_row(agent: "AgentStats") -> tuple[str, ...]:
    """Return the cells of one agent; "-" where it has no ended run."""
    rate = "-" if agent.success_rate is None else f"{agent.success_rate:.1%}"
    durations = ["-" if duration is None else format_duration(duration) for duration in (agent.median_ms, agent.p95_ms)]
    return agent.agent_name, str(agent.runs), rate, str(agent.failed), *durations


def _age(nanoseconds: int) -> str:
    """Return an age for people; a start in the future counts as 0."""
    return format_duration(max(nanoseconds, 0) // 1_000_000)


def _print_files(files: "FileFigures") -> None:
    """Print the sizes of the folders."""
    print_line()
    print_line(f"journal   {files.journal_files} files, {format_size(files.journal_bytes)}")
    waiting = f"{format_size(files.waiting_bytes)} waiting for delivery"
    print_line(f"buffer    {files.buffer_files} segments, {format_size(files.buffer_bytes)}, {waiting}")
    print_line(f"rejected  {files.rejected_records} records")
    print_line(f"backups   {files.backup_files} files, {format_size(files.backup_bytes)}")
