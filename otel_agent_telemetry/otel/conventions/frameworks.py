"""Rows of the table: frameworks and tracing libraries with words of their own."""

from __future__ import annotations

from typing import Final

from otel_agent_telemetry.otel.conventions.convention import AGENT, CHAIN, MODEL, TOOL, Convention, Sender

VERCEL: Final = Convention(
    name="Vercel AI SDK",
    source="npm ai 4 to 6, packages/ai/src/telemetry",
    kinds={
        "ai.operationId": {
            **dict.fromkeys(("*.dogenerate", "*.dostream", "*.doembed"), MODEL),
            "ai.toolcall": TOOL,
            **dict.fromkeys(("ai.generatetext", "ai.streamtext", "ai.generateobject", "ai.streamobject"), CHAIN),
            **dict.fromkeys(("ai.embed", "ai.embedmany", "ai.rerank"), CHAIN),
        }
    },
    tokens={
        "input_tokens": ("ai.usage.inputTokens", "ai.usage.promptTokens", "ai.usage.tokens"),
        "output_tokens": ("ai.usage.outputTokens", "ai.usage.completionTokens"),
        "cache_read_input_tokens": ("ai.usage.cachedInputTokens", "ai.usage.inputTokenDetails.cacheReadTokens"),
        "cache_write_input_tokens": ("ai.usage.inputTokenDetails.cacheWriteTokens",),
        "reasoning_output_tokens": ("ai.usage.reasoningTokens", "ai.usage.outputTokenDetails.reasoningTokens"),
        "total_tokens": ("ai.usage.totalTokens",),
    },
    models=("ai.response.model", "ai.model.id"),
    providers=("ai.model.provider",),
    agent_names=("ai.telemetry.functionId",),
    columns={"ai.telemetry.metadata.sessionId": "session_id", "ai.telemetry.metadata.threadId": "session_id"},
    user_ids=("ai.telemetry.metadata.userId",),
    content_namespaces=(
        *("ai.prompt", "ai.value", "ai.values", "ai.schema", "ai.embedding", "ai.embeddings", "ai.documents"),
        *("ai.response.text", "ai.response.object", "ai.response.toolCalls", "ai.response.reasoning"),
        *("ai.response.files", "ai.response.providerMetadata", "ai.toolCall.args", "ai.toolCall.result"),
        *("ai.ranking", "ai.request.headers", "ai.citations", "ai.documents.values", "ai.function_call"),
        *("ai.input_messages", "ai.object", "ai.preamble", "ai.response", "ai.responses", "ai.result"),
        *("ai.search_queries", "ai.search_results", "ai.texts", "ai.tool_calls", "ai.toolCall", "ai.tools"),
    ),
    known=(
        *("ai.operationId", "operation.name", "resource.name", "ai.telemetry.functionId", "ai.model.id"),
        *("ai.model.provider", "ai.response.model", "ai.response.id", "ai.response.finishReason"),
        *("ai.response.timestamp", "ai.toolCall.name", "ai.toolCall.id", "ai.prompt.format", "ai.finish_reason"),
        *("ai.finishReason", "ai.generation_id", "ai.model_id", "ai.pipeline.name", "ai.response_format"),
        *("ai.schema.name", "ai.tags"),
    ),
    figures=("ai.usage",),
    events=("ai",),
)

GOOGLE_ADK: Final = Convention(
    name="Google ADK",
    source="google-adk 2.13, src/google/adk/telemetry",
    columns={"gcp.vertex.agent.session_id": "session_id"},
    content_namespaces=(
        *("gcp.vertex.agent.llm_request", "gcp.vertex.agent.llm_response", "gcp.vertex.agent.tool_call_args"),
        *("gcp.vertex.agent.tool_response", "gcp.vertex.agent.data", "gcp.vertex.agent"),
    ),
    known=(
        *("gcp.vertex.agent.invocation_id", "gcp.vertex.agent.event_id", "gcp.vertex.agent.session_id"),
        *("gcp.vertex.agent.associated_event_ids", "gcp.vertex.agent.tool_call_id"),
    ),
    events=("gcp.vertex",),
)

