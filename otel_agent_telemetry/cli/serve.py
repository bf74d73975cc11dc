"""`agent-telemetry serve`.

Starts `service.server`, which needs the extra `service`.
"""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from otel_agent_telemetry.cli.error_handling import ExitCode
from otel_agent_telemetry.cli.invocation import invocation_of


def serve(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to bind; default TELEMETRY_API_HOST.")] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65_535, help="Port to bind, 0 for any free one; default TELEMETRY_API_PORT."),
    ] = None,
) -> ExitCode:
    """Run the HTTP service, which stores runs and receives OTLP.

    Stops on SIGTERM or Ctrl-C, after everything that it accepted is written.
    """
    run_service = load_service()
    changes: dict[str, Any] = {"api_host": host, "api_port": port}
    # Only what was given: None would replace the setting of the environment.
    overrides = {name: value for name, value in changes.items() if value is not None}
    run_service(invocation_of(context).config.with_(**overrides))
    return ExitCode.OK


def load_service() -> Callable[..., None]:
    """Return `service.server.serve`. Raises ConfigurationError where the extra `service` is not installed."""
    from otel_agent_telemetry.errors import ConfigurationError

    try:
        # The service is an optional extra.
        from otel_agent_telemetry.service.server import serve as run_service
    except ImportError as missing:
        raise ConfigurationError(
            f"the service needs {missing.name}, which is not installed",
            hint="pip install 'otel-agent-telemetry[service]'",
        ) from missing
    return run_service
