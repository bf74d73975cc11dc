"""The command `agent-telemetry`: global options and the list of commands.

Modules that cost time to import are imported inside the commands that need them, so that
`--help` answers at once.
"""

import sys
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from otel_agent_telemetry.cli.alerts import alerts
from otel_agent_telemetry.cli.associate_commit import associate_commit
from otel_agent_telemetry.cli.audit import audit
from otel_agent_telemetry.cli.backup import backup
from otel_agent_telemetry.cli.capture import capture
from otel_agent_telemetry.cli.capture_query import capture_query
from otel_agent_telemetry.cli.check_counts import check_counts
from otel_agent_telemetry.cli.close_stale import close_stale
from otel_agent_telemetry.cli.connect import connect
from otel_agent_telemetry.cli.copy_db import copy_db
from otel_agent_telemetry.cli.delete import delete
from otel_agent_telemetry.cli.deliver import deliver
from otel_agent_telemetry.cli.doctor import doctor
from otel_agent_telemetry.cli.error_handling import ExitCode, log_to_stderr, run_app, with_exit_status
from otel_agent_telemetry.cli.export import export
from otel_agent_telemetry.cli.git import git
from otel_agent_telemetry.cli.init_db import init_db
from otel_agent_telemetry.cli.instrument import instrument
from otel_agent_telemetry.cli.invocation import Invocation
from otel_agent_telemetry.cli.price import price
from otel_agent_telemetry.cli.replay import replay
from otel_agent_telemetry.cli.reset import reset
from otel_agent_telemetry.cli.restore import restore
from otel_agent_telemetry.cli.retention import retention
from otel_agent_telemetry.cli.run import run
from otel_agent_telemetry.cli.runs import runs
from otel_agent_telemetry.cli.serve import serve
from otel_agent_telemetry.cli.show import show
from otel_agent_telemetry.cli.stats import stats
from otel_agent_telemetry.cli.sync import sync
from otel_agent_telemetry.cli.tail import tail
from otel_agent_telemetry.cli.ui import ui
from otel_agent_telemetry.cli.verify import verify

_BASE_DIR = "--base-dir"
_STARTERS = ("instrument", "run")


class _Commands(TyperGroup):
    """The commands; `--base-dir` may stand before or after the name of one."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the line with the option put first."""
        return super().parse_args(ctx, _with_base_dir_first(args))


def _with_base_dir_first(args: list[str]) -> list[str]:
    """Return a line with `--base-dir` before the command; what belongs to a program that is started stays."""
    first: list[str] = []
    rest: list[str] = []
    waiting = iter(args)
    for word in waiting:
        if word == _BASE_DIR:
            first += [word, *islice(waiting, 1)]
        elif word.startswith(f"{_BASE_DIR}="):
            first.append(word)
        else:
            rest.append(word)
            if word == "--" or (rest == [word] and word in _STARTERS):
                break
    return [*first, *rest, *waiting]


app = typer.Typer(
    cls=_Commands,
    help="List, check, repair and export the runs of agents.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

COMMANDS: dict[str, Callable[..., ExitCode | None]] = {
    "init-db": init_db,
    "run": run,
    "connect": connect,
    "runs": runs,
    "show": show,
    "tail": tail,
    "stats": stats,
    "sync": sync,
    "deliver": deliver,
    "verify": verify,
    "replay": replay,
    "close-stale": close_stale,
    "delete": delete,
    "associate-commit": associate_commit,
    "instrument": instrument,
    "capture": capture,
    "capture-query": capture_query,
    "price": price,
    "check-counts": check_counts,
    "copy-db": copy_db,
    "audit": audit,
    "backup": backup,
    "export": export,
    "restore": restore,
    "reset": reset,
    "retention": retention,
    "serve": serve,
    "ui": ui,
    "doctor": doctor,
}

_LINE_OF: dict[str, dict[str, Any]] = {
    "instrument": {"ignore_unknown_options": True, "allow_interspersed_args": False, "help_option_names": ["--help"]},
    "run": {"allow_interspersed_args": False},
}
"""For commands that start another: how their lines are read, whose rest is the other's, options and all."""

for name, command in COMMANDS.items():
    app.command(name, context_settings=_LINE_OF.get(name))(with_exit_status(command))
app.add_typer(git, name="git")
app.add_typer(alerts, name="alerts")


def _print_version(requested: bool) -> None:
    """Print the installed version and the schema version, then exit."""
    if not requested:
        return
    from importlib.metadata import PackageNotFoundError, version

    from otel_agent_telemetry.columns import SCHEMA_VERSION

    try:
        installed = version("otel-agent-telemetry")
    except PackageNotFoundError:
        installed = "(not installed)"
    print(f"agent-telemetry {installed}, schema version {SCHEMA_VERSION}")
    raise typer.Exit


@app.callback()
def _global_options(
    context: typer.Context,
    base_dir: Annotated[
        Path | None,
        typer.Option("--base-dir", help="Folder of journal, buffer and database, instead of TELEMETRY_BASE_DIR."),
    ] = None,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    from otel_agent_telemetry.base_folder import usable_folder
    from otel_agent_telemetry.config import TelemetryConfig

    # Before the configuration is read: reading it can log warnings.
    log_to_stderr("WARNING")
    config = TelemetryConfig.from_env()
    if base_dir is not None:
        config = config.with_(base_dir=usable_folder(base_dir.expanduser().absolute()))
    log_to_stderr(config.log_level)
    context.obj = Invocation(config)


def main() -> None:
    """Run the command and exit with its status (`error_handling.ExitCode`)."""
    # A terminal that cannot encode a character gets an escape instead of an error.
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    run_app(partial(app, prog_name="agent-telemetry"))


if __name__ == "__main__":
    main()