PYDANTIC: Final = Convention(
    name="pydantic-ai and Logfire",
    source="pydantic-ai 2.68 and before, logfire 5.4",
    kinds={
        "logfire.msg_template": {
            "agent run: {name!r}": AGENT,
            "function: {name}": TOOL,
            **dict.fromkeys(("*with {request_data[model]!r}", "*with {gen_ai.request.model!r}"), MODEL),
            **dict.fromkeys(("openai agents trace: {name}", "task: {name}"), CHAIN),
        },
        "all_messages_events": {"*": AGENT},
        "tool_arguments": {"*": TOOL},
    },
    tokens={
        "cache_read_input_tokens": (
            *("gen_ai.usage.details.cache_read_tokens", "gen_ai.usage.details.cache_read_input_tokens"),
            *("gen_ai.usage.details.cached_tokens", "gen_ai.usage.details.cached_content_tokens"),
        ),
        "cache_write_input_tokens": (
            *("gen_ai.usage.details.cache_write_tokens", "gen_ai.usage.details.cache_creation_input_tokens"),
        ),
        "reasoning_output_tokens": (
            *("gen_ai.usage.details.reasoning_tokens", "gen_ai.usage.details.thoughts_tokens"),
        ),
        "audio_input_tokens": ("gen_ai.usage.details.input_audio_tokens",),
        "audio_output_tokens": ("gen_ai.usage.details.output_audio_tokens",),
    },
    totals={"gen_ai.aggregated_usage.": "gen_ai.usage."},
    costs=("operation.cost",),
    models=("model_name",),
    agent_names=("agent_name",),
    continuations={"logfire.span_type": "log"},
    pending={"logfire.span_type": {"pending_span": "logfire.pending_parent_id"}},
    agent_names_beside={"logfire.msg_template": {"Agent run: {name!r}": "name"}},
    content=(
        *("all_messages_events", "all_messages", "final_result", "tool_arguments", "tool_response", "request_data"),
        *("response_data", "model_request_parameters", "events", "tools", "system_instructions", "async_result"),
        "return",
    ),
    content_namespaces=(
        *("pydantic_ai.all_messages", "pydantic_ai.final_result", "logfire.json_schema", "logfire.msg"),
        "pydantic_ai.new_message_index.messages",
    ),
    known=(
        *("logfire.span_type", "logfire.pending_parent_id", "logfire.msg_template", "logfire.tags"),
        *("logfire.metrics", "agent_name", "model_name"),
    ),
    events=("logfire", "pydantic_ai"),
)

LANGSMITH: Final = Convention(
    name="LangSmith",
    source="langsmith 0.15, langsmith/_internal/otel",
    kinds={
        "langsmith.span.kind": {
            **dict.fromkeys(("llm", "embedding"), MODEL),
            "tool": TOOL,
            **dict.fromkeys(("chain", "prompt", "parser"), CHAIN),
        }
    },
    agent_names=("langsmith.metadata.lc_agent_name",),
    named_by_span=("langsmith.span.kind",),
    columns={
        "langsmith.metadata.session_id": "session_id",
        "langsmith.metadata.thread_id": "session_id",
        "langsmith.metadata.conversation_id": "session_id",
    },
    senders=(Sender(marks=(("langsmith.span.kind", "*"),), exception_decides=True),),
    content_namespaces=(
        *("langsmith.usage_metadata", "gen_ai.serialized", "langsmith.metadata", "langsmith.request.headers"),
    ),
    known=(
        *("langsmith.span.kind", "langsmith.trace.name", "langsmith.span.tags", "langsmith.trace.session_id"),
        *("langsmith.trace.session_name", "langsmith.span.id", "langsmith.span.dotted_order", "langsmith.trace.id"),
    ),
    events=("langsmith",),
)

