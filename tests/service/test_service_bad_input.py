"""Invalid requests: never a 500, always `{"detail": text}`; accepted values are returned unchanged."""

from __future__ import annotations

import gzip
import socket
import struct
import threading
import zlib
from contextlib import ExitStack
from functools import reduce
from urllib.parse import urlsplit

import orjson
import pytest
from otlp_requests import JSON, PROTOBUF, request, send_body, span
from running import serve_process
from service_cases import event_id, listed, post_states, problem, put, state

from otel_agent_telemetry.service import request_body
from otel_agent_telemetry.service.request_body import BodyBudget
from otel_agent_telemetry.service.responses import OverloadedError

MIB = 1 << 20


def gzipped(body):
    return gzip.compress(body, mtime=0)


WRITES = [
    ("POST", "/api/v1/runs"),
    ("POST", "/api/v1/runs/batch"),
    ("PATCH", f"/api/v1/runs/{event_id(1)}"),
    ("POST", f"/api/v1/runs/{event_id(1)}/associate-commit"),
    ("POST", "/api/v1/commits"),
]


# Bodies that are no JSON, no gzip, no protobuf


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b'{"event_id": ',
        b"not json",
        b"{'single': 1}",
        b'{"a": 1} trailing',
        b"\xff\xfe",
        b'{"a": \xff}',
        b'{"a": 01}',
        b"\x00",
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        gzipped(b"{}"),
    ],
    ids=lambda body: repr(body[:12]),
)
def test_a_body_that_is_no_json_is_400(sqlite_service, body):
    """At every endpoint that takes one."""
    for method, path in WRITES:
        problem(put(sqlite_service, body, path, method=method), 400)
    problem(send_body(sqlite_service, body, JSON), 400)


@pytest.mark.parametrize("body", [b"null", b"true", b"7", b'"text"', b"[]", b"{}"])
def test_json_of_another_shape_is_refused(sqlite_service, body):
    """An array for an object, an object for an array, a bare value; an empty batch is one of nothing."""
    for method, path in WRITES:
        wants_array = path.endswith(("/batch", "/commits"))
        answer = put(sqlite_service, body, path, method=method)
        if wants_array and body == b"[]":
            assert answer.json()["total"] == 0
        else:
            problem(answer, 400 if method == "PATCH" and body == b"{}" else 422)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "x"])
def test_another_content_type_is_415(sqlite_service, kind):
    """Only a JSON media type is accepted."""
    for method, path in WRITES:
        body = b"[]" if path.endswith(("/batch", "/commits")) else b"{}"
        problem(put(sqlite_service, body, path, method=method, **{"Content-Type": kind}), 415)


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", b"no gzip at all"),
        ("gzip", gzipped(b"{}")[:-1]),
        ("gzip", gzipped(b'{"a": 1}')[:12]),
        ("gzip", b""),
        ("gzip", gzipped(b"{}") + b"rubbish"),
        ("gzip", zlib.compress(b"{}")),
        ("deflate", b"no deflate"),
        ("deflate", zlib.compress(b"{}" * 1000)[:-3]),
    ],
)
def test_a_body_that_does_not_match_its_encoding_is_400(sqlite_service, encoding, body):
    """Torn, foreign, followed by rubbish; at the runs and at OTLP."""
    problem(put(sqlite_service, body, **{"Content-Encoding": encoding}), 400)
    answer = sqlite_service.client.post(
        "/v1/traces", content=body, headers={"Content-Type": PROTOBUF, "Content-Encoding": encoding}
    )
    problem(answer, 400)


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, gzip", "x"])
def test_an_unknown_encoding_is_415(sqlite_service, encoding):
    """The response lists the supported ones."""
    answer = put(sqlite_service, b"{}", **{"Content-Encoding": encoding})
    problem(answer, 415)
    assert "gzip" in answer.headers["Accept-Encoding"]


def test_a_truncated_protobuf_is_400_at_every_length(sqlite_service):
    """Wherever it was cut, unless what is left is a smaller request in itself."""
    whole = request(span(1, attributes={"a": "b"})).SerializeToString()
    codes = [send_body(sqlite_service, whole[:cut], PROTOBUF).status_code for cut in range(1, len(whole))]
    assert set(codes) == {400}


# Sizes, slowness


@pytest.fixture
def small_service(sqlite_settings, serving):
    """A service that takes bodies of at most 64 KiB."""
    return serving(sqlite_settings.with_(api_max_body_bytes=64 << 10))


def test_a_body_may_have_exactly_the_most_bytes(small_service):
    """One more is 413."""
    body = orjson.dumps(state()).ljust(64 << 10)
    assert put(small_service, body).status_code == 201
    problem(put(small_service, body + b" "), 413)
    problem(put(small_service, gzipped(body + b" "), **{"Content-Encoding": "gzip"}), 413)


def raw_request(service, head, pieces=(), *, timeout=20):
    """Send a request piece by piece until it is answered; the status, and how many bytes of body were sent."""
    where = urlsplit(service.url)
    sent = 0
    with socket.create_connection((where.hostname, where.port), timeout=timeout) as connection:
        connection.sendall(head)
        try:
            for piece in pieces:
                connection.sendall(piece)
                sent += len(piece)
        except OSError:  # it was answered and closed in the middle
            pass
        try:
            answer = connection.recv(65_536)
        except ConnectionError:
            answer = b""
    return int(answer.split()[1]) if answer else None, sent


