"""`agent-telemetry init-db`."""

import typer

from otel_agent_telemetry.cli.exit_codes import ExitCode
from otel_agent_telemetry.cli.output import say
from otel_agent_telemetry.cli.session import session_of
from otel_agent_telemetry.cli.terminal_text import printable


def init_db(context: typer.Context) -> ExitCode:
    """Make or upgrade the database.

    One of an older version is upgraded in place, after a backup; one of another application
    is refused, untouched.
    """
    from otel_agent_telemetry.storage.store import Store

    store = Store(session_of(context).config)
    try:
        report = store.open()
    finally:
        store.close()
    name = printable(store.name)
    done = {
        "created": f"Created {name} with schema revision {report.revision}.",
        "upgraded": f"Upgraded {name} to schema revision {report.revision}.",
        "current": f"{name} has schema revision {report.revision} already; nothing was changed.",
    }
    say(done[report.outcome])
    if report.backup is not None:
        say(f"Backup of what it was: {printable(report.backup)}")
    return ExitCode.OK