LANGFUSE: Final = Convention(
    name="Langfuse",
    source="langfuse 5.0, langfuse/_client/attributes.py",
    kinds={
        "langfuse.observation.type": {
            **dict.fromkeys(("generation", "embedding"), MODEL),
            "tool": TOOL,
            "agent": AGENT,
            "chain": CHAIN,
        }
    },
    named_by_span=("langfuse.observation.type",),
    token_objects={
        "langfuse.observation.usage_details": {
            "input": "input_tokens",
            "input_tokens": "input_tokens",
            "prompt_tokens": "input_tokens",
            "output": "output_tokens",
            "output_tokens": "output_tokens",
            "completion_tokens": "output_tokens",
            "cache_read_input_tokens": "cache_read_input_tokens",
            "input_cached_tokens": "cache_read_input_tokens",
            "cache_creation_input_tokens": "cache_write_input_tokens",
            "output_reasoning_tokens": "reasoning_output_tokens",
            "total": "total_tokens",
            "total_tokens": "total_tokens",
        }
    },
    cost_objects={"langfuse.observation.cost_details": "total"},
    models=("langfuse.observation.model.name",),
    columns={"langfuse.session.id": "session_id", "langfuse.environment": "environment"},
    user_ids=("langfuse.user.id",),
    content_namespaces=(
        *("langfuse.observation", "langfuse.trace", "langfuse.experiment", "langfuse.metadata"),
        *("langfuse.trace.input", "langfuse.trace.metadata", "langfuse.trace.output"),
    ),
    known=(
        *("langfuse.observation.type", "langfuse.observation.level", "langfuse.observation.model.name"),
        *("langfuse.observation.usage_details", "langfuse.observation.cost_details", "langfuse.trace.name"),
        *("langfuse.observation.prompt.name", "langfuse.observation.prompt.version", "langfuse.trace.tags"),
        *("langfuse.observation.completion_start_time", "langfuse.experiment.id", "langfuse.experiment.name"),
        *("langfuse.environment", "langfuse.release", "langfuse.version", "langfuse.session.id"),
        *("langfuse.user.id", "langfuse.observation.environment", "langfuse.observation.status_message"),
    ),
    events=("langfuse",),
)

CREWAI: Final = Convention(
    name="CrewAI",
    source="crewai 1.15 with OpenInference 1.1 and Traceloop 0.62",
    agent_names=("crewai.crew.name",),
    content=(
        *("crew_agents", "crew_tasks", "crew_inputs", "flow_inputs", "formatted_description", "tools_names"),
        *("crew_outputs", "formatted_expected_output", "task_description"),
    ),
    content_namespaces=(
        *("crewai.crew", "crewai.task", "crewai.agent", "crewai.agent.backstory", "crewai.agent.goal"),
        *("crewai.agent.tools", "crewai.agent.tools_results", "crewai.agents", "crewai.crew.agents"),
        *("crewai.crew.result", "crewai.crew.tasks", "crewai.tasks", "crewai.reasoning", "crewai.memory"),
        *("crewai.knowledge", "crewai.method.state", "crewai.conversation.previous_intent"),
        *("long_term_memory", "short_term_memory"),
    ),
    known=(
        *("crew_key", "crew_id", "task_key", "task_id", "crewai.crew.name", "crewai.agent.role", "crewai.agent.id"),
        *("crewai.crew.id", "crewai.crew.key", "crewai.task.id", "crewai.task.key", "crewai.task.name"),
    ),
    events=("crewai", "long_term_memory", "short_term_memory"),
)

DSPY: Final = Convention(
    name="DSPy",
    source="openinference-instrumentation-dspy",
    agent_verbs={"openinference.span.kind": ("forward", "aforward", "__call__", "acall")},
    events=("dspy",),
)

