"""The shipped configurations of proxies, with the real programs between clients and the service."""

from __future__ import annotations

import re
import ssl
import subprocess

import grpc
import httpx
import pytest
from components import require
from exporting import one_finished_run
from on_disk import PATIENCE_S, ROOT, eventually
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import SpanExportResult
from otlp_requests import rows_of
from service_cases import ended
from test_service_grpc import address_of, free_port
from test_tls import make_certificate

CONFIGURATIONS = ROOT / "docs" / "proxy"
CLIENT, OTHER_CLIENT = "127.0.0.2", "127.0.0.3"
"""Addresses of clients: on Linux all of 127.0.0.0/8 is loopback, and the proxy's own is 127.0.0.1."""
REQUESTS_A_MINUTE = 6


def nginx_command(folder, text):
    """The command that runs nginx in the foreground; it takes the shipped file inside of an `http` block."""
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    whole = (
        f"daemon off; pid {folder}/pid; error_log stderr; events {{}} http {{ access_log off; {temporary}\n{text}\n}}"
    )
    (folder / "nginx.conf").write_text(whole)
    return [require("nginx")["nginx"], "-e", "stderr", "-c", folder / "nginx.conf"]


def haproxy_command(folder, text):
    """The command that runs HAProxy in the foreground; it wants certificate and key in one file."""
    pair = (folder / "cert.pem").read_text() + (folder / "key.pem").read_text()
    (folder / "pair.pem").write_text(pair)
    (folder / "haproxy.cfg").write_text(text.replace(f"{folder}/cert.pem", f"{folder}/pair.pem"))
    return [require("HAProxy")["haproxy"], "-f", folder / "haproxy.cfg"]


def caddy_command(folder, text):
    """The command that runs Caddy; a client that connects by address names no host."""
    (folder / "Caddyfile").write_text(text.replace("https://telemetry.example.com:", "https://:"))
    return [require("Caddy")["caddy"], "run", "--adapter", "caddyfile", "--config", folder / "Caddyfile"]


def envoy_command(folder, text):
    """The command that runs Envoy; a base id of its own keeps it apart from others on this machine."""
    (folder / "envoy.yaml").write_text(text)
    wanted = ("--use-dynamic-base-id", "--concurrency", "1", "--log-level", "warning")
    return [require("Envoy")["envoy"], "-c", folder / "envoy.yaml", *wanted]


COMMANDS = {
    "nginx.conf": nginx_command,
    "haproxy.cfg": haproxy_command,
    "Caddyfile": caddy_command,
    "envoy.yaml": envoy_command,
}


@pytest.fixture(params=COMMANDS)
def proxied(request, tmp_path, serving, sqlite_settings):
    """A service behind a proxy, and the proxy's port."""
    make_certificate(tmp_path, "telemetry.example.com")
    limits = {"trusted_proxies": "127.0.0.1", "rate_limit_enabled": True, "rate_limit_rpm": REQUESTS_A_MINUTE}
    service = serving(sqlite_settings.with_(**limits, otlp_grpc_port=free_port()))
    port = free_port()
    places = {
        r"\b443\b": str(port),
        r"\b8765\b": service.url.rpartition(":")[2],
        r"\b4317\b": address_of(service).rpartition(":")[2],
        r"/etc/ssl/telemetry\.example\.com\.pem": f"{tmp_path}/cert.pem",
        r"/etc/ssl/telemetry\.example\.com\.key": f"{tmp_path}/key.pem",
    }
    text = (CONFIGURATIONS / request.param).read_text()
    for written, here in places.items():
        text = re.sub(written, here, text)
    with (tmp_path / "proxy.log").open("w") as log:
        proxy = subprocess.Popen(COMMANDS[request.param](tmp_path, text), stdout=log, stderr=log)
    try:
        eventually(lambda: proxy.poll() is not None or is_healthy(tmp_path, port))
        assert proxy.poll() is None, (tmp_path / "proxy.log").read_text()
        yield service, port
    finally:
        proxy.terminate()
        proxy.wait(PATIENCE_S)


def client_at(address, folder, port):
    trust = ssl.create_default_context(cafile=folder / "cert.pem")
    transport = httpx.HTTPTransport(local_address=address, verify=trust)
    return httpx.Client(base_url=f"https://127.0.0.1:{port}", transport=transport, timeout=PATIENCE_S)


def is_healthy(folder, port):
    """Return whether the proxy passes requests on; HAProxy takes a server for dead until its first check."""
    try:
        with client_at(CLIENT, folder, port) as client:
            return client.get("/health").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def test_runs_and_spans_pass_a_proxy(proxied, tmp_path):
    """Over HTTPS, and over gRPC on the same port."""
    service, port = proxied
    with client_at(CLIENT, tmp_path, port) as client:
        large = ended(1, output_summary="x" * 1_000_000)
        assert client.post("/api/v1/runs", json=large).status_code == httpx.codes.CREATED
    event_id, _, finished = one_finished_run()
    credentials = grpc.ssl_channel_credentials((tmp_path / "cert.pem").read_bytes())
    exporter = OTLPSpanExporter(endpoint=f"https://127.0.0.1:{port}", credentials=credentials, timeout=PATIENCE_S)
    assert exporter.export(finished) is SpanExportResult.SUCCESS
    assert event_id in str(rows_of(service))


def test_a_client_behind_a_proxy_is_limited_by_its_own_address(proxied, tmp_path):
    """Whatever address it writes into a header; other clients of the proxy are served."""
    _, port = proxied
    with client_at(CLIENT, tmp_path, port) as client:
        invented = [{"X-Forwarded-For": f"203.0.113.{number}"} for number in range(REQUESTS_A_MINUTE + 1)]
        answers = [client.get("/api/v1/runs", headers=headers).status_code for headers in invented]
    assert answers == [200] * REQUESTS_A_MINUTE + [429]
    with client_at(OTHER_CLIENT, tmp_path, port) as client:
        assert client.get("/api/v1/runs").status_code == httpx.codes.OK
