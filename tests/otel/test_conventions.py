"""What the table of conventions calls a span, an event and an error."""

from __future__ import annotations

import pytest

from otel_agent_telemetry.otel import conventions as names
from otel_agent_telemetry.otel.conventions.convention import AGENT, CHAIN, MODEL, TOOL


@pytest.mark.parametrize(
    ("attributes", "kind"),
    [
        ({"gen_ai.operation.name": "invoke_agent"}, AGENT),
        ({"gen_ai.operation.name": "Chat"}, MODEL),
        ({"gen_ai.operation.name": "chat.completions"}, MODEL),
        ({"gen_ai.operation.name": "responses"}, MODEL),
        ({"gen_ai.operation.name": "generate_text"}, MODEL),
        ({"gen_ai.operation.name": "fetch_response"}, MODEL),
        ({"gen_ai.operation.name": "llm_call"}, MODEL),
        ({"gen_ai.operation.name": "tool_call"}, TOOL),
        ({"gen_ai.operation.name": "create_agent"}, None),
        ({"openinference.span.kind": "llm"}, MODEL),
        ({"openinference.span.kind": "DECISION"}, MODEL),
        ({"openinference.span.kind": "Tool"}, TOOL),
        ({"openinference.span.kind": "agent"}, AGENT),
        ({"openinference.span.kind": "RETRIEVER"}, None),
        ({"traceloop.span.kind": "workflow"}, AGENT),
        ({"traceloop.span.kind": "task"}, CHAIN),
        ({"llm.request.type": "anything"}, MODEL),
        ({"ai.operationId": "ai.generateText"}, CHAIN),
        ({"ai.operationId": "ai.generateText.doGenerate"}, MODEL),
        ({"ai.operationId": "ai.streamObject.doStream"}, MODEL),
        ({"ai.operationId": "ai.embedMany.doEmbed"}, MODEL),
        ({"ai.operationId": "ai.toolCall"}, TOOL),
        ({"langsmith.span.kind": "llm"}, MODEL),
        ({"langfuse.observation.type": "generation"}, MODEL),
        ({"langfuse.observation.type": "span"}, None),
        ({"mcp.method.name": "tools/call"}, TOOL),
        ({"mcp.method.name": "tools/list"}, None),
        ({"span.type": "llm_request"}, MODEL),
        ({"span.type": "interaction"}, AGENT),
        ({"span.type": "tool.blocked_on_user"}, None),
        ({"logfire.msg_template": "Agent run: {name!r}"}, AGENT),
        ({"mlflow.spanType": '"CHAT_MODEL"'}, MODEL),
        ({"agentops.span.kind": "workflow"}, AGENT),
        ({"genkit:metadata:subtype": "tool.v2"}, TOOL),
        ({"haystack.component.type": "OpenAIChatGenerator"}, MODEL),
        ({"haystack.component.type": "ChatPromptBuilder"}, None),
        ({"spring.ai.kind": "chat_client", "gen_ai.operation.name": "framework"}, CHAIN),
        ({"logfire.msg_template": "Responses API with {gen_ai.request.model!r}"}, MODEL),
        ({"all_messages_events": "[]", "model_name": "m"}, AGENT),
        ({"gen_ai.operation.name": 7, "openinference.span.kind": None}, None),
        ({}, None),
    ],
)
def test_a_span_is_what_its_attributes_call_it(attributes, kind):
    """In any case, by any of the conventions."""
    assert names.kind_of(attributes, "span") == kind


@pytest.mark.parametrize(
    ("attributes", "kind"),
    [
        ({"gen_ai.operation.name": "invoke_agent", "traceloop.span.kind": "task"}, CHAIN),
        ({"gen_ai.operation.name": "chat", "traceloop.span.kind": "task"}, MODEL),
        ({"traceloop.span.kind": "task", "llm.request.type": "chat"}, MODEL),
        ({"gen_ai.operation.name": "invoke_agent", "llm.request.type": "chat"}, AGENT),
        ({"gen_ai.operation.name": "unheard of", "openinference.span.kind": "TOOL"}, TOOL),
    ],
)
def test_two_conventions_on_one_span_agree_on_what_says_more(attributes, kind):
    """CrewAI's tasks are called agents by one attribute; a call is a call though another attribute says a task."""
    assert names.kind_of(attributes, "span") == kind


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("RunnableAssign<agent_scratchpad>", CHAIN),
        ("RunnableParallel<text,agent_scratchpad>", CHAIN),
        ("OpenAIToolsAgentOutputParser", CHAIN),
        ("ReActOutputParser.parse", CHAIN),
        ("AgentPromptTemplate", CHAIN),
        ("AgentExecutor", AGENT),
        ("agent", AGENT),
    ],
)
def test_what_only_has_agent_in_its_name_is_no_agent(name, kind):
    """LangChain's plumbing and output parsers, which OpenInference reports as agents."""
    assert names.kind_of({"openinference.span.kind": "AGENT"}, name) == kind


