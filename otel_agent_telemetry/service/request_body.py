"""Request bodies: read within limits, decompressed within limits, and only then believed.

A body is untrusted: it may be endless, slow, compressed a thousand times over, or not what
its Content-Type says. What it costs at most is `max_bytes` of memory, plus what arrives in
one piece; all bodies together at most `MAX_HELD_BYTES`, until their
requests are answered.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import orjson
from fastapi import Request
from starlette.requests import ClientDisconnect

from otel_agent_telemetry.service.problems import OverloadedError, RequestError

MAX_HELD_BYTES: Final = 512 << 20
_READ_S: Final = 30.0
_GZIP: Final = 16 + zlib.MAX_WBITS
_PIECE: Final = 1 << 20
_MAX_MEMBERS: Final = 1000
_JSON: Final = "application/json"
_DECODERS: Final = {"gzip": _GZIP, "x-gzip": _GZIP, "deflate": zlib.MAX_WBITS}


@dataclass(slots=True)
class HeldBytes:
    """How many bytes of bodies are in memory now. For the event loop's thread."""

    limit: int = MAX_HELD_BYTES
    now: int = 0

    @contextmanager
    def holding(self) -> Iterator[_Hold]:
        """What one request holds; given back when the block ends."""
        hold = _Hold(self)
        try:
            yield hold
        finally:
            self.now -= hold.size


@dataclass(slots=True)
class _Hold:
    budget: HeldBytes
    size: int = 0

    def grow(self, number: int) -> None:
        if self.budget.now + number > self.budget.limit:
            raise OverloadedError("too many large requests at once")
        self.budget.now += number
        self.size += number


async def read_body(request: Request, hold: _Hold, *, max_bytes: int) -> bytes:
    """The whole body, decompressed.

    Raises RequestError: 400 cut short or not what its encoding says, 408 not here in time,
    413 too large, 415 an encoding that is not known; OverloadedError.
    """
    _refuse_too_large(request, max_bytes)
    pieces = _Pieces(hold, max_bytes)
    decoder = _decoder_of(request, pieces, max_bytes)
    try:
        async with asyncio.timeout(_READ_S):
            async for piece in request.stream():
                decoder.take(piece)
    except TimeoutError:
        raise RequestError(408, f"the body did not arrive within {_READ_S:g} s") from None
    except ClientDisconnect:
        raise RequestError(400, "the body was cut short") from None
    decoder.end()
    return pieces.joined()


def _refuse_too_large(request: Request, max_bytes: int) -> None:
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > max_bytes:
        raise _too_large(max_bytes)


def _too_large(max_bytes: int) -> RequestError:
    return RequestError(
        413, f"a body may have {max_bytes} bytes, decompressed; send less at once", headers={"Connection": "close"}
    )


class _Pieces:
    """What has arrived, as it will be read."""

    def __init__(self, hold: _Hold, max_bytes: int) -> None:
        self._hold = hold
        self._max_bytes = max_bytes
        self._pieces: list[bytes] = []

    @property
    def room(self) -> int:
        return self._max_bytes - self._hold.size

    def add(self, piece: bytes) -> None:
        if not piece:
            return
        if len(piece) > self.room:
            raise _too_large(self._max_bytes)
        self._hold.grow(len(piece))
        self._pieces.append(piece)

    def joined(self) -> bytes:
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)


class _Plain:
    """A body as it is."""

    def __init__(self, pieces: _Pieces) -> None:
        self.take = pieces.add

    def end(self) -> None:
        """Nothing is left over."""


class _Compressed:
    """A body that is decompressed as it arrives, never further than there is room."""

    def __init__(self, pieces: _Pieces, window: int, max_bytes: int) -> None:
        self._pieces = pieces
        self._window = window
        self._max_bytes = max_bytes
        self._taken = 0
        self._members = 1
        self._inflater = zlib.decompressobj(window)

    def take(self, piece: bytes) -> None:
        self._taken += len(piece)
        if self._taken > self._max_bytes:
            raise _too_large(self._max_bytes)
        waiting = piece
        while waiting:
            if self._inflater.eof:
                self._begin_member()
            try:
                found = self._inflater.decompress(waiting, min(_PIECE, self._pieces.room + 1))
            except zlib.error:
                raise RequestError(400, "the body is not what its Content-Encoding says") from None
            if found:
                self._pieces.add(found)
            waiting = self._inflater.unconsumed_tail or self._inflater.unused_data

    def _begin_member(self) -> None:
        """Gzip may hold several; each costs time, however little is in it."""
        self._members += 1
        if self._members > _MAX_MEMBERS:
            raise RequestError(400, f"the compressed body has more than {_MAX_MEMBERS} members")
        self._inflater = zlib.decompressobj(self._window)

    def end(self) -> None:
        if not self._inflater.eof:
            raise RequestError(400, "the compressed body is cut short")


def _decoder_of(request: Request, pieces: _Pieces, max_bytes: int) -> _Plain | _Compressed:
    encoding = request.headers.get("content-encoding", "").strip().lower()
    if encoding in ("", "identity"):
        return _Plain(pieces)
    if encoding not in _DECODERS:
        raise RequestError(
            415, "Content-Encoding must be gzip, deflate or identity", headers={"Accept-Encoding": "gzip, deflate"}
        )
    return _Compressed(pieces, _DECODERS[encoding], max_bytes)


def media_type_of(request: Request) -> str:
    """The Content-Type without parameters, in lower case; "" when there is none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def json_of(request: Request, body: bytes) -> Any:
    """The value of a JSON body. Raises RequestError: 415 for another Content-Type, 400 for what is not JSON.

    Without a Content-Type it is refused too: a browser sends such a request from any page.
    """
    kind = media_type_of(request)
    if kind != _JSON and not kind.endswith("+json"):
        raise RequestError(415, "Content-Type must be application/json")
    try:
        return orjson.loads(body)
    except (ValueError, RecursionError) as problem:
        raise RequestError(400, f"the body is not JSON: {str(problem)[:200]}") from None
