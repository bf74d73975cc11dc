"""Rows of the table: the conventions that many libraries share.

OpenTelemetry's general ones, its GenAI conventions now and before, MCP, OpenInference, Traceloop.
"""

from __future__ import annotations

from typing import Final

from otel_agent_telemetry.otel.conventions.convention import AGENT, CHAIN, MODEL, TOOL, Convention

GEN_AI: Final = Convention(
    name="OpenTelemetry GenAI",
    source="semantic-conventions-genai 0.1.0, semantic conventions 1.27 to 1.41",
    kinds={
        "gen_ai.operation.name": {
            **dict.fromkeys(("invoke_agent", "invoke_workflow"), AGENT),
            **dict.fromkeys(("chat", "text_completion", "generate_content", "embeddings"), MODEL),
            "execute_tool": TOOL,
        }
    },
    agent_prefixes=("invoke_agent", "invoke_workflow"),
    tokens={
        "input_tokens": ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"),
        "output_tokens": ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"),
        "cache_read_input_tokens": ("gen_ai.usage.cache_read.input_tokens",),
        "cache_write_input_tokens": (
            "gen_ai.usage.cache_write.input_tokens",
            "gen_ai.usage.cache_creation.input_tokens",
        ),
        "reasoning_output_tokens": ("gen_ai.usage.reasoning.output_tokens",),
        "text_input_tokens": ("gen_ai.usage.text.input_tokens",),
        "image_input_tokens": ("gen_ai.usage.image.input_tokens",),
        "audio_input_tokens": ("gen_ai.usage.audio.input_tokens",),
        "video_input_tokens": ("gen_ai.usage.video.input_tokens",),
        "text_output_tokens": ("gen_ai.usage.text.output_tokens",),
        "image_output_tokens": ("gen_ai.usage.image.output_tokens",),
        "audio_output_tokens": ("gen_ai.usage.audio.output_tokens",),
        "video_output_tokens": ("gen_ai.usage.video.output_tokens",),
        "text_cache_read_input_tokens": ("gen_ai.usage.text.cache_read.input_tokens",),
        "image_cache_read_input_tokens": ("gen_ai.usage.image.cache_read.input_tokens",),
        "audio_cache_read_input_tokens": ("gen_ai.usage.audio.cache_read.input_tokens",),
        "video_cache_read_input_tokens": ("gen_ai.usage.video.cache_read.input_tokens",),
    },
    costs=("gen_ai.usage.cost",),
    models=("gen_ai.response.model", "gen_ai.request.model"),
    providers=("gen_ai.provider.name", "gen_ai.system"),
    agent_names=("gen_ai.agent.name",),
    job_types=("gen_ai.workflow.name",),
    columns={"gen_ai.conversation.id": "session_id", "gen_ai.agent.version": "agent_version"},
    content=(
        *("gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions", "gen_ai.tool.definitions"),
        *("gen_ai.tool.call.arguments", "gen_ai.tool.call.result", "gen_ai.tool.description"),
        *("gen_ai.retrieval.query.text", "gen_ai.retrieval.documents", "gen_ai.evaluation.explanation"),
        *("gen_ai.agent.description", "gen_ai.request.stop_sequences"),
    ),
    content_namespaces=(
        *("gen_ai.prompt", "gen_ai.completion", "gen_ai.input", "gen_ai.output", "gen_ai.content", "gen_ai.event"),
        *("gen_ai.memory", "gen_ai.task", "gen_ai.guardrail", "gen_ai.prompt.variable", "gen_ai.skill"),
    ),
    known=(
        *("gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.system", "gen_ai.output.type", "gen_ai.prompt.name"),
        *("gen_ai.request.model", "gen_ai.response.model", "gen_ai.response.id", "gen_ai.response.finish_reasons"),
        *("gen_ai.request.encoding_formats", "gen_ai.conversation.id", "gen_ai.workflow.name", "gen_ai.data_source.id"),
        *("gen_ai.agent.id", "gen_ai.agent.name", "gen_ai.agent.version", "gen_ai.tool.name", "gen_ai.tool.type"),
        *("gen_ai.tool.call.id", "gen_ai.tool.call_id", "gen_ai.token.type", "gen_ai.token.modality"),
        *("gen_ai.token.cache", "gen_ai.token.phase", "gen_ai.evaluation.name", "gen_ai.evaluation.score.label"),
        *("gen_ai.memory.store.id", "gen_ai.memory.record.id", "gen_ai.task.id", "gen_ai.task.name"),
        *("gen_ai.task.parent.id", "gen_ai.task.status", "gen_ai.task.kind", "gen_ai.prompt.version"),
        *("gen_ai.event.start_time", "gen_ai.event.end_time"),
    ),
    known_namespaces=("gen_ai.usage", "gen_ai.openai", "gen_ai.azure", "aws.bedrock", "azure.ai"),
    events=(
        *("gen_ai.user.message", "gen_ai.system.message", "gen_ai.assistant.message", "gen_ai.tool.message"),
        *("gen_ai.choice", "gen_ai.content.prompt", "gen_ai.content.completion", "gen_ai.evaluation.result"),
        *("gen_ai.client.inference.operation.details", "gen_ai.execute_tool.exception", "gen_ai.request.attempt"),
    ),
)