HELICONE: Final = Convention(
    name="Helicone",
    source="helicone-async 1.1 and @helicone/async 2, which send Traceloop's spans with headers of Helicone",
    columns={"traceloop.association.properties.Helicone-Session-Id": "session_id"},
    user_ids=("traceloop.association.properties.Helicone-User-Id",),
    known=("traceloop.association.properties.Helicone-Session-Name",),
)

LAMINAR: Final = Convention(
    name="Laminar",
    source="lmnr 0.8, lmnr/opentelemetry_lib/tracing/attributes.py",
    kinds={"lmnr.span.type": {"llm": MODEL, "cached": MODEL, "tool": TOOL}},
    columns={"lmnr.association.properties.session_id": "session_id"},
    user_ids=("lmnr.association.properties.user_id",),
    content_namespaces=("lmnr.span.input", "lmnr.span.output"),
    known_namespaces=("lmnr.span",),
    events=("lmnr",),
)

LANGWATCH: Final = Convention(
    name="LangWatch",
    source="langwatch 1.4, langwatch/attributes.py",
    kinds={
        "langwatch.span.type": {
            "llm": MODEL,
            "tool": TOOL,
            **dict.fromkeys(("agent", "workflow"), AGENT),
            **dict.fromkeys(("chain", "component", "module"), CHAIN),
        }
    },
    named_by_span=("langwatch.span.type",),
    token_objects={
        "langwatch.metrics": {
            "prompt_tokens": "input_tokens",
            "completion_tokens": "output_tokens",
            "reasoning_tokens": "reasoning_output_tokens",
        }
    },
    cost_objects={"langwatch.metrics": "cost"},
    content_namespaces=("langwatch.input", "langwatch.output", "langwatch.params", "langwatch.contexts"),
    known=("langwatch.span.type", "langwatch.origin", "langwatch.timestamps"),
    events=("langwatch",),
)

AG2: Final = Convention(
    name="AG2",
    source="ag2 1.2, ag2/middleware/builtin/telemetry.py",
    tokens={"reasoning_output_tokens": ("gen_ai.usage.thinking_tokens",)},
    echoes={"ag2.usage.kind": "model_call"},
    content_namespaces=("ag2.human_input",),
    known=("ag2.span.type", "ag2.usage.kind"),
)

MASTRA: Final = Convention(
    name="Mastra",
    source="@mastra/otel-exporter 1.4",
    known=("mastra.span.type",),
)

AGENT_FRAMEWORK: Final = Convention(
    name="Microsoft Agent Framework",
    source="agent-framework-core 1.23",
    agent_names=("workflow.name",),
    known=(
        *("workflow.id", "executor.id", "executor.type", "edge_group.type", "message.source_id"),
        "message.target_id",
    ),
)

BEDROCK: Final = Convention(
    name="AWS Bedrock",
    source="semantic conventions 1.41, Bedrock AgentCore",
    content_namespaces=(
        *("aws.bedrock.agentcore.memory", "aws.bedrock.input", "aws.bedrock.invocation", "aws.bedrock.output"),
    ),
    known=(
        *("aws.bedrock.agent.id", "aws.bedrock.data_source.id", "aws.bedrock.guardrail.id"),
        "aws.bedrock.knowledge_base.id",
    ),
    events=("aws.bedrock",),
)

MLFLOW: Final = Convention(
    name="MLflow",
    source="mlflow 3, mlflow/tracing/constant.py",
    kinds={
        "mlflow.spanType": {
            **dict.fromkeys(("llm", "chat_model", "embedding"), MODEL),
            "tool": TOOL,
            **dict.fromkeys(("agent", "workflow"), AGENT),
            **dict.fromkeys(("chain", "task"), CHAIN),
        }
    },
    token_objects={
        "mlflow.chat.tokenUsage": {
            "input_tokens": "input_tokens",
            "output_tokens": "output_tokens",
            "total_tokens": "total_tokens",
            "cache_read_input_tokens": "cache_read_input_tokens",
            "cache_creation_input_tokens": "cache_write_input_tokens",
        }
    },
    cost_objects={"mlflow.llm.cost": "total_cost"},
    models=("mlflow.llm.model",),
    providers=("mlflow.llm.provider",),
    named_by_span=("mlflow.spanType",),
    columns={"mlflow.trace.session": "session_id"},
    user_ids=("mlflow.trace.user",),
    content_namespaces=(*("mlflow.chat.messages", "mlflow.chat.tools", "mlflow.spanInputs", "mlflow.spanOutputs"),),
    events=("mlflow", "streaming_chunk"),
)

