"""`agent-telemetry close-stale`.

Closes the runs that `operations.open_runs` finds to be stale; the states stream through, so that
any number of runs needs little memory.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from otel_agent_telemetry.cli.error_handling import ExitCode
from otel_agent_telemetry.cli.invocation import (
    AsJson,
    invocation_of,
    note_other_service,
    parse_duration_ns,
    sync_before_read,
)
from otel_agent_telemetry.cli.output import format_time, print_json, print_line, print_stderr, printable

if TYPE_CHECKING:
    from otel_agent_telemetry.model import RunRecord


def close_stale(
    context: typer.Context,
    older_than: Annotated[str, typer.Option(help="Minimum age of the last sign of life: 90m, 24h, 7d. Required.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the runs and change nothing.")] = False,
    as_json: AsJson = False,
) -> ExitCode:
    """Close runs that no process will end.

    Runs that are `running` in the database, open in no process of this host, and without a
    sign of life for that long, become `failed`.
    """
    from otel_agent_telemetry.operations.open_runs import close_runs, closing_states

    invocation, age_ns = invocation_of(context), parse_duration_ns(older_than)
    note_other_service(invocation)
    # First, so that runs whose end waits in the buffer are not closed as stale.
    if not dry_run:
        sync_before_read(invocation)
    reported: list[dict[str, str]] = []
    states = _report_each(closing_states(invocation.config, older_than_ns=age_ns), reported, silent=as_json)
    # Consuming the generator prints the runs.
    closed = sum(1 for _ in states) if dry_run else close_runs(invocation.config, states)
    if as_json:
        print_json({"closed": 0 if dry_run else closed, "found": len(reported), "dry_run": dry_run, "runs": reported})
    elif dry_run:
        print_line(f"{closed} runs would be closed.")
    else:
        print_line(f"{closed} runs closed.")
    if dry_run and closed and not as_json:
        print_stderr("Nothing was changed: --dry-run.")
    return ExitCode.OK


def _report_each(
    states: "Iterable[RunRecord]", reported: list[dict[str, str]], *, silent: bool
) -> "Iterator[RunRecord]":
    """Yield the states unchanged; print each, or add it to `reported` when `silent`."""
    for state in states:
        last_sign = state.end_time or state.updated_at
        if silent:
            reported.append({"event_id": state.event_id, "run_id": state.run_id, "last_sign_of_life": last_sign})
        else:
            print_line(
                f"{printable(state.run_id)}  {printable(state.agent_name)}  last sign of life {format_time(last_sign)}"
            )
        yield state
