"""`agent-telemetry serve`."""

from typing import Annotated, Any

import typer

from otel_agent_telemetry.cli.exit_codes import ExitCode
from otel_agent_telemetry.cli.session import session_of


def serve(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to bind, instead of TELEMETRY_API_HOST.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Port to bind, instead of TELEMETRY_API_PORT; 0 is any.")
    ] = None,
) -> ExitCode:
    """Run the HTTP service: one writer for everybody's runs, and an OTLP receiver.

    Ends on SIGTERM or Ctrl-C, after everything that was accepted is written.
    """
    from otel_agent_telemetry.errors import ConfigurationError

    try:
        from otel_agent_telemetry.service.server import serve as serve_until_told
    except ImportError as missing:
        raise ConfigurationError(
            f"the service needs {missing.name}, which is not installed",
            hint="pip install 'otel-agent-telemetry[service]'",
        ) from missing
    changes: dict[str, Any] = {"api_host": host, "api_port": port}
    given = {name: value for name, value in changes.items() if value is not None}
    serve_until_told(session_of(context).config.with_(**given))
    return ExitCode.OK
