"""`agent-telemetry tail`."""

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otel_agent_telemetry.cli.exit_codes import ExitCode
from otel_agent_telemetry.cli.output import remark, say, style_of
from otel_agent_telemetry.cli.session import session_of
from otel_agent_telemetry.cli.terminal_text import printable, shortened
from otel_agent_telemetry.cli.time_options import clock_text, duration_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otel_agent_telemetry.operations.follow import JournalFollower

_LOOK_EVERY_S = 0.2
_MAX_PAYLOAD = 300


def tail(
    context: typer.Context,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines are appended, until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, max=1_000_000, help="So many at first.")] = 10,
    run: Annotated[str, typer.Option(help="Only of the run whose run id or event id begins so.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, as it was written.")] = False,
) -> ExitCode:
    """Print the end of the journal.

    One line a record: run states, events and steps, of every process, as they are written.
    """
    from otel_agent_telemetry.operations.follow import JournalFollower, RunFilter

    folder = session_of(context).config.ndjson_dir
    follower = JournalFollower(folder, RunFilter(run))
    try:
        _print(follower.last(lines), as_json=as_json)
        if follow:
            _go_on(follower, as_json=as_json)
        elif not folder.is_dir():
            remark(f"There is no journal at {folder} yet.")
    except KeyboardInterrupt:
        return ExitCode.OK
    if follower.torn:
        remark(f"{follower.torn} of these lines were torn; `agent-telemetry verify` says what is missing.")
    return ExitCode.OK


def _go_on(follower: "JournalFollower", *, as_json: bool) -> None:
    """Look for what was appended, a few times a second, until interrupted."""
    import time

    while True:
        _print(follower.look(), as_json=as_json)
        time.sleep(_LOOK_EVERY_S)


def _print(records: "Iterable[dict[str, Any]]", *, as_json: bool) -> None:
    for record in records:
        if as_json:
            print(json.dumps(record, default=str))
        else:
            text, word = described(record)
            say(text, style_of(word))
    sys.stdout.flush()


def described(record: dict[str, Any]) -> tuple[str, str]:
    """One printable line for a journal record, and the word that colours it."""
    kind = str(record.get("record_type"))
    run = record.get("run_id") or record.get("event_id") or "-"
    if kind == "event":
        payload = record.get("payload")
        shown = "" if payload is None else shortened(json.dumps(payload, ensure_ascii=False, default=str), _MAX_PAYLOAD)
        moment, status, said = record.get("timestamp"), "", f"{record.get('event_type')}  {shown}"
    elif kind == "span":
        moment, status = (
            record.get("end_time") or record.get("start_time"),
            str(record.get("status") or "running"),
        )
        said = f"{record.get('name')}  {status}{_took(record)}"
    else:
        moment, status = record.get("updated_at"), str(record.get("status") or "running")
        problem = f"  {record.get('error_summary')}" if record.get("error_summary") else ""
        said = f"{record.get('agent_name')} / {record.get('job_type')}  {status}{_took(record)}{problem}"
    text = f"{clock_text(str(moment or '-'))}  {kind:<5}  {run}  {said.rstrip()}"
    return printable(text), status


def _took(record: dict[str, Any]) -> str:
    duration = record.get("duration_ms", 0)
    if not record.get("end_time") or not isinstance(duration, int):
        return ""
    return f"  {duration_text(duration)}"
