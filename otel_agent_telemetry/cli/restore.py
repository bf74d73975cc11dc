"""`agent-telemetry restore`.

Checks a backup, or replaces the database by it through `storage.restore`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from otel_agent_telemetry.cli.backup import contents_object, print_contents, report_counts
from otel_agent_telemetry.cli.error_handling import ExitCode
from otel_agent_telemetry.cli.invocation import AsJson, invocation_of
from otel_agent_telemetry.cli.output import print_json, print_line, print_stderr, printable

if TYPE_CHECKING:
    from otel_agent_telemetry.config import TelemetryConfig


def restore(
    context: typer.Context,
    backup: Annotated[Path, typer.Argument(help="Path of a backup, or its name in {base}/backups.")],
    verify: Annotated[bool, typer.Option("--verify", help="Only check the backup and report what it holds.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Go on although the database has runs that the backup does not have.")
    ] = False,
    as_json: AsJson = False,
) -> ExitCode:
    """Replace the database by a backup; a backup of the replaced database is kept."""
    from otel_agent_telemetry.operations.maintenance import PG_DUMP_HINT
    from otel_agent_telemetry.storage.database_file import database_file
    from otel_agent_telemetry.storage.restore import read_contents

    config = invocation_of(context).config
    found = _locate(config, backup.expanduser())
    if not verify:
        target = database_file(config, doing="restoring", hint=PG_DUMP_HINT)
        return _restore(config, target, found, force=force, as_json=as_json)
    contents = read_contents(config, found)
    if as_json:
        print_json(contents_object(contents))
    else:
        print_contents("valid", contents)
    return report_counts(contents)


def _locate(config: "TelemetryConfig", backup: Path) -> Path:
    """Return the path of a backup: as given, else below `{base}/backups`."""
    inside = config.backups_dir / backup
    # A path that exists wins over a name in the backups folder.
    return inside if inside.exists() and not backup.exists() else backup


def _restore(config: "TelemetryConfig", target: Path, backup: Path, *, force: bool, as_json: bool) -> ExitCode:
    """Replace the database and print what was restored and kept."""
    from otel_agent_telemetry.storage.restore import restore_backup

    report = restore_backup(config, target, backup, force=force)
    if as_json:
        names = {"database": str(target), "kept": None if report.kept is None else str(report.kept)}
        done = {"schema": report.schema.outcome, "deleted": report.deleted}
        print_json({**names, **done, "backup": contents_object(report.contents)})
    else:
        print_contents("restored", report.contents)
        if report.kept is not None:
            print_line(f"replaced {printable(report.kept)}")
        if report.deleted:
            print_line(f"deleted  {report.deleted} runs of the backup, which had been deleted since")
        if report.schema.outcome == "upgraded":
            print_line(f"schema   upgraded to revision {report.schema.revision}")
    print_stderr("`agent-telemetry replay` adds what the journal has since that backup.")
    return report_counts(report.contents)