BRAINTRUST: Final = Convention(
    name="Braintrust",
    source="braintrust 0.3, what its OpenTelemetry endpoint reads; its SDKs for Java, Go and Ruby, which send it",
    kinds={
        "braintrust.span_attributes": {
            f'*"type":{space}"{word}"}}': kind
            for word, kind in (("llm", MODEL), ("tool", TOOL), ("task", CHAIN))
            for space in ("", " ")
        }
    },
    token_objects={
        "braintrust.metrics": {
            "prompt_tokens": "input_tokens",
            "completion_tokens": "output_tokens",
            "tokens": "total_tokens",
            "prompt_cached_tokens": "cache_read_input_tokens",
            "prompt_cache_creation_tokens": "cache_write_input_tokens",
            "completion_reasoning_tokens": "reasoning_output_tokens",
        }
    },
    model_objects={"braintrust.metadata": "model"},
    content_namespaces=(
        *("braintrust.expected", "braintrust.input", "braintrust.input_json", "braintrust.metadata"),
        *("braintrust.output", "braintrust.output_json"),
    ),
)

TRULENS: Final = Convention(
    name="TruLens",
    source="trulens-otel-semconv 2.16",
    content_namespaces=(
        *("ai.observability.call.args", "ai.observability.call.kwargs", "ai.observability.call.return"),
        *("ai.observability.generation", "ai.observability.record_root", "ai.observability.retrieval"),
    ),
)

BEEAI: Final = Convention(
    name="BeeAI",
    source="openinference-instrumentation-beeai 0.1.30, whose events of agents are spans of their kind",
    kinds={
        "metadata.path": dict.fromkeys(
            (
                *("*.final_answer", "*.error", "*.retry", "*.update", "*.partial_update"),
                *("*.tool_start", "*.tool_success", "*.tool_error"),
            ),
            CHAIN,
        )
    },
    content_namespaces=(
        *("metadata.steps", "metadata.iterations", "metadata.result", "metadata.state", "metadata.memory"),
        *("metadata.context", "metadata.schema"),
    ),
    known=("metadata.class_name", "metadata.output_class"),
)

SMOLAGENTS: Final = Convention(
    name="smolagents",
    source="openinference-instrumentation-smolagents",
    content_namespaces=("smolagents.additional_args", "smolagents.task"),
    known=("smolagents.tools_names",),
    events=("smolagents",),
)

HAYSTACK: Final = Convention(
    name="Haystack",
    source="haystack 2, haystack/tracing",
    kinds={"haystack.component.type": {"*generator": MODEL, "*embedder": MODEL, "agent": AGENT}},
    content_namespaces=(
        *("haystack.agent.input", "haystack.agent.output", "haystack.component.input", "haystack.component.output"),
        *("haystack.pipeline.input_data", "haystack.pipeline.output_data"),
    ),
    known=(*("haystack.component.fully_qualified_type", "haystack.component.name", "haystack.component.type"),),
    events=("haystack",),
)

