"""`agent-telemetry audit`."""

from typing import TYPE_CHECKING, Annotated

import typer

from otel_agent_telemetry.cli.exit_codes import ExitCode
from otel_agent_telemetry.cli.output import print_json, print_table, say
from otel_agent_telemetry.cli.runs import AsJson, NoSync
from otel_agent_telemetry.cli.session import database_missing, freshen, now_ns, say_where_runs_go, session_of
from otel_agent_telemetry.cli.terminal_text import printable
from otel_agent_telemetry.cli.time_options import clock_text, duration_text, size_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otel_agent_telemetry.operations.audit_report import FileFigures, RunFigures
    from otel_agent_telemetry.storage.audit_queries import AgentFigures

_AGENT_HEADINGS = ("AGENT", "RUNS", "SUCCESS", "FAILED", "MEDIAN", "P95")
_OPEN_HEADINGS = ("OPEN SINCE (UTC)", "FOR", "AGENT", "JOB", "RUN ID")


def audit(
    context: typer.Context,
    days: Annotated[int | None, typer.Option(min=1, max=36_500, help="Only runs created in so many days.")] = None,
    top: Annotated[int, typer.Option(min=1, max=1000, help="So many agents and open runs.")] = 10,
    as_json: AsJson = False,
    no_sync: NoSync = False,
) -> ExitCode:
    """Say who ran how often and how well, what is still open, and how much room it all takes."""
    from otel_agent_telemetry.operations.audit_report import figures_of_files, figures_of_runs
    from otel_agent_telemetry.operations.retention_job import cutoff_of

    session, now = session_of(context), now_ns()
    say_where_runs_go(session)
    if not no_sync:
        freshen(session)
    since = None if days is None else cutoff_of(days, now)
    runs = figures_of_runs(session.config, since=since, top=top, days=days)
    files = figures_of_files(session.config)
    if runs is None:
        database_missing(session)
    if as_json:
        print_json(_object(runs, files, since))
        return ExitCode.OK
    if runs is not None:
        _print_runs(runs, now)
    _print_files(files)
    return ExitCode.OK


def _object(runs: "RunFigures | None", files: "FileFigures", since: str | None) -> dict[str, object]:
    from dataclasses import asdict

    figures = None if runs is None else asdict(runs)
    if runs is not None and figures is not None:
        rates = [agent.success_rate for agent in runs.agents]
        figures["agents"] = [
            {**agent, "success_rate": rate} for agent, rate in zip(figures["agents"], rates, strict=True)
        ]
    return {"since": since, "runs": figures, "files": asdict(files)}


def _print_runs(runs: "RunFigures", now: int) -> None:
    from otel_agent_telemetry.clock import parse_iso

    say(f"runs      {runs.rows['agent_runs']}, from {clock_text(runs.oldest)} to {clock_text(runs.newest)} UTC")
    rows = ", ".join(f"{number} {name}" for name, number in runs.rows.items() if name != "agent_runs")
    say(f"database  {size_text(runs.bytes)}; rows: {rows}")
    _section(_AGENT_HEADINGS, map(_agent_row, runs.agents))
    _section(("STATUS", "RUNS"), _counted(runs.statuses), status_column=0)
    _section(("DAY", "RUNS"), _counted(runs.days))
    still_open = [
        (clock_text(run.start_time), _age(now - parse_iso(run.start_time)), run.agent_name, run.job_type, run.run_id)
        for run in runs.open
    ]
    _section(_OPEN_HEADINGS, still_open)


def _section(headings: tuple[str, ...], rows: "Iterable[tuple[str, ...]]", *, status_column: int = -1) -> None:
    """A table with an empty line before it; nothing where there are no rows."""
    cells = [tuple(map(printable, row)) for row in rows]
    if cells:
        say()
        print_table(headings, cells, status_column=status_column)


def _counted(counts: dict[str, int]) -> list[tuple[str, str]]:
    return [(name, str(number)) for name, number in counts.items()]


def _agent_row(agent: "AgentFigures") -> tuple[str, ...]:
    rate = "-" if agent.success_rate is None else f"{agent.success_rate:.1%}"
    spent = ["-" if taken is None else duration_text(taken) for taken in (agent.median_ms, agent.p95_ms)]
    return agent.agent_name, str(agent.runs), rate, str(agent.failed), *spent


def _age(nanoseconds: int) -> str:
    return duration_text(max(nanoseconds, 0) // 1_000_000)


def _print_files(files: "FileFigures") -> None:
    say()
    say(f"journal   {files.journal_files} files, {size_text(files.journal_bytes)}")
    waiting = f"{size_text(files.waiting_bytes)} wait"
    say(f"buffer    {files.buffer_files} segments, {size_text(files.buffer_bytes)}, {waiting}")
    say(f"rejected  {files.rejected_records} records")
    say(f"backups   {files.backup_files} files, {size_text(files.backup_bytes)}")
