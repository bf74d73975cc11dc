"""`agent-telemetry restore`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from otel_agent_telemetry.cli.backup import contents_object, print_contents, say_whether_counts_agree
from otel_agent_telemetry.cli.exit_codes import ExitCode
from otel_agent_telemetry.cli.output import print_json, remark, say
from otel_agent_telemetry.cli.runs import AsJson
from otel_agent_telemetry.cli.session import session_of
from otel_agent_telemetry.cli.terminal_text import printable

if TYPE_CHECKING:
    from otel_agent_telemetry.config import TelemetryConfig


def restore(
    context: typer.Context,
    backup: Annotated[Path, typer.Argument(help="A backup: a path, or a name in {base}/backups.")],
    verify: Annotated[bool, typer.Option("--verify", help="Only check it and say what is in it.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Even if runs of the present database are not in it.")] = False,
    as_json: AsJson = False,
) -> ExitCode:
    """Put a backup in the place of the database; what was there becomes a backup itself."""
    from otel_agent_telemetry.operations.backup_job import PG_DUMP_HINT
    from otel_agent_telemetry.storage.database_file import database_file
    from otel_agent_telemetry.storage.file_summary import read_contents

    config = session_of(context).config
    found = _found(config, backup.expanduser())
    if not verify:
        target = database_file(config, doing="restoring", hint=PG_DUMP_HINT)
        return _restored(config, target, found, force=force, as_json=as_json)
    contents = read_contents(config, found)
    if as_json:
        print_json(contents_object(contents))
    else:
        print_contents("sound", contents)
    return say_whether_counts_agree(contents)


def _found(config: "TelemetryConfig", backup: Path) -> Path:
    inside = config.backups_dir / backup
    return inside if inside.exists() and not backup.exists() else backup


def _restored(config: "TelemetryConfig", target: Path, backup: Path, *, force: bool, as_json: bool) -> ExitCode:
    from otel_agent_telemetry.storage.restore import restore_backup

    report = restore_backup(config, target, backup, force=force)
    if as_json:
        names = {"database": str(target), "kept": None if report.kept is None else str(report.kept)}
        print_json({**names, "schema": report.schema.outcome, "backup": contents_object(report.contents)})
    else:
        print_contents("restored", report.contents)
        if report.kept is not None:
            say(f"before   {printable(report.kept)}")
        if report.schema.outcome == "upgraded":
            say(f"schema   upgraded to revision {report.schema.revision}")
    remark("`agent-telemetry replay` brings back what the journal knows since that backup.")
    return say_whether_counts_agree(report.contents)
