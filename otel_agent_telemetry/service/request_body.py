"""Request bodies: read and decompressed within limits of size, time and memory.

A body is untrusted: it may be endless, slow, compressed a thousand times over, or not what
its Content-Type says. One body takes at most `max_bytes` of memory and the chunk that is
being read; all bodies together take at most `MAX_HELD_BYTES`, each until its request has
been responded to.
"""

from __future__ import annotations

import asyncio
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import orjson
from starlette.requests import Request

from otel_agent_telemetry.service.responses import OverloadedError, RequestError

MAX_HELD_BYTES: Final = 512 << 20
SMALL_BODY: Final = 1 << 20
_CLIENT_PART: Final = 4
_RESERVED_PART: Final = 8
_READ_TIMEOUT_S: Final = 30.0
# 16 is zlib's flag for a gzip header and its checksum; without it zlib expects its own format.
_GZIP: Final = 16 + zlib.MAX_WBITS
_MAX_CHUNK: Final = 1 << 20
# Gzip allows any number of members, and empty ones cost time without growing the body that is counted.
_MAX_MEMBERS: Final = 1000
_MAX_REASON: Final = 200
_JSON: Final = "application/json"
_DECODERS: Final = {"gzip": _GZIP, "x-gzip": _GZIP, "deflate": zlib.MAX_WBITS}


class BodyBudget:
    """The bytes of request bodies in memory, and their limits. Used in the event loop's thread alone.

    `limit` bytes altogether (default 512 MiB), of which one client may hold a quarter. The last
    eighth is for bodies of up to 1 MiB, so that small writes go on while others stall with large ones.
    """

    def __init__(self, limit: int = MAX_HELD_BYTES) -> None:
        self.limit = limit
        self.held = 0
        self._by_client: Counter[str] = Counter()

    @contextmanager
    def reserve(self, client: str) -> Iterator[Reservation]:
        """Yield one request's share of the budget, empty at first; it is released when the block ends."""
        reservation = Reservation(self, client)
        try:
            yield reservation
        finally:
            # What has been taken, and not what was asked for: a body that was refused half way has grown its
            # reservation so far.
            self.give_back(client, reservation.size)
            if not self._by_client[client]:  # clients come and go: the table must not grow with them
                del self._by_client[client]

    def give_back(self, client: str, number: int) -> None:
        """Hold `number` bytes less for a client."""
        self.held -= number
        self._by_client[client] -= number

    def take(self, client: str, number: int, *, size: int) -> None:
        """Hold `number` more bytes for a body that has `size` then. Raises OverloadedError.

        All or nothing: when it raises, nothing is held. Never waits, since the clients that hold the rest may be the
        slow ones.
        """
        room = self.limit if size <= SMALL_BODY else self.limit - self.limit // _RESERVED_PART
        if self.held + number > room:
            raise OverloadedError("too many large requests at once")
        if self._by_client[client] + number > self.limit // _CLIENT_PART:
            raise OverloadedError("too many large requests of this client at once")
        self.held += number
        self._by_client[client] += number


@dataclass(slots=True)
class Reservation:
    """The bytes that one request of a client holds."""

    budget: BodyBudget
    client: str
    size: int = 0

    def grow(self, number: int) -> None:
        """Take `number` more bytes. Raises OverloadedError when the budget has no room for them."""
        self.budget.take(self.client, number, size=self.size + number)
        self.size += number

    def shrink(self, number: int) -> None:
        """Give `number` bytes back that are no longer held."""
        self.budget.give_back(self.client, number)
        self.size -= number


async def read_body(request: Request, reservation: Reservation, *, max_bytes: int) -> bytes:
    """Return the whole body, decompressed; its bytes are taken from the reservation.

    Raises RequestError: 400 cut short or not what its encoding says, 408 not complete within
    30 s, 413 larger than `max_bytes`, 415 an unknown encoding; OverloadedError.
    """
    _refuse_too_large(request, max_bytes)
    buffer = _BodyBuffer(reservation, max_bytes)
    decoder = _decoder_of(request, buffer, max_bytes)
    try:
        async with asyncio.timeout(_READ_TIMEOUT_S):
            # Not `request.stream()`: most bodies are one message, and a generator costs as much as its decoding.
            while (message := await request.receive())["type"] == "http.request":
                decoder.feed(message.get("body", b""))
                if not message.get("more_body", False):
                    break
            else:
                raise RequestError(400, "the body was cut short")
    except TimeoutError:
        raise RequestError(408, f"the body did not arrive within {_READ_TIMEOUT_S:g} s") from None
    decoder.finish()
    return buffer.joined()


def _refuse_too_large(request: Request, max_bytes: int) -> None:
    """Raise RequestError 413 for a Content-Length over the limit, before anything is read."""
    length = request.headers.get("content-length", "")
    # Only what is claimed: a body without a length, or with a wrong one, is counted as it arrives.
    if length.isdigit() and int(length) > max_bytes:
        raise _too_large(max_bytes)


def _too_large(max_bytes: int) -> RequestError:
    """Return the error for a body over the limit. It closes the connection, since the rest is not read."""
    return RequestError(
        413, f"a body may have {max_bytes} bytes, decompressed; send less at once", headers={"Connection": "close"}
    )


