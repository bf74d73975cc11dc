"""Attribute names: ours, and those of the conventions that we read.

Sources: OpenTelemetry semantic conventions 1.40 (gen_ai, vcs, service, deployment, host),
OpenInference, Traceloop.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

PREFIX: Final = "agent.run."
RUN_ID: Final = "agent.run.id"
STATUS: Final = "agent.run.status"
AGENT_NAME: Final = "agent.run.agent_name"
JOB_TYPE: Final = "agent.run.job_type"
METRICS: Final = "agent.run.metrics"
PART_OF: Final = "agent.run.part_of"
"""Set by us on an agent's span that only repeats the run around it: the id of that run, whose step it is."""

GEN_AI_AGENT_NAME: Final = "gen_ai.agent.name"
GEN_AI_OPERATION: Final = "gen_ai.operation.name"
GEN_AI_WORKFLOW: Final = "gen_ai.workflow.name"
OPENINFERENCE_KIND: Final = "openinference.span.kind"
OPENINFERENCE_AGENT: Final = "agent.name"
TRACELOOP_KIND: Final = "traceloop.span.kind"

AGENT_OPERATIONS: Final = frozenset({"invoke_agent", "invoke_workflow"})
TRACELOOP_AGENT_KINDS: Final = frozenset({"workflow", "agent"})

SERVICE_NAME: Final = "service.name"
DEFAULT_SERVICE: Final = "unknown_service"

CONVENTIONAL_COLUMNS: Final = {
    "vcs.repository.url.full": "git_repo",
    "vcs.ref.head.name": "git_branch",
    "vcs.ref.head.revision": "git_commit_hash",
    "cicd.pipeline.run.id": "git_run_tag",
    "deployment.environment.name": "environment",
    "host.name": "host",
    "service.name": "service_name",
}
"""Attribute of a span or its resource → the column that it gives."""

_CONTENT: Final = frozenset(
    {
        "gen_ai.input.messages",
        "gen_ai.output.messages",
        "gen_ai.system_instructions",
        "gen_ai.tool.definitions",
    }
    | {"gen_ai.tool.call.arguments", "gen_ai.tool.call.result", "input.value", "output.value"}
    | {"traceloop.entity.input", "traceloop.entity.output", "all_messages_events", "pydantic_ai.all_messages"}
)
_CONTENT_PREFIXES: Final = (
    *("gen_ai.prompt", "gen_ai.completion", "llm.input_messages", "llm.output_messages", "llm.prompts"),
    *("retrieval.documents", "gen_ai.event.content"),
)


VALUES_DECIDE: Final = frozenset({OPENINFERENCE_KIND, TRACELOOP_KIND, METRICS, PART_OF, "metadata"})
"""Names whose values decide what a run is called or made of: spans with one go the long way."""
AGENT_NAMES: Final = frozenset({GEN_AI_OPERATION, OPENINFERENCE_KIND, TRACELOOP_KIND})
"""Names by whose values a span is an agent's invocation."""


def is_content(key: str) -> bool:
    """Whether an attribute holds what was said to or by a model, not what happened."""
    return key in _CONTENT or key.startswith(_CONTENT_PREFIXES)


def is_agent_work(attributes: Mapping[str, Any]) -> bool:
    """Whether a span is an agent's doing at all: an invocation, or a chain that runs one."""
    return attributes.get(OPENINFERENCE_KIND) == "CHAIN" or is_agent_invocation(attributes)


def is_agent_invocation(attributes: Mapping[str, Any]) -> bool:
    """Whether a span is an agent's or workflow's invocation by any of the conventions."""
    return (
        text_attribute(attributes, GEN_AI_OPERATION) in AGENT_OPERATIONS
        or attributes.get(OPENINFERENCE_KIND) == "AGENT"
        or text_attribute(attributes, TRACELOOP_KIND) in TRACELOOP_AGENT_KINDS
    )


def text_attribute(attributes: Mapping[str, Any], key: str) -> str | None:
    """Return a text attribute; None for what is no text: attributes come from anywhere."""
    value = attributes.get(key)
    return value if isinstance(value, str) else None


def is_marked(attributes: Mapping[str, Any]) -> bool:
    """Whether a span asks to be a run by an `agent.run.*` attribute."""
    return PART_OF not in attributes and any(key.startswith(PREFIX) for key in attributes)
