"""`agent-telemetry tail`.

Prints records as `operations.follow` and `operations.follow_service` read them; no database is opened.
"""

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otel_agent_telemetry.cli.error_handling import ExitCode
from otel_agent_telemetry.cli.invocation import invocation_of
from otel_agent_telemetry.cli.output import (
    format_duration,
    format_time,
    print_line,
    print_stderr,
    printable,
    shortened,
    style_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otel_agent_telemetry.operations.follow import Follower

_MAX_PAYLOAD = 300


def tail(
    context: typer.Context,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Keep printing records as they are appended, until Ctrl-C.")
    ] = False,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, max=1_000_000, help="Number of records to print first.")
    ] = 10,
    run: Annotated[str, typer.Option(help="Only records of runs whose run id or event id begins with this.")] = "",
    here: Annotated[
        bool, typer.Option("--here", help="The journal of this host, also where runs go to a service.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print each record as one line of JSON, as it was written.")
    ] = False,
) -> ExitCode:
    """Print the latest records.

    Of the journal one line for each run state, event and step, of every process. Where runs go
    to a service, its newest runs; with --run also the events and steps of that run.
    """
    from contextlib import closing

    from otel_agent_telemetry.operations.follow import JournalFollower, RunFilter, open_follower

    config = invocation_of(context).config
    try:
        with closing(open_follower(config, RunFilter(run), here=here)) as follower:
            _print(follower.last(lines), as_json=as_json)
            if follow:
                _follow(follower, as_json=as_json)
    # Ctrl-C is the way to end `--follow`, so it is a success.
    except KeyboardInterrupt:
        return ExitCode.OK
    if not config.ndjson_dir.is_dir() and isinstance(follower, JournalFollower):
        print_stderr(f"There is no journal at {config.ndjson_dir} yet.")
    if follower.torn:
        print_stderr(f"{follower.torn} lines were torn; `agent-telemetry verify` reports what is missing.")
    return ExitCode.OK


def _follow(follower: "Follower", *, as_json: bool) -> None:
    """Print what is new until interrupted."""
    import time

    while True:
        _print(follower.read_new(), as_json=as_json)
        time.sleep(follower.poll_s)


def _print(records: "Iterable[dict[str, Any]]", *, as_json: bool) -> None:
    """Print each record on a line of its own, at once also into a pipe."""
    for record in records:
        if as_json:
            print(json.dumps(record, default=str))
        else:
            text, word = describe(record)
            print_line(text, style_of(word))
    # A pipe is block-buffered, and the next record can be hours away.
    sys.stdout.flush()


def describe(record: dict[str, Any]) -> tuple[str, str]:
    """Return a printable line for a journal record, and the status that colours it."""
    kind = str(record.get("record_type"))
    run = record.get("run_id") or record.get("event_id") or "-"
    if kind == "event":
        payload = record.get("payload")
        shown = "" if payload is None else shortened(json.dumps(payload, ensure_ascii=False, default=str), _MAX_PAYLOAD)
        time_text, status, details = record.get("timestamp"), "", f"{record.get('event_type')}  {shown}"
    elif kind == "span":
        time_text, status = (
            record.get("end_time") or record.get("start_time"),
            str(record.get("status") or "running"),
        )
        details = f"{record.get('name')}  {status}{_duration(record)}"
    else:
        time_text, status = record.get("updated_at"), str(record.get("status") or "running")
        problem = f"  {record.get('error_summary')}" if record.get("error_summary") else ""
        details = f"{record.get('agent_name')} / {record.get('job_type')}  {status}{_duration(record)}{problem}"
    text = f"{format_time(str(time_text or '-'))}  {kind:<5}  {run}  {details.rstrip()}"
    return printable(text), status


def _duration(record: dict[str, Any]) -> str:
    """Return the duration of a record that has ended, "" otherwise."""
    duration = record.get("duration_ms", 0)
    if not record.get("end_time") or not isinstance(duration, int):
        return ""
    return f"  {format_duration(duration)}"
