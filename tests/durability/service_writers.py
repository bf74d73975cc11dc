"""Writers that tell a service of runs without pause, whatever happens to it, and note what it said.

Each writer has runs of its own. Every state of a run carries its number in `items_succeeded`,
so a row shows which of the states it is. `told` is the last number that was sent of a run,
`kept` the last one that was answered with 2xx; what is stored must lie between the two.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.run_id import span_event_id

JSON = {"Content-Type": "application/json"}
PROTOBUF = {"Content-Type": "application/x-protobuf"}
TOKENS = 7
"""Input tokens that each model call of a trace reports."""
_BEGAN_NS = 1_760_000_000_000_000_000
_SECOND = 1_000_000_000
_BATCH = 20
_LATER = (429, 503)
_AGAIN_S = 0.02


@dataclass
class Book:
    """What was told and what was kept, by event id; of spans by span id."""

    told: dict[str, int] = field(default_factory=dict)
    kept: dict[str, int] = field(default_factory=dict)
    spans_told: set[str] = field(default_factory=set)
    spans_kept: set[str] = field(default_factory=set)
    traces_kept: set[str] = field(default_factory=set)
    """Event ids of the runs of which every span was kept."""
    strange: list[str] = field(default_factory=list)
    """Answers that are neither 2xx nor "later"."""

    def take(self, other: Book) -> None:
        """Add what another writer noted."""
        for name in ("told", "kept", "spans_told", "spans_kept", "traces_kept"):
            getattr(self, name).update(getattr(other, name))
        self.strange.extend(other.strange)


class Crowd:
    """Writers of four kinds, each a thread, that go on until told to stop."""

    def __init__(self, size: int, *, seed: int) -> None:
        self.url = ""
        self.answered = threading.Event()
        self.stopping = threading.Event()
        kinds = (SingleWriter, BatchWriter, PatchWriter, TraceWriter)
        self._writers = [kinds[number % len(kinds)](self, random.Random(f"{seed}-{number}")) for number in range(size)]
        self._threads = [threading.Thread(target=writer.run, daemon=True) for writer in self._writers]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def go_to(self, url: str) -> None:
        """From now on they write there. `answered` is set at the first 2xx after this."""
        self.url = url
        self.answered.clear()

    def stop(self) -> Book:
        """Everything that they noted, once the last answer was heard."""
        self.stopping.set()
        book = Book()
        for thread, writer in zip(self._threads, self._writers, strict=True):
            thread.join(60)
            assert not thread.is_alive(), "a writer hangs"
            book.take(writer.book)
        return book


class Writer:
    """One connection, used again while it lives."""

    def __init__(self, crowd: Crowd, dice: random.Random) -> None:
        self.book = Book()
        self.dice = dice
        self._crowd = crowd
        self._connection: http.client.HTTPConnection | None = None
        self._url = ""

    def run(self) -> None:
        while not self._crowd.stopping.is_set():
            self.work()
        self._hang_up()

    def work(self) -> None:
        raise NotImplementedError

    def said(self, method: str, path: str, body: bytes, headers: dict[str, str] = JSON) -> bytes | None:
        """The answer to a request that is repeated until it is 2xx; None when it was given up.

        As clients do: nothing is known after a cut connection, so the same is told again.
        One in eight gives up instead, so that some states are never told to their end.
        """
        while not self._crowd.stopping.is_set():
            answer = self._answer(method, path, body, headers)
            if answer is None or answer[0] in _LATER:
                if self.dice.random() < 1 / 8:
                    return None
                self._crowd.stopping.wait(_AGAIN_S)
                continue
            if not 200 <= answer[0] < 300:
                self.book.strange.append(f"{method} {path}: {answer[0]} {answer[1][:300]!r}")
                return None
            self._crowd.answered.set()
            return answer[1]
        return None

    def _answer(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes] | None:
        try:
            connection = self._dialled()
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            self._hang_up()
            return None

    def _dialled(self) -> http.client.HTTPConnection:
        if self._connection is None or self._url != self._crowd.url:
            self._hang_up()
            self._url = self._crowd.url
            self._connection = http.client.HTTPConnection(urlsplit(self._url).netloc, timeout=60)
        return self._connection

    def _hang_up(self) -> None:
        if self._connection is not None:
            with suppress(OSError):
                self._connection.close()
        self._connection = None

    def tell(self, *states: dict[str, object], method: str = "POST", path: str, body: object) -> bool:
        """Tell states of runs in one request, and note it; whether they were kept."""
        numbers = {str(state["event_id"]): int(str(state["items_succeeded"])) for state in states}
        self.book.told.update(numbers)
        answer = self.said(method, path, json.dumps(body).encode())
        if answer is None:
            return False
        if json.loads(answer).get("errors"):
            self.book.strange.append(f"{method} {path}: {answer[:300]!r}")
            return False
        self.book.kept.update(numbers)
        return True

    def state(self, event_id: str, number: int, status: str = "running") -> dict[str, object]:
        began = iso_utc(_BEGAN_NS)
        return {
            "event_id": event_id,
            "run_id": f"run-{event_id}",
            "created_at": began,
            "updated_at": iso_utc(_BEGAN_NS + number * _SECOND),
            "start_time": began,
            "agent_name": f"agent-{self.dice.randrange(4)}" if number == 0 else "agent-later",
            "job_type": type(self).__name__,
            "status": status,
            "items_succeeded": number,
            "input_summary": "x" * self.dice.randrange(400),
        }

    def new_id(self) -> str:
        return str(uuid.UUID(int=self.dice.getrandbits(128), version=4))


class SingleWriter(Writer):
    """A start and an end, each a `POST` of its own."""

    def work(self) -> None:
        event_id = self.new_id()
        for number, status in enumerate(("running", "success")):
            state = self.state(event_id, number, status)
            if not self.tell(state, path="/api/v1/runs", body=state):
                return


class BatchWriter(Writer):
    """Starts and ends of many runs at once."""

    def work(self) -> None:
        event_ids = [self.new_id() for _ in range(_BATCH)]
        for number, status in enumerate(("running", "failed")):
            states = [self.state(event_id, number, status) for event_id in event_ids]
            if not self.tell(*states, path="/api/v1/runs/batch", body=states):
                return


class PatchWriter(Writer):
    """A start, then `PATCH` of the running and of the ended run."""

    def work(self) -> None:
        state = self.state(self.new_id(), 0)
        path = f"/api/v1/runs/{state['event_id']}"
        if not self.tell(state, path="/api/v1/runs", body=state):
            return
        for number in range(1, 5):
            changes = {"items_succeeded": number, **({"status": "partial"} if number >= 3 else {})}
            if not self.tell({**state, **changes}, method="PATCH", path=path, body=changes):
                return


class TraceWriter(Writer):
    """A root span and three model calls below it, over OTLP; the children come first, and some of it twice."""

    def work(self) -> None:
        trace_id, root = self.dice.randbytes(16), self.dice.randbytes(8)
        children = [self.dice.randbytes(8) for _ in range(3)]
        event_id = span_event_id(trace_id.hex(), root.hex(), _BEGAN_NS)
        self.book.spans_told.update(child.hex() for child in children)
        if not self._export(trace_id, root, children):
            return
        self.book.spans_kept.update(child.hex() for child in children)
        self.book.told[event_id] = 1
        if self._export(trace_id, root, [root, *children[:1]]):
            self.book.kept[event_id] = 1
            self.book.traces_kept.add(event_id)

    def _export(self, trace_id: bytes, root: bytes, span_ids: list[bytes]) -> bool:
        request = ExportTraceServiceRequest()
        scope = request.resource_spans.add().scope_spans.add()
        for span_id in span_ids:
            span = scope.spans.add(trace_id=trace_id, span_id=span_id, name="chat" if span_id != root else "invoke")
            span.start_time_unix_nano, span.end_time_unix_nano = _BEGAN_NS, _BEGAN_NS + _SECOND
            span.events.add(name="checkpoint", time_unix_nano=_BEGAN_NS)
            if span_id != root:
                span.parent_span_id = root
                span.attributes.add(key="gen_ai.operation.name").value.string_value = "chat"
                span.attributes.add(key="gen_ai.usage.input_tokens").value.int_value = TOKENS
            else:
                span.attributes.add(key="agent.run.items_succeeded").value.int_value = 1
        return self.said("POST", "/v1/traces", request.SerializeToString(), PROTOBUF) is not None
