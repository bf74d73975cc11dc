"""`agent-telemetry connect`.

Prints an agent's settings, writes them into its file, or takes them back: `connect.settings_file`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from otel_agent_telemetry.cli.error_handling import ExitCode
from otel_agent_telemetry.cli.invocation import invocation_of
from otel_agent_telemetry.cli.output import print_line, print_stderr, printable
from otel_agent_telemetry.config import TelemetryConfig, process_environment

if TYPE_CHECKING:
    from otel_agent_telemetry.connect.agents import Agent

_HEADERS = "OTEL_EXPORTER_OTLP_HEADERS"


def connect(
    context: typer.Context,
    agent: Annotated[str, typer.Argument(help="claude-code, codex, gemini-cli, qwen-code, opencode or copilot.")],
    show: Annotated[bool, typer.Option("--print", help="Print the settings; this is the default.")] = False,
    write: Annotated[bool, typer.Option("--write", help="Write them into the agent's own file.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Take back what --write wrote; later edits stay.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="With --write: replace settings of your own.")] = False,
    with_token: Annotated[
        bool, typer.Option("--with-token", help="Put the token itself into the settings, not a reference to it.")
    ] = False,
) -> ExitCode:
    """Let a coding agent send its telemetry to the service.

    The service is the one of TELEMETRY_API_URL, else the one that runs on this machine.
    """
    from otel_agent_telemetry.connect.agents import BY_NAME

    found = BY_NAME.get(agent)
    if found is None:
        raise typer.BadParameter(f"{agent!r} is none of {', '.join(BY_NAME)}", param_hint="AGENT")
    if show + write + undo > 1:
        raise typer.BadParameter("only one of --print, --write and --undo")
    config = invocation_of(context).config
    if undo:
        return _undo(found, config)
    url = _service_url(config)
    if with_token and not config.api_auth_token:
        raise typer.BadParameter(f"{config.variable_of('api_auth_token')} is not set", param_hint="--with-token")
    if write:
        return _write(found, config, url, with_token=with_token, replace=replace)
    _print_settings(found, config, url, with_token=with_token)
    return ExitCode.OK


def _service_url(config: TelemetryConfig) -> str:
    """Return the address of the service, without credentials, and say on stderr what is unusual about it."""
    from otel_agent_telemetry.delivery.local_service import local_service_url
    from otel_agent_telemetry.urls import without_credentials

    url = config.api_url or local_service_url(config)
    if url is None:
        url = f"http://127.0.0.1:{config.api_port}"
        print_stderr(f"No service runs here; {url} is where `agent-telemetry serve` will be.")
    public = without_credentials(url)
    if public != url:
        print_stderr("The user and the password in TELEMETRY_API_URL are left out: use a token instead.")
    # Node.js may look "localhost" up as ::1, where the service does not listen unless it is asked to.
    return public.rstrip("/").replace("http://localhost:", "http://127.0.0.1:")


def _file_of(agent: "Agent") -> Path:
    """Return the agent's settings file. Raises typer.BadParameter where it has none."""
    path = agent.settings_file(process_environment())
    if path is None:
        raise typer.BadParameter(
            f"{agent.title} has no settings file for telemetry: put the lines of --print into your shell's profile"
        )
    return path


def _write(agent: "Agent", config: TelemetryConfig, url: str, *, with_token: bool, replace: bool) -> ExitCode:
    """Write an agent's settings and check that what it sends would arrive."""
    from otel_agent_telemetry.connect import settings_file
    from otel_agent_telemetry.connect.probe import probe
    from otel_agent_telemetry.connect.record import Records

    path, records = _file_of(agent), Records(config.base_dir)
    if with_token and not agent.holds_token:
        raise typer.BadParameter(f"{agent.title} takes a token from its environment alone", param_hint="--with-token")
    wanted = agent.wanted(url, config.api_auth_token if with_token else None)
    changed = settings_file.write(agent, path, wanted, records, has_secret=with_token, replace=replace)
    print_line(f"{printable(path)}: {'written' if changed else 'nothing to change'}")
    for place in changed:
        print_line(f"  {printable('.'.join(place))}")
    original = records.original(agent.name, path.resolve())
    if changed and original.exists():
        print_line(f"The file as it was: {printable(original)}")
    _print_variables(agent, config, url, with_token=False, needs_token=not with_token)
    _print_about(agent)
    findings = list(probe(url, config))
    for finding in findings:
        print_line(f"{finding.signal}: {printable(finding.text)}", "ok" if finding.arrives else "error")
    return ExitCode.OK if all(finding.arrives for finding in findings) else ExitCode.PROBLEM


def _undo(agent: "Agent", config: TelemetryConfig) -> ExitCode:
    """Take back what was written into an agent's file."""
    from otel_agent_telemetry.connect import settings_file
    from otel_agent_telemetry.connect.record import Records

    path = _file_of(agent)
    undone = settings_file.undo(agent, path, Records(config.base_dir))
    if undone is None:
        print_line(f"{printable(path)}: nothing of ours is known in it")
        return ExitCode.OK
    print_line(f"{printable(path)}: {len(undone.restored)} settings taken back")
    for place in undone.kept:
        print_line(f"  {printable('.'.join(place))} was changed since, and stays")
    return ExitCode.OK


def _print_settings(agent: "Agent", config: TelemetryConfig, url: str, *, with_token: bool) -> None:
    """Print what would be written, and what the environment must have."""
    token = config.api_auth_token if with_token else None
    path = agent.settings_file(process_environment())
    if path is not None:
        print_line(f"# {printable(path)}")
        for line in _fragment(agent, url, token).splitlines():
            print_line(printable(line))
    needs_token = not (with_token and agent.holds_token)
    _print_variables(agent, config, url, with_token=with_token, needs_token=needs_token)
    _print_about(agent)


def _fragment(agent: "Agent", url: str, token: str | None) -> str:
    """Return the settings as they would stand in an empty file."""
    from otel_agent_telemetry.connect.place import MISSING
    from otel_agent_telemetry.connect.settings_file import new_document

    document = new_document(agent.form)
    for place, value in {**agent.wanted(url, token), **agent.if_missing}.items():
        if value is not MISSING:
            document.put(place, value)
    return document.text.strip()


def _print_variables(agent: "Agent", config: TelemetryConfig, url: str, *, with_token: bool, needs_token: bool) -> None:
    """Print the lines for a shell's profile; the token by reference, unless it is asked for."""
    from otel_agent_telemetry.connect.agents import filled

    lines = {name: filled(value, url, None) for name, value in agent.variables.items()}
    token = config.api_auth_token
    if needs_token and (token or config.auth_required):
        # A blank, not %20: opencode takes the value as it is, and every SDK takes a blank.
        shown = quote(token, safe="~") if with_token and token else f"${config.variable_of('api_auth_token')}"
        lines[_HEADERS] = f"Authorization=Bearer {shown}"
    if lines:
        print_line("# the environment that it is started in")
    for name, value in lines.items():
        print_line(f'export {name}="{printable(value)}"')
    environment: Any = process_environment()
    for name in agent.overriding:
        if environment.get(name):
            print_stderr(f"{name} is set in this shell, and {agent.title} takes it before its settings file.")


def _print_about(agent: "Agent") -> None:
    """Print which signals give what, and what content stays out."""
    for line in (*agent.gives, agent.content):
        print_line(f"# {line}")