OTHER_OPERATIONS: Final = Convention(
    name="Operations beside those of the conventions",
    source="seen in Semantic Kernel, OpenLIT, Gemini CLI, AutoGen, opentelemetry-instrumentation-genai-*",
    kinds={
        "gen_ai.operation.name": {
            **dict.fromkeys(("completion", "completions", "text.completions", "text.streaming_completions"), MODEL),
            **dict.fromkeys(("chat.completions", "chat.streaming_completions", "chat_completion"), MODEL),
            **dict.fromkeys(("chat_completions", "message", "messages", "response", "responses"), MODEL),
            **dict.fromkeys(("generate", "generate_text", "fetch_response", "llm_call", "llm_request"), MODEL),
            **dict.fromkeys(("call_llm", "inference", "embedding", "image_generation", "image", "audio"), MODEL),
            **dict.fromkeys(("tool_call", "call_tool", "tools/call", "invoke_tool", "tool"), TOOL),
            **dict.fromkeys(("execute_event_loop_cycle", "workflow", "chain", "task", "execute_task", "agent"), CHAIN),
            **dict.fromkeys(("agent_step", "workflow_step", "model_generation"), CHAIN),
        },
        "gen_ai.span.kind": {
            **dict.fromkeys(("llm", "embedding", "client"), MODEL),
            "tool": TOOL,
            **dict.fromkeys(("agent", "workflow"), AGENT),
            **dict.fromkeys(("chain", "task", "step", "entry"), CHAIN),
        },
    },
    tokens={
        "input_tokens": ("gen_ai.response.prompt_tokens",),
        "output_tokens": ("gen_ai.response.completion_tokens",),
        "cache_read_input_tokens": (
            *("gen_ai.usage.cache_read_input_tokens", "gen_ai.usage.cached_input_tokens"),
            *("gen_ai.usage.cache_read_tokens", "gen_ai.usage.cached_tokens"),
        ),
        "cache_write_input_tokens": (
            *("gen_ai.usage.cache_creation_input_tokens", "gen_ai.usage.cache_write_input_tokens"),
            "gen_ai.usage.cache_write_tokens",
        ),
        "reasoning_output_tokens": ("gen_ai.usage.reasoning_tokens", "gen_ai.usage.reasoning_output_tokens"),
        "total_tokens": ("gen_ai.usage.total_tokens",),
    },
    costs=("gen_ai.cost.total_cost", "gen_ai.usage.total_cost", "gen_ai.usage.cost_usd", "gen_ai.cost.usd", "cost_usd"),
    cost_parts=("gen_ai.usage.input_cost", "gen_ai.usage.output_cost"),
    models=("gen_ai.model.name", "model"),
    columns={"session_id": "session_id", "conversation.id": "session_id", "conversation_id": "session_id"},
    user_ids=("gen_ai.user", "gen_ai.user.id", "user_id"),
    content=(
        *("gen_ai.tool.input", "gen_ai.tool.output", "gen_ai.tool.args", "gen_ai.tool.result", "gen_ai.input"),
        *("gen_ai.output", "gen_ai.headers", "prompt.text", "completion.text", "instructions", "final_result"),
    ),
    known=("gen_ai.span.kind", "gen_ai.framework", "gen_ai.model.name", "gen_ai.response.stop_reason"),
)

MCP: Final = Convention(
    name="Model Context Protocol",
    source="semantic-conventions-genai 0.1.0; opentelemetry-instrumentation-mcp 0.62",
    kinds={"mcp.method.name": {"tools/call": TOOL}},
    content=("mcp.request.argument", "mcp.response.value", "mcp.session.init_options"),
    known=("mcp.method.name", "mcp.protocol.version", "mcp.resource.uri", "mcp.session.id", "mcp.request.id"),
)

