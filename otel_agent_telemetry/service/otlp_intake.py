"""One OTLP trace request, from its bytes to the response after the commit.

Five stops, the same for HTTP and gRPC:

    1 door      `routes_traces`, `otlp_grpc`      admits the request and reads its body
    2 decoding  `otlp_parsing` (`otlp_repair`)    makes a message of the bytes, in protobuf or JSON
    3 receiver  `otel.receiver`                   makes a node of each span, with the state of the run that it is
    4 writer    `backend`, `writer`               commits the nodes together with those of other requests
    5 rows      `storage.store`, `storage.traces` finds the run of each span; writes runs, steps, events, roll-ups

A large request is stored in parts, each in a commit of its own, and answered within 8 s, because
exporters give up after 10 s. What did not fit is left to the sender's repetition: what is stored
already is passed over, so each attempt gets further, and rows end the same however it was cut.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

import anyio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from prometheus_client import Counter

from otel_agent_telemetry.otel.receiver import Received, ReceivedSpan, SpanReceiver
from otel_agent_telemetry.recording.active_runs import ResourceDefaults
from otel_agent_telemetry.service.backend import Backend
from otel_agent_telemetry.service.otlp_parsing import ParsedRequest
from otel_agent_telemetry.service.responses import OverloadedError
from otel_agent_telemetry.storage.span_places import stored_steps
from otel_agent_telemetry.storage.store import WriteBatch
from otel_agent_telemetry.storage.traces import SpanNode

T = TypeVar("T")

RESPONSE_WITHIN_S: Final = 8.0
SPANS_A_PART: Final = 1_000
_LEAST_WAIT_S: Final = 1.0
_LARGE_BODY: Final = 32 << 10
"""Bytes from which a body is handled in another thread, so that the event loop serves others meanwhile."""


class TimeBudget:
    """The time that is left for a response. `now` returns seconds, of any clock that does not go back."""

    def __init__(self, seconds: float, *, now: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._now = now
        self._ends = now() + seconds
        self._longest = 0.0

    def left_s(self) -> float:
        """Return the seconds that are left, 0 when the time is over."""
        return max(self._ends - self._now(), 0.0)

    def has_room(self) -> bool:
        """Return whether there is time for one more piece of work that takes as long as the longest so far."""
        return self.left_s() > self._longest

    async def spend(self, work: Awaitable[T]) -> T:
        """Return what the work returns, and remember how long it took."""
        began = self._now()
        returned = await work
        self._longest = max(self._longest, self._now() - began)
        return returned


class OtlpIntake:
    """Takes trace requests for one backend; used in its event loop.

    `spans` counts the spans by what became of them. `now`: see `TimeBudget`. `spans_a_part`: how many
    spans one commit has at most.
    """

    def __init__(
        self,
        backend: Backend,
        spans: Counter,
        *,
        now: Callable[[], float] = time.monotonic,
        spans_a_part: int = SPANS_A_PART,
    ) -> None:
        settings = backend.settings
        self._backend = backend
        self._spans_a_part = spans_a_part
        self._receiver = SpanReceiver(runs=settings.runs, around=ResourceDefaults.of(settings, {}))
        self._spans = spans
        self._now = now

    async def export(
        self, body: bytes, parse: Callable[[bytes], ParsedRequest], *, within_s: float = RESPONSE_WITHIN_S
    ) -> ExportTraceServiceResponse:
        """Store the spans of a body and return the response.

        Spans that can never be stored are counted in `partial_success`, with the reasons; with a message and no
        count it is a warning, as OTLP has it. Raises RequestError 400; OverloadedError when not all spans could
        be stored within `within_s` seconds, and as `Backend.write` does: some may be stored by then.
        """
        budget = TimeBudget(within_s, now=self._now)
        is_large = len(body) >= _LARGE_BODY
        received = await _call(self._read, parse, body, in_thread=is_large)
        taken = len(received.spans) + received.refused
        if len(received.spans) > self._spans_a_part:  # it may have been cut before, and come again
            received.spans = await self._without_stored(received.spans)
        left = len(received.spans)
        for part in received.parts(self._spans_a_part):
            if left < len(received.spans) and not budget.has_room():
                raise OverloadedError(
                    f"{taken - left} of {taken} spans are stored, there was no time for more within "
                    f"{budget.seconds:g} s; send the request again"
                )
            await budget.spend(self._store(part, received, budget, in_thread=is_large))
            left -= len(part)
        # After the last commit, so that spans of a request which fails and comes again are counted once.
        self._spans.labels("accepted").inc(taken - received.refused)
        self._spans.labels("refused").inc(received.refused)
        return _response_to(received)

    def _read(self, parse: Callable[[bytes], ParsedRequest], body: bytes) -> Received:
        """Return the spans of a body. Raises RequestError 400."""
        request, refused = parse(body)
        received = self._receiver.read(request)
        for reason in refused:
            received.refuse(reason)
        return received

    async def _without_stored(self, spans: list[ReceivedSpan]) -> list[ReceivedSpan]:
        """Return the spans without those that are stored as ended steps; what they mean of their runs is stored too."""
        identities = [span.identity for span in spans]
        known = await self._backend.read(lambda connection: stored_steps(connection, identities))
        return [span for span in spans if span.identity not in known] if known else spans

    async def _store(
        self, spans: Sequence[ReceivedSpan], received: Received, budget: TimeBudget, *, in_thread: bool
    ) -> None:
        """Store some spans of a request in one commit; those that the database refuses are refused one by one."""
        nodes = await _call(self._receiver.nodes_of, spans, received, in_thread=in_thread)
        # Without a little time at least, a request that takes long to decode would never get any further.
        timeout_s = max(budget.left_s(), _LEAST_WAIT_S)
        _, refused = await self._backend.write_each(nodes, _batch_of, timeout_s=timeout_s)
        for node, reason in refused:
            received.refuse(f"span {node.span.span_id}: {reason}")


def _response_to(received: Received) -> ExportTraceServiceResponse:
    """Return the response to a request that is stored."""
    response = ExportTraceServiceResponse()
    if received.reasons:
        response.partial_success.rejected_spans = received.refused
        response.partial_success.error_message = "; ".join(received.reasons)
    return response


async def _call(function: Callable[..., T], *arguments: Any, in_thread: bool) -> T:
    """Return what a function returns; it is called in another thread where it would hold up the loop."""
    if in_thread:
        return await anyio.to_thread.run_sync(function, *arguments)
    return function(*arguments)


def _batch_of(nodes: Sequence[SpanNode]) -> WriteBatch:
    """Return what is to be stored of some nodes."""
    return WriteBatch([node.state for node in nodes if node.state is not None], (), nodes)
