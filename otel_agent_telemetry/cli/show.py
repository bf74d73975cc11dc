"""`agent-telemetry show`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from otel_agent_telemetry.cli.exit_codes import ExitCode
from otel_agent_telemetry.cli.output import print_json, remark, say, style_of
from otel_agent_telemetry.cli.runs import AsJson, NoSync
from otel_agent_telemetry.cli.session import freshen, session_of
from otel_agent_telemetry.cli.terminal_text import printable, printable_lines, shortened
from otel_agent_telemetry.cli.time_options import clock_text, duration_text

if TYPE_CHECKING:
    from otel_agent_telemetry.config import TelemetryConfig
    from otel_agent_telemetry.model import RunRecord
    from otel_agent_telemetry.operations.lookup import Found
    from otel_agent_telemetry.operations.run_tree import ChildRun, Item, RunTree

_WIDTH = 200
_INDENT = 22
_TEXTS = ("error_summary", "error_details", "input_summary", "output_summary")


def show(
    context: typer.Context,
    run_id: Annotated[str, typer.Argument(help="A run id or event id, or the beginning of one.")],
    limit: Annotated[int, typer.Option(min=0, max=1_000_000, help="At most so many events, and steps.")] = 1000,
    as_json: AsJson = False,
    no_sync: NoSync = False,
) -> ExitCode:
    """Show one run and what happened in it.

    Its columns that are set, then its events, steps and child runs as a tree.
    """
    session = session_of(context)
    if not no_sync:
        freshen(session)
    found = session.source.find(run_id)
    if found.record is None:
        return _say_not_one(run_id, found)
    if found.others:
        remark(f"{found.others} older runs have the same run id; name the event id to see one of them.")
    if not found.stored:
        remark("This run is not in the database; what is shown is what the journal knows.")
    tree = session.source.tree(found.record, limit=limit)
    if as_json:
        print_json(_tree_object(session.config, tree))
    else:
        _print_columns(session.config, tree.record)
        _print_tree(tree)
    return ExitCode.OK


def _say_not_one(wanted: str, found: "Found") -> ExitCode:
    if not found.candidates:
        remark(f"agent-telemetry: no run {wanted!r} is known here - `agent-telemetry runs` lists those that are.")
        return ExitCode.NOT_FOUND
    remark(f"agent-telemetry: {wanted!r} is the beginning of several ids - write more of one of these:")
    for run in found.candidates:
        remark(f"  {run.run_id}  {run.event_id}  {run.agent_name}  {run.status}")
    return ExitCode.USAGE


def _print_columns(config: "TelemetryConfig", run: "RunRecord") -> None:
    from otel_agent_telemetry.operations.lookup import run_object

    values = run_object(run, git_hosts=dict(config.git_hosts))
    for name, value in values.items():
        if not value and not (name == "duration_ms" and run.ended):
            continue
        lines = printable_lines(value) if name in _TEXTS else _lines_of(value)
        style = style_of(run.status) if name == "status" else ""
        say(f"{name:<{_INDENT - 2}}  {lines[0]}", style)
        for line in lines[1:]:
            say(" " * _INDENT + line)


def _lines_of(value: Any) -> list[str]:
    if isinstance(value, (dict, list)):
        return [printable(line) for line in _json_text(value, indent=2).split("\n")]
    return [printable(value)]


def _json_text(value: Any, *, indent: int | None = None) -> str:
    import json

    return json.dumps(value, indent=indent, ensure_ascii=False, default=str)


def _print_tree(tree: "RunTree") -> None:
    from otel_agent_telemetry.operations.run_tree import outline

    say()
    for row in outline(tree):
        text, status = _described(row.item)
        say(shortened(row.guides + printable(text), _WIDTH), style_of(status))
    if tree.left_out:
        say(f"… and {tree.left_out} more events and steps; --limit shows more of them.")


def _described(item: "Item") -> tuple[str, str]:
    """What a row of the tree says of its item, and the word that colours it."""
    from otel_agent_telemetry.model import RunEvent, RunRecord

    if isinstance(item, RunEvent):
        payload = "" if item.payload is None else f"  {_json_text(item.payload)}"
        return f"{clock_text(item.timestamp)[11:]}  event {item.event_type}{payload}", ""
    duration = duration_text(item.duration_ms) if item.end_time else "not ended"
    if isinstance(item, RunRecord):
        name = f"run {item.run_id}  {item.agent_name} / {item.job_type}"
        return f"{clock_text(item.start_time)[11:]}  {name}  {item.status}  {duration}", item.status
    said = f"  {item.status_message}" if item.status_message else ""
    return (
        f"{clock_text(item.start_time)[11:]}  step {item.name}  {item.status}  {duration}{said}",
        item.status,
    )


def _tree_object(config: "TelemetryConfig", tree: "RunTree") -> dict[str, Any]:
    from dataclasses import asdict

    from otel_agent_telemetry.operations.lookup import run_object

    hosts = dict(config.git_hosts)

    def child_object(child: "ChildRun") -> dict[str, Any]:
        below = [child_object(item) for item in child.children]
        return {**run_object(child.record, git_hosts=hosts), "children": below}

    return {
        "run": run_object(tree.record, git_hosts=hosts),
        "events": [asdict(event) for event in tree.events],
        "steps": [asdict(step) for step in tree.steps],
        "children": [child_object(child) for child in tree.children],
        "left_out": tree.left_out,
    }
