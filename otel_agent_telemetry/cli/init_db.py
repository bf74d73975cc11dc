"""`agent-telemetry init-db`.

Creates or upgrades the database, as the first delivery would.
"""

import typer

from otel_agent_telemetry.cli.error_handling import ExitCode
from otel_agent_telemetry.cli.invocation import invocation_of
from otel_agent_telemetry.cli.output import print_line, printable


def init_db(context: typer.Context) -> ExitCode:
    """Create or upgrade the database.

    An older schema is upgraded in place, after a backup; a database of another application
    is refused and not changed.
    """
    from otel_agent_telemetry.storage.store import Store

    store = Store(invocation_of(context).config)
    try:
        report = store.open()
    finally:
        store.close()
    name = printable(store.name)
    messages = {
        "created": f"Created {name} with schema revision {report.revision}.",
        "upgraded": f"Upgraded {name} to schema revision {report.revision}.",
        "current": f"{name} has schema revision {report.revision} already; nothing changed.",
    }
    print_line(messages[report.outcome])
    if report.backup is not None:
        print_line(f"Backup of the previous version: {printable(report.backup)}")
    return ExitCode.OK
