"""Rows of the table: what metrics of coding agents count of a session.

A metric that stands in no row counts nothing here: a receiver of metrics gets thousands of others.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from otel_agent_telemetry.given_by_name import GivenByName

INPUT: Final = "input_tokens"
OUTPUT: Final = "output_tokens"
CACHE_READ: Final = "cache_read_input_tokens"
CACHE_WRITE: Final = "cache_write_input_tokens"
REASONING: Final = "reasoning_output_tokens"
COST: Final = "cost_usd"
_NO_VALUES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({})


class SessionMetric(GivenByName):
    """What one metric counts: `figures`, or by the value of its attribute `by` those of `values`.

    A value that `values` does not have counts nothing. Of a histogram the sum counts.
    """

    figures: tuple[str, ...] = ()
    by: str = ""
    values: Mapping[str, tuple[str, ...]] = _NO_VALUES


def _counts(*figures: str) -> SessionMetric:
    """Return a metric that counts these figures, whatever its attributes."""
    return SessionMetric(figures=figures)


def _by(attribute: str, **values: tuple[str, ...]) -> SessionMetric:
    """Return a metric that counts figures by the value of an attribute."""
    return SessionMetric(by=attribute, values=values)


_LINES: Final = _by("type", added=("lines_added",), removed=("lines_removed",))
# Gemini's output leaves thoughts out, its input has the cache in it.
_OF_GEMINI: Final = _by("type", input=(INPUT,), output=(OUTPUT,), thought=(OUTPUT, REASONING), cache=(CACHE_READ,))

SESSION_METRICS: Final[Mapping[str, SessionMetric]] = MappingProxyType(
    {
        # Claude Code's input leaves the cache out.
        "claude_code.token.usage": _by(
            "type",
            input=(INPUT,),
            output=(OUTPUT,),
            cacheRead=(INPUT, CACHE_READ),
            cacheCreation=(INPUT, CACHE_WRITE),
        ),
        "claude_code.cost.usage": _counts(COST),
        "claude_code.commit.count": _counts("commits"),
        "claude_code.pull_request.count": _counts("pull_requests"),
        "claude_code.lines_of_code.count": _LINES,
        "claude_code.active_time.total": _counts("active_time_s"),
        "claude_code.code_edit_tool.decision": _by("decision", accept=("edits_accepted",), reject=("edits_rejected",)),
        "codex.turn.token_usage": _by(
            "token_type",
            input=(INPUT,),
            output=(OUTPUT,),
            cached_input=(CACHE_READ,),
            reasoning_output=(REASONING,),
        ),
        "codex.api_request": _counts("model_calls"),
        "codex.tool.call": _counts("tool_calls"),
        "gemini_cli.token.usage": _OF_GEMINI,
        "gemini_cli.api.request.count": _counts("model_calls"),
        "gemini_cli.tool.call.count": _counts("tool_calls"),
        "gemini_cli.lines.changed": _LINES,
        "qwen-code.token.usage": _OF_GEMINI,
        "qwen-code.api.request.count": _counts("model_calls"),
        "qwen-code.tool.call.count": _counts("tool_calls"),
        "gen_ai.client.inference.usage.input_tokens": _counts(INPUT),
        "gen_ai.client.inference.usage.output_tokens": _counts(OUTPUT),
        "gen_ai.client.inference.usage.cache_read.input_tokens": _counts(CACHE_READ),
        "gen_ai.client.inference.usage.cache_write.input_tokens": _counts(CACHE_WRITE),
        "gen_ai.client.inference.usage.reasoning.output_tokens": _counts(REASONING),
        "github.copilot.tool.call.count": _counts("tool_calls"),
    }
)
"""Name of a metric → what it counts."""
SESSION_IDS: Final = ("session.id", "conversation.id", "gen_ai.conversation.id")
"""Attributes, of a data point or its resource, that name the session."""
MODELS: Final = ("gen_ai.response.model", "gen_ai.request.model", "model")
"""Attributes that name the model."""
