"""`agent-telemetry stats`.

Prints the figures of `delivery.stats`, which `TelemetryClient.get_stats()` returns too.
"""

from typing import Any

import typer

from otel_agent_telemetry.cli.error_handling import ExitCode, report_error
from otel_agent_telemetry.cli.invocation import AsJson, NoSync, invocation_of, note_missing_database, sync_before_read
from otel_agent_telemetry.cli.output import print_json, print_line, print_stderr, print_table, printable

_EMPTY = {"total_runs": 0, "agents": {}, "recent_24h": 0, "statuses": {}}


def stats(context: typer.Context, as_json: AsJson = False, no_sync: NoSync = False) -> ExitCode:
    """Count runs by status and by agent.

    When the service that has the runs cannot be read, the local database is counted and the
    exit status is that of the service's error.
    """
    from otel_agent_telemetry.delivery.stats import read_stats

    invocation = invocation_of(context)
    if not no_sync:
        sync_before_read(invocation)
    result = read_stats(invocation.config)
    code = ExitCode.OK
    if result.problem is not None:
        # The status tells scripts that the figures are not those of the service.
        code = report_error(result.problem)
        if result.figures is None:
            return code
        print_stderr("The figures are those of the local database.")
    elif result.figures is None:
        note_missing_database(invocation)
    if as_json:
        print_json(result.figures or _EMPTY)
    elif result.figures is not None:
        _print(result.figures)
    return code


def _print(figures: dict[str, Any]) -> None:
    """Print the totals, then the tables by status and by agent."""
    print_line(f"runs           {figures['total_runs']}")
    print_line(f"last 24 hours  {figures['recent_24h']}")
    for heading, counts in (("STATUS", figures.get("statuses")), ("AGENT", figures.get("agents"))):
        if counts:
            print_line()
            print_table((heading, "RUNS"), _rows(counts), status_column=0)


def _rows(counts: dict[str, int]) -> list[tuple[str, str]]:
    """Return a row for each name, the one with most runs first."""
    # By name among equals, so that two calls print the same order.
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [(printable(name), str(number)) for name, number in ordered]
