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
    invocation_of,
    note_missing_database,
    run_query,
    sync_before_read,
)
from otel_agent_telemetry.cli.output import (
    format_duration,
    format_time,
    print_json,
    print_line,
    print_stderr,
    print_table,
    printable,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_agent_telemetry.model import RunRecord
    from otel_agent_telemetry.operations.run_reader import RunReader
    from otel_agent_telemetry.storage.tree_totals import TreeTotals

_HEADINGS = ("STARTED (UTC)", "STATUS", "DURATION", "AGENT", "JOB", "ITEMS", "RUN ID")
_TREE_HEADINGS = ("RUNS", "MODEL CALLS", "TOOL CALLS", "TOKENS IN", "TOKENS OUT", "COST USD")
_MAX_LIMIT = 100_000


def runs(
    context: typer.Context,
    agent: Agent = None,
    status: Status = None,
    job_type: JobType = None,
    run_id: RunId = None,
    parent: Parent = None,
    since: Since = None,
    until: Until = None,
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
    as_json: AsJson = False,
    no_sync: NoSync = False,
) -> ExitCode:
    """List runs, newest first.

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
        environment=environment,
        session=session,
        user=user,
        change=change,
        model=model,
        label=label,
    )
    invocation = invocation_of(context)
    if not no_sync:
        sync_before_read(invocation)
    reader = invocation.open_reader()
    # Whoever names a run wants to see it, whatever it is.
    hides = not everything and run_id is None
    if commit is not None:
        query = replace(query, commits=commits_named(commit))
    # The table shows no cost, so the price list is not loaded for it.
    query = replace(query, limit=limit, priced=as_json or tree, plumbing=False if hides else None)
    found = reader.runs(query) if change is None else runs_of_change(reader, query, change)
    _print_found(invocation, reader, found, tree=tree, as_json=as_json)
    if hides and found is not None and (hidden := reader.hidden(query)):
        print_stderr(f"{hidden} runs of plumbing are hidden; --all lists them.")
    return ExitCode.OK


def _print_found(
    invocation: Invocation, reader: "RunReader", found: "Sequence[RunRecord] | None", *, tree: bool, as_json: bool
) -> None:
    """Print the runs as JSON or as a table; None, for no database, is an empty list and a note on stderr."""
    if found is None:
        note_missing_database(invocation)
    if as_json:
        print_json(_objects(invocation, reader, found or (), tree=tree))
    elif found:
        _print_runs(reader, found, tree=tree)
    elif found is not None:
        print_line("No runs match.")


def _objects(
    invocation: Invocation, reader: "RunReader", runs: "Sequence[RunRecord]", *, tree: bool
) -> list[dict[str, Any]]:
    """Return runs as JSON objects, each with the totals of its tree as `tree` where asked for."""
    from dataclasses import asdict

    from otel_agent_telemetry.operations.run_json import run_object

    hosts = dict(invocation.config.git_hosts)
    objects = [run_object(record, git_hosts=hosts) for record in runs]
    if not tree:
        return objects
    return [{**one, "tree": asdict(whole)} for one, whole in zip(objects, reader.trees(runs), strict=True)]


def _print_runs(reader: "RunReader", runs: "Sequence[RunRecord]", *, tree: bool) -> None:
    """Print a table of runs, with the totals of their trees where asked for."""
    if tree:
        rows = ((*_row(run), *_used(whole)) for run, whole in zip(runs, reader.trees(runs), strict=True))
        print_table((*_HEADINGS, *_TREE_HEADINGS), rows, status_column=1)
    else:
        print_table(_HEADINGS, map(_row, runs), status_column=1)


def _row(run: "RunRecord") -> tuple[str, ...]:
    """Return the cells of one run; "-" for a duration or items that are not known."""
    items = f"{run.items_succeeded}/{run.items_discovered}" if run.items_discovered else "-"
    duration = format_duration(run.duration_ms) if run.ended else "-"
    texts = (
        format_time(run.start_time),
        run.status,
        duration,
        run.agent_name,
        run.job_type,
        items,
        run.run_id,
    )
    return tuple(map(printable, texts))


def _used(tree: "TreeTotals") -> tuple[str, ...]:
    """Return the cells of a tree's totals; "+" where the tree has more runs, or runs without a known cost."""
    counts = (tree.model_calls, tree.tool_calls, tree.input_tokens, tree.output_tokens)
    more = "" if tree.complete else "+"
    cost = "-" if tree.cost_usd is None else f"{tree.cost_usd:.6f}" + ("+" if tree.unpriced_runs else more)
    return (f"{tree.runs}{more}", *(f"{count}{more}" for count in counts), cost)
