"""`agent-telemetry runs`.

Lists the runs of a service or of the local database.
"""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from otel_agent_telemetry.cli.error_handling import ExitCode
from otel_agent_telemetry.cli.invocation import (
    Agent,
    AsJson,
    Change,
    Commits,
    Environment,
    Host,
    Invocation,
    JobType,
    Label,
    Model,
    NoSync,
    Parent,
    RunId,
    Session,
    Since,
    Status,
    Until,
    User,
    Utc,
    invocation_of,
    note_missing_database,
    run_query,
    sync_before_read,
)
from otel_agent_telemetry.cli.output import (
    format_duration,
    format_moment,
    print_json_array,
    print_line,
    print_stderr,
    print_table,
    printable,
    shortened,
    width_of_stdout,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from otel_agent_telemetry.model import RunRecord
    from otel_agent_telemetry.operations.run_reader import RunReader
    from otel_agent_telemetry.storage.tree_totals import TreeTotals

_HEADINGS = ("STARTED", "STATUS", "DURATION", "AGENT", "JOB", "ITEMS", "TOKENS", "COST USD", "ERROR", "RUN ID")
_TREE_HEADINGS = ("RUNS", "MODEL CALLS", "TOOL CALLS", "TOKENS IN", "TOKENS OUT", "COST USD")
_MAX_LIMIT = 100_000
_MOST_ERROR = 60
"""Characters of an error in a line that is not cut to a terminal."""


def runs(
    context: typer.Context,
    agent: Agent = None,
    status: Status = None,
    job_type: JobType = None,
    run_id: RunId = None,
    parent: Parent = None,
    since: Since = None,
    until: Until = None,
    host: Host = None,
    environment: Environment = None,
    session: Session = None,
    user: User = None,
    change: Change = None,
    commit: Commits = None,
    model: Model = None,
    label: Label = None,
    tree: Annotated[
        bool, typer.Option("--tree", help="Show what each run and the runs inside it used together.")
    ] = False,
    everything: Annotated[bool, typer.Option("--all", help="List plumbing too.")] = False,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=_MAX_LIMIT, help="Number of runs to list at most.")
    ] = 50,
    utc: Utc = False,
    as_json: AsJson = False,
    no_sync: NoSync = False,
) -> ExitCode:
    """List runs, newest first, one line each.

    Root spans of agents' programs that do no agent's work (plumbing) are hidden and counted.
    """
    from dataclasses import replace

    from otel_agent_telemetry.commits.named_commits import commits_named, runs_of_change

    query = run_query(
        agent=agent,
        status=status,
        job_type=job_type,
        run_id=run_id,
        parent=parent,
        since=since,
        until=until,
        host=host,
        environment=environment,
        session=session,
        user=user,
        change=change,
        model=model,
        label=label,
        utc=utc,
    )
    invocation = invocation_of(context)
    if not no_sync:
        sync_before_read(invocation)
    reader = invocation.open_reader()
    # Whoever names a run wants to see it, whatever it is.
    hides = not everything and run_id is None
    if commit is not None:
        query = replace(query, commits=commits_named(commit))
    # One more than is shown, to know whether there are more.
    query = replace(query, limit=limit + 1, plumbing=False if hides else None)
    found = reader.runs(query) if change is None else runs_of_change(reader, query, change)
    shown = None if found is None else found[:limit]
    _print_found(invocation, reader, shown, tree=tree, as_json=as_json, utc=utc)
    if shown and found is not None and len(found) > limit:
        number = reader.number(query)
        print_stderr(
            f"{limit:,} of {number} runs; --limit N lists more, "
            f"--until {shown[-1].start_time} those that began before the last."
        )
    if hides and found is not None and (hidden := reader.hidden(query)):
        print_stderr(f"{hidden} runs of plumbing are hidden; --all lists them.")
    return ExitCode.OK


def _print_found(
    invocation: Invocation,
    reader: "RunReader",
    found: "Sequence[RunRecord] | None",
    *,
    tree: bool,
    as_json: bool,
    utc: bool,
) -> None:
    """Print the runs as JSON or as a table; None, for no database, is an empty list and a note on stderr."""
    if found is None:
        note_missing_database(invocation)
    if as_json:
        print_json_array(_objects(invocation, reader, found or (), tree=tree))
    elif found:
        _print_runs(reader, found, tree=tree, utc=utc)
    elif found is not None:
        print_line("No runs match.")


def _objects(
    invocation: Invocation, reader: "RunReader", runs: "Sequence[RunRecord]", *, tree: bool
) -> "Iterator[dict[str, Any]]":
    """Yield runs as JSON objects, each with the totals of its tree as `tree` where asked for."""
    from dataclasses import asdict

    from otel_agent_telemetry.operations.run_json import run_object

    hosts = dict(invocation.config.git_hosts)
    wholes = iter(reader.trees(runs)) if tree else None
    for record in runs:
        one = run_object(record, git_hosts=hosts)
        yield one if wholes is None else {**one, "tree": asdict(next(wholes))}


def _print_runs(reader: "RunReader", runs: "Sequence[RunRecord]", *, tree: bool, utc: bool) -> None:
    """Print a table of runs, with the totals of their trees where asked for; on a terminal one line a run."""
    width = width_of_stdout()
    if tree:
        rows = ((*_row(run, utc=utc), *_used(whole)) for run, whole in zip(runs, reader.trees(runs), strict=True))
        print_table((*_HEADINGS, *_TREE_HEADINGS), rows, status_column=1)
    elif width is None:
        print_table(_HEADINGS, [_row(run, utc=utc) for run in runs])
    else:
        from datetime import UTC, datetime

        from otel_agent_telemetry.cli.run_table import print_runs

        print_runs(runs, width=width, utc=utc, now=datetime.now(UTC))


def _row(run: "RunRecord", *, utc: bool) -> tuple[str, ...]:
    """Return the cells of one run; "-" for what is not known."""
    tokens = run.input_tokens + run.output_tokens
    texts = (
        format_moment(run.start_time, utc=utc),
        run.status,
        format_duration(run.duration_ms) if run.ended else "-",
        run.agent_name,
        run.job_type,
        f"{run.items_succeeded}/{run.items_discovered}" if run.items_discovered else "-",
        tokens or "-",
        "-" if run.cost_usd is None else f"{run.cost_usd:.6f}",
        shortened(run.error_summary or "-", _MOST_ERROR),
        run.run_id,
    )
    return tuple(map(printable, texts))


def _used(tree: "TreeTotals") -> tuple[str, ...]:
    """Return the cells of a tree's totals; "+" where the tree has more runs, or runs without a known cost."""
    counts = (tree.model_calls, tree.tool_calls, tree.input_tokens, tree.output_tokens)
    more = "" if tree.complete else "+"
    cost = "-" if tree.cost_usd is None else f"{tree.cost_usd:.6f}" + ("+" if tree.unpriced_runs else more)
    return (f"{tree.runs}{more}", *(f"{count}{more}" for count in counts), cost)