class _BodyBuffer:
    """The decoded chunks of one body, at most `max_bytes` of them."""

    def __init__(self, reservation: Reservation, max_bytes: int) -> None:
        self._reservation = reservation
        self._max_bytes = max_bytes
        self._chunks: list[bytes] = []

    @property
    def room(self) -> int:
        """Return how many bytes may still be added."""
        return self._max_bytes - self._reservation.size

    def add(self, chunk: bytes) -> None:
        """Append a decoded chunk. Raises RequestError 413, OverloadedError."""
        if not chunk:
            return
        if len(chunk) > self.room:
            raise _too_large(self._max_bytes)
        self._reservation.grow(len(chunk))
        self._chunks.append(chunk)

    def joined(self) -> bytes:
        """Return the body; without a copy when it arrived in one chunk."""
        return self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)


class _IdentityDecoder:
    """Passes a body on as it is."""

    def __init__(self, buffer: _BodyBuffer) -> None:
        self.feed = buffer.add

    def finish(self) -> None:
        """Do nothing: an uncompressed body has no end of its own."""


class _ZlibDecoder:
    """Decompresses a body as it arrives, never further than the buffer has room."""

    def __init__(self, buffer: _BodyBuffer, window: int, max_bytes: int) -> None:
        self._buffer = buffer
        self._window = window
        self._max_bytes = max_bytes
        self._compressed_bytes = 0
        self._members = 1
        self._inflater = zlib.decompressobj(window)

    def feed(self, chunk: bytes) -> None:
        """Decompress one chunk. Raises RequestError 400, 413."""
        self._compressed_bytes += len(chunk)
        # Empty members decompress to nothing, so the compressed bytes need a bound of their own.
        if self._compressed_bytes > self._max_bytes:
            raise _too_large(self._max_bytes)
        pending = chunk
        while pending:
            if self._inflater.eof:
                self._begin_member()
            try:
                # One byte more than there is room for, so that a body over the limit is seen to be over it.
                decoded = self._inflater.decompress(pending, min(_MAX_CHUNK, self._buffer.room + 1))
            except zlib.error:
                raise RequestError(400, "the body is not what its Content-Encoding says") from None
            if decoded:
                self._buffer.add(decoded)
            pending = self._inflater.unconsumed_tail or self._inflater.unused_data

    def _begin_member(self) -> None:
        """Start the next member of a gzip body; each costs time, however few bytes it holds."""
        self._members += 1
        if self._members > _MAX_MEMBERS:
            raise RequestError(400, f"the compressed body has more than {_MAX_MEMBERS} members")
        self._inflater = zlib.decompressobj(self._window)

    def finish(self) -> None:
        """Raise RequestError 400 when the compressed stream has no end."""
        if not self._inflater.eof:
            raise RequestError(400, "the compressed body is cut short")


def _decoder_of(request: Request, buffer: _BodyBuffer, max_bytes: int) -> _IdentityDecoder | _ZlibDecoder:
    """Return the decoder for the request's Content-Encoding. Raises RequestError 415."""
    encoding = request.headers.get("content-encoding", "").strip().lower()
    if encoding in ("", "identity"):
        return _IdentityDecoder(buffer)
    if encoding not in _DECODERS:
        raise RequestError(
            415, "Content-Encoding must be gzip, deflate or identity", headers={"Accept-Encoding": "gzip, deflate"}
        )
    return _ZlibDecoder(buffer, _DECODERS[encoding], max_bytes)


def media_type_of(request: Request) -> str:
    """Return the Content-Type in lower case, without parameters; "" when there is none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def decode_json(request: Request, body: bytes) -> Any:
    """Return the value of a JSON body. Raises RequestError: 415 for another Content-Type, 400 for invalid JSON.

    A missing Content-Type is refused too: a browser sends such a request from any page.
    """
    media_type = media_type_of(request)
    if media_type != _JSON and not media_type.endswith("+json"):
        raise RequestError(415, "Content-Type must be application/json")
    return loads_json(body)


def loads_json(body: bytes) -> Any:
    """Return the value of JSON text. Raises RequestError 400.

    What some senders write and JSON does not have is taken for what it means: a byte order mark is
    nothing, bytes that are no UTF-8 and lone surrogates are U+FFFD, NaN and Infinity are such
    numbers, which only the item that holds them may be refused for.
    """
    try:
        return orjson.loads(body)
    except ValueError as problem:
        first = problem
    except RecursionError as problem:
        raise RequestError(400, f"the body is not JSON: {str(problem)[:_MAX_REASON]}") from None
    try:
        value = json.loads(body.decode("utf-8", "replace").removeprefix("\ufeff"))
        return _without_surrogates(value)
    except (ValueError, RecursionError):
        raise RequestError(400, f"the body is not JSON: {str(first)[:_MAX_REASON]}") from None


def _without_surrogates(value: Any) -> Any:
    """Return the value with U+FFFD for each lone surrogate in its texts. Raises RecursionError."""
    if isinstance(value, str):
        # Pairs of surrogates become the character that they mean; only a lone one is replaced.
        return value.encode("utf-8", "surrogatepass").decode("utf-8", "replace") if not value.isascii() else value
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    return value
