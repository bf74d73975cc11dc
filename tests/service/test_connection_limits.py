"""Clients that send too much, too slowly, or do not read: each meets a limit, and the others are served meanwhile."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack, contextmanager

import httpx
import pytest
from on_disk import PATIENCE_S, eventually
from running import serve_process
from service_cases import ended, post_batch

from otel_agent_telemetry.service import connection_limits

LIMIT = 16 << 10
GET = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
OTHER_ADDRESS = "127.0.0.2"
"""A second client: on Linux all of 127.0.0.0/8 is loopback."""


@contextmanager
def connected(service, *, source="127.0.0.1"):
    """A bare connection to a service, from an address of loopback."""
    host, port = httpx.URL(service.url).host, httpx.URL(service.url).port
    with socket.create_connection((host, port), timeout=PATIENCE_S, source_address=(source, 0)) as sock:
        yield sock


def send_all(sock, *parts):
    """Send until the server closes: what it answered then is read by `answer`."""
    try:
        for part in parts:
            sock.sendall(part)
    except OSError:
        pass


def answer(sock):
    """Everything until the server closes; b"" for a connection that was cut."""
    received = b""
    try:
        while chunk := sock.recv(1 << 16):
            received += chunk
    except OSError:
        pass
    return received


def status(sock):
    """The status of the only response on a connection, which the server then closed; None without one."""
    line = answer(sock).partition(b"\r\n")[0].split(b" ")
    return int(line[1]) if len(line) > 1 else None


def health(service, source=OTHER_ADDRESS):
    """The status of `/health` for a client at another address."""
    with httpx.Client(transport=httpx.HTTPTransport(local_address=source), timeout=PATIENCE_S) as client:
        return client.get(f"{service.url}/health").status_code


@pytest.fixture
def limited(sqlite_settings, serving, monkeypatch):
    """A service with limits of time that a test can wait for."""
    monkeypatch.setattr(connection_limits, "_SWEEP_S", 0.05)
    monkeypatch.setattr(connection_limits, "_BODY_WINDOW_S", 0.5)
    return lambda **limits: serving(sqlite_settings.with_(**limits))


def test_a_head_up_to_the_limit_is_served(limited):
    """In one piece and byte by byte at its end, also as the second request of a connection."""
    service = limited()
    field = b"X-Long: " + b"a" * (LIMIT - len(GET) - 200) + b"\r\n"
    with connected(service) as sock:
        sock.sendall(GET + field + b"\r\n" + GET + field + b"Connection: close\r\n")
        for byte in (b"\r", b"\n"):
            sock.sendall(byte)
        assert answer(sock).count(b"HTTP/1.1 200 OK") == 2


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(GET + b"X-Endless: " + b"a" * (4 << 20), id="one endless value"),
        pytest.param(GET + b"x" * (4 << 20), id="one endless name"),
        pytest.param(b"GET /" + b"a" * (4 << 20), id="an endless path"),
        pytest.param(GET + b"".join(b"X-%d: a\r\n" % n for n in range(200_000)), id="many short fields"),
        pytest.param(GET + b"X: a\r\n" * 101 + b"\r\n", id="a field too many"),
    ],
)
def test_a_head_beyond_the_limit_is_refused(limited, head):
    """With 431, before it is whole; the service answers others meanwhile."""
    service = limited()
    with connected(service) as sock:
        send_all(sock, head)
        assert status(sock) in (431, None)  # the rest of what was sent may cut the connection before it is read
    assert health(service) == 200
    assert connection_limits.REFUSALS["head"] > 0


def test_trailers_are_no_headers_and_are_limited(limited):
    """A chunked body's trailers reach nobody; endless ones are refused."""
    service = limited(api_auth_enabled=True, api_auth_token="secret")
    post = b"POST /api/v1/runs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
    with connected(service) as sock:
        sock.sendall(post + b"Connection: close\r\n\r\n2\r\n{}\r\n0\r\nAuthorization: Bearer secret\r\n\r\n")
        assert status(sock) == 401
    with connected(service) as sock:
        send_all(sock, post + b"Authorization: Bearer secret\r\n\r\n2\r\n{}\r\n0\r\nX: " + b"a" * (4 << 20))
        assert status(sock) in (431, None)
    assert health(service) == 200