OPENINFERENCE: Final = Convention(
    name="OpenInference",
    source="openinference-semantic-conventions 0.1.42",
    kinds={
        "openinference.span.kind": {
            "agent": AGENT,
            "chain": CHAIN,
            **dict.fromkeys(("llm", "embedding", "decision"), MODEL),
            "tool": TOOL,
        }
    },
    misnamed={
        "openinference.span.kind": {
            AGENT: ("Runnable*", "*OutputParser", "*OutputParser<*>", "*OutputParser.*", "*Prompt", "*PromptTemplate"),
            MODEL: ("*._prepare_chat_with_tools",),
        }
    },
    tokens={
        "input_tokens": ("llm.token_count.prompt", "decision.token_count.input"),
        "output_tokens": ("llm.token_count.completion", "decision.token_count.output"),
        "cache_read_input_tokens": ("llm.token_count.prompt_details.cache_read",),
        "cache_write_input_tokens": ("llm.token_count.prompt_details.cache_write",),
        "reasoning_output_tokens": ("llm.token_count.completion_details.reasoning",),
        "audio_input_tokens": ("llm.token_count.prompt_details.audio",),
        "audio_output_tokens": ("llm.token_count.completion_details.audio",),
        "total_tokens": ("llm.token_count.total",),
    },
    costs=("llm.cost.total",),
    cost_parts=("llm.cost.prompt", "llm.cost.completion"),
    models=(
        *("llm.response.model_name", "llm.model_name", "llm.request.model_name", "embedding.model_name"),
        *("decision.response.model_name", "decision.model_name", "decision.request.model_name"),
    ),
    providers=("llm.provider", "llm.system", "decision.provider", "decision.system"),
    agent_names=("agent.name",),
    agent_objects={"metadata": "lc_agent_name"},
    named_by_span=("openinference.span.kind",),
    agent_verbs={
        "openinference.span.kind": (
            *("run", "arun", "run_stream", "arun_stream", "kickoff", "kickoff_async", "invoke", "_execute_core"),
            *("on_messages", "on_messages_stream"),
        )
    },
    columns={"session.id": "session_id"},
    user_ids=("user.id",),
    content=(
        *("input.value", "output.value", "input.images", "output.images", "input.documents", "output.documents"),
        *("llm.tools", "llm.choices", "llm.function_call", "llm.prompts", "llm.invocation_parameters"),
        *("tool.parameters", "tool.description", "tool.json_schema", "retrieval.documents", "prompt.text"),
        *("completion.text", "embedding.text", "embedding.vector", "annotation.explanation", "evaluation.explanation"),
        *("audio.transcript", "tool_call.function.arguments", "annotation.metadata", "evaluation.metadata"),
    ),
    content_namespaces=(
        *("llm.input_messages", "llm.output_messages", "llm.prompts", "llm.choices", "llm.tools", "llm.function_call"),
        *("llm.prompt_template", "retrieval.documents", "reranker", "embedding.embeddings", "input.documents"),
        *("output.documents", "input.images", "output.images", "message", "message_content", "document"),
    ),
    known=(
        *("openinference.span.kind", "openinference.project.name", "input.mime_type", "output.mime_type", "tag.tags"),
        *("llm.model_name", "llm.request.model_name", "llm.response.model_name", "llm.provider", "llm.system"),
        *("llm.prompt_template.version", "llm.finish_reason", "decision.model_name", "decision.request.model_name"),
        *("decision.response.model_name", "decision.provider", "decision.system", "embedding.model_name"),
        *("reranker.model_name", "tool.name", "tool.id", "session.id", "user.id", "agent.name", "graph.node.id"),
        *("graph.node.name", "graph.node.parent_id", "prompt.vendor", "prompt.id", "prompt.url", "annotation.name"),
        *("annotation.label", "annotation.annotator_kind", "annotation.identifier", "evaluation.name", "document.id"),
        *("evaluation.label", "evaluation.annotator_kind", "evaluation.identifier", "tool_call.id", "message.role"),
        *("message.name", "message.tool_call_id", "message_content.type", "message_content.id", "document.url"),
        *("document.mime_type", "document.name", "image.url", "audio.url", "video.url", "audio.mime_type"),
        *("tool_call.function.name", "message.function_call_name"),
    ),
    known_namespaces=("llm.token_count", "llm.cost", "decision.token_count"),
)

