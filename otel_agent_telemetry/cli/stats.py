"""`agent-telemetry stats`.

Prints the figures of `delivery.stats`, which `TelemetryClient.get_stats()` returns too; with `--by` those of
`storage.answers`.
"""

from typing import Annotated, Any

import typer

from otel_agent_telemetry.cli.error_handling import ExitCode, report_error
from otel_agent_telemetry.cli.invocation import (
    AsJson,
    Invocation,
    NoSync,
    invocation_of,
    note_missing_database,
    now_ns,
    parse_time,
    sync_before_read,
)
from otel_agent_telemetry.cli.output import format_time, print_json, print_line, print_stderr, print_table, printable

_EMPTY = {"total_runs": 0, "agents": {}, "recent_24h": 0, "statuses": {}}


def stats(
    context: typer.Context,
    by: Annotated[
        str | None,
        typer.Option(help="What was spent and done by agent, model, session, repository, user, label or label:NAME."),
    ] = None,
    since: Annotated[
        str, typer.Option(help="With --by: runs created since an ISO 8601 time, or an age such as 24h or 7d.")
    ] = "7d",
    as_json: AsJson = False,
    no_sync: NoSync = False,
) -> ExitCode:
    """Count runs by status and by agent; with --by show what agents cost, did and achieved.

    When the service that has the runs cannot be read, the local database is counted and the
    exit status is that of the service's error.
    """
    from otel_agent_telemetry.delivery.stats import read_stats

    invocation = invocation_of(context)
    if not no_sync:
        sync_before_read(invocation)
    if by is not None:
        return _print_answers(invocation, by, since, as_json=as_json)
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


def _print_answers(invocation: Invocation, by: str, since: str, *, as_json: bool) -> ExitCode:
    """Print what the runs since a time cost, did and achieved. Raises typer.BadParameter."""
    from otel_agent_telemetry.operations.read_answers import read_answers
    from otel_agent_telemetry.storage.answers import check_by

    try:
        check_by(by)
    except ValueError as problem:
        raise typer.BadParameter(f"{by!r} {problem}", param_hint="--by") from None
    now = now_ns()
    found = read_answers(invocation.config, by, since=parse_time(since, now), now_ns=now)
    if found is None:
        note_missing_database(invocation)
        return ExitCode.OK
    if as_json:
        print_json(found)
        return ExitCode.OK
    print_line(f"runs created since {format_time(found['since'])} UTC")
    print_line()
    print_table(
        (by.upper(), *_ANSWERS),
        [_answer_row(line) for line in (*found["lines"], {**found["total"], "name": "all runs"})],
    )
    if found["more"]:
        print_stderr("These are the most expensive; there are more.")
    return ExitCode.OK


_ANSWERS = ("COST", "TOKENS", "TURNS", "FAILED", "TOOLS", "REJECTED", "ERRORS", "COMMITS", "LINES")
_UNKNOWN = "unknown"


def _answer_row(line: dict[str, Any]) -> tuple[str, ...]:
    """Return the cells of a line; what nobody reported is `unknown`, and nothing at all where there was nothing."""
    tokens = line["input_tokens"] + line["output_tokens"]
    cost = line["cost_usd"]
    # Runs that used no tokens have cost nothing, which is known.
    known_cost = _UNKNOWN if cost is None and tokens else f"${cost or 0:,.2f}"
    changed = [line["lines_added"], line["lines_removed"]]
    lines = _UNKNOWN if changed == [None, None] else "+{} -{}".format(*(number or 0 for number in changed))
    counts = [line[name] for name in ("tool_calls", "rejected_tools", "step_errors", "commits")]
    shown = [_UNKNOWN if count is None else f"{count:,}" for count in counts]
    name = printable(line["name"]) or "(none)"
    at_least = "≥ " if cost is not None and line["unpriced_tokens"] else ""
    return (name, at_least + known_cost, f"{tokens:,}", f"{line['turns']:,}", f"{line['failed']:,}", *shown, lines)
