"""`agent-telemetry delete`.

Finds one run by its whole id, asks, and deletes it through `operations.deletion`.
"""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otel_agent_telemetry.cli.error_handling import ExitCode
from otel_agent_telemetry.cli.invocation import AsJson, invocation_of, sync_before_read
from otel_agent_telemetry.cli.output import format_time, print_json, print_line, print_stderr, printable

if TYPE_CHECKING:
    from otel_agent_telemetry.deletion import Deletion
    from otel_agent_telemetry.model import RunRecord
    from otel_agent_telemetry.operations.purge import PurgeReport
    from otel_agent_telemetry.operations.run_reader import RunMatch


def delete(
    context: typer.Context,
    run_id: Annotated[str, typer.Argument(help="The whole run id or event id of a run.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    purge: Annotated[
        bool,
        typer.Option("--purge", help="Also overwrite its lines in the journal here, and name backups with it."),
    ] = False,
    as_json: AsJson = False,
) -> ExitCode:
    """Delete a run, the runs inside it, and their events and steps.

    A receipt stays; no later state of these runs is stored.
    """
    from otel_agent_telemetry.operations import deletion
    from otel_agent_telemetry.operations.purge import purge as purge_lines

    invocation = invocation_of(context)
    # First, so that the runs inside it which wait in the buffer are known.
    sync_before_read(invocation)
    found = invocation.open_reader().find(run_id)
    if found.record is None:
        deleted = deletion.known_receipts(invocation.config, run_id)
    elif (code := _refused(found, run_id, yes=yes)) is not None:
        return code
    else:
        deleted = deletion.delete(invocation.config, found.record)
    if not deleted:
        print_stderr(f"agent-telemetry: no run has the id {run_id!r}; a deletion needs the whole id.")
        return ExitCode.NOT_FOUND
    purged = purge_lines(invocation.config, deleted) if purge else None
    if as_json:
        print_json(_object(deleted, purged))
    else:
        _print(deleted, purged)
    return ExitCode.OK


def _refused(found: "RunMatch", wanted: str, *, yes: bool) -> ExitCode | None:
    """Return the exit status where the run is not to be deleted, after printing why; None where it is."""
    record = found.record
    assert record is not None, "a run was found"
    if wanted not in (record.run_id, record.event_id):
        print_stderr(f"agent-telemetry: a deletion needs the whole id: {record.run_id} or {record.event_id}")
        return ExitCode.USAGE
    if found.older_runs:
        print_stderr(f"agent-telemetry: {found.older_runs + 1} runs have the run id {wanted!r}; give an event id.")
        return ExitCode.USAGE
    if not yes and not _is_confirmed(record):
        print_stderr("Nothing was deleted.")
        return ExitCode.USAGE
    return None


def _is_confirmed(record: "RunRecord") -> bool:
    """Ask on the terminal; without one the answer is no."""
    about = f"{record.run_id} of {record.agent_name}, {record.status}, started {format_time(record.start_time)} UTC"
    if not sys.stdin.isatty():
        print_stderr(f"agent-telemetry: {printable(about)}: --yes deletes without a question.")
        return False
    return typer.confirm(f"Delete {printable(about)}, the runs inside it, their events and steps?", err=True)


def _print(receipts: "tuple[Deletion, ...]", purged: "PurgeReport | None") -> None:
    """Print each receipt, then what was purged."""
    for receipt in receipts:
        ids = f"{printable(receipt.run_id)}  {printable(receipt.event_id)}"
        print_line(f"deleted  {ids}  {format_time(receipt.deleted_at)} UTC by {printable(receipt.deleted_by)}")
    if purged is None:
        return
    print_line(f"purged   {purged.lines} lines in {purged.files} day files")
    for path in purged.backups:
        print_line(f"backup   {printable(path)} still holds it", "yellow")


def _object(receipts: "tuple[Deletion, ...]", purged: "PurgeReport | None") -> dict[str, Any]:
    """Return the receipts for `--json`."""
    names = ("event_id", "run_id", "deleted_at", "deleted_by")
    shown = None
    if purged is not None:
        shown = {"lines": purged.lines, "files": purged.files, "backups": list(map(str, purged.backups))}
    return {
        "deleted": [{name: getattr(receipt, name) for name in names} for receipt in receipts],
        "purged": shown,
    }