TRACELOOP: Final = Convention(
    name="Traceloop",
    source="opentelemetry-semantic-conventions-ai 0.5.1, traceloop-sdk 0.62",
    kinds={
        "traceloop.span.kind": {"workflow": AGENT, "agent": AGENT, "tool": TOOL, "task": CHAIN},
        "llm.request.type": {"*": MODEL},
    },
    tokens={
        "reasoning_output_tokens": ("llm.usage.reasoning_tokens",),
        "total_tokens": ("llm.usage.total_tokens",),
    },
    agent_verbs={"traceloop.span.kind": ("workflow", "agent")},
    columns={
        "traceloop.association.properties.session_id": "session_id",
        "traceloop.association.properties.thread_id": "session_id",
    },
    user_ids=("llm.user", "traceloop.association.properties.user_id"),
    content=(
        *("traceloop.entity.input", "traceloop.entity.output", "gen_ai.request.structured_output_schema"),
        *("llm.request.functions", "llm.headers", "llm.chat.stop_sequences"),
    ),
    content_namespaces=(
        "traceloop.prompt",
        "llm.content",
        "llm.request.functions",
        "db.query.result",
        "db.search.result",
    ),
    known=(
        *("traceloop.span.kind", "traceloop.workflow.name", "traceloop.entity.name", "traceloop.entity.path"),
        *("traceloop.entity.version", "traceloop.correlation.id", "traceloop.prompt.key", "traceloop.prompt.version"),
        *("traceloop.prompt.version_name", "traceloop.prompt.version_hash", "llm.request.type", "llm.user"),
        *("llm.response.finish_reason", "llm.response.stop_reason", "llm.usage.token_type", "gen_ai.usage.token_type"),
    ),
    known_namespaces=("traceloop.association.properties",),
)

GENERAL: Final = Convention(
    name="OpenTelemetry",
    source="semantic conventions 1.41",
    columns={
        "vcs.repository.url.full": "git_repo",
        "vcs.ref.head.name": "git_branch",
        "vcs.ref.head.revision": "git_commit_hash",
        "vcs.change.id": "change_id",
        "cicd.pipeline.run.id": "git_run_tag",
        "cicd.pipeline.run.url.full": "pipeline_url",
        "deployment.environment.name": "environment",
        "deployment.environment": "environment",
        "host.name": "host",
        "service.name": "service_name",
    },
    user_ids=("enduser.id",),
    content=("db.query.parameter", "http.request.body", "http.response.body"),
    content_namespaces=("db.query.parameter", "http.request.header", "http.response.header"),
    known=(
        *("error.type", "event.name", "http.request.method", "http.request.method_original", "http.route"),
        *("http.method", "http.scheme", "http.flavor", "http.target", "http.host", "url.scheme", "url.path"),
        *("url.domain", "url.template", "user_agent.original", "db.system", "db.system.name", "db.name"),
        *("db.namespace", "db.operation", "db.operation.name", "db.collection.name", "enduser.id"),
    ),
    known_namespaces=(
        *("exception", "error", "code", "thread", "process", "host", "os", "service", "telemetry", "server", "client"),
        *("network", "net", "peer", "rpc", "messaging", "faas", "cloud", "container", "k8s", "deployment", "vcs"),
        *("cicd", "session", "otel", "webengine", "device"),
    ),
)

EXCEPTIONS: Final = Convention(
    name="Exceptions of programming languages",
    source="their standard libraries, gRPC, and clients in wide use",
    timeouts=(
        *("timeouterror", "timeout", "timeoutexception", "timeoutcancellationexception", "timeoutexpired"),
        *("timedout", "timed_out", "time_out", "timeout_error", "timeout::error", "timeoutinterruptedexception"),
        *("deadlineexceeded", "deadlineexceedederror", "deadlineexceededexception", "deadline_exceeded"),
        *("timelimitexceeded", "etimedout", "esockettimedout", "err_connect_timeout", "err_headers_timeout"),
        *("err_body_timeout", "time.elapsed"),
    ),
    cancellations=(
        *("cancellederror", "cancelederror", "cancelled", "canceled", "cancelledexception", "canceledexception"),
        *("cancellationexception", "cancellationerror", "operationcanceledexception", "taskcanceledexception"),
        *("aborterror", "abort_err", "err_canceled", "err_cancelled", "exceptions.abort", "abortexception"),
        *("keyboardinterrupt", "generatorexit", "interruptedexception", "async::stop", "operationcancelled"),
    ),
    timeout_messages=(
        *("context deadline exceeded", "deadline has elapsed", "aborted due to timeout", "i/o timeout"),
        "(client.timeout exceeded while awaiting headers)",
    ),
    cancellation_messages=(
        *("context canceled", "operation was aborted", "operation was canceled", "operation was cancelled"),
        *("request was aborted.", "request was aborted", "a task was canceled."),
    ),
    event_names=("event *.rs:*",),
)

STANDARDS: Final = (GEN_AI, OPENINFERENCE, TRACELOOP, OTHER_OPERATIONS, MCP, GENERAL, EXCEPTIONS)
