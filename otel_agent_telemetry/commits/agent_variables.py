"""The variables by which a coding agent's commands can be recognised, as data.

An agent starts its commands with variables of its own. Some name the session, and with it the run
that is open in it; others only which agent it is. `hook.sh` looks at the same names,
which a test compares. A trace (`TRACEPARENT`) and baggage are read by `config`.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class AgentVariable(NamedTuple):
    """One variable: the agents that set it, by the names of their runs, and whether it names the session."""

    name: str
    agents: tuple[str, ...]
    is_session: bool = False


AGENT_VARIABLES: Final = (
    AgentVariable("CLAUDE_CODE_SESSION_ID", ("claude-code",), is_session=True),
    AgentVariable("CODEX_THREAD_ID", ("codex",), is_session=True),
    AgentVariable("QWEN_CODE_SESSION_ID", ("qwen-code",), is_session=True),
    AgentVariable("COPILOT_AGENT_SESSION_ID", ("github-copilot",), is_session=True),
    AgentVariable("CLAUDECODE", ("claude-code",)),
    AgentVariable("CODEX_SANDBOX", ("codex",)),
    # Qwen Code began as a copy of Gemini CLI, and earlier versions still set its variable.
    AgentVariable("GEMINI_CLI", ("gemini-cli", "qwen-code")),
    AgentVariable("QWEN_CODE", ("qwen-code",)),
    AgentVariable("OPENCODE", ("opencode",)),
    AgentVariable("COPILOT_CLI", ("github-copilot",)),
)
"""Sessions first: of an agent inside another's session the inner one's variables are set beside the outer one's."""

CODING_AGENTS: Final = ("claude-code", "codex", "gemini-cli", "qwen-code", "opencode", "github-copilot")
"""Names of the agents whose open run on this host may be the one that a commit belongs to."""
