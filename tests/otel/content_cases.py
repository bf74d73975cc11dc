"""Names under which frameworks were seen to send what was said, and names that must stay."""

from __future__ import annotations

LEAKS = (
    # Vercel AI SDK
    *("ai.prompt", "ai.prompt.messages", "ai.prompt.tools", "ai.prompt.toolChoice", "ai.response.text"),
    *("ai.response.object", "ai.response.toolCalls", "ai.response.reasoning", "ai.response.files", "ai.toolCall.args"),
    *("ai.toolCall.result", "ai.value", "ai.values", "ai.embedding", "ai.schema", "ai.schema.description"),
    # Google ADK, Vertex AI
    *("gcp.vertex.agent.llm_request", "gcp.vertex.agent.llm_response", "gcp.vertex.agent.tool_call_args"),
    *("gcp.vertex.agent.tool_response", "gcp.vertex.agent.data"),
    # OpenTelemetry's conventions, older and newer
    *("gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions", "gen_ai.tool.definitions"),
    *(
        "gen_ai.tool.call.arguments",
        "gen_ai.tool.call.result",
        "gen_ai.retrieval.query.text",
        "gen_ai.retrieval.documents",
    ),
    *("gen_ai.evaluation.explanation", "gen_ai.memory.records", "gen_ai.memory.query.text", "gen_ai.memory.content"),
    *("gen_ai.tool.input", "gen_ai.tool.output", "gen_ai.task.input", "gen_ai.task.output", "gen_ai.task.description"),
    *("gen_ai.guardrail.input", "gen_ai.guardrail.output", "gen_ai.guardrail.error.message", "gen_ai.prompt"),
    *("gen_ai.prompt.variable.city", "gen_ai.prompt.0.content", "gen_ai.completion.0.content", "gen_ai.event.content"),
    *("gen_ai.request.messages", "gen_ai.response.text", "gen_ai.response.tool_calls", "gen_ai.embeddings.input"),
    *("gen_ai.request.available_tools", "gen_ai.tool.message", "gen_ai.system.message", "gen_ai.agent.description"),
    *("gen_ai.content.completion.chunk", "gen_ai.request.structured_output_schema", "gen_ai.tool.description"),
    # MCP
    *("mcp.request.argument", "mcp.request.argument.city", "mcp.response.value", "mcp.tool.result.content"),
    *("mcp.prompt.result.message_content", "mcp.logging.message", "mcp.progress.message"),
    # OpenInference
    *(
        "input.value",
        "output.value",
        "llm.input_messages.0.message.content",
        "llm.output_messages.0.message.contents.1",
    ),
    *("llm.prompts", "llm.prompts.0.prompt.text", "llm.tools", "llm.tools.0.tool.json_schema", "llm.choices"),
    *(
        "llm.function_call",
        "llm.prompt_template.template",
        "llm.prompt_template.variables",
        "llm.invocation_parameters",
    ),
    *("input.documents", "output.documents", "reranker.query", "reranker.input_documents.0.document.content"),
    *("reranker.output_documents", "embedding.embeddings.0.embedding.text", "embedding.text", "embedding.vector"),
    *(
        "prompt.text",
        "completion.text",
        "tool.parameters",
        "tool.description",
        "retrieval.documents.0.document.content",
    ),
    *("document.metadata", "message_content.image.image.url", "audio.transcript", "image.url", "annotations"),
    # OpenLLMetry, Langfuse, LangSmith, MLflow, Braintrust, TruLens, Sentry
    *(
        "traceloop.entity.input",
        "traceloop.entity.output",
        "traceloop.prompt.template",
        "traceloop.prompt.template_variables",
    ),
    *("langfuse.observation.input", "langfuse.observation.output", "langfuse.observation.metadata.note"),
    *("langfuse.observation.model.parameters", "langfuse.trace.input", "langfuse.trace.metadata.who"),
    *("langsmith.metadata.question", "gen_ai.serialized.doc", "mlflow.spanInputs", "mlflow.spanOutputs"),
    *("mlflow.chat.tools", "braintrust.input_json", "braintrust.output", "braintrust.metadata"),
    *(
        "ai.observability.call.kwargs",
        "ai.observability.record_root.input",
        "ai.search_queries",
        "ai.texts",
        "ai.preamble",
    ),
    # Frameworks
    *("tool_arguments", "tool_response", "final_result", "crew_agents", "crew_tasks", "crew_inputs", "user_prompt"),
    *("crewai.agent.goal", "crewai.agent.backstory", "crewai.task.description", "crewai.crew.tasks"),
    *("all_messages_events", "pydantic_ai.all_messages", "events", "model_request_parameters", "logfire.msg"),
    *("haystack.component.input", "haystack.component.output", "haystack.pipeline.input_data", "haystack.agent.output"),
    *("smolagents.task", "smolagents.additional_args", "semantic_kernel.function.arguments"),
    *("semantic_kernel.function.result", "gen_ai.agent.invocation_input", "gen_ai.agent.invocation_output"),
    *("spring.ai.chat.client.user.text", "spring.ai.chat.client.system.text", "spring.ai.tool.call.arguments"),
    *("spring.ai.tool.definition.schema", "db.vector.query.content", "db.vector.query.response.documents"),
    *("lk.chat_ctx", "lk.user_transcript", "lk.user_input", "lk.response.text", "lk.function_tool.arguments"),
    *("lk.function_tools", "lk.instructions", "system_prompt", "agent.instructions", "autogen.message.content"),
    *("aws.bedrock.agentcore.memory.content", "aws.bedrock.invocation.input", "strands.tool.result"),
    *("llm.openai.messages", "dspy.module.inputs", "agno.run.response_content", "task_description", "chat.history"),
    # Coding agents
    *("full_command", "prompt", "response", "new_context", "tool_input", "tool_parameters", "arguments", "output"),
    *("function_args", "request_text", "response_text", "system_prompt_preview", "reasoning_summary", "bash_command"),
    *("thinking.output", "response.model_output", "system_reminders", "process.stdout"),
    # What programs ask and say
    *("db.statement", "db.query.text", "db.query.parameter.0", "db.query.result.document", "graphql.document"),
    *("http.request.body", "http.response.body.text", "url.query", "messaging.message.body", "log.record.original"),
    *("rpc.request.payload", "user.question", "app.summary", "search.query", "email.body", "answer", "transcripts"),
)
"""Each leaked its texts, or is of the same kind as one that did."""

