"""Rows of the table: coding agents, programs of their own that send OTLP."""

from __future__ import annotations

from typing import Final

from otel_agent_telemetry.otel.conventions.convention import AGENT, MODEL, TOOL, Convention, Sender
from otel_agent_telemetry.otel.conventions.log_words import (
    BEGINS,
    ENDS,
    ERROR,
    MODEL_CALL,
    MODEL_ERROR,
    MODEL_GAVE_UP,
    NOTHING,
    SIGN,
    TOOL_CALL,
    TOOL_DECISION,
    LogWords,
)

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
    events=("claude_code", "tool.output"),
    logs=LogWords(
        agent="claude-code",
        job_type="claude_code.interaction",
        services=("claude-code",),
        scopes=("com.anthropic.claude_code.events",),
        prefixes=("claude_code.",),
        prompts=("prompt.id",),
        roles={
            "user_prompt": BEGINS,
            "api_request": MODEL_CALL,
            "api_error": MODEL_ERROR,
            "api_retries_exhausted": MODEL_GAVE_UP,
            "tool_result": TOOL_CALL,
            "tool_decision": TOOL_DECISION,
            "internal_error": ERROR,
            **dict.fromkeys(("assistant_response", "api_request_body", "api_response_body", "compaction"), SIGN),
            **dict.fromkeys(("hook_execution_start", "hook_execution_complete", "skill_activated", "at_mention"), SIGN),
            **dict.fromkeys(("mcp_server_connection", "plugin_installed", "plugin_loaded", "hook_registered"), NOTHING),
            **dict.fromkeys(("auth", "permission_mode_changed", "feedback_survey"), NOTHING),
        },
        prompt_is_turn=True,
        span_is_run=True,
    ),
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
    logs=LogWords(
        agent="codex",
        job_type="codex.turn",
        services=("codex_exec", "codex_cli_rs", "codex-app-server", "codex_app_server"),
        prefixes=("codex.",),
        sessions=("conversation.id",),
        prompts=(),
        roles={
            "user_prompt": BEGINS,
            "sse_event": MODEL_CALL,
            "tool_result": TOOL_CALL,
            "tool_decision": TOOL_DECISION,
            **dict.fromkeys(("api_request", "websocket_request", "websocket_connect", "websocket_event"), SIGN),
            **dict.fromkeys(("turn_ttft", "sandbox_outcome"), SIGN),
            **dict.fromkeys(("conversation_starts", "startup_phase"), NOTHING),
        },
        with_failure=dict.fromkeys(("api_request", "sse_event", "websocket_request", "websocket_event"), MODEL_ERROR),
        only_with={"sse_event": "input_token_count"},
    ),
)

_GEMINI_ROLES: Final = {
    "user_prompt": BEGINS,
    "api_response": MODEL_CALL,
    "api_error": MODEL_ERROR,
    "content_retry_failure": MODEL_GAVE_UP,
    "tool_call": TOOL_CALL,
    "conversation_finished": ENDS,
    **dict.fromkeys(("api_request", "model_routing", "chat_compression", "content_retry", "invalid_chunk"), SIGN),
    **dict.fromkeys(("slash_command", "tool_output_truncated", "file_operation", "loop_detected"), SIGN),
    **dict.fromkeys(("agent.start", "agent.finish", "subagent_execution", "next_speaker_check"), SIGN),
    **dict.fromkeys(("config", "startup_stats", "ripgrep_fallback", "plan.approval_mode_duration"), NOTHING),
    **dict.fromkeys(("ide_connection", "extension_install", "extension_enable", "cli_config"), NOTHING),
}
_QWEN_ROLES: Final = {
    **_GEMINI_ROLES,
    "session.end": ENDS,
    **dict.fromkeys(("memory.recall", "memory.recall.delivery"), SIGN),
    **dict.fromkeys(("session.start", "auth"), NOTHING),
}

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
    events=("gemini_cli",),
    logs=LogWords(
        agent="gemini-cli",
        job_type="gemini_cli.prompt",
        services=("gemini-cli",),
        prefixes=("gemini_cli.",),
        roles=_GEMINI_ROLES,
        versions=(),  # its `service.version` is that of Node.js
    ),
)

QWEN_CODE: Final = Convention(
    name="Qwen Code",
    source="Qwen Code 0.24.4, recorded requests; a fork of Gemini CLI, its events under another prefix",
    tokens={"reasoning_output_tokens": ("thoughts_token_count",)},
    only_beside="llm_request.context",
    senders=(
        Sender(
            marks=(("service.name", "qwen-code"),),
            last_model_event_decides=True,
            is_coding_agent=True,
        ),
    ),
    known=("hook_event", "llm_request.context", "auth_type"),
    events=("qwen-code", "qwen_code"),
    logs=LogWords(
        agent="qwen-code",
        job_type="qwen_code.prompt",
        services=("qwen-code",),
        prefixes=("qwen-code.", "qwen_code."),
        roles=_QWEN_ROLES,
    ),
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

OPENCODE: Final = Convention(
    name="opencode",
    source="opencode 1.18.33, recorded requests; its model calls are those of the AI SDK",
    senders=(
        Sender(
            marks=(("service.name", "opencode"),),
            last_model_event_decides=True,
            is_coding_agent=True,
        ),
    ),
    prompt_spans=("SessionPrompt.prompt",),  # whose root, a request to its own server, is never sent
    known=("http.route", "tool.name", "tool.call_id", "message.id"),
)

CODING_AGENTS: Final = (CLAUDE_CODE, CODEX, GEMINI_CLI, QWEN_CODE, COPILOT_CLI, OPENCODE)
