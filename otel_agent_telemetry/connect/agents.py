"""The table of coding agents: where each keeps its settings, and which of them send its telemetry to the service.

A further agent is a further row. Values hold `{url}`, the service's address without a slash at its end, and
`{token}`, its bearer token; what holds `{token}` is left out where no token is to be written.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from otel_agent_telemetry.connect.place import MISSING, Place
from otel_agent_telemetry.settings import expanded_path


class Agent(NamedTuple):
    """One coding agent."""

    name: str
    title: str
    homes: tuple[tuple[str, str], ...] = ()
    """Variables that name the folder of its settings → the path below what they name."""
    home: str = ""
    """That folder where none of them is set."""
    files: tuple[str, ...] = ()
    """Names of its settings file: the first that exists, else the last. None: it has no such file."""
    form: str = "json"
    """`json` (with comments) or `toml`."""
    settings: Mapping[Place, Any] = {}
    """What is written, whatever stands there."""
    if_missing: Mapping[Place, Any] = {}
    """What is written where the user has not decided."""
    rivals: tuple[Place, ...] = ()
    """Settings that win over ours and lead elsewhere."""
    variables: Mapping[str, str] = {}
    """What it reads from its environment alone."""
    overriding: tuple[str, ...] = ()
    """Variables of the shell that win over its file."""
    gives: tuple[str, ...] = ()
    """Which signals give what."""
    content: str = ""
    """What content stays out, and how."""

    @property
    def holds_token(self) -> bool:
        """Return whether its settings file has a place for a token."""
        return "{token}" in repr(self.settings)

    def settings_file(self, environ: Mapping[str, str]) -> Path | None:
        """Return the path of its settings file, which need not exist; None when it has none."""
        if not self.files:
            return None
        named = (expanded_path(environ[name]) / below for name, below in self.homes if environ.get(name))
        folder = next(named, None) or expanded_path(self.home)
        paths = [folder / name for name in self.files]
        return next((path for path in paths if path.exists()), paths[-1])

    def wanted(self, url: str, token: str | None) -> dict[Place, Any]:
        """Return place → value of what is written whatever stands there; MISSING for what must not stand there."""
        values = {place: filled(value, url, token) for place, value in self.settings.items()}
        # Without a token of ours the user's own must not stand there either: it would be sent to our service.
        wanted = {place: MISSING if value is None else value for place, value in values.items()}
        return wanted | dict.fromkeys(self.rivals, MISSING)


def filled(value: Any, url: str, token: str | None) -> Any:
    """Return a value of the table with address and token in it; None for one that needs a token where there is none."""
    if isinstance(value, Mapping):
        members = {name: filled(member, url, token) for name, member in value.items()}
        return {name: member for name, member in members.items() if member is not None and member != {}}
    if not isinstance(value, str):
        return value
    if "{token}" in value and token is None:
        return None
    return value.replace("{url}", url).replace("{token}", token or "")


def _codex_exporter(signal: str) -> dict[str, Any]:
    """Return what Codex has for one signal; it takes the endpoint as it is."""
    headers = {"Authorization": "Bearer {token}"}
    # Codex sends a header's value as it stands: `${NAME}` in it is not replaced by a variable.
    return {"otlp-http": {"endpoint": f"{{url}}/v1/{signal}", "protocol": "binary", "headers": headers}}


def _env(**variables: str) -> dict[Place, Any]:
    """Return settings below `env`, as variables of Claude Code's processes."""
    return {("env", name): value for name, value in variables.items()}


_LOGS: Final = "logs: each prompt is a run, with its model calls, tokens, cost, tool calls and errors"
_ADDS_STEPS: Final = "traces: the steps of a run, with their times"
_FILLS: Final = "metrics: figures that no event carries, such as lines of code"
_OTLP_VARIABLES: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT",)


def _gemini_like(**more: Any) -> dict[str, Any]:
    """Return what Gemini CLI and the programs made from it have in common."""
    return {
        "files": ("settings.json",),
        "settings": {
            ("telemetry", "enabled"): True,
            # Not where the data go, but which exporters are used: those of the endpoint, not of Google Cloud.
            ("telemetry", "target"): "local",
            ("telemetry", "otlpEndpoint"): "{url}",
            ("telemetry", "otlpProtocol"): "http",
        },
        "if_missing": {("telemetry", "logPrompts"): False},
        "gives": (_LOGS, _ADDS_STEPS, _FILLS),
        **more,
    }


