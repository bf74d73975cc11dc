"""`agent-telemetry check-counts`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otel_agent_telemetry.cli.exit_codes import ExitCode
from otel_agent_telemetry.cli.output import print_json, print_table, say
from otel_agent_telemetry.cli.runs import AsJson
from otel_agent_telemetry.cli.session import database_missing, session_of
from otel_agent_telemetry.cli.terminal_text import printable

if TYPE_CHECKING:
    from otel_agent_telemetry.storage.counts import CountDifference


def check_counts(
    context: typer.Context,
    repair: Annotated[bool, typer.Option("--repair", help="Put right what differs.")] = False,
    as_json: AsJson = False,
) -> ExitCode:
    """Compare the numbers that are kept with the runs themselves.

    Reads every run; others may write meanwhile.
    """
    from otel_agent_telemetry.operations.database import reading_database
    from otel_agent_telemetry.storage import counts as counts_check

    session = session_of(context)
    with reading_database(session.config) as connection:
        found = None if connection is None else counts_check.check_counts(connection)
    if found is None:
        database_missing(session)
    elif found and repair:
        from otel_agent_telemetry.operations.repair_counts import repair_counts

        found = repair_counts(session.config)
    if as_json:
        print_json(_object(found or (), repaired=repair))
    elif found is not None:
        _print(found, repaired=repair)
    return ExitCode.PROBLEM if found and not repair else ExitCode.OK


def _print(found: "Sequence[CountDifference]", *, repaired: bool) -> None:
    if not found:
        say("The counts are those of the runs.")
        return
    rows = [
        (one.table, " / ".join(printable(word) for word in one.key), str(one.kept), str(one.actual)) for one in found
    ]
    print_table(("TABLE", "OF", "KEPT", "RUNS"), rows)
    say()
    say(f"{len(found)} counts put right." if repaired else f"{len(found)} counts differ; --repair puts them right.")


def _object(found: "Sequence[CountDifference]", *, repaired: bool) -> dict[str, Any]:
    differences = [{"table": one.table, "key": list(one.key), "kept": one.kept, "actual": one.actual} for one in found]
    return {"ok": not found or repaired, "repaired": repaired and bool(found), "differences": differences}
