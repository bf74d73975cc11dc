"""Reaching a server in whatever environment: proxies, certificates, odd values. Nothing is raised."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest
from components import require
from on_disk import run_python
from service import Fault

from otel_agent_telemetry.delivery.http_connection import (
    Answer,
    HttpConnection,
    Proxy,
    Unreachable,
    UnusableProxy,
    proxy_for,
)
from otel_agent_telemetry.testing import isolated_config


@pytest.fixture
def connection():
    """Makes connections, and closes them."""
    made = []

    def make(url, **settings):
        config = isolated_config("/nowhere", **settings)
        made.append(HttpConnection(url, config, headers={"X-Token": "t"}, timeout_s=5.0))
        return made[-1]

    yield make
    for opened in made:
        opened.close()


class _ProxyHandler(BaseHTTPRequestHandler):
    """An HTTP proxy: absolute URIs and CONNECT; it notes what it was asked for."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Quiet."""

    def do_GET(self):
        self.server.asked.append((self.command, self.path, self.headers.get("Proxy-Authorization")))
        body = b'{"through": "proxy"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_CONNECT(self):
        self.server.asked.append((self.command, self.path, self.headers.get("Proxy-Authorization")))
        upstream = socket.create_connection(self.server.upstream)
        self.send_response(200)
        self.end_headers()
        there = threading.Thread(target=_copy, args=(self.connection, upstream), daemon=True)
        there.start()
        _copy(upstream, self.connection)
        self.close_connection = True


