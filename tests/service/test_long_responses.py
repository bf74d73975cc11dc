"""Long responses: read in parts, sent in pieces, and held within a budget."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack

import httpx
import pytest
from on_disk import PATIENCE_S
from running import serve_process
from service_cases import ended, post_batch

from otel_agent_telemetry.service.long_response import LongResponse
from otel_agent_telemetry.service.request_body import BodyBudget

PAGE = b"GET /api/v1/runs?limit=1000 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
MIB = 1 << 20


def all_pages(client, path):
    """Every item that the links lead to, and the bytes of each page."""
    items, sizes = [], []
    while path:
        response = client.get(path)
        items += response.json()
        sizes.append(len(response.content))
        path = response.links["next"]["url"] if "next" in response.links else None
    return items, sizes


def test_pages_of_large_runs_are_small_and_lead_to_each_run_once(service):
    """Half a megabyte each: some 4 MiB on a page, in order; small runs fill a page as before."""
    for first in (0, 10, 20, 30):
        post_batch(service, [ended(first + n, error_details="x" * (MIB // 2)) for n in range(10)])
    runs, sizes = all_pages(service.client, "/api/v1/runs?limit=1000")
    assert [run["run_id"] for run in runs] == [f"run-{number}" for number in reversed(range(40))]
    assert len(sizes) == 5
    assert max(sizes) < 5 * MIB
    runs, sizes = all_pages(service.client, "/api/v1/runs?limit=7&offset=3")
    assert len(sizes) == 6
    assert [run["run_id"] for run in runs] == [f"run-{number}" for number in reversed(range(37))]


def send_to(response, budget_of="192.0.2.1"):
    """The messages that a response sends, and the most bytes that its budget held."""
    sent, held = [], []

    async def send(message):
        sent.append(message)
        held.append(response._budget.held)

    asyncio.run(response({"type": "http", "path": "/", "client": (budget_of, 1)}, None, send))
    return sent, max(held)


@pytest.mark.parametrize(
    "sizes", [[256_000], [1] * 200_000, [70_000, 1, 65_533, 65_536, 2], [65_533], [65_534], [], [5]]
)
def test_a_long_response_is_sent_in_pieces_and_counted_meanwhile(sizes):
    """Together they are the array; the budget is free again afterwards."""
    items, budget = [b"1" * size for size in sizes], BodyBudget(16 * MIB)
    whole = b"[" + b",".join(items) + b"]"
    sent, held = send_to(LongResponse(items, {"X-A": "b"}, budget))
    bodies = [message["body"] for message in sent[1:]]
    assert b"".join(bodies) == whole
    assert max(map(len, bodies)) <= 65_536
    assert len(bodies) == max(-(-len(whole) // 65_536), 1)
    assert [message["more_body"] for message in sent[1:]] == [True] * (len(bodies) - 1) + [False]
    assert {(b"x-a", b"b"), (b"content-length", str(len(whole)).encode())} <= set(sent[0]["headers"])
    assert (held, budget.held) == (len(whole) if len(whole) > 65_536 else 0, 0)


def test_what_has_been_sent_of_a_long_response_is_no_longer_held():
    """Neither its items nor its share of the budget."""
    budget, held = BodyBudget(16 * MIB), []
    response = LongResponse([bytes(MIB // 2) for _ in range(4)], {}, budget)

    async def send(_message):
        held.append((budget.held, len(response._items)))

    asyncio.run(response({"type": "http", "path": "/", "client": ("192.0.2.1", 1)}, None, send))
    assert held[-1][0] <= 65_536
    assert held[-1][1] == 0
    assert [number for number, _ in held] == sorted((number for number, _ in held), reverse=True)


def test_a_long_response_without_room_is_a_503():
    """The client comes again later; nothing of the response was sent, nothing stays counted."""
    budget = BodyBudget(4 * MIB)
    sent, _ = send_to(LongResponse([bytes(2 * MIB)], {}, budget))
    assert sent[0]["status"] == 503
    assert (b"retry-after", b"1") in sent[0]["headers"]
    assert budget.held == 0
    assert send_to(LongResponse([], {}, budget))[0][0]["status"] == 200


@pytest.mark.requires("POSIX")
def test_clients_that_do_not_read_cost_little_memory(tmp_path):
    """Twenty ask for 30 MB each and read nothing: the process stays small, and others are served."""
    with serve_process(tmp_path / "base") as service:
        for first in (0, 10, 20):
            post_batch(service, [ended(first + n, error_details="x" * MIB) for n in range(10)])
        assert service.client.get("/api/v1/runs?limit=1").status_code == 200
        before = service.peak_rss_bytes()
        address = (httpx.URL(service.url).host, httpx.URL(service.url).port)
        with ExitStack() as stalled:
            socks = [stalled.enter_context(socket.create_connection(address, PATIENCE_S)) for _ in range(20)]
            for sock in socks:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                sock.sendall(PAGE)
            assert {int(sock.recv(12)[9:12]) for sock in socks} <= {200, 503}
            assert service.client.get("/health").status_code == 200
            assert service.peak_rss_bytes() - before < 160 * MIB
