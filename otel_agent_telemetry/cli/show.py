"""`agent-telemetry show`.

Finds one run through the reader of runs and prints what it did, the cause of a failure first.
"""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from otel_agent_telemetry.cli.error_handling import ExitCode
from otel_agent_telemetry.cli.invocation import AsJson, NoSync, Utc, invocation_of, now_ns, parse_time, sync_before_read
from otel_agent_telemetry.cli.output import (
    print_json,
    print_line,
    print_stderr,
    printable_lines,
    style_of,
    width_of_stdout,
)

if TYPE_CHECKING:
    from otel_agent_telemetry.config import TelemetryConfig
    from otel_agent_telemetry.model import RunRecord
    from otel_agent_telemetry.operations.run_reader import RunMatch
    from otel_agent_telemetry.operations.run_tree import ChildRun, RunTree
    from otel_agent_telemetry.storage.tree_totals import TreeTotals

_WIDTH = 200
"""Characters of a row of the tree in a pipe or a file."""


def show(
    context: typer.Context,
    run_id: Annotated[str, typer.Argument(help="Run id or event id, its beginning or its last part.")],
    errors: Annotated[bool, typer.Option("--errors", help="Show what failed, and what it stands in.")] = False,
    last: Annotated[int | None, typer.Option(min=1, help="Show the last rows of the tree.")] = None,
    around: Annotated[str | None, typer.Option(help="Show the rows around a time, or an age such as 5m.")] = None,
    rows: Annotated[int, typer.Option(min=2, help="Rows of the tree to show at most; of more, begin and end.")] = 100,
    limit: Annotated[
        int, typer.Option(min=0, max=1_000_000, help="Number of events, and of steps, to read at most.")
    ] = 10_000,
    utc: Utc = False,
    as_json: AsJson = False,
    no_sync: NoSync = False,
) -> ExitCode:
    """Show one run and what happened in it.

    How it ended and why, then its events, steps and child runs as a tree, then its other columns and its ids.
    """
    # Before anything is read: a time that is none is a usage error at once.
    at = None if around is None else parse_time(around, now_ns(), utc=utc)
    invocation = invocation_of(context)
    if not no_sync:
        sync_before_read(invocation)
    reader = invocation.open_reader()
    found = reader.find(run_id)
    if found.record is None:
        return _report_no_single_match(run_id, found)
    if found.older_runs:
        print_stderr(f"{found.older_runs} older runs have the same run id; give an event id to see one of them.")
    if not found.stored:
        print_stderr("This run is not in the database; it is shown from the journal.")
    tree = reader.tree(found.record, limit=limit)
    # A run that only the journal has is in no tree of the database.
    (whole,) = reader.trees([tree.record]) if found.stored else (None,)
    if as_json:
        print_json(_tree_object(invocation.config, tree, whole))
        return ExitCode.OK
    _print_run(invocation.config, tree, whole, utc=utc, rows=rows, errors=errors, last=last, around=at)
    return ExitCode.OK


def _print_run(
    config: "TelemetryConfig", tree: "RunTree", whole: "TreeTotals | None", *, utc: bool, rows: int, **which: Any
) -> None:
    """Print the head, the tree, the rest of the columns. `which`: the parts of the tree that are wanted."""
    from otel_agent_telemetry.cli.show_columns import head_of, rest_of
    from otel_agent_telemetry.cli.show_rows import parts_of, print_parts, without_repeats
    from otel_agent_telemetry.operations.run_outline import outline

    for line in head_of(tree.record, whole, utc=utc):
        print_line(line.text, style_of(line.status))
    # Without the run itself, whose figures are the head.
    below = [row for row in without_repeats(list(outline(tree)), tree.record.error_summary) if row.more_follows]
    if below:
        print_line()
        print_parts(parts_of(below, most=rows, **which), print_line, width_of_stdout() or _WIDTH, utc=utc)
    if tree.left_out:
        print_line(f"… and {tree.left_out} more events and steps; read them with a larger --limit.")
    print_line()
    for line in rest_of(tree.record, dict(config.git_hosts)):
        print_line(line.text)
    _print_left_out(config, tree.record)


def _report_no_single_match(wanted: str, found: "RunMatch") -> ExitCode:
    """Print that no run or several runs match, and return the exit status."""
    if not found.candidates:
        print_stderr(f"agent-telemetry: no run {wanted!r} found - `agent-telemetry runs` lists the stored runs.")
        return ExitCode.NOT_FOUND
    print_stderr(f"agent-telemetry: {wanted!r} matches several runs - give more of one of these ids:")
    for run in found.candidates:
        print_stderr(f"  {run.run_id}  {run.event_id}  {run.agent_name}  {run.status}")
    return ExitCode.USAGE


def _print_left_out(config: "TelemetryConfig", run: "RunRecord") -> None:
    """Print what was left out of the run as message content, and the settings that keep it."""
    from otel_agent_telemetry.usage import LEFT_OUT_KEY
    from otel_agent_telemetry.wire import load_object

    counts = (load_object(run.context_json or "{}") or {}).get(LEFT_OUT_KEY)
    if not isinstance(counts, dict):
        return
    names = ", ".join(f"{name} ({times})" if times != 1 else name for name, times in counts.items())
    print_line()
    for line in printable_lines(f"Left out as message content: {names}."):
        print_line(line)
    print_line(
        f"{config.variable_of('capture_content')}=true keeps it from the next run on, "
        f"{config.variable_of('content_allow')}=NAME,… some of it."
    )


def _tree_object(config: "TelemetryConfig", tree: "RunTree", whole: "TreeTotals | None") -> dict[str, Any]:
    """Return the run and what happened in it for `--json`.

    `{"run", "events", "steps", "children", "left_out", "tree"}`; children contain their own children.
    """
    from dataclasses import asdict

    from otel_agent_telemetry.operations.run_json import run_object

    hosts = dict(config.git_hosts)

    def child_object(child: "ChildRun") -> dict[str, Any]:
        """Return a child run with its own child runs."""
        below = [child_object(item) for item in child.children]
        return {**run_object(child.record, git_hosts=hosts), "children": below}

    return {
        "run": run_object(tree.record, git_hosts=hosts),
        "events": [asdict(event) for event in tree.events],
        "steps": [asdict(step) for step in tree.steps],
        "children": [child_object(child) for child in tree.children],
        "left_out": tree.left_out,
        "tree": None if whole is None else asdict(whole),
    }