AGENTS: Final = (
    Agent(
        name="claude-code",
        title="Claude Code",
        homes=(("CLAUDE_CONFIG_DIR", ""),),
        home="~/.claude",
        files=("settings.json",),
        settings=_env(
            CLAUDE_CODE_ENABLE_TELEMETRY="1",
            CLAUDE_CODE_ENHANCED_TELEMETRY_BETA="1",
            OTEL_LOGS_EXPORTER="otlp",
            OTEL_METRICS_EXPORTER="otlp",
            OTEL_TRACES_EXPORTER="otlp",
            OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
            OTEL_EXPORTER_OTLP_ENDPOINT="{url}",
            OTEL_EXPORTER_OTLP_HEADERS="Authorization=Bearer {token}",
        ),
        rivals=(
            ("otelHeadersHelper",),
            *(
                ("env", f"OTEL_EXPORTER_OTLP_{signal}_{what}")
                for signal in ("LOGS", "METRICS", "TRACES")
                for what in ("ENDPOINT", "PROTOCOL", "HEADERS")
            ),
        ),
        gives=(_LOGS, _ADDS_STEPS + " (a beta of Claude Code)", _FILLS),
        content="Prompts, answers and tool arguments are not sent; OTEL_LOG_USER_PROMPTS and others of its switches"
        " would send them, and the service leaves them out.",
    ),
    Agent(
        name="codex",
        title="Codex CLI",
        homes=(("CODEX_HOME", ""),),
        home="~/.codex",
        files=("config.toml",),
        form="toml",
        settings={
            ("otel", "exporter"): _codex_exporter("logs"),
            ("otel", "trace_exporter"): _codex_exporter("traces"),
            ("otel", "metrics_exporter"): _codex_exporter("metrics"),
        },
        if_missing={("otel", "log_user_prompt"): False},
        gives=(_LOGS, _ADDS_STEPS, _FILLS),
        content="Prompts are not sent; arguments and output of tools are, and the service leaves them out.",
    ),
    Agent(
        name="gemini-cli",
        title="Gemini CLI",
        homes=(("GEMINI_CLI_HOME", ".gemini"),),
        home="~/.gemini",
        rivals=(("telemetry", "outfile"),),
        overriding=("GEMINI_TELEMETRY_OTLP_ENDPOINT", *_OTLP_VARIABLES),
        content="Gemini CLI sends prompts unless logPrompts is false, which is written where it is not set;"
        " arguments of functions are sent, and the service leaves them out.",
        **_gemini_like(),
    ),
    Agent(
        name="qwen-code",
        title="Qwen Code",
        homes=(("QWEN_HOME", ""),),
        home="~/.qwen",
        rivals=(
            ("telemetry", "outfile"),
            ("telemetry", "otlpTracesEndpoint"),
            ("telemetry", "otlpLogsEndpoint"),
            ("telemetry", "otlpMetricsEndpoint"),
        ),
        overriding=("QWEN_TELEMETRY_OTLP_ENDPOINT", *_OTLP_VARIABLES),
        content="As of Gemini CLI: logPrompts false keeps prompts back, and the service leaves out what is sent.",
        **_gemini_like(),
    ),
    Agent(
        name="opencode",
        title="opencode",
        homes=(("OPENCODE_CONFIG_DIR", ""), ("XDG_CONFIG_HOME", "opencode")),
        home="~/.config/opencode",
        files=("opencode.jsonc", "opencode.json"),
        settings={("experimental", "openTelemetry"): True},
        variables={"OTEL_EXPORTER_OTLP_ENDPOINT": "{url}"},
        gives=("traces: each prompt is a run, with its model calls and tokens", "logs: what opencode logs itself"),
        content="Its spans hold prompts and answers; the service leaves them out.",
    ),
    Agent(
        name="copilot",
        title="Copilot CLI",
        variables={
            "COPILOT_OTEL_ENABLED": "true",
            "OTEL_EXPORTER_OTLP_ENDPOINT": "{url}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        },
        gives=("traces: each prompt is a run, with its model calls, tokens and tool calls", _FILLS),
        content="Prompts and answers are not sent, unless OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT is true;"
        " then the service leaves them out.",
    ),
)
"""Every agent that `agent-telemetry connect` knows."""

BY_NAME: Final = {agent.name: agent for agent in AGENTS}
