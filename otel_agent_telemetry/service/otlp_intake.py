"""One OTLP request, from its bytes to the response after the commit.

Five stops, the same for traces, logs and metrics, over HTTP and gRPC:

    1 door      `routes_otlp`, `otlp_grpc`        admits the request and reads its body
    2 decoding  `otlp_parsing` (`otlp_repair`)    makes a message of the bytes, in protobuf or JSON
    3 reader    `otel.receiver`                   makes a node of each span, with the state of the run that it is
                `otel.log_reader`                 makes an event of each log record
                `otel.metric_reader`              makes a figure of each data point that counts what a session did
    4 writer    `backend`, `writer`               commits the nodes together with those of other requests
    5 rows      `storage.store`                   finds the run of each node; writes runs, steps, events, figures

A large request is stored in parts, each in a commit of its own, and answered within 8 s, because
exporters give up after 10 s. What did not fit is left to the sender's repetition, which goes on where
the request stopped. Rows end the same however a request is cut and however often it comes.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

import anyio
from google.protobuf.message import Message
from prometheus_client import Counter

from otel_agent_telemetry.otel.log_reader import LogReader
from otel_agent_telemetry.otel.metric_reader import MetricReader
from otel_agent_telemetry.otel.received import Received
from otel_agent_telemetry.otel.receiver import SpanReceiver
from otel_agent_telemetry.recording.active_runs import ResourceDefaults
from otel_agent_telemetry.service.backend import Backend
from otel_agent_telemetry.service.otlp_parsing import Parse
from otel_agent_telemetry.service.otlp_signals import LOGS, METRICS, TRACES, Signal
from otel_agent_telemetry.service.responses import OverloadedError
from otel_agent_telemetry.storage.store import WriteBatch

T = TypeVar("T")
Item = TypeVar("Item")
Node = TypeVar("Node")
_Key = tuple[str | None, bytes]
"""The database and the digest of a body: a repetition has the same bytes."""

RESPONSE_WITHIN_S: Final = 8.0
ITEMS_A_PART: Final = 1_000
_LEAST_WAIT_S: Final = 2.0
_MAX_UNFINISHED: Final = 64
_LARGE_BODY: Final = 32 << 10
"""Bytes from which a body is handled in another thread, so that the event loop serves others meanwhile."""


class TimeBudget:
    """The time that is left for a response. `now` returns seconds, of any clock that does not go back."""

    def __init__(self, seconds: float, *, now: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._now = now
        self._ends = now() + seconds
        self._longest: float | None = None

    def left_s(self) -> float:
        """Return the seconds that are left, 0 when the time is over."""
        return max(self._ends - self._now(), 0.0)

    def has_room(self) -> bool:
        """Return whether there is time for work that takes as long as the longest so far; for the first there is."""
        return self._longest is None or self.left_s() > self._longest

    async def spend(self, work: Awaitable[T]) -> T:
        """Return what the work returns, and remember how long it took."""
        began = self._now()
        returned = await work
        self._longest = max(self._longest or 0.0, self._now() - began)
        return returned


class _Progress(NamedTuple):
    """How many items of a request are stored, how many of those were refused, and why."""

    stored: int
    refused: int
    reasons: tuple[str, ...]


_NOTHING_STORED: Final = _Progress(0, 0, ())


class Reader(Protocol[Item, Node]):
    """What understands the requests of one signal. Safe under threads."""

    def read(self, request: Any) -> Received[Item]:
        """Return the items of a request; those that break a rule of OTLP are refused."""
        ...

    def nodes_of(self, items: Sequence[Item], received: Received[Item]) -> list[Node]:
        """Return what is stored of some items; one that cannot be understood is refused."""
        ...

    def batch_of(self, nodes: Sequence[Node]) -> WriteBatch:
        """Return what is to be written of some nodes."""
        ...

    def name_of(self, node: Node) -> str:
        """Return what a message calls a node."""
        ...


class OtlpIntake(Generic[Item, Node]):
    """Takes the requests of one signal for one backend; used in its event loop.

    `counter` counts the items by what became of them. `now`: see `TimeBudget`. `items_a_part`: how many
    items one commit has at most.
    """

    def __init__(
        self,
        backend: Backend,
        signal: Signal,
        reader: Reader[Item, Node],
        counter: Counter,
        *,
        now: Callable[[], float],
        items_a_part: int,
    ) -> None:
        self.backend = backend
        self.signal = signal
        self._reader = reader
        self._items_a_part = items_a_part
        self._counter = counter
        self._now = now
        self._unfinished: dict[_Key | None, _Progress] = {}
        """Requests of which a part is stored; the latest 64."""

    async def export(self, body: bytes, parse: Parse, *, within_s: float = RESPONSE_WITHIN_S) -> Message:
        """Store the items of a body and return the response.

        Items that can never be stored are counted in `partial_success`, with the reasons; with a message and no
        count it is a warning, as OTLP has it. Raises RequestError 400; OverloadedError when not all items could
        be stored within `within_s` seconds, and as `Backend.write` does: some may be stored by then.
        """
        budget = TimeBudget(within_s, now=self._now)
        is_large = len(body) >= _LARGE_BODY
        received = await _call(self._read, parse, body, in_thread=is_large)
        taken, refused_before = len(received.items), received.refused
        is_cut = taken > self._items_a_part
        # By its bytes: OTLP has no id of a request, and a repetition is the same to the byte.
        key = (self.backend.store_id, await _call(_digest, body, in_thread=is_large)) if is_cut else None
        # Taken out: of two repetitions at once only one goes on there, and the other begins anew, which changes
        # nothing.
        stored, refused_then, reasons = self._unfinished.pop(key, _NOTHING_STORED)
        received.refused += refused_then
        for reason in reasons:
            received.warn(reason)
        try:
            for part in received.parts(self._items_a_part, after=stored):
                if not budget.has_room():
                    raise OverloadedError(
                        f"{stored} of {taken} {self.signal.item_name}s are stored, there was no time for more within "
                        f"{budget.seconds:g} s; send the request again"
                    )
                await budget.spend(self._store(part, received, budget, in_thread=is_large))
                stored += len(part)
        finally:
            if key is not None and 0 < stored < taken:
                self._remember(key, _Progress(stored, received.refused - refused_before, tuple(received.reasons)))
        # After the last commit, so that items of a request which fails and comes again are counted once.
        self._counter.labels("accepted").inc(taken - (received.refused - refused_before))
        self._counter.labels("refused").inc(received.refused)
        return self.signal.answer(received.refused, "; ".join(received.reasons))

    def _remember(self, key: _Key, progress: _Progress) -> None:
        """Remember where the repetition of a request goes on."""
        self._unfinished[key] = progress
        if len(self._unfinished) > _MAX_UNFINISHED:
            # The oldest: its sender has given up, or begins from the start, which is slower but right.
            del self._unfinished[next(iter(self._unfinished))]

    def _read(self, parse: Parse, body: bytes) -> Received[Item]:
        """Return the items of a body. Raises RequestError 400."""
        request, refused = parse(body, self.signal)
        received = self._reader.read(request)
        for reason in refused:
            received.refuse(reason)
        return received

    async def _store(
        self, items: Sequence[Item], received: Received[Item], budget: TimeBudget, *, in_thread: bool
    ) -> None:
        """Store some items of a request in one commit; those that the database refuses are refused one by one."""
        nodes = await _call(self._reader.nodes_of, items, received, in_thread=in_thread)
        if not nodes:
            return
        # Without a little time at least, a request that takes long to decode would never get any further.
        timeout_s = max(budget.left_s(), _LEAST_WAIT_S)
        _, refused = await self.backend.write_each(nodes, self._reader.batch_of, timeout_s=timeout_s)
        for node, reason in refused:
            received.refuse(f"{self._reader.name_of(node)}: {reason}")


def make_intakes(
    backend: Backend,
    counters: Mapping[str, Counter],
    *,
    now: Callable[[], float] = time.monotonic,
    items_a_part: int = ITEMS_A_PART,
) -> dict[str, OtlpIntake[Any, Any]]:
    """Return the intakes of all signals, by the signal's name; `counters`: their counters, likewise.

    `now`: see `TimeBudget`. `items_a_part`: how many items one commit has at most.
    """
    settings = backend.settings
    around = ResourceDefaults.of(settings, {})
    readers: dict[Signal, Reader[Any, Any]] = {
        TRACES: SpanReceiver(runs=settings.runs, around=around),
        LOGS: LogReader(around=around, now_ns=backend.clock.now_ns, silence_s=settings.silence_s),
        METRICS: MetricReader(),
    }
    return {
        signal.name: OtlpIntake(backend, signal, reader, counters[signal.name], now=now, items_a_part=items_a_part)
        for signal, reader in readers.items()
    }


def _digest(body: bytes) -> bytes:
    """Return what tells a body from all others."""
    return hashlib.blake2b(body, digest_size=16).digest()


async def _call(function: Callable[..., T], *arguments: Any, in_thread: bool) -> T:
    """Return what a function returns; it is called in another thread where it would hold up the loop."""
    if in_thread:
        return await anyio.to_thread.run_sync(function, *arguments)
    return function(*arguments)