HEAD = b"POST /api/v1/runs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def test_a_gigabyte_that_is_announced_is_refused_before_it_is_read(small_service):
    """413 at once: nothing of the body is needed for that."""
    status, _ = raw_request(small_service, HEAD + b"Content-Length: 1073741824\r\n\r\n")
    assert status == 413


def test_a_gigabyte_in_chunks_is_refused_where_the_limit_is(small_service):
    """The sender learns it long before the end."""
    chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    status, sent = raw_request(
        small_service, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", (chunk for _ in range(16_384))
    )
    assert status in (413, None)  # None: the connection was reset under the flood
    assert sent < 64 * MIB


@pytest.mark.parametrize("length", [b"-1", b"x", b"1e9", b"99999999999999999999999"])
def test_a_content_length_that_is_no_number_is_refused(small_service, length):
    """By the server, before the app: 4xx."""
    status, _ = raw_request(small_service, HEAD + b"Content-Length: " + length + b"\r\n\r\n")
    assert status is None or 400 <= status < 500


def test_a_body_that_stops_arriving_is_408(sqlite_settings, serving, monkeypatch):
    """Other requests are served meanwhile."""
    monkeypatch.setattr(request_body, "_READ_TIMEOUT_S", 1.0)
    service = serving(sqlite_settings)
    found = []
    slow = threading.Thread(
        target=lambda: found.append(raw_request(service, HEAD + b"Content-Length: 100\r\n\r\n", [b"{"]))
    )
    slow.start()
    assert post_states(service, state()) == ["created"]
    slow.join(20)
    assert found == [(408, 1)]


def test_a_sender_that_goes_away_in_the_middle_leaves_nothing(sqlite_service):
    """Half a body is no run, and the service goes on."""
    where = urlsplit(sqlite_service.url)
    for _ in range(5):
        with socket.create_connection((where.hostname, where.port), timeout=10) as connection:
            connection.sendall(HEAD + b"Content-Length: 1000\r\n\r\n" + orjson.dumps(state()))
    assert post_states(sqlite_service, state(2)) == ["created"]
    assert listed(sqlite_service) == ["run-2"]
    assert sqlite_service.app.state.backend.body_budget.held == 0


def zeros():
    """A gzip body of a GiB of zeros; about a megabyte, packed once for each 16 MiB of the same."""
    block, count, packer = bytes(16 * MIB), 64, zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)  # which refers to nothing before it
    check = reduce(lambda sofar, _: zlib.crc32(block, sofar), range(count), 0)
    header = b"\x1f\x8b\x08" + bytes(6) + b"\xff"
    return header + packed * count + packer.flush() + struct.pack("<II", check, count * len(block))


@pytest.fixture
def process(tmp_path):
    """The real command over a folder of this test."""
    with serve_process(tmp_path / "base", {"TELEMETRY_DB_SYNCHRONOUS": "OFF"}) as started:
        yield started


def test_a_gzip_bomb_costs_bounded_memory(process):
    """1 GiB of zeros in a megabyte, at each kind of endpoint, several at once: 413, and never 1 GiB of memory."""
    bomb = zeros()
    assert len(bomb) < 2 * MIB
    before = process.rss_bytes()
    codes = []

    def throw(path, kind):
        headers = {"Content-Type": kind, "Content-Encoding": "gzip"}
        with process.new_client() as client:
            codes.append(client.post(path, content=bomb, headers=headers).status_code)

    targets = [("/api/v1/runs/batch", JSON), ("/v1/traces", PROTOBUF), ("/v1/traces", JSON)]
    threads = [threading.Thread(target=throw, args=target) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [413] * 3
    grown = process.peak_rss_bytes() - before
    print(f"three bombs at once: {grown / MIB:.0f} MiB more at the peak")
    assert grown < 3 * 64 * MIB * 1.5
    assert process.client.get("/health").status_code == 200


def test_many_empty_gzip_members_are_refused(sqlite_service):
    """Each costs time, though nothing is in it: 400 after a thousand, wherever the limit of bytes is."""
    body = gzip.compress(b"") * 5_000 + gzip.compress(b"{}")
    assert "members" in problem(put(sqlite_service, body, **{"Content-Encoding": "gzip"}), 400)


def test_compressed_bytes_count_as_well(small_service):
    """What is larger on the wire than a body may be is refused, though less is in it."""
    body = gzip.compress(b"") * (small_service.settings.api_max_body_bytes // 20 + 2)
    problem(put(small_service, body, **{"Content-Encoding": "gzip"}), 413)


# Memory of bodies


def test_one_client_holds_a_quarter_of_the_memory_for_bodies():
    """Others, and small bodies of it, have their part; what a request held is free after it."""
    budget = BodyBudget(800)
    with budget.reserve("a") as first:
        first.grow(200)
        with pytest.raises(OverloadedError, match="of this client"):
            first.grow(1)
        with budget.reserve("b") as second:
            second.grow(200)
    assert budget.held == 0
    with budget.reserve("a") as again:
        again.grow(200)


def test_large_bodies_leave_room_for_small_ones(monkeypatch):
    """The last eighth is for bodies up to a size."""
    monkeypatch.setattr(request_body, "SMALL_BODY", 100)
    budget = BodyBudget(800)
    with ExitStack() as stack:
        large = [stack.enter_context(budget.reserve(f"client {number}")) for number in range(4)]
        for reservation in large[:3]:
            reservation.grow(200)
        large[3].grow(100)
        with pytest.raises(OverloadedError, match="too many large requests"):
            large[3].grow(1)
        small = stack.enter_context(budget.reserve("small"))
        small.grow(100)
    assert budget.held == 0
