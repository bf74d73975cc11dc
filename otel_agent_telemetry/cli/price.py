"""`agent-telemetry price`.

Prints what `operations.price_runs` computed and changed.
"""

from typing import TYPE_CHECKING, Annotated

import typer

from otel_agent_telemetry.cli.error_handling import ExitCode
from otel_agent_telemetry.cli.invocation import (
    Agent,
    AsJson,
    Model,
    NoSync,
    Since,
    Until,
    invocation_of,
    note_missing_database,
    note_other_service,
    run_query,
    sync_before_read,
)
from otel_agent_telemetry.cli.output import print_json, print_line, print_table, printable

if TYPE_CHECKING:
    from otel_agent_telemetry.operations.price_runs import PriceReport


def price(
    context: typer.Context,
    agent: Agent = None,
    model: Model = None,
    since: Since = None,
    until: Until = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Store nothing, only show what would change.")] = False,
    as_json: AsJson = False,
    no_sync: NoSync = False,
) -> ExitCode:
    """Compute the cost of stored runs again, at the prices that are known now.

    Stores it in `cost_usd` and prints what changed. A cost that a run or its spans reported stays.
    """
    from dataclasses import asdict

    from otel_agent_telemetry.operations.price_runs import price_runs

    query = run_query(
        agent=agent, status=None, job_type=None, run_id=None, parent=None, since=since, until=until, model=model
    )
    invocation = invocation_of(context)
    note_other_service(invocation)
    if not no_sync:
        sync_before_read(invocation)
    report = price_runs(invocation.config, query, dry_run=dry_run)
    if report is None:
        note_missing_database(invocation)
    elif as_json:
        print_json({**asdict(report), "dry_run": dry_run})
    else:
        _print(report, dry_run=dry_run)
    return ExitCode.OK


def _print(report: "PriceReport", *, dry_run: bool) -> None:
    """Print the changes, their sum and the prices that were used."""
    rows = [
        (_dollars(one.before), _dollars(one.after), printable(one.model or "-"), printable(one.run_id))
        for one in report.changes
    ]
    if rows:
        print_table(("BEFORE USD", "NOW USD", "MODEL", "RUN ID"), rows)
        print_line()
    would = "would change" if dry_run else "changed"
    total = f": {_dollars(report.before_usd)} before, {_dollars(report.after_usd)} now" if report.changed else ""
    print_line(f"The cost of {report.changed} runs {would}{total}.")
    print_line(f"{report.priced} runs have a cost; {report.unpriced} that called a model have none.")
    print_line(f"Prices: {', '.join(map(printable, report.sources)) or 'none'}.")


def _dollars(cost: float | None) -> str:
    """Return a cost with six digits after the point; "-" where it is not known."""
    return "-" if cost is None else f"{cost:.6f}"
