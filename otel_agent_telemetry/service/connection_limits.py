"""Limits of a connection that hold before the application sees a request: size, time, number for each address.

uvicorn's httptools protocol has none for heads and slow senders (its other protocol, h11, bounds
the size of a head and is several times as slow), and no server library has a number of
connections for each address. So the protocol is extended here; a proxy in front may
limit more, and a bare `serve` needs none.

    head           `http_max_head_bytes` and `http_max_fields`, else 431; within `http_head_timeout_s`, else 408
    trailers       of a chunked body: counted like a head, and dropped
    body           at least `http_min_body_rate` bytes a second over 10 s while we read, else 408
    idle           `http_idle_timeout_s` from the opening or the last response to the first byte of a request
    response       the client accepts some of it every `http_write_timeout_s`, else the connection is cut
    connections    `http_max_connections` for each address, else 503; trusted proxies may open any number

One timer a second looks at all connections of an event loop, so that a limit costs a request nothing but a few
attributes. A limit of time is exact to a second.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from functools import partial
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.service.client_addresses import counted_client, is_trusted, trusted_proxies

_log = logging.getLogger(__name__)
_SWEEP_S: Final = 1.0
_BODY_WINDOW_S: Final = 10.0
_GOODBYE_S: Final = 1.0
_OVERHEAD: Final = 4
"""Bytes of a field beside its name and value: colon, space, CR, LF."""

REFUSABLE: Final = ("connections", "head", "head_time", "body_time", "write", "invalid")
"""The limits by name; `invalid` is what is no HTTP, or has two meanings."""
REFUSALS: Final[Counter[str]] = Counter()
"""Connections and requests that a limit of this module ended, by limit, since the start of the process."""


class Limits(NamedTuple):
    """The limits of one service; bytes, seconds, numbers. `trusted`: addresses and networks, or `*`."""

    head_bytes: int
    fields: int
    head_s: float
    body_rate: int
    idle_s: float
    write_s: float
    connections: int
    trusted: frozenset[str]


def limits_of(settings: TelemetryConfig) -> Limits:
    """Return the limits that the settings give."""
    return Limits(
        head_bytes=settings.http_max_head_bytes,
        fields=settings.http_max_fields,
        head_s=settings.http_head_timeout_s,
        body_rate=settings.http_min_body_rate,
        idle_s=settings.http_idle_timeout_s,
        write_s=settings.http_write_timeout_s,
        connections=settings.http_max_connections,
        trusted=trusted_proxies(settings),
    )


def limited_protocol(settings: TelemetryConfig) -> Any:
    """Return the protocol class for uvicorn's option `http`. It can be pickled, for worker processes."""
    return partial(LimitedProtocol, limits_of(settings))


