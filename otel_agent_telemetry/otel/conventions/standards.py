"""Rows of the table: the conventions that many libraries share.

OpenTelemetry's GenAI conventions now and before, MCP, A2A, OpenInference, Traceloop.
"""

from __future__ import annotations

from typing import Final

from otel_agent_telemetry.otel.conventions.convention import AGENT, CHAIN, MODEL, TOOL, Convention
from otel_agent_telemetry.otel.conventions.general import GENERAL

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
    misnamed={
        "gen_ai.operation.name": {
            AGENT: (
                *("invoke_agent Runnable*", "invoke_agent *OutputParser", "invoke_agent *OutputParser<*>"),
                "invoke_agent *PromptTemplate",
            )
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
    no_models=("none", "null", "unknown"),
    providers=("gen_ai.provider.name", "gen_ai.system"),
    agent_names=("gen_ai.agent.name",),
    job_types=("gen_ai.workflow.name",),
    columns={"gen_ai.conversation.id": "session_id", "gen_ai.agent.version": "agent_version"},
    content_namespaces=(
        *("gen_ai.tool.json_schema", "gen_ai.response.title"),
        *("gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions"),
        *("gen_ai.tool.definitions", "gen_ai.tool.call.arguments", "gen_ai.tool.call.result"),
        *("gen_ai.tool.description", "gen_ai.retrieval.query.text", "gen_ai.retrieval.documents"),
        *("gen_ai.evaluation.explanation", "gen_ai.agent.description", "gen_ai.request.stop_sequences"),
        *("gen_ai.prompt", "gen_ai.completion", "gen_ai.input", "gen_ai.output", "gen_ai.content", "gen_ai.event"),
        *("gen_ai.memory", "gen_ai.task", "gen_ai.guardrail", "gen_ai.prompt.variable", "gen_ai.skill"),
        *("gen_ai.agent.backstory", "gen_ai.agent.goal", "gen_ai.agent.invocation_input"),
        *("gen_ai.agent.invocation_output", "gen_ai.agent.tools", "gen_ai.assistant.message", "gen_ai.choice"),
        *("gen_ai.embeddings.input", "gen_ai.evaluation", "gen_ai.event.content", "gen_ai.execution.steps"),
        *("gen_ai.request.available_tools", "gen_ai.request.functions", "gen_ai.request.headers"),
        *("gen_ai.request.messages", "gen_ai.request.schema", "gen_ai.request.tools", "gen_ai.reranking"),
        *("gen_ai.response.object", "gen_ai.response.text", "gen_ai.response.tool_calls", "gen_ai.retrieval"),
        *("gen_ai.security", "gen_ai.skills", "gen_ai.system.message", "gen_ai.tool.message"),
        "gen_ai.user.message",
    ),
    known=(
        *("gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.system", "gen_ai.output.type"),
        *("gen_ai.prompt.name", "gen_ai.request.model", "gen_ai.response.model", "gen_ai.response.id"),
        *("gen_ai.response.finish_reasons", "gen_ai.request.encoding_formats", "gen_ai.conversation.id"),
        *("gen_ai.workflow.name", "gen_ai.data_source.id", "gen_ai.agent.id", "gen_ai.agent.name"),
        *("gen_ai.agent.version", "gen_ai.tool.name", "gen_ai.tool.type", "gen_ai.tool.call.id"),
        *("gen_ai.tool.call_id", "gen_ai.token.type", "gen_ai.token.modality", "gen_ai.token.cache"),
        *("gen_ai.token.phase", "gen_ai.evaluation.name", "gen_ai.evaluation.score.label"),
        *("gen_ai.memory.store.id", "gen_ai.memory.record.id", "gen_ai.task.id", "gen_ai.task.parent.id"),
        *("gen_ai.task.status", "gen_ai.task.kind", "gen_ai.prompt.version", "gen_ai.event.start_time"),
        *("gen_ai.event.end_time", "az.ai.agent.run.id", "az.ai.agent.thread.id", "gen_ai.agent.type"),
        *("gen_ai.embeddings.dimension.count", "gen_ai.evaluation.score.value", "gen_ai.function_id"),
        *("gen_ai.guardrail.action.type", "gen_ai.guardrail.error.type", "gen_ai.guardrail.id"),
        *("gen_ai.guardrail.name", "gen_ai.guardrail.status", "gen_ai.guardrail.target.type"),
        *("gen_ai.guardrail.verdict.type", "gen_ai.input.type", "gen_ai.is_streaming", "gen_ai.memory.id"),
        *("gen_ai.memory.operation", "gen_ai.memory.record.count", "gen_ai.memory.scope"),
        *("gen_ai.memory.store.name", "gen_ai.memory.type", "gen_ai.openai.api_base", "gen_ai.openai.api_type"),
        *("gen_ai.openai.api_version", "gen_ai.openai.request.response_format", "gen_ai.openai.request.seed"),
        *("gen_ai.openai.request.service_tier", "gen_ai.openai.response.service_tier"),
        *("gen_ai.openai.response.system_fingerprint", "gen_ai.openai.system_fingerprint", "gen_ai.operation.type"),
        *("gen_ai.pipeline.name", "gen_ai.prompt.id", "gen_ai.request.choice.count"),
        *("gen_ai.request.frequency_penalty", "gen_ai.request.id", "gen_ai.request.max_completion_tokens"),
        *("gen_ai.request.max_tokens", "gen_ai.request.n", "gen_ai.request.presence_penalty"),
        *("gen_ai.request.reasoning.level", "gen_ai.request.reasoning_effort", "gen_ai.request.reasoning_summary"),
        *("gen_ai.request.repetition_penalty", "gen_ai.request.seed", "gen_ai.request.service_tier"),
        *("gen_ai.request.stream", "gen_ai.request.temperature", "gen_ai.request.top_k", "gen_ai.request.top_p"),
        *("gen_ai.request.type", "gen_ai.response.finish_reason", "gen_ai.response.reasoning_effort"),
        *("gen_ai.response.service_tier", "gen_ai.response.streaming", "gen_ai.response.system_fingerprint"),
        *("gen_ai.response.time_to_first_chunk", "gen_ai.response.time_to_first_token"),
        *("gen_ai.retrieval.source.id", "gen_ai.retrieval.top_k", "gen_ai.session.id"),
        *("gen_ai.tool.call.result.size", "gen_ai.tool.id", "gen_ai.tool.status"),
        *("gen_ai.usage.input_token_details", "gen_ai.usage.output_token_details", "gen_ai.user"),
        *("gen_ai.workflow.edges", "gen_ai.workflow.nodes", "microsoft.foundry.project.id", "openai.api.type"),
        *("openai.request.service_tier", "openai.response.service_tier", "openai.response.system_fingerprint"),
    ),
    known_namespaces=("gen_ai.azure", "gen_ai.openai"),
    figures=("gen_ai.usage", "gen_ai.cost", "gen_ai.aggregated_usage"),
    events=("gen_ai",),
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
            **dict.fromkeys(("agent_step", "workflow_step", "model_generation", "framework"), CHAIN),
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
    columns={
        "gen_ai.thread.id": "session_id",
        "session_id": "session_id",
        "conversation.id": "session_id",
        "conversation_id": "session_id",
    },
    user_ids=("gen_ai.user", "gen_ai.user.id", "user_id"),
    content=(
        *("token_ids", "prompt_token_ids", "completion_token_ids", "output_token_ids"),
        "instructions",
        "final_result",
    ),
    content_namespaces=(
        *("gen_ai.tool.input", "gen_ai.tool.output", "gen_ai.tool.args", "gen_ai.tool.result", "gen_ai.input"),
        *("gen_ai.output", "gen_ai.headers", "prompt.text", "completion.text"),
    ),
    known=(*("gen_ai.span.kind", "gen_ai.framework", "gen_ai.model.name", "gen_ai.response.stop_reason"),),
)

MCP: Final = Convention(
    name="Model Context Protocol",
    source="semantic-conventions-genai 0.1.0; opentelemetry-instrumentation-mcp 0.62",
    kinds={"mcp.method.name": {"tools/call": TOOL}},
    served=("mcp.method.name",),
    content_namespaces=(
        *("mcp.request.argument", "mcp.response.value", "mcp.session.init_options", "mcp.cancelled.reason"),
        *("mcp.logging.message", "mcp.progress.message", "mcp.prompt.result", "mcp.tool.result"),
    ),
    known=(
        *("mcp.method.name", "mcp.protocol.version", "mcp.session.id", "mcp.request.id", "mcp.auth.client.name"),
        *("mcp.cancelled.request_id", "mcp.client.name", "mcp.client.title", "mcp.client.version"),
        *("mcp.lifecycle.phase", "mcp.logging.data_type", "mcp.logging.level", "mcp.logging.logger"),
        *("mcp.progress.token", "mcp.prompt.name", "mcp.resource.protocol", "mcp.server.name", "mcp.server.title"),
        *("mcp.server.version", "mcp.tool.name", "mcp.transport"),
    ),
    urls=("mcp.resource.uri",),
    events=("mcp",),
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
            *("on_messages", "on_messages_stream", "query", "aquery", "retrieve", "aretrieve", "chat", "achat"),
        )
    },
    columns={"session.id": "session_id"},
    user_ids=("user.id",),
    content_namespaces=(
        *("input.value", "output.value", "input.images", "output.images", "input.documents", "output.documents"),
        *("llm.tools", "llm.choices", "llm.function_call", "llm.prompts", "llm.invocation_parameters"),
        *("tool.parameters", "tool.description", "tool.json_schema", "retrieval.documents", "prompt.text"),
        *("completion.text", "embedding.text", "embedding.vector", "annotation.explanation"),
        *("evaluation.explanation", "audio.transcript", "tool_call.function.arguments", "annotation.metadata"),
        *("evaluation.metadata", "llm.input_messages", "llm.output_messages", "llm.prompt_template", "reranker"),
        *("embedding.embeddings", "message", "message_content", "document", "annotations", "audio.url"),
        *("document.content", "document.metadata", "embedding.invocation_parameters", "evaluations", "image.url"),
        *("message.content", "message.contents", "message.function_call_arguments_json", "message.tool_calls"),
        *("prompt.template", "session.annotations", "session.evaluations", "trace.annotations"),
        *("trace.evaluations", "video.url"),
    ),
    known=(
        *("openinference.span.kind", "openinference.project.name", "input.mime_type", "output.mime_type"),
        *("tag.tags", "llm.model_name", "llm.request.model_name", "llm.response.model_name", "llm.provider"),
        *("llm.system", "llm.prompt_template.version", "llm.finish_reason", "decision.model_name"),
        *("decision.request.model_name", "decision.response.model_name", "decision.provider", "decision.system"),
        *("embedding.model_name", "reranker.model_name", "tool.name", "tool.id", "session.id", "user.id"),
        *("agent.name", "graph.node.id", "graph.node.name", "graph.node.parent_id", "prompt.vendor", "prompt.id"),
        *("annotation.name", "annotation.label", "annotation.annotator_kind", "annotation.identifier"),
        *("evaluation.name", "document.id", "evaluation.label", "evaluation.annotator_kind"),
        *("evaluation.identifier", "tool_call.id", "message.role", "message.name", "message.tool_call_id"),
        *("message_content.type", "message_content.id", "document.mime_type", "document.name", "audio.mime_type"),
        *("tool_call.function.name", "message.function_call_name", "annotation.score", "document.score"),
        *("evaluation.score", "message_content.signature", "prompt.version", "reranker.top_k"),
        "tool_call.reasoning_signature",
    ),
    figures=("llm.token_count", "llm.cost", "decision.token_count"),
    urls=("document.url", "prompt.url"),
    events=("openinference",),
)