def test_a_large_chunked_body_is_no_head(limited):
    """Bodies in chunks of any size pass, with extensions of chunks."""
    service = limited()
    body = b'{"agent_name": "a", "job_type": "b", "context_json": {"text": "%s"}}' % (b"x" * (1 << 20))
    chunks = b"".join(
        b"%x;name=value\r\n%s\r\n" % (len(part), part)
        for part in (body[start : start + 70_001] for start in range(0, len(body), 70_001))
    )
    head = b"POST /api/v1/runs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with connected(service) as sock:
        sock.sendall(head + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
        assert status(sock) in (200, 201, 422)  # it was read: what the API says of it is its own


def test_slow_heads_bodies_and_idle_connections_are_ended(limited):
    """408 for a head and a body that do not come; an idle connection is closed without a word."""
    service = limited(http_head_timeout_s=0.3, http_idle_timeout_s=1.0, http_min_body_rate=1000)
    slow_body = (
        b"POST /api/v1/runs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
    )
    with ExitStack() as stack:
        socks = [stack.enter_context(connected(service)) for _ in range(4)]
        idle, head, body, kept = socks
        head.sendall(GET)
        body.sendall(slow_body)
        kept.sendall(GET + b"\r\n")
        assert status(head) == 408
        assert status(body) == 408
        assert answer(idle) == b""
        assert answer(kept).startswith(b"HTTP/1.1 200")


def test_a_client_that_does_not_read_is_cut_off(limited):
    """Its response is dropped after the limit; a slow reader gets all of it."""
    service = limited(http_write_timeout_s=0.5)
    post_batch(service, [ended(number, status="failed", error_details="x" * 200_000) for number in range(40)])
    page = b"GET /api/v1/runs?limit=100 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    before = connection_limits.REFUSALS["write"]
    with connected(service) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.sendall(page)
        eventually(lambda: connection_limits.REFUSALS["write"] > before)
    with connected(service) as sock:
        sock.sendall(page)
        received = 0
        while chunk := sock.recv(1 << 20):
            received += len(chunk)
            time.sleep(0.001)
        assert received > 1_000_000


POST = b"POST /api/v1/runs HTTP/1.1\r\nHost: localhost\r\n"
AMBIGUOUS = {
    "two lengths": POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "a list of lengths": POST + b"Content-Length: 5, 5\r\n\r\nhello",
    "a length and chunks": POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + GET + b"\r\n",
    "an unknown coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a blank before the colon": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "chunks that are not last": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "a negative length": POST + b"Content-Length: -1\r\n\r\n",
    "a length in hex": POST + b"Content-Length: 0x5\r\n\r\nhello",
    "a length past 64 bits": POST + b"Content-Length: 99999999999999999999999\r\n\r\nhello",
    "a chunk past 64 bits": POST + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\nhello",
    "a folded field": GET + b"X-A: a\r\n b\r\n\r\n",
    "a NUL in a field": GET + b"X-A: a\0b\r\n\r\n",
    "lines without CR": GET.replace(b"\r", b"") + b"\n",
    "two hosts": GET + b"Host: evil.example\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}
"""Requests that a proxy in front may read otherwise than the service: the ways of request smuggling."""


@pytest.mark.parametrize("sent", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_an_ambiguous_request_is_refused_and_ends_its_connection(sqlite_service, sent, caplog):
    """One answer, 400, whatever follows; and no warning in the log, which strangers could fill."""
    caplog.set_level("INFO")
    before = connection_limits.REFUSALS["invalid"]
    with connected(sqlite_service) as sock:
        send_all(sock, sent)
        received = answer(sock)
    assert received.startswith(b"HTTP/1.1 400 ")
    assert received.count(b"HTTP/1.1") == 1
    assert connection_limits.REFUSALS["invalid"] == before + 1
    assert (
        f'agent_telemetry_refused_connections_total{{limit="invalid"}} {before + 1:.1f}'
        in sqlite_service.client.get("/metrics/prometheus").text
    )
    assert "closing a connection of 127.0.0.1: " in caplog.text
    assert not [record for record in caplog.records if record.levelname != "INFO"]


@pytest.mark.parametrize("protocol", [b"websocket", b"h2c"])
def test_a_request_for_another_protocol_is_served_as_it_is_without_a_warning(sqlite_service, protocol, caplog):
    """As the specification allows a server that knows none."""
    with connected(sqlite_service) as sock:
        sock.sendall(GET + b"Connection: Upgrade, close\r\nUpgrade: " + protocol + b"\r\n\r\n")
        assert status(sock) == 200
    assert not [record for record in caplog.records if record.levelname != "INFO"]


def test_an_address_has_a_number_of_connections(limited):
    """Those beyond it are answered with 503; other addresses are served, and this one when it closes some."""
    service = limited(http_max_connections=5)
    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(connected(service)).sendall(GET)
        eventually(lambda: _refused_one(service))
        assert health(service) == 200
    eventually(lambda: health(service, source="127.0.0.1") == 200)


def test_a_trusted_proxy_opens_any_number(limited):
    """A network among the trusted proxies counts too."""
    service = limited(http_max_connections=5, trusted_proxies="10.0.0.1, 127.0.0.0/30")
    with ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(connected(service)).sendall(GET)
        assert health(service, source="127.0.0.1") == 200


def _refused_one(service):
    with connected(service) as first, connected(service) as second:
        return 503 in (_early_status(first), _early_status(second))


def _early_status(sock):
    sock.settimeout(0.2)
    return status(sock)


def test_a_flood_of_heads_does_not_grow_the_process(tmp_path):
    """Endless heads of 30 clients, 64 MB in all, cost a process less than a quarter of that; it goes on serving."""
    with serve_process(tmp_path / "base") as service:
        assert health(service) == 200
        before = service.peak_rss_bytes()
        for _ in range(30):
            with connected(service) as sock:
                send_all(sock, GET, *(b"X-%d: %s\r\n" % (n, b"a" * 100) for n in range(20_000)))
        assert health(service) == 200
        assert service.peak_rss_bytes() - before < 16 << 20
