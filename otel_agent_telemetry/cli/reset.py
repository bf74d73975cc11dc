"""`agent-telemetry reset`.

Names what `operations.reset` would remove, asks, and removes it.
"""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from otel_agent_telemetry.cli.error_handling import ExitCode
from otel_agent_telemetry.cli.invocation import AsJson, invocation_of
from otel_agent_telemetry.cli.output import format_size, print_json, print_line, print_stderr, printable

if TYPE_CHECKING:
    from otel_agent_telemetry.config import TelemetryConfig
    from otel_agent_telemetry.operations.reset import Inventory


def reset(
    context: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove without a question.")] = False,
    as_json: AsJson = False,
) -> ExitCode:
    """Remove what was recorded under the base directory, after asking; it cannot be brought back.

    Refused while a process records into it or a service runs over it. The folders stay, and what is not ours.
    """
    from otel_agent_telemetry.operations.reset import check_unused, inventory, remove

    config = invocation_of(context).config
    check_unused(config)
    found = inventory(config)
    if found.recorded:
        if not as_json:
            _print_inventory(config, found)
        if not yes and not _is_confirmed(config):
            print_stderr("Nothing was removed.")
            return ExitCode.USAGE
        remove(config, found)
    if as_json:
        print_json(_object(config, found))
    else:
        print_line("Removed." if found.recorded else f"Nothing was recorded under {printable(config.base_dir)}.")
    for path, reason in found.left.items():
        print_stderr(f"Left alone: {config.base_dir / path} ({reason})")
    return ExitCode.OK


def _print_inventory(config: "TelemetryConfig", found: "Inventory") -> None:
    """Print what would be removed, and what was recorded in other places and stays there."""
    print_line(f"{printable(config.base_dir)} holds")
    for one in found.recorded:
        print_line(f"  {one.what:<17}{len(one.names):>6,} files, {format_size(one.bytes):>9}  {printable(one.inside)}/")
    if config.database_url or config.api_url:
        where = "the configured service" if config.api_url else "the configured database"
        print_stderr(f"Runs that {where} has stay there.")


def _is_confirmed(config: "TelemetryConfig") -> bool:
    """Ask on the terminal; without one the answer is no."""
    if not sys.stdin.isatty():
        print_stderr("agent-telemetry: --yes removes it without a question.")
        return False
    return typer.confirm(f"Remove all of it from {printable(config.base_dir)}?", err=True)


def _object(config: "TelemetryConfig", found: "Inventory") -> dict[str, object]:
    """Return what was removed, and what was left, for `--json`."""
    removed = [
        {"what": one.what, "folder": one.inside, "files": len(one.names), "bytes": one.bytes} for one in found.recorded
    ]
    return {"base_dir": str(config.base_dir), "removed": removed, "left": found.left}
