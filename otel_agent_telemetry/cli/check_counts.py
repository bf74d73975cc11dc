"""`agent-telemetry check-counts`.

Prints what `operations.maintenance` finds; `--repair` corrects it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otel_agent_telemetry.cli.error_handling import ExitCode
from otel_agent_telemetry.cli.invocation import AsJson, invocation_of, note_missing_database
from otel_agent_telemetry.cli.output import print_json, print_line, print_table, printable

if TYPE_CHECKING:
    from otel_agent_telemetry.storage.counts import CountDifference


def check_counts(
    context: typer.Context,
    repair: Annotated[bool, typer.Option("--repair", help="Correct the counts that differ.")] = False,
    as_json: AsJson = False,
) -> ExitCode:
    """Compare the stored counts with the runs.

    Reads every run; other processes may write meanwhile.
    """
    from otel_agent_telemetry.operations import maintenance

    invocation = invocation_of(context)
    found = maintenance.check_counts(invocation.config)
    if found is None:
        note_missing_database(invocation)
    elif found and repair:
        found = maintenance.repair_counts(invocation.config)
    if as_json:
        print_json(_object(found or (), repaired=repair))
    elif found is not None:
        _print(found, repaired=repair)
    return ExitCode.PROBLEM if found and not repair else ExitCode.OK


def _print(found: "Sequence[CountDifference]", *, repaired: bool) -> None:
    """Print each count that differs or differed."""
    if not found:
        print_line("The stored counts match the runs.")
        return
    rows = [
        (one.table, " / ".join(printable(word) for word in one.key), str(one.kept), str(one.actual)) for one in found
    ]
    print_table(("TABLE", "KEY", "STORED", "ACTUAL"), rows)
    print_line()
    print_line(
        f"{len(found)} counts corrected." if repaired else f"{len(found)} counts differ; --repair corrects them."
    )


def _object(found: "Sequence[CountDifference]", *, repaired: bool) -> dict[str, Any]:
    """Return the result for `--json`: `{"ok", "repaired", "differences"}`.

    Each difference has the table, the key, and the count as kept and as it is.
    """
    differences = [{"table": one.table, "key": list(one.key), "kept": one.kept, "actual": one.actual} for one in found]
    return {"ok": not found or repaired, "repaired": repaired and bool(found), "differences": differences}
