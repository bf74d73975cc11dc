"""Rows of the table: coding agents, programs of their own that send OTLP."""

from __future__ import annotations

from typing import Final

from otel_agent_telemetry.otel.conventions.convention import AGENT, MODEL, TOOL, Convention, Sender

CLAUDE_CODE: Final = Convention(
    name="Claude Code and the Claude Agent SDK",
    source="Claude Code 2.1.197, recorded requests",
    kinds={"span.type": {"interaction": AGENT, "llm_request": MODEL, "tool": TOOL}},
    only_beside="span.type",
    tokens={
        "input_tokens": ("input_tokens",),
        "output_tokens": ("output_tokens",),
        "cache_read_input_tokens": ("cache_read_tokens",),
        "cache_write_input_tokens": ("cache_creation_tokens",),
    },
    no_models=("<synthetic>",),
    senders=(
        Sender(
            marks=(("service.name", "claude-code"),),
            cache_beside_input=True,
            last_model_event_decides=True,
            is_coding_agent=True,
        ),
    ),
    content=(
        *("user_prompt", "prompt", "full_command", "tool_input", "tool_parameters", "response", "new_context"),
        *("bash_command", "system_reminders", "tool_output"),
    ),
    known=(*("span.type", "terminal.type", "prompt.id", "tool_name", "tool_use_id", "query_source", "stop_reason"),),
    events=("claude_code",),
)

CODEX: Final = Convention(
    name="Codex",
    source="Codex CLI 0.171.0, recorded requests",
    tokens={
        "reasoning_output_tokens": ("codex.usage.reasoning_output_tokens",),
        "total_tokens": ("codex.usage.total_tokens",),
    },
    senders=(
        Sender(
            marks=(
                *(("service.name", "codex_exec"), ("service.name", "codex_cli_rs")),
                *(("service.name", "codex-app-server"), ("service.name", "codex_app_server")),
            ),
            last_model_event_decides=True,
            is_coding_agent=True,
        ),
    ),
    content=("arguments", "output", "prompt"),
    known=(*("turn.id", "turn_id", "call_id", "tool_name", "tool_source", "wire_api", "api.path", "target"),),
    events=("codex",),
)

GEMINI_CLI: Final = Convention(
    name="Gemini CLI",
    source="Gemini CLI 0.61.0, recorded requests",
    senders=(
        Sender(
            marks=(("service.name", "gemini-cli"),),
            reasoning_beside_output=True,
            last_model_event_decides=True,
            is_coding_agent=True,
        ),
    ),
    content=("request_text", "response_text", "function_args", "prompt"),
    known=("prompt_id", "function_name", "decision", "tool_type", "auth_type"),
    events=("gemini_cli", "qwen-code"),
)

COPILOT_CLI: Final = Convention(
    name="GitHub Copilot CLI",
    source="Copilot CLI 1.0.102, recorded requests",
    senders=(
        Sender(
            marks=(("service.name", "github-copilot"),),
            is_coding_agent=True,
        ),
    ),
    content_namespaces=("github.copilot.user", "github.copilot.message"),
    events=("copilot_chat", "github.copilot"),
)

CODING_AGENTS: Final = (CLAUDE_CODE, CODEX, GEMINI_CLI, COPILOT_CLI)
