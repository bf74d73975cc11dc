"""Requests as scanners and fuzzers send them: each has a response of its own, and none is an internal error."""

from __future__ import annotations

import socket
from collections import Counter

import httpx
import pytest
from on_disk import PATIENCE_S

PATHS = (
    *(
        "/..%2f..%2fetc/passwd",
        "/%00",
        "//",
        "*",
        "/api//v1/runs",
        "/api/v1/runs/%2e%2e/",
        "/api/v1/runs/%ff",
        "/%C0%AF",
    ),
    *("http://evil.example/health", "/\\..\\windows", "/health;x=1", "/health#f", "/static/../../x", "/.git/config"),
    *("/%ed%a0%80", "/api/v1/runs/" + "a" * 8000, "/api/v1/runs?" + "&".join(f"a{n}=1" for n in range(1500))),
    *("/health?%00=%00", "/api/v1/runs?limit=1e9", "/api/v1/runs?limit=%D9%A3", "/api/v1/runs?cursor=%00"),
    *("/api/v1/runs?label=%00=%00", "/api/v1/runs?offset=9223372036854775808", "/api/v1/metadata/__class__"),
    "/api/v1/runs?created_after=0001-01-01T00:00:00%2B23:59",
    "/api/v1/runs?created_after=99999-99-99T00:00:00Z",
)
METHODS = ("GET", "POST", "PATCH", "TRACE", "CONNECT", "PROPFIND", "get")
HEADERS = (
    *("Content-Encoding: br", "Content-Encoding: gzip, gzip", "Expect: 100-continue", "Range: bytes=0-,0-,0-"),
    *(
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x",
        "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ",
    ),
    *("Content-Type: multipart/form-data; boundary=", "Content-Type: application/json; charset=utf-7"),
    *("Authorization: Bearer \xff", "Cookie: " + "a=b; " * 1000, "Accept: " + "a/b;q=0.1," * 1000),
    "X-Forwarded-For: " + "192.0.2.1, " * 500,
)


def status_of(service, first_line, header="X-A: b"):
    """The last status of a response to a request without a body, or with an empty object."""
    url = httpx.URL(service.url)
    body = "" if first_line.startswith("GET") else "{}"
    head = (
        f"{first_line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n{header}\r\n"
    )
    with socket.create_connection((url.host, url.port), PATIENCE_S) as sock:
        sock.sendall(f"{head}\r\n{body}".encode("latin-1"))
        received = b""
        while chunk := sock.recv(1 << 16):
            received += chunk
    return int(received.rpartition(b"HTTP/1.1 ")[2][:3])


@pytest.mark.parametrize("method", METHODS)
def test_no_path_is_an_internal_error(sqlite_service, method, caplog):
    """Encoded, absolute, too long, in other alphabets, outside the root: 2xx to 4xx, and no traceback."""
    found = Counter(status_of(sqlite_service, f"{method} {path}") for path in PATHS)
    assert all(200 <= status < 500 for status in found), found
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("path", ["/api/v1/runs", "/api/v1/runs/batch", "/api/v1/records", "/v1/traces"])
def test_no_header_is_an_internal_error(sqlite_service, path, caplog):
    """Unknown encodings, upgrades, ranges, types and lists of a thousand items."""
    found = Counter(
        status_of(sqlite_service, f"{method} {path}", header) for header in HEADERS for method in METHODS[:2]
    )
    assert all(200 <= status < 500 for status in found), found
    assert "Traceback" not in caplog.text


def test_the_metrics_count_what_a_limit_refused(sqlite_service):
    """By limit, in JSON as in Prometheus' text."""
    before = sqlite_service.client.get("/metrics").json()["refused"]
    status_of(sqlite_service, "GET /health", "Host: other")
    after = sqlite_service.client.get("/metrics").json()["refused"]
    assert after == {**before, "invalid": before["invalid"] + 1}
