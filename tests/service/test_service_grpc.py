"""OTLP over gRPC: the official exporter against the real service, and what it answers to what is not right."""

from __future__ import annotations

import gzip
import logging
import resource
import select
import socket
import sqlite3
import sys
from contextlib import ExitStack, closing, contextmanager
from threading import Event

import grpc
import pytest
from exporting import assert_the_run_is_there, one_agent_run, one_finished_run, provider_with
from on_disk import PATIENCE_S, eventually
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from otlp_requests import below, log, logs, metric, metrics, request, rows_of, span
from service_cases import listed

from otel_agent_telemetry.errors import ConfigurationError
from otel_agent_telemetry.service.app import create_app
from otel_agent_telemetry.service.otlp_signals import LOGS, METRICS

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
COMPRESSIONS = [grpc.Compression.NoCompression, grpc.Compression.Gzip, grpc.Compression.Deflate]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@pytest.fixture
def grpc_settings(settings):
    """Settings of either kind of database, with a port for gRPC."""
    return settings.with_(otlp_grpc_port=free_port())


@pytest.fixture
def sqlite_grpc_settings(sqlite_settings):
    return sqlite_settings.with_(otlp_grpc_port=free_port())


def address_of(service):
    return service.app.state.grpc.address


def exporter_to(service, **more):
    return OTLPSpanExporter(endpoint=address_of(service), insecure=True, timeout=PATIENCE_S, **more)


def called(service, body, *, path=EXPORT, metadata=(), compression=None, **options):
    """The response to a request; grpc.RpcError with its code when it is refused."""
    channel = grpc.insecure_channel(address_of(service), options=[("grpc.max_send_message_length", -1)], **options)
    with channel:
        call = channel.unary_unary(path)
        answer = call(body, timeout=PATIENCE_S, metadata=metadata, compression=compression)
    return ExportTraceServiceResponse.FromString(answer)


def refusal(service, body, **more):
    with pytest.raises(grpc.RpcError) as refused:
        called(service, body, **more)
    return refused.value.code(), refused.value.details()


def kept(service, body):
    """Whether a request was kept; UNAVAILABLE is the one other answer that may be."""
    try:
        return called(service, body) is not None
    except grpc.RpcError as refused:
        if refused.code() is grpc.StatusCode.UNAVAILABLE:
            return False
        raise


def one_span(**more):
    return request(span(1, **more)).SerializeToString()


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_the_official_grpc_exporter_is_understood(grpc_settings, serving, compression):
    """With each compression; the row is the one that HTTP would give."""
    service = serving(grpc_settings)
    with provider_with(BatchSpanProcessor(exporter_to(service, compression=compression))) as provider:
        event_id, root = one_agent_run(provider, fails=True)
        assert provider.force_flush()
        assert_the_run_is_there(service, event_id, root, "failed")


def test_the_same_spans_over_both_protocols_are_one_row(sqlite_grpc_settings, serving):
    """HTTP after gRPC changes nothing."""
    from exporting import exporter_to as http_exporter_to

    service = serving(sqlite_grpc_settings)
    event_id, root, finished = one_finished_run()
    assert exporter_to(service).export(finished) is SpanExportResult.SUCCESS
    before = rows_of(service)
    assert http_exporter_to(service).export(finished) is SpanExportResult.SUCCESS
    assert rows_of(service) == before
    assert_the_run_is_there(service, event_id, root, "success")


def test_spans_that_break_a_rule_are_counted_and_spare_their_neighbours(sqlite_grpc_settings, serving):
    """Partial success, as over HTTP."""
    service = serving(sqlite_grpc_settings)
    broken = span(2)
    broken.trace_id = b"short"
    answer = called(service, request(span(1), broken).SerializeToString())
    assert answer.partial_success.rejected_spans == 1
    assert "trace_id" in answer.partial_success.error_message
    assert len(listed(service)) == 1


def test_logs_and_metrics_have_services_of_their_own(sqlite_grpc_settings, serving):
    """On the same port, with the same answers; a method that there is not is unknown."""
    service = serving(sqlite_grpc_settings)
    called(service, request(span(1)).SerializeToString())
    sent = {LOGS: logs(log(1, "note", span=1)), METRICS: metrics(metric("claude_code.commit.count", (0, 60, 1, {})))}
    for signal, message in sent.items():
        assert called(service, message.SerializeToString(), path=signal.method) == ExportTraceServiceResponse()
        assert refusal(service, b"\xff", path=signal.method)[0] is grpc.StatusCode.INVALID_ARGUMENT
    assert [event["event_type"] for event in below(service, 1, "events")] == ["note"]
    assert len(rows_of(service)["session_metrics"]) == 1
    assert refusal(service, b"", path=METRICS.method.replace("metrics", "profiles"))[0] is grpc.StatusCode.UNIMPLEMENTED