class _Connections:
    """All connections of one server: how many each address has, and the timer that looks at them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._by_client: Counter[str] = Counter()
        self._all: set[LimitedProtocol] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, connection: LimitedProtocol, address: str, limit: int | None) -> bool:
        """Count a connection; False, without counting it, when its address has `limit` already."""
        client = counted_client(address)
        # Counted before the first byte: a connection that sends nothing holds a descriptor as well.
        if limit is not None and self._by_client[client] >= limit:
            return False
        self._by_client[client] += 1
        self._all.add(connection)
        if self._timer is None:
            self._timer = self._loop.call_later(_SWEEP_S, self._sweep)
        return True

    def remove(self, connection: LimitedProtocol, address: str) -> None:
        """Forget a connection that is closed."""
        if connection in self._all:
            self._all.remove(connection)
            client = counted_client(address)
            self._by_client[client] -= 1
            if not self._by_client[client]:  # clients come and go: the table must not grow with them
                del self._by_client[client]

    def _sweep(self) -> None:
        """Look at each connection; again in a second while there are any."""
        now = self._loop.time()
        # A copy: a check may close a connection, which leaves the set at once.
        for connection in tuple(self._all):
            connection.check(now)
        self._timer = self._loop.call_later(_SWEEP_S, self._sweep) if self._all else None


_tables: WeakKeyDictionary[Any, _Connections] = WeakKeyDictionary()
"""Server state of uvicorn → its connections: the one object that its protocols share."""


class _PeerLog(logging.LoggerAdapter[logging.Logger]):
    """Logs at INFO what the library warns of: it is what strangers send, and they must not fill the log."""

    level: Final = logging.INFO
    """Above the level at which the library would trace each connection."""

    def warning(self, msg: object, *arguments: object, **options: Any) -> None:
        """Log at INFO."""
        self.info(msg, *arguments, **options)


class LimitedProtocol(HttpToolsProtocol):
    """One connection. Its phase is one of: idle, head, body, response; each has a limit of its own."""

    def __init__(self, limits: Limits, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.logger = _PeerLog(_log)  # type: ignore[assignment]  # has the methods that are used
        self._limits = limits
        table = _tables.get(self.server_state)
        if table is None:
            table = _tables[self.server_state] = _Connections(self.loop)
        self._table = table
        self._address = ""
        self._in_head = True
        self._began_at = 0.0  # of the phase: idle or head
        self._any_bytes = False
        self._in_body = False
        self._chunked = False
        self._unparsed = 0
        self._head_size = 0
        self._refused = False
        self._window_at = 0.0
        self._window_bytes = 0
        self._unwritten = 0
        self._written_at = 0.0

    # The transport's side

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or refuse it when its address has too many."""
        super().connection_made(transport)
        self._began_at = self._written_at = self.loop.time()
        self._address = self.client[0] if self.client else ""
        # A trusted proxy has the connections of all its clients; its own limits, and `RequestsAtOnce`, bound those.
        limit = None if is_trusted(self._address, self._limits.trusted) else self._limits.connections
        if not self._table.add(self, self._address, limit):
            self._refuse("connections", 503, "too many connections from this address")

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._table.remove(self, self._address)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what arrived: in pieces, as long as a head or trailers could grow with it."""
        if self._refused:
            return
        if not self._any_bytes:
            self._any_bytes = True
            self._began_at = self.loop.time()
        self._window_bytes += len(data)
        # The body of a Content-Length ends where it says; all else is text that the parser keeps until it is whole.
        if self._in_body and not self._chunked:
            super().data_received(data)
            return
        rest = memoryview(data)
        while rest and not self._refused and self.parser is not None:
            room = self._limits.head_bytes - self._unparsed
            if room <= 0:
                self._refuse("head", 431, "the head of a request is too large")
                return
            # In pieces of what is left: the parser would take a head of any size that arrives at once.
            piece, rest = rest[:room], rest[room:]
            self._unparsed += len(piece)
            super().data_received(bytes(piece))

    def resume_writing(self) -> None:
        """Note that the client reads."""
        self._written_at = self.loop.time()
        super().resume_writing()

    # The parser's side

    def on_message_begin(self) -> None:
        """Begin a head."""
        super().on_message_begin()
        self._in_head, self._in_body, self._head_size = True, False, 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a field of a head, drop one of a trailer; both are counted."""
        self._head_size += len(name) + len(value) + _OVERHEAD
        if self._head_size > self._limits.head_bytes or len(self.headers) >= self._limits.fields:
            self._refuse("head", 431, "the head of a request is too large")
            return
        # A trailer must not become a header of a request that was admitted without it.
        if self._in_head and not self._refused:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin a body, and the application's work."""
        if self._refused:
            return
        # A proxy in front may have checked the other one (RFC 9112, 3.2).
        if sum(name == b"host" for name, _ in self.headers) > 1:
            self._refuse("invalid", 400, "more than one Host header")
            return
        self._in_head, self._in_body, self._unparsed, self._head_size = False, True, 0, 0
        self._chunked = any(name == b"transfer-encoding" for name, _ in self.headers)
        self._window_at, self._window_bytes = self.loop.time(), 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Pass a part of a body on."""
        self._unparsed = 0
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request; the next one on this connection begins with an idle phase."""
        self._in_body, self._in_head, self._unparsed, self._any_bytes = False, True, 0, False
        self._began_at = self.loop.time()
        if not self._refused:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Begin an idle phase, unless the next request has begun to arrive."""
        if not self._any_bytes:
            self._began_at = self.loop.time()
        super().on_response_complete()

    def shutdown(self) -> None:
        """Close an idle connection, another after its response, because the service ends."""
        super().shutdown()
        if self.transport.is_closing():
            # Over TLS closing waits for the client's own goodbye, which one that is idle does not read for.
            self.loop.call_later(_GOODBYE_S, self._abort_when_sent)

    def _abort_when_sent(self) -> None:
        """Cut a closing connection to which everything has been sent."""
        if not self.transport.get_write_buffer_size():
            self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, and count it."""
        self._count("invalid", "no HTTP")
        super().send_400_response(msg)

    # Limits of time

    def check(self, now: float) -> None:
        """End the connection when a limit of time is exceeded. Called once a second."""
        if self._writing_stands_still(now):
            self._count("write", "a client does not read its response")
            self.transport.abort()
        elif self._refused or self.transport.is_closing():
            return
        elif self._in_body:
            self._check_body(now)
        elif self.cycle is None or self.cycle.response_complete:
            if self._any_bytes:
                if now - self._began_at > self._limits.head_s:
                    self._refuse("head_time", 408, "the head of the request did not arrive in time")
            elif now - self._began_at > self._limits.idle_s:
                self.transport.close()

    def _check_body(self, now: float) -> None:
        """Refuse a body that arrives too slowly, not counting the time in which we did not read."""
        if self.flow.read_paused:
            self._window_at, self._window_bytes = now, 0
        elif now - self._window_at >= _BODY_WINDOW_S:
            if self._window_bytes < self._limits.body_rate * _BODY_WINDOW_S:
                self._refuse("body_time", 408, "the body of the request arrives too slowly")
            self._window_at, self._window_bytes = now, 0

    def _writing_stands_still(self, now: float) -> bool:
        """Return whether something waits to be sent and the client took none of it for the limit."""
        waiting = self.transport.get_write_buffer_size()
        if not waiting or waiting < self._unwritten:
            self._written_at = now
        self._unwritten = waiting
        return waiting > 0 and now - self._written_at > self._limits.write_s

    def _refuse(self, limit: str, status: int, reason: str) -> None:
        """Answer with an error, unless a response has begun, and close."""
        if self._refused:
            return
        self._refused = True
        self._count(limit, reason)
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            body = b'{"detail": "%s"}' % reason.encode()
            self.transport.write(
                b"HTTP/1.1 %d \r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
                b"retry-after: 5\r\nconnection: close\r\n\r\n%s" % (status, len(body), body)
            )
        self.transport.close()

    def _count(self, limit: str, reason: str) -> None:
        """Count what a limit ended, and log it at level INFO: an attack must not fill the log."""
        REFUSALS[limit] += 1
        _log.info("closing a connection of %s: %s", self._address or "unknown", reason)
