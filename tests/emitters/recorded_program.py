"""Programs as they were recorded: the spans that a framework made, and the runs that its user expects.

One file of `recorded/` is one emitter: a framework, or an instrumentation of one. Its members:

- `emitter`, `versions` (package → version), `source` ("recorded by running it with a fake model", or the public file or
  specification that gives the shape), `resource`;
- `programs`: name → `spans`, `runs`, and optionally `order`, `runs_by_way`.

A span has `id` (unique in its program), `parent` (an id; absent for a root; an id that no span has stands for a span
that never arrives), `trace` (default 1), `name`, `kind` (default `internal`), `scope`, `start` and `end` (microseconds
after the program began; without `end` the span is never ended), `attributes` (given at its start), `soon` (set before its
first child began), `later` (set after that), `renamed` (its name at the end), `events` (`[name, microseconds, attributes]`) and
`status` (`[code, description]`). `order` lists `+id` for each start and `-id` for each end as they happened; without it
they follow the times.

A run has `agent`, `status` (default `success`), `inside` (the agent of the run that it is inside of), `error`
(`error_summary`, compared where it is given, and expected to be absent on a success), the counts of `metrics_json.gen_ai`
(`model_calls`, `tool_calls`, `input_tokens`, `output_tokens` are 0 where absent; others are compared where given), and any column
by name. Runs are listed in the order in which they began; a program has exactly these. `runs_by_way` replaces `runs`
for `live`, `exporter` or `otlp`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Span, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

FOLDER = Path(__file__).parent / "recorded"
BEGAN_NS = 1_790_000_000 * 1_000_000_000
_USAGE = ("model_calls", "tool_calls", "input_tokens", "output_tokens")


@dataclass(frozen=True)
class RecordedProgram:
    """One program of one emitter. `way` makes its trace ids its own, so that a store can hold every program."""

    emitter: str
    name: str
    resource: dict[str, Any]
    spans: list[dict[str, Any]]
    runs: list[dict[str, Any]]
    order: list[str] | None = None
    runs_by_way: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.emitter}: {self.name}"

    def expected(self, way: str) -> list[dict[str, Any]]:
        """Return the runs that a way must give, complete as `seen_as` completes them."""
        runs = self.runs_by_way.get(way, self.runs)
        return [{"status": "success", "inside": None, **dict.fromkeys(_USAGE, 0), **run} for run in runs]

    def trace_id(self, way: str, number: int = 1) -> int:
        """Return the id of the program's trace with this number."""
        return int.from_bytes(sha256(f"{self} {way} {number}".encode()).digest()[:16], "big")

    def trace_ids(self, way: str) -> set[str]:
        """Return the ids of the program's traces, in hex."""
        return {f"{self.trace_id(way, span.get('trace', 1)):032x}" for span in self.spans}

    def replay(self, provider: TracerProvider, way: str) -> None:
        """Make the program's spans with a provider that has this program's `Ids`, in the recorded order."""
        by_id = {str(span["id"]): span for span in self.spans}
        opened: dict[str, Span] = {}
        for step in self.order or order_of_times(self.spans):
            recorded = by_id[step[1:]]
            if step[0] == "+":
                _set_soon(opened.get(str(recorded.get("parent"))), by_id.get(str(recorded.get("parent"))))
                opened[step[1:]] = self._start(provider, recorded, opened, way)
            elif recorded.get("end") is not None:
                _end(opened[step[1:]], recorded)

    def _start(self, provider: TracerProvider, recorded: dict[str, Any], opened: dict[str, Span], way: str) -> Span:
        parent, number = recorded.get("parent"), recorded.get("trace", 1)
        above = opened.get(str(parent))
        if above is None and parent is not None:
            ids = SpanContext(self.trace_id(way, number), span_id(parent), is_remote=False, trace_flags=TraceFlags(1))
            above = NonRecordingSpan(ids)
        provider.id_generator.next = self.trace_id(way, number), span_id(recorded["id"])
        return provider.get_tracer(recorded.get("scope", "recorded")).start_span(
            recorded["name"],
            context=trace.set_span_in_context(above or trace.INVALID_SPAN),
            kind=SpanKind[recorded.get("kind", "internal").upper()],
            attributes=recorded.get("attributes"),
            start_time=_time(recorded["start"]),
        )


class Ids(IdGenerator):
    """Gives a span the ids that are set for it."""

    next: tuple[int, int] = (0, 0)

    def generate_trace_id(self) -> int:
        return self.next[0]

    def generate_span_id(self) -> int:
        return self.next[1]


def provider_of(program: RecordedProgram) -> TracerProvider:
    """Return a provider to replay a program with: its resource and its ids."""
    return TracerProvider(resource=Resource(program.resource), id_generator=Ids(), shutdown_on_exit=False)


def recorded_programs() -> list[RecordedProgram]:
    """Return every program of every emitter."""
    return [program for path in sorted(FOLDER.glob("*.json")) for program in _programs_of(json.loads(path.read_text()))]


def _programs_of(emitter: dict[str, Any]) -> list[RecordedProgram]:
    assert emitter["versions"], emitter["emitter"]
    assert emitter["source"], emitter["emitter"]
    return [
        RecordedProgram(emitter["emitter"], name, emitter.get("resource", {}), **program)
        for name, program in emitter["programs"].items()
    ]


def seen_as(run: dict[str, Any], agents: dict[str, str], expected: dict[str, Any]) -> dict[str, Any]:
    """Return a stored run as the recorded programs describe runs, with the members that are expected of it."""
    usage = (run["metrics_json"] or {}).get("gen_ai", {})
    seen = {
        "agent": run["agent_name"],
        "status": run["status"],
        "inside": agents.get(run["parent_run_id"], run["parent_run_id"]),
        **{name: usage.get(name, 0) for name in _USAGE},
    }
    if run["status"] == "success" and run["error_summary"] is not None:
        seen["error"] = run["error_summary"]
    for name in expected.keys() - seen.keys():
        column = run.get("error_summary" if name == "error" else name)
        seen[name] = usage.get(name) if column is None else column
    return seen


def plain(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row whose JSON columns are objects."""
    return {
        name: json.loads(value) if name.endswith("_json") and isinstance(value, str) else value
        for name, value in row.items()
    }


def span_id(name: object) -> int:
    return int.from_bytes(sha256(str(name).encode()).digest()[:8], "big")


def _time(microseconds: int) -> int:
    return BEGAN_NS + microseconds * 1000


def order_of_times(spans: list[dict[str, Any]]) -> list[str]:
    """Return starts and ends by time; at one instant what began later ends first."""
    steps = [(span["start"], 0, place, f"+{span['id']}") for place, span in enumerate(spans)]
    ends = [
        (span["end"], 1, -place, f"-{span['id']}") for place, span in enumerate(spans) if span.get("end") is not None
    ]
    return [step[-1] for step in sorted([*steps, *ends])]


def _set_soon(span: Span | None, recorded: dict[str, Any] | None) -> None:
    if span is not None and recorded is not None and span.is_recording():
        span.set_attributes(recorded.get("soon", {}))


def _end(span: Span, recorded: dict[str, Any]) -> None:
    span.set_attributes({**recorded.get("soon", {}), **recorded.get("later", {})})
    for name, at, attributes in recorded.get("events", ()):
        span.add_event(name, attributes, _time(at))
    if "renamed" in recorded:
        span.update_name(recorded["renamed"])
    if "status" in recorded:
        code, *description = recorded["status"]
        span.set_status(Status(StatusCode[code.upper()], *description))
    span.end(_time(recorded["end"]))
