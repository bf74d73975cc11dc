"""`agent-telemetry stats`."""

import typer

from otel_agent_telemetry.cli.exit_codes import ExitCode
from otel_agent_telemetry.cli.output import print_json, print_table, say
from otel_agent_telemetry.cli.runs import AsJson, NoSync
from otel_agent_telemetry.cli.session import database_missing, freshen, now_ns, session_of
from otel_agent_telemetry.cli.terminal_text import printable

_EMPTY = {"total_runs": 0, "agents": {}, "recent_24h": 0, "statuses": {}}


def stats(context: typer.Context, as_json: AsJson = False, no_sync: NoSync = False) -> ExitCode:
    """Count runs by status and by agent."""
    session = session_of(context)
    if not no_sync:
        freshen(session)
    found = session.source.stats(now_ns())
    if found is None:
        database_missing(session)
    if as_json:
        print_json(found or _EMPTY)
    elif found is not None:
        say(f"runs           {found['total_runs']}")
        say(f"last 24 hours  {found['recent_24h']}")
        for heading, counts in (("STATUS", found.get("statuses")), ("AGENT", found.get("agents"))):
            if counts:
                say()
                print_table((heading, "RUNS"), _rows(counts), status_column=0)
    return ExitCode.OK


def _rows(counts: dict[str, int]) -> list[tuple[str, str]]:
    """Most runs first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [(printable(name), str(number)) for name, number in ordered]