LIVEKIT: Final = Convention(
    name="LiveKit Agents",
    source="livekit-agents 1.5 and later, telemetry/trace_types.py",
    kinds={"lk.function_tool.name": {"*": TOOL}},
    agent_names=("lk.agent_name",),
    content_namespaces=(
        "lk.pii",
        *("lk.chat_ctx", "lk.function_tool.arguments", "lk.function_tool.output", "lk.function_tools"),
        *("lk.input_text", "lk.instructions", "lk.provider_tools", "lk.response.function_calls"),
        *("lk.response.text", "lk.session_options", "lk.user_input", "lk.user_transcript"),
    ),
    known=("lk.function_tool.id", "lk.function_tool.name"),
    events=("lk",),
)

PIPECAT: Final = Convention(
    name="Pipecat",
    source="pipecat, src/pipecat/utils/tracing (2026)",
    kinds={"tool.function_name": {"*": TOOL}},
    content=("tool.arguments", "tool.result", "tools.definitions", "transcript", "text_output", "context_messages"),
    known=("conversation.id", "conversation.type", "tool.call_id", "tool.function_name", "turn.type", "voice_id"),
)

N8N: Final = Convention(
    name="n8n",
    source="n8n 2.19 and later, its documentation of traces",
    kinds={"n8n.execution.mode": {"*": CHAIN}},
    job_types=("n8n.workflow.name",),
    content=("n8n.node.input", "n8n.node.output"),
    known=(
        *("n8n.execution.mode", "n8n.instance.id", "n8n.instance.role", "n8n.node.id", "n8n.node.name"),
        *("n8n.node.type", "n8n.workflow.id", "n8n.workflow.name"),
    ),
)

SEMANTIC_KERNEL: Final = Convention(
    name="Semantic Kernel",
    source="semantic-kernel 1, model diagnostics",
    content_namespaces=("semantic_kernel.function.arguments", "semantic_kernel.function.result"),
    known=("semantic_kernel.function.name",),
    events=("semantic_kernel",),
)

SPRING_AI: Final = Convention(
    name="Spring AI",
    source="spring-ai 1.1 and 2.0, observation conventions; UsageCalculator, which 1 calls in each model",
    kinds={"spring.ai.kind": {"chat_client": CHAIN, "advisor": CHAIN, "tool_call": TOOL}},
    columns={"spring.ai.chat.client.conversation.id": "session_id"},
    senders=(
        Sender(
            marks=(("spring.ai.model.request.tool.names", "*"),),
            sums_after=(
                *((provider, ("stop",)) for provider in ("ollama", "vertex_ai", "google_genai", "google_genai_ai")),
                ("*", ("tool_call", "tool_use")),
            ),
        ),
    ),
    content_namespaces=(
        *("spring.ai.chat.client.conversation.text", "spring.ai.chat.client.system", "spring.ai.chat.client.tool"),
        *("spring.ai.chat.client.user", "spring.ai.tool.call", "spring.ai.tool.definition"),
        "spring.ai.vector_store.query",
    ),
    known=("spring.ai.kind", "spring.ai.tool.definition.name"),
    events=("spring.ai",),
)

OPENLIT: Final = Convention(
    name="OpenLIT",
    source="openlit 1, with the client of anthropic",
    senders=(Sender(marks=(("telemetry.sdk.name", "openlit"),), providers=("anthropic",), cache_beside_input=True),),
    content_namespaces=("guard.explanation", "gen_ai.action"),
    events=("guard.evaluation",),
)

AGENTOPS: Final = Convention(
    name="AgentOps",
    source="agentops 0.4, agentops/semconv",
    kinds={
        "agentops.span.kind": {
            **dict.fromkeys(("llm", "embedding"), MODEL),
            "tool": TOOL,
            **dict.fromkeys(("agent", "workflow"), AGENT),
            **dict.fromkeys(("session", "task", "operation", "chain"), CHAIN),
        }
    },
    agent_names_beside={"agentops.span.kind": {"agent": "operation.name", "workflow": "operation.name"}},
)

