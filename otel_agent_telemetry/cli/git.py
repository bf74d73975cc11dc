"""`agent-telemetry git`: hooks that associate commits with runs, and commits and lines with their runs."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otel_agent_telemetry.cli.error_handling import ExitCode, with_exit_status
from otel_agent_telemetry.cli.invocation import AsJson, NoSync, invocation_of, sync_before_read
from otel_agent_telemetry.cli.output import format_time, print_json, print_line, print_stderr, print_table, printable
from otel_agent_telemetry.clock import iso_utc, parse_iso

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from otel_agent_telemetry.commits.history import CommitRuns, LineRuns, RunOfCommit
    from otel_agent_telemetry.commits.install import HookChange
    from otel_agent_telemetry.commits.repository import Repository
    from otel_agent_telemetry.config import TelemetryConfig

_COMMIT_HEADINGS = ("COMMIT", "COMMITTED (UTC)", "RUN ID", "AGENT", "STATUS", "COST USD", "SUBJECT")
_LINE_HEADINGS = ("LINE", "COMMIT", "RUN ID", "AGENT", "TEXT")
_RUN_MEMBERS = ("event_id", "agent_name", "job_type", "status", "model", "session_id", "cost_usd")
_SHORT = 10
_SUBJECT = 72

git = typer.Typer(help="Associate commits with runs, and show the runs of commits.", no_args_is_help=True)


def install(
    context: typer.Context,
    everywhere: Annotated[
        bool, typer.Option("--global", help="In every repository that is made or cloned from now on.")
    ] = False,
    uninstall: Annotated[bool, typer.Option("--uninstall", help="Remove the hooks again.")] = False,
) -> ExitCode:
    """Install the hooks of git that associate each commit with its run, in this repository.

    A hook that is there already goes on being run, first. No hook makes a commit fail or wait.
    """
    from otel_agent_telemetry.commits import install as hooks

    config = invocation_of(context).config
    if everywhere:
        changes = hooks.uninstall_global() if uninstall else hooks.install_global(config)
    else:
        changes = hooks.uninstall(Path.cwd()) if uninstall else hooks.install(config, Path.cwd())
    _print_changes(changes)
    if everywhere and not uninstall:
        print_line("Repositories that are there already get them by `agent-telemetry git install`, or by `git init`.")
    return ExitCode.OK


def _print_changes(changes: "Sequence[HookChange]") -> None:
    """Print what became of each hook."""
    for change in changes:
        print_line(f"{printable(str(change.path))}: {change.done}")
    if not changes:
        print_line("No hook of ours is installed here.")


Count = Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="Number of commits to list at most.")]
Why = Annotated[bool, typer.Option("--why", help="Show how the run of each commit was found, or why none was.")]


def log(
    context: typer.Context,
    revisions: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RANGE]…", help="Commits by any name of git; default HEAD and before."),
    ] = None,
    limit: Count = 50,
    why: Why = False,
    as_json: AsJson = False,
    no_sync: NoSync = False,
) -> ExitCode:
    """List commits, newest first, with their runs, agents and costs.

    Where the store knows nothing, the runs are named by the commits' messages.
    """
    from otel_agent_telemetry.commits.history import history_of
    from otel_agent_telemetry.commits.repository import trailer_to_read

    invocation, repository = invocation_of(context), _repository()
    commits = repository.commits(revisions or ["HEAD"], limit=limit)
    trailer = trailer_to_read(invocation.config.commit_trailer)
    if not no_sync:
        _find_late_runs(invocation.config, repository, trailer)
        sync_before_read(invocation)
    history = history_of(repository, commits, invocation.open_reader(), trailer=trailer)
    _note_problem(history.problem)
    if why:
        _note_hooks(repository)
    if as_json:
        print_json([_commit_object(found) for found in history.commits])
    else:
        headings = (*_COMMIT_HEADINGS, *(("WHY",) if why else ()))
        rows = (row for found in history.commits for row in _commit_rows(found, why=why))
        print_table(headings, rows, status_column=_COMMIT_HEADINGS.index("STATUS"))
    return ExitCode.OK


def blame(
    context: typer.Context,
    file: Annotated[str, typer.Argument(help="A file of the repository.")],
    revision: Annotated[
        str | None, typer.Option("--revision", help="The file as of this commit; default as it is.")
    ] = None,
    as_json: AsJson = False,
    no_sync: NoSync = False,
) -> ExitCode:
    """Show the lines of a file, each with the commit that it came with and the run that wrote it."""
    from otel_agent_telemetry.commits.history import blame_of
    from otel_agent_telemetry.commits.repository import trailer_to_read

    invocation, repository = invocation_of(context), _repository()
    blamed = repository.blame(file, revision)
    if not no_sync:
        sync_before_read(invocation)
    trailer = trailer_to_read(invocation.config.commit_trailer)
    lines, problem = blame_of(repository, blamed, invocation.open_reader(), trailer=trailer)
    _note_problem(problem)
    if as_json:
        print_json([_line_object(line) for line in lines])
    else:
        print_table(_LINE_HEADINGS, map(_line_row, lines))
    return ExitCode.OK


def _repository() -> "Repository":
    """Return the repository of the working directory."""
    from otel_agent_telemetry.commits.repository import Repository

    return Repository(folder=Path.cwd())


def _find_late_runs(config: "TelemetryConfig", repository: "Repository", trailer: str) -> None:
    """Associate commits whose runs have arrived since their hooks looked for them."""
    from functools import partial

    from otel_agent_telemetry.commits.background import CommitRecorder, look_again
    from otel_agent_telemetry.commits.local_index import read_index

    index = read_index(repository.common_dir)
    if all(index.runs.get(name) for name in index.later):
        return
    recorder = CommitRecorder(config, repository, trailer=trailer)
    try:
        recorder.record_late(partial(look_again, config))
    finally:
        recorder.close()


def _note_problem(problem: str) -> None:
    """Print why runs are named by the repository alone."""
    if problem:
        print_stderr(f"agent-telemetry: {problem}; the runs below are those that the repository itself names.")


def _note_hooks(repository: "Repository") -> None:
    """Print which hooks are missing here: commits without a run may be theirs."""
    from otel_agent_telemetry.commits.install import missing_hooks
    from otel_agent_telemetry.errors import ConfigurationError

    try:
        missing = missing_hooks(repository)
    except ConfigurationError:  # the hooks of this repository are those of all
        return
    if missing:
        print_stderr(f"No hook of ours: {', '.join(missing)}; `agent-telemetry git install` sets it.")


def _commit_rows(found: "CommitRuns", *, why: bool) -> "Iterator[tuple[str, ...]]":
    """Yield a row for each run of a commit, or one for a commit without any."""
    commit = found.commit
    head = (commit.commit_hash[:_SHORT], format_time(iso_utc(parse_iso(commit.committed_at))))
    reason = (found.why,) if why else ()
    for run in found.runs or (None,):
        yield tuple(map(printable, (*head, *_run_cells(run), commit.subject[:_SUBJECT], *reason)))
        head = ("", "")


def _run_cells(run: "RunOfCommit | None") -> tuple[str, ...]:
    """Return id, agent, status and cost of a run; "-" for what is not known."""
    if run is None:
        return ("-", "-", "-", "-")
    if run.record is None:
        return (run.run_id, "-", "-", "-")
    cost = run.record.cost_usd
    return (run.run_id, run.record.agent_name, run.record.status, "-" if cost is None else f"{cost:.6f}")


def _line_row(line: "LineRuns") -> tuple[str, ...]:
    """Return the cells of a line of a file."""
    runs = () if line.commit is None else line.commit.runs
    agents = dict.fromkeys(run.record.agent_name for run in runs if run.record is not None)
    cells = (
        str(line.line.number),
        "-" if line.commit is None else line.line.commit_hash[:_SHORT],
        ", ".join(run.run_id for run in runs) or "-",
        ", ".join(agents) or "-",
        line.line.text,
    )
    return tuple(map(printable, cells))


def _commit_object(found: "CommitRuns") -> dict[str, Any]:
    """Return a commit as a JSON object."""
    commit = found.commit
    return {
        "commit_hash": commit.commit_hash,
        "author": commit.author,
        "committed_at": commit.committed_at,
        "subject": commit.subject,
        "runs": [_run_object(run) for run in found.runs],
        "why": found.why,
    }


def _run_object(run: "RunOfCommit") -> dict[str, Any]:
    """Return a run of a commit as a JSON object; null for what the store does not know."""
    known = {name: None if run.record is None else getattr(run.record, name) for name in _RUN_MEMBERS}
    return {"run_id": run.run_id, "named_by": list(run.named_by), **known}


def _line_object(line: "LineRuns") -> dict[str, Any]:
    """Return a line of a file as a JSON object."""
    return {
        "line": line.line.number,
        "text": line.line.text,
        "commit_hash": None if line.commit is None else line.line.commit_hash,
        "author": line.line.author,
        "runs": [] if line.commit is None else [_run_object(run) for run in line.commit.runs],
    }


COMMANDS: dict[str, Callable[..., ExitCode]] = {"install": install, "log": log, "blame": blame}

for name, command in COMMANDS.items():
    git.command(name)(with_exit_status(command))
