"""Coding agents as their users install them, each run with a home of its own, a model on loopback and no real key.

`AGENTS` has for each how its telemetry is switched on, and how it is asked something without a terminal.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from components import find

KEY = "no-real-key"
PATIENCE_S = 120.0


@dataclass(frozen=True)
class Place:
    """Where an agent runs: its home, the folder that it works in, its model and its OTLP endpoint (addresses)."""

    home: Path
    work: Path
    model: str
    otlp: str

    def write(self, name, text):
        """Write a file of the agent's configuration below its home."""
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@dataclass(frozen=True)
class CodingAgent:
    """An agent: `component` is its name in `tests/components.py`, where its npm package and version stand.

    `prepare` writes its configuration and returns what its environment needs besides; `ask` returns the arguments that put
    a prompt, `ask_again` those that put one in the session of the last.
    """

    component: str
    prepare: Callable[[Place], Mapping[str, str]]
    ask: Callable[[str], Sequence[str]]
    ask_again: Callable[[str], Sequence[str]]

    def environment(self, place):
        """Write the agent's configuration; return its environment."""
        ours = {"PATH": os.environ["PATH"], "HOME": str(place.home), "TERM": "dumb", "NO_COLOR": "1"}
        return {**ours, **self.prepare(place)}

    def start(self, place, prompt, *, again=False, extra=None):
        """Start the agent with a prompt, in an environment that has nothing of this process's but the path."""
        place.work.mkdir(parents=True, exist_ok=True)
        place.home.mkdir(parents=True, exist_ok=True)
        return subprocess.Popen(
            [str(find(self.component)), *(self.ask_again if again else self.ask)(prompt)],
            cwd=place.work,
            env={**self.environment(place), **(extra or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, place, prompt, **options):
        """Run the agent with a prompt; return its exit code and what it printed."""
        process = self.start(place, prompt, **options)
        printed, _ = process.communicate(timeout=PATIENCE_S)
        return process.returncode, printed


def _claude_code(place):
    return {
        "ANTHROPIC_BASE_URL": place.model,
        "ANTHROPIC_API_KEY": KEY,
        "ANTHROPIC_MODEL": "claude-sonnet-4-5",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "CLAUDE_CODE_MAX_RETRIES": "0",
        "CLAUDE_CODE_PROPAGATE_TRACEPARENT": "1",  # as it is by itself with the vendor's own address
        "CLAUDE_CODE_ENABLE_TELEMETRY": "1",
        "CLAUDE_CODE_ENHANCED_TELEMETRY_BETA": "1",
        "OTEL_LOGS_EXPORTER": "otlp",
        "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_ENDPOINT": place.otlp,
    }


_CLAUDE_OPTIONS = ("--allowedTools", "Bash", "--output-format", "json")


def _codex(place):
    exporter = '{{ otlp-http = {{ endpoint = "{}/v1/{}", protocol = "binary" }} }}'.format
    place.write(
        ".codex/config.toml",
        f"""model = "gpt-5"
model_provider = "loopback"
[model_providers.loopback]
name = "loopback"
base_url = "{place.model}/v1"
env_key = "LOOPBACK_KEY"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0
[otel]
log_user_prompt = true
exporter = {exporter(place.otlp, "logs")}
trace_exporter = {exporter(place.otlp, "traces")}
metrics_exporter = {exporter(place.otlp, "metrics")}
""",
    )
    return {"LOOPBACK_KEY": KEY}


_CODEX_OPTIONS = ("--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox")


def _gemini_cli(place):
    telemetry = {"enabled": True, "target": "local", "otlpEndpoint": place.otlp, "otlpProtocol": "http"}
    security = {"auth": {"selectedType": "gemini-api-key"}, "folderTrust": {"enabled": False}}
    settings = {"telemetry": telemetry, "security": security, "privacy": {"usageStatisticsEnabled": False}}
    place.write(".gemini/settings.json", json.dumps(settings))
    return {"GEMINI_API_KEY": KEY, "GOOGLE_GEMINI_BASE_URL": place.model, "GEMINI_MODEL": "gemini-2.5-flash"}


def _qwen_code(place):
    telemetry = {"enabled": True, "target": "local", "otlpEndpoint": place.otlp, "otlpProtocol": "http"}
    settings = {
        "telemetry": telemetry,
        "security": {"auth": {"selectedType": "openai"}},
        "privacy": {"usageStatisticsEnabled": False},
        "general": {"enableAutoUpdate": False},
        "outboundCorrelation": {"propagateTraceContext": True},
    }
    place.write(".qwen/settings.json", json.dumps(settings))
    return {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": f"{place.model}/v1", "OPENAI_MODEL": "qwen3-coder-plus"}


def _opencode(place):
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "options": {"baseURL": f"{place.model}/v1", "apiKey": KEY},
        "models": {"gpt-5": {}},
    }
    settings = {
        "provider": {"loopback": provider},
        "model": "loopback/gpt-5",
        "small_model": "loopback/gpt-5",
        "autoupdate": False,
        "share": "disabled",
        "permission": "allow",
        "experimental": {"openTelemetry": True},
    }
    place.write(".config/opencode/opencode.json", json.dumps(settings))
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": place.otlp, "OPENCODE_DISABLE_MODELS_FETCH": "1"}


def _copilot_cli(place):
    return {
        "COPILOT_PROVIDER_BASE_URL": f"{place.model}/v1",
        "COPILOT_PROVIDER_TYPE": "openai",
        "COPILOT_PROVIDER_API_KEY": KEY,
        "COPILOT_MODEL": "gpt-5",
        "COPILOT_OFFLINE": "true",
        "COPILOT_AUTO_UPDATE": "false",
        "COPILOT_OTEL_ENABLED": "true",
        "OTEL_EXPORTER_OTLP_ENDPOINT": place.otlp,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
    }


AGENTS = {
    "claude-code": CodingAgent(
        "Claude Code",
        _claude_code,
        lambda prompt: ("-p", prompt, *_CLAUDE_OPTIONS),
        lambda prompt: ("-p", prompt, "--continue", *_CLAUDE_OPTIONS),
    ),
    "codex": CodingAgent(
        "Codex",
        _codex,
        lambda prompt: ("exec", *_CODEX_OPTIONS, prompt),
        lambda prompt: ("exec", "resume", "--last", *_CODEX_OPTIONS, prompt),
    ),
    "gemini-cli": CodingAgent(
        "Gemini CLI",
        _gemini_cli,
        lambda prompt: ("-p", prompt, "--yolo"),
        lambda prompt: ("-p", prompt, "--yolo", "--resume", "latest"),
    ),
    "qwen-code": CodingAgent(
        "Qwen Code",
        _qwen_code,
        lambda prompt: ("-p", prompt, "--yolo"),
        lambda prompt: ("-p", prompt, "--yolo", "--continue"),
    ),
    "opencode": CodingAgent(
        "opencode",
        _opencode,
        lambda prompt: ("run", prompt),
        lambda prompt: ("run", "--continue", prompt),
    ),
    "copilot": CodingAgent(
        "Copilot CLI",
        _copilot_cli,
        lambda prompt: ("-p", prompt, "--allow-all-tools"),
        lambda prompt: ("-p", prompt, "--allow-all-tools", "--continue"),
    ),
}
