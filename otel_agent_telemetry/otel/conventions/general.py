"""The row of the table for OpenTelemetry's general conventions: HTTP, databases, messages, hosts, code."""

from __future__ import annotations

from typing import Final

from otel_agent_telemetry.otel.conventions.convention import Convention

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
    content_namespaces=(
        *("db.query.parameter", "http.request.body", "http.response.body", "aws.s3.delete"),
        *("db.elasticsearch.path_parts", "db.operation.parameter", "db.query.text", "db.statement"),
        *("feature_flag.result.value", "graphql.document", "graphql.source", "graphql.variables"),
        *("log.record.original", "messaging.message.body", "messaging.message.payload"),
        *("process.environment_variable", "rpc.grpc.message", "url.fragment", "url.query"),
    ),
    known=(
        *("error.type", "event.name", "http.request.method", "http.request.method_original", "http.route"),
        *("http.method", "http.scheme", "http.flavor", "http.host", "url.scheme", "url.path", "url.domain"),
        *("url.template", "user_agent.original", "db.system", "db.system.name", "db.name", "db.namespace"),
        *("db.operation", "db.operation.name", "db.collection.name", "enduser.id", "artifact.filename"),
        *("artifact.purl", "aws.dynamodb.attribute_definitions", "browser.web_vital.value", "cicd.pipeline.result"),
        *("cicd.pipeline.task.run.result", "code.file.path", "code.filepath", "code.function"),
        *("code.function.name", "code.module.name", "code.namespace", "code.stacktrace", "container.command"),
        *("container.command_args", "container.command_line", "container.runtime.description"),
        *("cpython.gc.generation", "db.query.summary", "dns.answers", "error", "error.code", "error.kind"),
        *("error.message", "error.stack", "error_code", "error_details", "error_message", "error_type"),
        *("exception.escaped", "exception.message", "exception.stacktrace", "exception.type", "faas.max_memory"),
        *("feature_flag.error.message", "feature_flag.evaluation.error.message", "file.directory", "file.name"),
        *("file.path", "http.request.body.size", "http.response.body.size", "log.file.name"),
        *("log.file.name_resolved", "log.file.path", "log.file.path_resolved", "message.compressed_size"),
        *("message.id", "message.type", "message.uncompressed_size", "messaging.destination.template"),
        *("messaging.message.body.size", "messaging.message.conversation_id", "os.description"),
        *("otel.span.sampling_result", "otel.status_description", "peer.service", "pprof.mapping.has_functions"),
        *("pprof.profile.comment", "process.command", "process.command_args", "process.command_line"),
        *("process.runtime.description", "rpc.jsonrpc.error_message", "security_rule.description"),
        *("test.case.name", "test.suite.name", "webengine.description"),
    ),
    known_namespaces=(
        *("android", "aws.dynamodb", "aws.ecs", "aws.eks", "aws.extended_request_id", "aws.kinesis", "aws.lambda"),
        *("aws.log", "aws.request_id", "aws.s3", "aws.secretsmanager", "aws.sns", "aws.sqs", "aws.step_functions"),
        *("az", "azure", "browser", "cassandra", "celery", "cicd", "cloud", "cloudevents", "cloudfoundry"),
        *("container", "cpu", "cpython", "db", "deployment", "dns", "dotnet", "elasticsearch", "enduser", "faas"),
        *("feature_flag", "gcp.apphub", "gcp.apphub_destination", "gcp.client", "gcp.cloud_run", "gcp.gce", "geo"),
        *("graphql.operation", "heroku", "host", "http", "hw", "ios", "jsonrpc", "jvm", "k8s", "linux"),
        *("mainframe", "messaging", "net", "network", "nfs", "nodejs", "oci", "onc_rpc", "openshift"),
        *("opentracing", "oracle", "oracle_cloud", "os", "otel", "pprof", "process", "rpc", "security_rule"),
        *("server", "service", "telemetry", "thread", "tls", "url", "user_agent", "vcs", "webengine", "zos"),
    ),
    urls=(
        *("browser.document.url.full", "http.referer", "http.request.header.referer"),
        *("http.response.header.location", "http.target", "http.url", "url.full", "url.original"),
    ),
    events=("db.query", "exception"),
)