TRACELOOP: Final = Convention(
    name="Traceloop",
    source="opentelemetry-semantic-conventions-ai 0.5.1, traceloop-sdk 0.62; go-openllmetry",
    kinds={
        "traceloop.span.kind": {"workflow": AGENT, "agent": AGENT, "tool": TOOL, "task": CHAIN},
        "llm.request.type": {"*": MODEL},
    },
    tokens={
        "input_tokens": ("llm.usage.prompt_tokens",),
        "output_tokens": ("llm.usage.completion_tokens",),
        "reasoning_output_tokens": ("llm.usage.reasoning_tokens",),
        "total_tokens": ("llm.usage.total_tokens",),
    },
    models=("llm.response.model", "llm.request.model"),
    providers=("llm.vendor",),
    agent_verbs={"traceloop.span.kind": ("workflow", "agent")},
    columns={
        "traceloop.association.properties.session_id": "session_id",
        "traceloop.association.properties.thread_id": "session_id",
    },
    user_ids=("llm.user", "traceloop.association.properties.user_id"),
    content_namespaces=(
        *("traceloop.entity.input", "traceloop.entity.output", "gen_ai.request.structured_output_schema"),
        *("llm.request.functions", "llm.headers", "llm.chat.stop_sequences", "traceloop.prompt", "llm.content"),
        "llm.completions",
        *("db.query.result", "db.search.result", "db.milvus.search.annsearch_request"),
        *("db.milvus.search.search_params", "db.query.embeddings", "db.search.embeddings", "db.vector.query"),
        *("llm.completion", "llm.completions", "llm.functions", "llm.openai.messages", "llm.prompt"),
        "pinecone.query.queries",
    ),
    known=(
        *("traceloop.span.kind", "traceloop.workflow.name", "traceloop.entity.name", "traceloop.entity.path"),
        *("traceloop.entity.version", "traceloop.correlation.id", "traceloop.prompt.key"),
        *("traceloop.prompt.version", "traceloop.prompt.version_name", "traceloop.prompt.version_hash"),
        *("llm.request.type", "llm.user", "llm.response.finish_reason", "llm.response.stop_reason"),
        *("llm.usage.token_type", "gen_ai.usage.token_type", "db.chroma.query.n_results"),
        *("db.query.result.distance", "db.query.result.id", "db.query.result.score", "db.search.result.distance"),
        *("db.search.result.id", "db.search.result.score", "db.vector.query.top_k", "haystack.openai.chat"),
        *("haystack.openai.completion", "langgraph.command.goto_node", "langgraph.command.goto_nodes"),
        *("langgraph.command.source_node", "llm.frequency_penalty", "llm.is_streaming", "llm.presence_penalty"),
        *("llm.request.model", "llm.request.reasoning_effort", "llm.request.repetition_penalty"),
        *("llm.response.model", "llm.top_k", "llm.vendor", "llm.watsonx.decoding_method"),
        *("llm.watsonx.max_new_tokens", "llm.watsonx.min_new_tokens", "llm.watsonx.random_seed"),
        *("llm.watsonx.repetition_penalty", "pinecone.query.id", "pinecone.query.include_metadata"),
        *("pinecone.query.include_values", "pinecone.query.namespace", "pinecone.query.top_k"),
        "traceloop.prompt.managed",
    ),
    known_namespaces=("pinecone.usage", "qdrant"),
    figures=("llm.usage",),
    events=("db.search", "llm", "traceloop"),
)

A2A: Final = Convention(
    name="Agent2Agent",
    source="semantic-conventions-genai 0.1.0",
    known=(
        *("a2a.context.id", "a2a.message.id", "a2a.method.name", "a2a.protocol.version", "a2a.task.id"),
        *("a2a.task.state", "a2a.tenant"),
    ),
    events=("a2a",),
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
        *("(client.timeout exceeded while awaiting headers)", "seconds elapsing."),
    ),
    cancellation_messages=(
        *("context canceled", "operation was aborted", "operation was canceled", "operation was cancelled"),
        *("request was aborted.", "request was aborted", "a task was canceled."),
    ),
    event_names=("event *.rs:*",),
)

STANDARDS: Final = (GEN_AI, OPENINFERENCE, TRACELOOP, OTHER_OPERATIONS, MCP, A2A, GENERAL, EXCEPTIONS)
