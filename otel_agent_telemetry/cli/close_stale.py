"""`agent-telemetry close-stale`."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from otel_agent_telemetry.cli.exit_codes import ExitCode
from otel_agent_telemetry.cli.output import print_json, remark, say
from otel_agent_telemetry.cli.runs import AsJson
from otel_agent_telemetry.cli.session import freshen, say_where_runs_go, session_of
from otel_agent_telemetry.cli.terminal_text import printable
from otel_agent_telemetry.cli.time_options import clock_text, duration_ns

if TYPE_CHECKING:
    from otel_agent_telemetry.model import RunRecord


def close_stale(
    context: typer.Context,
    older_than: Annotated[str, typer.Option(help="Without a sign of life for so long: 90m, 24h, 7d.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say which runs, and change nothing.")] = False,
    as_json: AsJson = False,
) -> ExitCode:
    """End runs that nobody will end any more.

    Those still `running` in the database, open in no process here, without a sign of life
    for so long, become `failed`.
    """
    from otel_agent_telemetry.operations.open_runs import close_runs, stale_closings

    session, age_ns = session_of(context), duration_ns(older_than)
    say_where_runs_go(session)
    if not dry_run:
        freshen(session)
    named: list[dict[str, str]] = []
    states = _named(stale_closings(session.config, older_than_ns=age_ns), named, quiet=as_json)
    closed = sum(1 for _ in states) if dry_run else close_runs(session.config, states)
    if as_json:
        print_json({"closed": 0 if dry_run else closed, "found": len(named), "dry_run": dry_run, "runs": named})
    elif dry_run:
        say(f"{closed} runs would be closed.")
    else:
        say(f"{closed} runs closed.")
    if dry_run and closed and not as_json:
        remark("Nothing was changed: --dry-run.")
    return ExitCode.OK


def _named(states: "Iterable[RunRecord]", named: list[dict[str, str]], *, quiet: bool) -> "Iterator[RunRecord]":
    """The states as they pass by, each named for the report."""
    for state in states:
        last_sign = state.end_time or state.updated_at
        if quiet:
            named.append({"event_id": state.event_id, "run_id": state.run_id, "last_sign_of_life": last_sign})
        else:
            say(f"{printable(state.run_id)}  {printable(state.agent_name)}  last sign of life {clock_text(last_sign)}")
        yield state
