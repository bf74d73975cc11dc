"""A recorder in memory, and what it has recorded, for tests (`testing`): no file, no thread, no delivery.

Every record passes through the line format before it is kept, so a test sees what a reader of the disk would see:
values rounded, secrets masked, content left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, TypeVar, cast

import orjson
from opentelemetry.sdk.trace import TracerProvider

from otel_agent_telemetry.capture.telemetry_capture import CaptureFiles
from otel_agent_telemetry.client import TelemetryClient
from otel_agent_telemetry.clock import Clock
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.model import CommitLink, RunEvent, RunRecord, RunSpan, later_state
from otel_agent_telemetry.recording.recorder import Recorder
from otel_agent_telemetry.wire import BECAME_RUN, EVENT, RUN, Line, decode_line

T = TypeVar("T", RunRecord, RunEvent, RunSpan)
C = TypeVar("C")
M = TypeVar("M", RunEvent, RunSpan)


class _MemoryEntries:
    """Captured entries in a list, whatever their file would be."""

    foreign_file: Path | None = None

    def __init__(self) -> None:
        self.kept: list[dict[str, Any]] = []

    def at(self, path: Path) -> _MemoryEntries:  # noqa: ARG002 - the signature of `CaptureFiles`
        """Return itself, for any path."""
        return self

    def append(self, entry: bytes, *, wait: bool = True) -> bool:  # noqa: ARG002 - the file's signature
        """Keep an entry as a reader of the file would find it."""
        self.kept.append(orjson.loads(entry))
        return True

    async def append_async(self, entry: bytes) -> bool:
        """Keep an entry as a reader of the file would find it."""
        return self.append(entry)

    def entries(self) -> Iterator[dict[str, Any]]:
        """Yield the entries, newest first."""
        return iter(self.kept[::-1])

    def sync(self) -> None:
        """Do nothing: memory needs no sync."""


class MemoryRecorder(Recorder):
    """A recorder that keeps its records in lists: no file, no thread, no delivery.

    Records pass through the line format, so they are what a reader of the disk would get.

    `clock`: default the system's. `turned` and the lists are only added to, so another thread may read them meanwhile.
    """

    def __init__(self, config: TelemetryConfig, *, clock: Clock | None = None) -> None:
        super().__init__(config, clock=clock)
        self.states: list[RunRecord] = []
        self.events: list[RunEvent] = []
        self.spans: list[RunSpan] = []
        self.turned: dict[tuple[str, str], str] = {}
        """`event_id` of a run and id of its step → `run_id` of the run that the step has turned into."""
        self.commits: list[CommitLink] = []
        self.captures = _MemoryEntries()

    def component(self, kind: Callable[[Recorder], C]) -> C:
        """Return the recorder's part of a kind; captured entries go to a list instead of files."""
        # The only part that would open a file by itself.
        return cast("C", self.captures) if kind is CaptureFiles else super().component(kind)

    def _to_buffer(self, line: bytes) -> bool:  # noqa: ARG002 - the recorder's signature
        """Return True: there is no buffer to write to."""
        return True

    def _store(self, line: bytes, now_ns: int, *, kept: bool = False, wake: bool = True) -> bool:  # noqa: ARG002 - as there
        """Keep a line as its reader would see it. Raises RecordError when a run breaks the model."""
        # Through the bytes and back: a value that JSON changes must not look unchanged in a test.
        record = decode_line(line)
        kind = record["record_type"]
        if kind == RUN:
            self.states.append(RunRecord.from_fields(record))
        elif kind == EVENT:
            self.events.append(_value(RunEvent, {"event_id": "", **record}))
        else:
            self.spans.append(_value(RunSpan, record))
            if (run_id := record.get(BECAME_RUN)) is not None:
                self.turned[record["event_id"], record["span_id"]] = run_id
        return True

    def record_commit(self, link: CommitLink) -> None:
        """Keep a commit association."""
        self.commits.append(CommitLink(**asdict(link)))

    def sync(self) -> None:
        """Do nothing: memory needs no sync."""

    def flush(self, timeout_s: float) -> bool:  # noqa: ARG002 - the recorder's signature
        """Return True at once, whatever `timeout_s`: nothing waits for delivery."""
        return True

    def close(self, timeout_s: float | None = None) -> None:
        """Do nothing, whatever `timeout_s`: no file and no thread is open."""


def _value(kind: type[T], line: Line) -> T:
    """Return a line as a value of a record class, without members that the class does not have."""
    known = {field.name for field in fields(kind)}
    return kind(**{name: value for name, value in line.items() if name in known})


class CapturedRuns:
    """The records that `capture_runs` captures. The lists may be read at any time, also after the block."""

    def __init__(self, recorder: MemoryRecorder, client: TelemetryClient, provider: TracerProvider) -> None:
        self.recorder = recorder
        self.client = client
        """The client for the code under test."""
        self.provider = provider
        """The provider for code that traces with OpenTelemetry: its root spans are runs."""

    @property
    def runs(self) -> list[RunRecord]:
        """Return the current state of each run, in the order in which the runs began."""
        current: dict[str, RunRecord] = {}
        for state in self.recorder.states:
            known = current.get(state.event_id)
            current[state.event_id] = state if known is None else later_state(known, state)
        return list(current.values())

    @property
    def states(self) -> list[RunRecord]:
        """Return every state of every run, as written."""
        return list(self.recorder.states)

    @property
    def events(self) -> list[RunEvent]:
        """Return every event, with the run that it belongs to now."""
        return [self._moved(event, event.span_id) for event in self.recorder.events]

    @property
    def spans(self) -> list[RunSpan]:
        """Return the last state of each step, in the order in which the steps began."""
        last = {(span.event_id, span.span_id, span.start_time): span for span in self.recorder.spans}
        steps = [span for span in last.values() if (span.event_id, span.span_id) not in self.recorder.turned]
        return [self._moved(span, span.parent_span_id) for span in steps]

    def _moved(self, item: M, above: str | None) -> M:
        """Return an event or step with the run that a step above it has turned into, if one has."""
        turned = self.recorder.turned
        if not turned:
            return item
        parents = {(span.event_id, span.span_id): span.parent_span_id for span in self.recorder.spans}
        while above is not None:
            if (run_id := turned.get((item.event_id, above))) is not None:
                return replace(item, event_id=self.run(run_id).event_id, run_id=run_id)
            above = parents.pop((item.event_id, above), None)  # popped: a circle of parents ends
        return item

    @property
    def commits(self) -> list[CommitLink]:
        """Return every commit association."""
        return list(self.recorder.commits)

    @property
    def entries(self) -> list[dict[str, Any]]:
        """Return every captured entry (`capture_telemetry`, `TelemetryContext`, `TelemetryCapture`), oldest first."""
        return list(self.recorder.captures.kept)

    def run(self, run_id: str) -> RunRecord:
        """Return the run with that id. Raises LookupError that names the captured ids when there is none.

        Of several runs with one id, the one that began first.
        """
        for record in self.runs:
            if record.run_id == run_id:
                return record
        raise LookupError(f"no run {run_id!r}; captured: {[record.run_id for record in self.runs]}")