def _copy(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        pass


@pytest.fixture
def proxy():
    server = ThreadingHTTPServer(("127.0.0.1", 0), _ProxyHandler)
    server.daemon_threads = True
    server.asked, server.upstream = [], None
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def address(server):
    return f"http://user:p%40ss@127.0.0.1:{server.server_address[1]}"


def test_plain_requests_go_through_a_proxy_by_their_whole_address(connection, proxy):
    """With the proxy's credentials and without those of the URL."""
    answer = connection("http://runs.example.com/base", http_proxy=address(proxy)).request("GET", "/version")

    assert answer == Answer(200, b'{"through": "proxy"}')
    assert proxy.asked == [("GET", "http://runs.example.com/base/version", "Basic dXNlcjpwQHNz")]


@pytest.fixture
def tls_server(tmp_path):
    """An HTTPS server, with a certificate that its own file vouches for."""
    require("openssl")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-keyout", key, "-out", certificate, "-days", "2",
         "-subj", "/CN=runs.example.com", "-addext", "subjectAltName=DNS:runs.example.com,IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    server = ThreadingHTTPServer(("127.0.0.1", 0), _ProxyHandler)
    server.daemon_threads = True
    server.asked = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    server.certificate = certificate
    yield server
    server.shutdown()
    server.server_close()


ASK = """
import sys
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.delivery.http_connection import HttpConnection
print(HttpConnection(sys.argv[1], TelemetryConfig.from_env(), headers={}, timeout_s=5.0).request("GET", "/version"))
"""


def test_https_goes_through_a_proxy_by_connect(proxy, tls_server):
    """The proxy sees host and port alone; the certificate is checked against the name that was asked for."""
    proxy.upstream = tls_server.server_address
    env = {"https_proxy": address(proxy), "SSL_CERT_FILE": str(tls_server.certificate)}

    out = run_python(ASK, "https://runs.example.com", env=env)

    assert out.startswith("Answer(status=200")
    assert proxy.asked == [("CONNECT", "runs.example.com:443", "Basic dXNlcjpwQHNz")]
    assert [path for _, path, _ in tls_server.asked] == ["/version"]


@pytest.mark.parametrize("value", ["/missing", "/dev/null", "/"])
def test_certificates_that_are_not_found_are_named(tls_server, value):
    """Nothing is trusted then; the reason says where authorities come from."""
    out = run_python(ASK, f"https://127.0.0.1:{tls_server.server_address[1]}", env={"SSL_CERT_FILE": value})

    assert out.startswith("Unreachable")
    assert "SSL_CERT_FILE" in out


@pytest.mark.parametrize("value", ["/missing/keys", "/"])
def test_a_key_log_that_cannot_be_written_stops_nothing(tls_server, value):
    """The keys stay unwritten."""
    env = {"SSL_CERT_FILE": str(tls_server.certificate), "SSLKEYLOGFILE": value}

    assert run_python(ASK, f"https://127.0.0.1:{tls_server.server_address[1]}", env=env).startswith("Answer(status=200")


ODD = {"ALL_PROXY": "socks5://127.0.0.1:9", "http_proxy": "ht tp://[", "NO_PROXY": "[::1],[,:,*.,]:99999999999"}


@pytest.mark.parametrize("value", [*ODD, "all"])
def test_loopback_needs_nothing_of_the_environment(service, value):
    """Whatever proxies are named, a service on this machine is reached."""
    service.script(Fault(200, b"{}"))
    more = {"SSL_CERT_FILE": "/missing", "SSLKEYLOGFILE": "/missing/keys"}
    env = {**ODD, **more} if value == "all" else {value: ODD[value], **more}

    assert run_python(ASK, service.url, env=env).startswith("Answer(status=200")


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:9", "ALL_PROXY names a socks5 proxy, which is not supported"),
        ("http_proxy", "https://127.0.0.1:9", "http_proxy names a https proxy, which is not supported"),
        ("HTTP_PROXY", "http://[::1", "HTTP_PROXY is not the address of a proxy"),
        ("HTTP_PROXY", "http://:99999999", "HTTP_PROXY is not the address of a proxy"),
        ("http_proxy", "http://127.0.0.1:9", "through the proxy 127.0.0.1"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_named_by_its_variable(variable, value, reason):
    """An outcome, never an exception."""
    out = run_python(ASK, "http://runs.example.com", env={variable: value})

    assert out.startswith("Unreachable")
    assert reason in out


EXEMPT = [
    ("*", True), ("example.com", True), (".example.com", True), ("*.example.com", True), ("ample.com", False),
    ("runs.example.com:8080", True), ("runs.example.com:80", False), ("other, example.com", True), ("", False),
    ("[::1]", False), ("[::1]:80,EXAMPLE.com", True), (":", False), ("[", False),
]  # fmt: skip


@pytest.mark.parametrize(("entries", "exempt"), EXEMPT)
def test_hosts_that_are_reached_without_a_proxy(entries, exempt):
    """`no_proxy` as other programs read it."""
    config = isolated_config("/nowhere", http_proxy="http://proxy:3128", no_proxy=entries)

    found = proxy_for(urlsplit("http://runs.example.com:8080"), config)

    assert found is (None if exempt else found)
    assert exempt or found == Proxy("proxy", 3128)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "[::1]", "a.localhost"])
def test_loopback_never_uses_a_proxy(host):
    """By whichever name."""
    config = isolated_config("/nowhere", http_proxy="http://proxy:3128", https_proxy="x://")

    assert proxy_for(urlsplit(f"http://{host}:8765"), config) is None
    assert proxy_for(urlsplit(f"https://{host}"), config) is None
    assert isinstance(proxy_for(urlsplit("https://a.b"), config), UnusableProxy)


def test_a_connection_that_the_server_closed_is_opened_anew(connection, service):
    """Between two batches a server may close what is idle: the request is sent again, once."""
    asked = connection(service.url)
    assert asked.request("GET", "/version").status == 200
    service.kill()
    service.start()

    assert asked.request("GET", "/version").status == 200


def test_a_cut_answer_is_none(connection, service):
    """Half a body is no answer."""
    service.script(Fault(reset=True))

    answer = connection(service.url).request("GET", "/x")

    assert isinstance(answer, Unreachable)
    assert "IncompleteRead" in answer.reason


def test_headers_are_printed_nowhere(connection, service, capsys, monkeypatch):
    """An application that debugs its own HTTP does not see ours."""
    import http.client

    monkeypatch.setattr(http.client.HTTPConnection, "debuglevel", 1)
    connection(service.url).request("GET", "/version")

    assert capsys.readouterr().out == ""