def test_an_agent_that_is_named_like_plumbing_is_one_where_it_says_so():
    """The patterns are OpenInference's."""
    assert names.kind_of({"gen_ai.operation.name": "invoke_agent"}, "invoke_agent Prompt") == AGENT


def test_preparing_a_model_call_is_none():
    """LlamaIndex through OpenInference."""
    assert names.kind_of({"openinference.span.kind": "LLM"}, "OpenAILike._prepare_chat_with_tools") == CHAIN


@pytest.mark.parametrize(
    ("kind", "message", "status"),
    [
        ("TimeoutError", "", "timeout"),
        ("httpx.ReadTimeout", "", "timeout"),
        ("context.deadlineExceededError", "context deadline exceeded", "timeout"),
        ("*errors.errorString", "context canceled", "cancelled"),
        ("*fmt.wrapError", "ask the model: context deadline exceeded", "timeout"),
        ("*url.Error", 'Post "https://x": context canceled', "cancelled"),
        ("java.util.concurrent.CancellationException", "", "cancelled"),
        ("java.net.SocketTimeoutException", "Read timed out", "timeout"),
        ("kotlinx.coroutines.TimeoutCancellationException", "Timed out waiting for 10 ms", "timeout"),
        ("kotlinx.coroutines.JobCancellationException", "Job was cancelled", "cancelled"),
        ("java.lang.InterruptedException", "", "cancelled"),
        ("AbortError", "This operation was aborted", "cancelled"),
        ("20", "This operation was aborted", "cancelled"),
        ("23", "The operation was aborted due to timeout", "timeout"),
        ("ABORT_ERR", "The operation was aborted", "cancelled"),
        ("APIUserAbortError", "Request was aborted.", "cancelled"),
        ("ETIMEDOUT", "connect ETIMEDOUT 10.0.0.1:443", "timeout"),
        ("System.OperationCanceledException", "The operation was canceled.", "cancelled"),
        ("System.Threading.Tasks.TaskCanceledException", "A task was canceled.", "cancelled"),
        ("System.TimeoutException", "", "timeout"),
        ("Net::ReadTimeout", "", "timeout"),
        ("Timeout::Error", "execution expired", "timeout"),
        ("CancellationError", "", "cancelled"),
        ("DEADLINE_EXCEEDED", "", "timeout"),
        ("CANCELLED", "", "cancelled"),
        ("", "deadline has elapsed", "timeout"),
        ("timeout", "", "timeout"),
        ("ConnectionAbortedError", "Software caused connection abort", "failed"),
        ("ValueError", "timeout must be positive", "failed"),
        ("ValueError", "the order was canceled by the customer", "failed"),
        ("", "", "failed"),
    ],
)
def test_an_exception_of_any_language_gives_the_status(kind, message, status):
    """By the end of its type, else by what Go, JavaScript and Rust say in their messages."""
    assert names.exception_status(kind, message) == status


@pytest.mark.parametrize(
    ("name", "attributes", "expected"),
    [
        ("event otel/src/events/session.rs:1240", {"event.name": "codex.user_prompt"}, "codex.user_prompt"),
        ("event src/main.rs:7", {}, "event src/main.rs:7"),
        ("", {"event.name": "named"}, "named"),
        ("progress", {"event.name": "other"}, "progress"),
        ("event 7", {"event.name": 7}, "event 7"),
    ],
)
def test_an_event_of_rust_is_called_by_its_attribute(name, attributes, expected):
    """Its own name is a line of the source."""
    assert names.event_name_of(name, attributes) == expected


def test_rows_name_each_thing_once():
    """A word that stands in two rows would be read by the first alone."""
    for field in ("tokens", "columns", "token_objects", "misnamed"):
        words = [word for row in names.CONVENTIONS for word in _words(getattr(row, field))]
        assert sorted(words) == sorted(set(words)), field
    assert len({row.name for row in names.CONVENTIONS}) == len(names.CONVENTIONS)


def _words(mapping):
    return [word for words in mapping.values() for word in words] if _holds_tuples(mapping) else list(mapping)


def _holds_tuples(mapping):
    return any(isinstance(value, tuple) for value in mapping.values())


def test_no_name_is_both_content_and_known():
    """The content rule would depend on the order in which it looks."""
    assert set() == names.CONTENT & names.KNOWN
    assert set(names.CONTENT_NAMESPACES) & set(names.KNOWN_NAMESPACES) == set()
