"""HTTPS and gRPC over TLS: what a client checks, and a certificate that is replaced while the service runs."""

from __future__ import annotations

import signal
import socket
import ssl
import subprocess
from contextlib import closing

import grpc
import pytest
from components import require
from exporting import one_finished_run
from on_disk import PATIENCE_S, eventually
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import SpanExportResult
from running import serve_process
from test_service_grpc import free_port

from otel_agent_telemetry.delivery.http_calls import get, service_client
from otel_agent_telemetry.delivery.http_connection import Answer, HttpConnection, Unreachable
from otel_agent_telemetry.errors import ConfigurationError, StoreUnavailableError
from otel_agent_telemetry.testing import isolated_config


def make_certificate(folder, name):
    """A certificate for loopback that vouches for itself, in `{folder}/cert.pem` and `key.pem`."""
    require("openssl")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", folder / "key.pem", "-out",
         folder / "cert.pem", "-days", "2", "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip


def shown_certificate(service):
    """The certificate that the service shows to a new connection now."""
    port = int(service.url.rpartition(":")[2])
    return ssl.get_server_certificate(("127.0.0.1", port), timeout=PATIENCE_S)


@pytest.fixture
def tls(tmp_path):
    """A running service with a certificate, over HTTP and gRPC."""
    make_certificate(tmp_path, "first")
    env = {
        "TELEMETRY_TLS_CERTIFICATE": str(tmp_path / "cert.pem"),
        "TELEMETRY_TLS_KEY": str(tmp_path / "key.pem"),
        "TELEMETRY_OTLP_GRPC_PORT": str(free_port()),
    }
    with serve_process(tmp_path / "base", env, ca_file=tmp_path / "cert.pem") as service:
        service.grpc_port = env["TELEMETRY_OTLP_GRPC_PORT"]
        yield service


@pytest.mark.parametrize(
    ("ciphers", "is_taken"), [("ECDHE-ECDSA-AES256-SHA384:ECDHE-ECDSA-AES128-SHA", False), ("ECDHE+AESGCM", True)]
)
def test_old_ciphers_are_refused(tls, ciphers, is_taken):
    """Of TLS 1.2 those with CBC, which scanners warn of."""
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode, old.maximum_version = False, ssl.CERT_NONE, ssl.TLSVersion.TLSv1_2
    old.set_ciphers(ciphers)
    with socket.create_connection(("127.0.0.1", int(tls.url.rpartition(":")[2])), PATIENCE_S) as plain:
        try:
            with old.wrap_socket(plain) as wrapped:
                assert is_taken
                assert wrapped.version() == "TLSv1.2"
        except ssl.SSLError:
            assert not is_taken


def test_a_client_checks_the_certificate(tls, tmp_path):
    """With TELEMETRY_CA_FILE it is known; without, or with a file that is none, no request is sent and the reason is given."""
    assert tls.url.startswith("https://")
    known = isolated_config(tmp_path / "agent", ca_file=tmp_path / "cert.pem")
    assert isinstance(ask(tls, known), Answer)
    with service_client(tls.url, known, {}) as client:
        assert get(client, "/version", name=tls.url).status_code == 200

    unknown = isolated_config(tmp_path / "agent")
    assert isinstance(failed := ask(tls, unknown), Unreachable)
    assert "ertificate" in failed.reason
    with service_client(tls.url, unknown, {}) as client, pytest.raises(StoreUnavailableError):
        get(client, "/version", name=tls.url)

    missing = isolated_config(tmp_path / "agent", ca_file=tmp_path / "missing.pem")
    assert "TELEMETRY_CA_FILE" in ask(tls, missing).reason
    with pytest.raises(ConfigurationError) as refused:
        service_client(tls.url, missing, {})
    assert "TELEMETRY_CA_FILE" in (refused.value.hint or "")


def ask(service, config):
    with closing(HttpConnection(service.url, config, headers={}, timeout_s=PATIENCE_S)) as connection:
        return connection.request("GET", "/version")


def test_a_replaced_certificate_is_read_on_sighup(tls, tmp_path):
    """New connections get it, over gRPC by itself; one that cannot be used changes nothing, and the log has the reason."""
    first = shown_certificate(tls)
    (tmp_path / "cert.pem").write_text("no certificate")
    tls.popen.send_signal(signal.SIGHUP)
    eventually(lambda: "the old one stays" in tls.log)
    assert shown_certificate(tls) == first

    make_certificate(tmp_path, "second")
    tls.popen.send_signal(signal.SIGHUP)
    eventually(lambda: shown_certificate(tls) != first)
    credentials = grpc.ssl_channel_credentials((tmp_path / "cert.pem").read_bytes())
    exporter = OTLPSpanExporter(f"https://127.0.0.1:{tls.grpc_port}", credentials=credentials)
    _, _, finished = one_finished_run()
    assert exporter.export(finished) is SpanExportResult.SUCCESS
    exporter.shutdown()
    assert tls.terminate() == 0