GENKIT: Final = Convention(
    name="Genkit",
    source="genkit 1, core/src/tracing",
    kinds={
        "genkit:metadata:subtype": {
            **dict.fromkeys(("model", "embedder", "background-model"), MODEL),
            **dict.fromkeys(("tool", "tool.v2"), TOOL),
            **dict.fromkeys(("agent", "flow"), AGENT),
            "util": CHAIN,
        }
    },
    models=("genkit:name",),
    token_objects={
        "genkit:output": {
            "usage.inputTokens": "input_tokens",
            "usage.outputTokens": "output_tokens",
            "usage.totalTokens": "total_tokens",
            "usage.cachedContentTokens": "cache_read_input_tokens",
            "usage.thoughtsTokens": "reasoning_output_tokens",
        }
    },
    models_beside={"genkit:metadata:subtype": {"model": "genkit:name", "embedder": "genkit:name"}},
    agent_names_beside={"genkit:metadata:subtype": {"agent": "genkit:name", "flow": "genkit:name"}},
    columns={"genkit:sessionId": "session_id"},
    content=("genkit:input", "genkit:output", "genkit:init"),
    known=("genkit:name", "genkit:path", "genkit:qualifiedPath", "genkit:type", "genkit:state"),
)

LLAMA_INDEX: Final = Convention(
    name="LlamaIndex",
    source="llama-index-core 0.14, llama-index-observability-otel: events by the names of their classes",
    events=(
        *("llama_index", "llamaindex", "AgentChatWithStepEndEvent", "AgentChatWithStepStartEvent"),
        *("AgentRunStepEndEvent", "AgentRunStepStartEvent", "AgentToolCallEvent", "EmbeddingEndEvent"),
        *("EmbeddingStartEvent", "ExceptionEvent", "GetMessageResponseEndEvent", "GetMessageResponseStartEvent"),
        *("GetResponseEndEvent", "GetResponseStartEvent", "LLMChatEndEvent", "LLMChatInProgressEvent"),
        *("LLMChatStartEvent", "LLMCompletionEndEvent", "LLMCompletionInProgressEvent", "LLMCompletionStartEvent"),
        *("LLMPredictEndEvent", "LLMPredictStartEvent", "LLMStructuredPredictEndEvent"),
        *("LLMStructuredPredictInProgressEvent", "LLMStructuredPredictStartEvent", "QueryEndEvent"),
        *("QueryStartEvent", "ReRankEndEvent", "ReRankStartEvent", "RetrievalEndEvent", "RetrievalStartEvent"),
        *("SpanDropEvent", "SparseEmbeddingEndEvent", "SparseEmbeddingStartEvent", "StreamChatDeltaReceivedEvent"),
        *("StreamChatEndEvent", "StreamChatErrorEvent", "StreamChatStartEvent", "SynthesizeEndEvent"),
        *("SynthesizeStartEvent", "AgentInput", "AgentOutput", "AgentStream", "AgentSetup", "ToolCall"),
        *("ToolCallResult", "StopEvent"),
    ),
)

OTHER_FRAMEWORKS: Final = Convention(
    name="Frameworks whose events are theirs",
    source="Agno, AutoGen, AG2, Letta, Strands",
    events=("ag2", "agno", "autogen", "letta", "strands"),
)

FRAMEWORKS: Final = (
    VERCEL,
    GOOGLE_ADK,
    PYDANTIC,
    LANGSMITH,
    LANGFUSE,
    CREWAI,
    DSPY,
    HELICONE,
    LAMINAR,
    LANGWATCH,
    AG2,
    MASTRA,
    AGENT_FRAMEWORK,
    BEDROCK,
    MLFLOW,
    BRAINTRUST,
    TRULENS,
    BEEAI,
    SMOLAGENTS,
    HAYSTACK,
    LIVEKIT,
    PIPECAT,
    N8N,
    SEMANTIC_KERNEL,
    SPRING_AI,
    OPENLIT,
    AGENTOPS,
    GENKIT,
    LLAMA_INDEX,
    OTHER_FRAMEWORKS,
)