def test_an_empty_request_is_accepted(sqlite_grpc_settings, serving):
    """Nothing to keep is no fault."""
    assert called(serving(sqlite_grpc_settings), b"") == ExportTraceServiceResponse()


def test_what_is_no_request_is_invalid_and_not_repeated(sqlite_grpc_settings, serving):
    """INVALID_ARGUMENT, which senders do not try again; an unknown method is UNIMPLEMENTED."""
    service = serving(sqlite_grpc_settings)
    assert refusal(service, b"rubbish")[0] is grpc.StatusCode.INVALID_ARGUMENT
    assert refusal(service, b"", path="/a.B/Export")[0] is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_request_over_the_limit_is_refused_decompressed_too(sqlite_grpc_settings, serving, compression):
    """A body that is small on the wire and large in memory counts as large."""
    service = serving(sqlite_grpc_settings.with_(api_max_body_bytes=100_000))
    large = one_span(attributes={"x": "y" * 200_000})
    assert len(gzip.compress(large)) < 2_000
    assert refusal(service, large, compression=compression)[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert listed(service) == []


def test_the_token_is_asked_for(sqlite_grpc_settings, serving):
    """As metadata; without it, with another or with two of them it is UNAUTHENTICATED."""
    service = serving(sqlite_grpc_settings.with_(api_auth_enabled=True, api_auth_token="known"))
    known, other = ("authorization", "Bearer known"), ("authorization", "Bearer other")
    for metadata in ((), (other,), (known, known), (known, other)):
        assert refusal(service, one_span(), metadata=metadata)[0] is grpc.StatusCode.UNAUTHENTICATED
    assert listed(service) == []
    called(service, one_span(), metadata=(known,))
    assert len(listed(service)) == 1


def test_the_rate_is_limited_together_with_http(sqlite_grpc_settings, serving):
    """One limit for an address, whichever way it comes; UNAVAILABLE, because the sender should come again."""
    service = serving(sqlite_grpc_settings.with_(rate_limit_enabled=True, rate_limit_rpm=3))
    service.client.get("/api/v1/runs")
    called(service, one_span())
    called(service, one_span())
    assert refusal(service, one_span())[0] is grpc.StatusCode.UNAVAILABLE
    assert service.client.get("/api/v1/runs").status_code == 429


def test_guessing_tokens_is_limited(sqlite_grpc_settings, serving):
    """The rate is counted before the token is looked at, as over HTTP."""
    service = serving(
        sqlite_grpc_settings.with_(
            rate_limit_enabled=True, rate_limit_rpm=3, api_auth_enabled=True, api_auth_token="known"
        )
    )
    guessed = [refusal(service, one_span(), metadata=(("authorization", f"Bearer {n}"),))[0] for n in range(4)]
    assert guessed == [grpc.StatusCode.UNAUTHENTICATED] * 3 + [grpc.StatusCode.UNAVAILABLE]


def test_a_call_that_is_refused_is_refused_before_its_message(sqlite_grpc_settings, serving):
    """The answer comes while the sender has sent nothing but its metadata."""
    service = serving(sqlite_grpc_settings.with_(api_auth_enabled=True, api_auth_token="known"))
    with grpc.insecure_channel(address_of(service)) as channel:
        call = channel.stream_unary(EXPORT)
        with pytest.raises(grpc.RpcError) as refused:
            call(_never(), timeout=PATIENCE_S)
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_clients_that_send_no_message_do_not_hold_the_places(sqlite_grpc_settings, serving):
    """A client has a few; those beyond are UNAVAILABLE at once, and a client at another address is served."""
    service = serving(sqlite_grpc_settings)
    with grpc.insecure_channel(address_of(service)) as channel:
        stalled = [channel.stream_unary(EXPORT).future(_never(), timeout=PATIENCE_S) for _ in range(4)]
        eventually(lambda: not kept(service, one_span()))
        for call in stalled:
            call.cancel()
    eventually(lambda: kept(service, one_span()))


def _never():
    """Messages that do not come while a call lasts."""
    Event().wait(PATIENCE_S)
    yield b""


def test_a_locked_database_is_unavailable_and_later_kept(sqlite_grpc_settings, serving):
    """A request that cannot be stored now is UNAVAILABLE; the same one is stored once the lock is released."""
    service = serving(sqlite_grpc_settings.with_(api_write_timeout_s=0.2, db_busy_timeout_ms=50))
    with closing(sqlite3.connect(service.settings.db_path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        code, detail = refusal(service, one_span())
        other.execute("ROLLBACK")
    assert code is grpc.StatusCode.UNAVAILABLE
    assert "not committed within 0.2 s" in detail
    eventually(lambda: kept(service, one_span()))
    assert len(listed(service)) == 1


def grpc_lines(caplog):
    return [line.getMessage() for line in caplog.records if " GRPC " in line.getMessage()]


def test_each_call_has_a_line_in_the_access_log(sqlite_grpc_settings, serving, caplog):
    """Who, what, how it ended; without the token."""
    service = serving(sqlite_grpc_settings.with_(api_auth_enabled=True, api_auth_token="known"))
    with caplog.at_level(logging.INFO, "otel_agent_telemetry.service.access"):
        called(service, one_span(), metadata=(("authorization", "Bearer known"),))
        refusal(service, one_span())
        eventually(lambda: len(grpc_lines(caplog)) == 2)
    lines = grpc_lines(caplog)
    assert [line.split()[:4] for line in lines] == [
        ["127.0.0.1", "GRPC", f"'{EXPORT}'", "OK"],
        ["127.0.0.1", "GRPC", f"'{EXPORT}'", "UNAUTHENTICATED"],
    ]
    assert "known" not in caplog.text


def test_without_its_library_it_names_what_to_install(sqlite_grpc_settings, monkeypatch):
    """The extra is named, before anything is opened."""
    monkeypatch.setitem(sys.modules, "grpc", None)
    monkeypatch.delitem(sys.modules, "otel_agent_telemetry.service.otlp_grpc", raising=False)
    with pytest.raises(ConfigurationError, match="TELEMETRY_OTLP_GRPC_PORT") as refused:
        create_app(sqlite_grpc_settings)
    assert "[grpc]" in (refused.value.hint or "")


def test_without_a_port_nothing_listens(sqlite_service):
    """It is off unless it is asked for."""
    assert sqlite_service.app.state.grpc is None


@contextmanager
def descriptors(number):
    """Lower the number of files and sockets that this process may open."""
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))


def is_closed(connection):
    """Return whether the service has closed a connection, after reading what it sent on it."""
    while select.select([connection], [], [], 0)[0]:
        try:
            if not connection.recv(65_536):
                return True
        except OSError:
            return True
    return False


def test_connections_without_calls_leave_the_service_its_descriptors(serving, sqlite_grpc_settings):
    with descriptors(800), ExitStack() as opened:
        service = serving(sqlite_grpc_settings.with_(http_head_timeout_s=PATIENCE_S))
        host, port = address_of(service).split(":")
        strangers = [opened.enter_context(socket.create_connection((host, int(port)))) for _ in range(300)]

        eventually(lambda: sum(map(is_closed, strangers)) >= 100)
        assert service.client.get("/health").status_code == 200


def test_a_connection_that_begins_nothing_is_closed(serving, sqlite_grpc_settings):
    service = serving(sqlite_grpc_settings.with_(http_head_timeout_s=0.5))
    host, port = address_of(service).split(":")
    with socket.create_connection((host, int(port))) as stranger:
        eventually(lambda: is_closed(stranger))


def test_metadata_beyond_the_limit_of_a_head_is_refused(serving, sqlite_grpc_settings):
    service = serving(sqlite_grpc_settings)

    code, _ = refusal(service, one_span(), metadata=[("x-long", "x" * 17_000)])

    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_rates_over_grpc_are_those_of_the_client_behind_the_proxy(serving, sqlite_grpc_settings):
    limits = {"rate_limit_enabled": True, "rate_limit_rpm": 2, "trusted_proxies": "127.0.0.1"}
    service = serving(sqlite_grpc_settings.with_(**limits))
    for _ in range(2):
        called(service, one_span(), metadata=[("x-forwarded-for", "203.0.113.9")])

    code, _ = refusal(service, one_span(), metadata=[("x-forwarded-for", "203.0.113.9")])

    assert code is grpc.StatusCode.UNAVAILABLE
    assert called(service, one_span(), metadata=[("x-forwarded-for", "203.0.113.10")]) is not None
