"""`agent-telemetry git`: hooks that associate commits with runs, and commits and lines with their runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from otel_agent_telemetry.cli.error_handling import ExitCode, with_exit_status
from otel_agent_telemetry.cli.invocation import invocation_of
from otel_agent_telemetry.cli.output import print_line, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_agent_telemetry.commits.install import HookChange

git = typer.Typer(help="Associate commits with runs, and show the runs of commits.", no_args_is_help=True)


def install(
    context: typer.Context,
    everywhere: Annotated[
        bool, typer.Option("--global", help="In every repository that is made or cloned from now on.")
    ] = False,
    uninstall: Annotated[bool, typer.Option("--uninstall", help="Remove the hooks again.")] = False,
) -> ExitCode:
    """Install the hooks of git that associate each commit with its run, in this repository.

    A hook that is there already goes on being run, first. No hook makes a commit fail or wait.
    """
    from otel_agent_telemetry.commits import install as hooks

    config = invocation_of(context).config
    if everywhere:
        changes = hooks.uninstall_global() if uninstall else hooks.install_global(config)
    else:
        changes = hooks.uninstall(Path.cwd()) if uninstall else hooks.install(config, Path.cwd())
    _print_changes(changes)
    if everywhere and not uninstall:
        print_line("Repositories that are there already get them by `agent-telemetry git install`, or by `git init`.")
    return ExitCode.OK


def _print_changes(changes: "Sequence[HookChange]") -> None:
    """Print what became of each hook."""
    for change in changes:
        print_line(f"{printable(str(change.path))}: {change.done}")
    if not changes:
        print_line("No hook of ours is installed here.")


for name, command in {"install": install}.items():
    git.command(name)(with_exit_status(command))
