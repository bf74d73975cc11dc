"""A client that is not the bottleneck: many connections that each post one run after another, in a process of its own.

Raw asyncio sockets and requests encoded beforehand, so that a request costs it a tenth of what
it costs the service. `python posting.py HOST PORT CLIENTS POSTS` prints one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter_ns
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parents[2]))

_END_OF_HEAD = b"\r\n\r\n"
_CREATED = b"HTTP/1.1 201"


@dataclass(frozen=True)
class Posted:
    """What one round of posting measured."""

    taken_ns: list[int]
    """The time of each request, from sending it to its whole response."""
    seconds: float
    """The time of the whole round."""
    client_share: float
    """CPU time of this client / the time of the round: near 1 means that the client was the bottleneck."""

    @property
    def per_second(self) -> float:
        """Return the requests per second of all clients together."""
        return len(self.taken_ns) / self.seconds


def post_runs(url: str, *, clients: int, posts: int) -> Posted:
    """Post `posts` new runs on each of `clients` connections. Blocks. Raises CalledProcessError when one is refused."""
    parts = urlsplit(url)
    command = [sys.executable, __file__, str(parts.hostname), str(parts.port), str(clients), str(posts)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return Posted(**json.loads(printed))


def requests_of(count: int) -> list[bytes]:
    """Return HTTP requests that each post the end of a new run."""
    from tests.bench.records import some_records

    bodies = [json.dumps({**one.to_fields(), "metrics_json": {"tokens": 17}}).encode() for one in some_records(count)]
    head = (
        "POST /api/v1/runs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    )
    return [(head % len(body)).encode() + body for body in bodies]


class _Connection(asyncio.Protocol):
    """Sends its requests one after another; `finished` is done with the nanoseconds of each."""

    def __init__(self, requests: Sequence[bytes], finished: asyncio.Future[list[int]]) -> None:
        self._waiting = iter(requests)
        self._finished = finished
        self._taken: list[int] = []
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send_next()

    def _send_next(self) -> None:
        request = next(self._waiting, None)
        if request is None:
            self._finished.set_result(self._taken)
            return
        self._sent_at = perf_counter_ns()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(_END_OF_HEAD)
        if not end or len(body) < _content_length(head):
            return
        self._taken.append(perf_counter_ns() - self._sent_at)
        self._received = b""
        if not head.startswith(_CREATED):
            self._finished.set_exception(RuntimeError(head.decode()))
            return
        self._send_next()

    def connection_lost(self, problem: Exception | None) -> None:
        if not self._finished.done():
            self._finished.set_exception(problem or ConnectionResetError("closed by the service"))


def _content_length(head: bytes) -> int:
    return int(head.lower().rpartition(b"content-length:")[2].partition(b"\r\n")[0])


async def _post(host: str, port: int, clients: int, posts: int) -> Posted:
    loop = asyncio.get_running_loop()
    finished: list[asyncio.Future[list[int]]] = [loop.create_future() for _ in range(clients)]
    requests = [requests_of(posts) for _ in finished]
    began, cpu = time.perf_counter(), time.process_time()
    for mine, done in zip(requests, finished, strict=True):
        await loop.create_connection(lambda mine=mine, done=done: _Connection(mine, done), host, port)  # type: ignore[misc]
    taken = [one for part in await asyncio.gather(*finished) for one in part]
    seconds = time.perf_counter() - began
    return Posted(taken, seconds, (time.process_time() - cpu) / seconds)


if __name__ == "__main__":
    host, *numbers = sys.argv[1:]
    print(json.dumps(vars(asyncio.run(_post(host, *map(int, numbers))))))
