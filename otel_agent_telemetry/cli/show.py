"""`agent-telemetry show`.

Finds one run through the reader of runs and prints it as columns and a tree.
"""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from otel_agent_telemetry.cli.error_handling import ExitCode
from otel_agent_telemetry.cli.invocation import AsJson, NoSync, invocation_of, sync_before_read
from otel_agent_telemetry.cli.output import (
    format_duration,
    format_time,
    print_json,
    print_line,
    print_stderr,
    printable,
    printable_lines,
    shortened,
    style_of,
)

if TYPE_CHECKING:
    from otel_agent_telemetry.config import TelemetryConfig
    from otel_agent_telemetry.model import RunRecord
    from otel_agent_telemetry.operations.run_outline import Item
    from otel_agent_telemetry.operations.run_reader import RunMatch
    from otel_agent_telemetry.operations.run_tree import ChildRun, RunTree
    from otel_agent_telemetry.storage.tree_totals import TreeTotals

_WIDTH = 200
_INDENT = 22
_TEXTS = ("error_summary", "error_details", "input_summary", "output_summary")


def show(
    context: typer.Context,
    run_id: Annotated[str, typer.Argument(help="Run id or event id, or the beginning of one.")],
    limit: Annotated[
        int, typer.Option(min=0, max=1_000_000, help="Number of events, and of steps, to show at most.")
    ] = 1000,
    as_json: AsJson = False,
    no_sync: NoSync = False,
) -> ExitCode:
    """Show one run and what happened in it.

    Prints its columns that have a value, then its events, steps and child runs as a tree.
    """
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
    (whole,) = reader.trees([tree.record]) if found.stored else (None,)
    if as_json:
        print_json(_tree_object(invocation.config, tree, whole))
    else:
        _print_columns(invocation.config, tree.record)
        if whole is not None and whole.runs > 1:
            print_line(f"{'whole tree':<{_INDENT - 2}}  {_totals_text(whole)}")
        _print_tree(tree)
        _print_left_out(invocation.config, tree.record)
    return ExitCode.OK


def _report_no_single_match(wanted: str, found: "RunMatch") -> ExitCode:
    """Print that no run or several runs match, and return the exit status."""
    if not found.candidates:
        print_stderr(f"agent-telemetry: no run {wanted!r} found - `agent-telemetry runs` lists the stored runs.")
        return ExitCode.NOT_FOUND
    print_stderr(f"agent-telemetry: {wanted!r} matches several runs - give more of one of these ids:")
    for run in found.candidates:
        print_stderr(f"  {run.run_id}  {run.event_id}  {run.agent_name}  {run.status}")
    return ExitCode.USAGE


def _print_columns(config: "TelemetryConfig", run: "RunRecord") -> None:
    """Print the columns that have a value, long texts on several lines."""
    from otel_agent_telemetry.operations.run_json import run_object

    values = run_object(run, git_hosts=dict(config.git_hosts))
    for name, value in values.items():
        if not value and not (name == "duration_ms" and run.ended):
            continue
        lines = printable_lines(value) if name in _TEXTS else _lines_of(value)
        style = style_of(run.status) if name == "status" else ""
        print_line(f"{name:<{_INDENT - 2}}  {lines[0]}", style)
        for line in lines[1:]:
            print_line(" " * _INDENT + line)


def _lines_of(value: Any) -> list[str]:
    """Return the printable lines of a value, JSON indented."""
    if isinstance(value, (dict, list)):
        return [printable(line) for line in _json_text(value, indent=2).split("\n")]
    return [printable(value)]


def _json_text(value: Any, *, indent: int | None = None) -> str:
    """Return JSON with the characters as they are: it is escaped for the terminal afterwards."""
    import json

    return json.dumps(value, indent=indent, ensure_ascii=False, default=str)


def _print_tree(tree: "RunTree") -> None:
    """Print events, steps and child runs with their branches."""
    from otel_agent_telemetry.operations.run_outline import outline

    print_line()
    for row in outline(tree):
        text, status = _describe(row.item)
        print_line(shortened(row.guides + printable(text), _WIDTH), style_of(status))
    if tree.left_out:
        print_line(f"… and {tree.left_out} more events and steps; show them with a larger --limit.")


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


def _describe(item: "Item") -> tuple[str, str]:
    """Return the text of a row of the tree, and the status that colours it."""
    from otel_agent_telemetry.model import RunEvent, RunRecord

    if isinstance(item, RunEvent):
        payload = "" if item.payload is None else f"  {_json_text(item.payload)}"
        return f"{format_time(item.timestamp)[11:]}  event {item.event_type}{payload}", ""
    duration = format_duration(item.duration_ms) if item.end_time else "not ended"
    if isinstance(item, RunRecord):
        name = f"run {item.run_id}  {item.agent_name} / {item.job_type}"
        return f"{format_time(item.start_time)[11:]}  {name}  {item.status}  {duration}", item.status
    message = f"  {item.status_message}" if item.status_message else ""
    return (
        f"{format_time(item.start_time)[11:]}  step {item.name}  {item.status}  {duration}{message}",
        item.status,
    )


def _totals_text(whole: "TreeTotals") -> str:
    """Return what a run and the runs inside it used together."""
    cost = "no known cost" if whole.cost_usd is None else f"{whole.cost_usd:.6f} US dollars"
    notes = f" ({whole.unpriced_runs} runs without a known cost)" if whole.unpriced_runs else ""
    more = "" if whole.complete else ", and more runs that are not added"
    return (
        f"{whole.runs} runs, {whole.model_calls} model calls, {whole.tool_calls} tool calls, "
        f"{whole.input_tokens} tokens in, {whole.output_tokens} out, {cost}{notes}{more}"
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