HARMLESS = (
    *("http.request.method", "http.response.status_code", "http.route", "http.method", "http.user_agent", "http.host"),
    *("http.request.header.content-type", "http.response.header.server", "http.request.method_original", "url.path"),
    *("url.scheme", "url.domain", "url.template", "user_agent.original", "server.address", "network.peer.address"),
    *("network.protocol.name", "net.peer.name", "net.sock.host.addr", "tls.protocol.version", "dns.question.name"),
    *("db.system", "db.system.name", "db.operation.name", "db.collection.name", "db.namespace", "db.query.summary"),
    *("db.sql.table", "db.mongodb.collection", "rpc.system", "rpc.service", "rpc.method", "rpc.grpc.status_code"),
    *("messaging.system", "messaging.destination.name", "messaging.message.id", "messaging.operation.type"),
    *("messaging.kafka.consumer.group", "messaging.message.conversation_id", "messaging.destination.template"),
    *("k8s.pod.name", "k8s.namespace.name", "k8s.deployment.name", "k8s.pod.label.app", "container.id"),
    *("container.image.name", "container.image.tags", "container.command_args", "cloud.provider", "cloud.region"),
    *("cloud.resource_id", "aws.lambda.invoked_arn", "aws.request_id", "aws.s3.key", "gcp.cloud_run.job.execution"),
    *("azure.resource_group.name", "faas.name", "faas.trigger", "host.name", "host.id", "os.type", "os.description"),
    *("process.executable.path", "process.command_line", "process.runtime.description", "process.pid"),
    *("service.name", "service.instance.id", "service.version", "telemetry.sdk.name", "deployment.environment.name"),
    *("code.function", "code.function.name", "code.file.path", "code.stacktrace", "thread.name", "vcs.ref.head.name"),
    *("vcs.repository.url.full", "vcs.change.id", "cicd.pipeline.name", "cicd.pipeline.run.url.full", "error.type"),
    *("cicd.pipeline.result", "exception.type", "exception.message", "exception.stacktrace", "error.message"),
    *("otel.status_description", "otel.scope.name", "feature_flag.key", "feature_flag.result.variant", "event.name"),
    *("graphql.operation.name", "celery.task_name", "browser.platform", "file.path", "log.file.path", "peer.service"),
    *("session.id", "test.case.name"),
    *("gen_ai.request.model", "gen_ai.response.model", "gen_ai.response.id", "gen_ai.response.finish_reasons"),
    *("gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.system", "gen_ai.agent.name", "gen_ai.agent.id"),
    *("gen_ai.conversation.id", "gen_ai.tool.name", "gen_ai.tool.call.id", "gen_ai.tool.type", "gen_ai.output.type"),
    *(
        "gen_ai.prompt.name",
        "gen_ai.task.id",
        "gen_ai.memory.store.id",
        "gen_ai.evaluation.name",
        "gen_ai.workflow.name",
    ),
    *("gen_ai.usage.input_tokens", "gen_ai.usage.details.reasoning", "llm.token_count.prompt", "llm.model_name"),
    *("llm.provider", "openinference.span.kind", "agent.name", "tool.name", "input.mime_type", "graph.node.id"),
    *(
        "embedding.model_name",
        "reranker.model_name",
        "llm.prompt_template.version",
        "mcp.method.name",
        "mcp.session.id",
    ),
    *("traceloop.span.kind", "traceloop.entity.name", "traceloop.prompt.key", "ai.operationId", "ai.model.id"),
    *("ai.response.model", "ai.response.finishReason", "ai.toolCall.name", "ai.telemetry.functionId"),
    *("langfuse.observation.type", "langfuse.observation.model.name", "langfuse.trace.name", "langsmith.span.kind"),
    *("gcp.vertex.agent.invocation_id", "gcp.vertex.agent.session_id", "haystack.component.name"),
    *("agent.run.input_summary", "agent.run.output_summary", "agent.run.anything_message"),
)
"""Well-known names whose texts are kept at any length."""
