"""`agent-telemetry ui`.

Opens the page of a service that runs; else starts one, which needs the extra `service`.
"""

import sys
from typing import Annotated

import typer

from otel_agent_telemetry.cli.error_handling import ExitCode
from otel_agent_telemetry.cli.invocation import invocation_of
from otel_agent_telemetry.cli.serve import load_service

_DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY")


def ui(
    context: typer.Context,
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port of a service that is started; 0 for any free one.")
    ] = 0,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address, open nothing.")] = False,
) -> ExitCode:
    """Show the runs in the browser.

    Starts a service on this machine where none runs, and serves until Ctrl-C.
    """
    from otel_agent_telemetry.delivery.local_service import local_service_url

    config = invocation_of(context).config

    def show(url: str) -> None:
        """Print the address, and open it where there is a browser to open it in."""
        typer.echo(url)
        if not no_browser and _has_display():
            _open_browser(url)

    running = config.api_url or local_service_url(config)
    if running is not None:
        show(running)
        return ExitCode.OK
    load_service()(config.with_(api_host="127.0.0.1", api_port=port, api_workers=1, page=True), listening=show)
    return ExitCode.OK


def _has_display() -> bool:
    """Return whether a browser would have a window; a text browser would take the terminal over."""
    from otel_agent_telemetry.config import process_environment

    environment = process_environment()
    return sys.platform in ("win32", "darwin") or any(environment.get(name) for name in _DISPLAYS)


def _open_browser(url: str) -> None:
    """Open the address in the reader's browser. Does not wait for it, and a failure leaves the printed address."""
    import threading
    import webbrowser

    # In a thread: some launchers return only when the browser has started, and it waits for our answers.
    threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
