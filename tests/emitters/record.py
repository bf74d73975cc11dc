"""Record the programs of a framework: `python tests/emitters/record.py NAME`, a tool of maintainers.

Runs every program of `tests/emitters/programs/NAME.py` with a model on loopback, and writes what its spans were to
`tests/emitters/recorded/NAME.json`. Use the interpreter of an environment that has the framework and what this package
needs, with the project's folder in `PYTHONPATH`. The runs that a user expects are kept where the file has them already; for a new
program they are a draft, made from what live recording gave, and must be checked by hand. Prints what the model was asked for
and what live recording in that process gave, to compare.

A file of programs has `EMITTER`, `PACKAGES` (distributions whose versions are written down), `instrument(provider)` and `PROGRAMS`
(name → function or coroutine function of the model's URL; one that raises is recorded all the same).
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import logging
import re
import sys
import threading
import traceback
from contextvars import copy_context
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

from otel_agent_telemetry import AgentRunSpanProcessor
from otel_agent_telemetry.testing import MemoryRecorder, isolated_config
from tests.emitters.fake_model_server import FakeModelServer
from tests.emitters.recorded_program import FOLDER, RecordedProgram, order_of_times, plain, provider_of, seen_as

_LONGEST = 120
_KEPT_WHOLE = ("metadata", "usage_details", "cost_details")  # JSON that is read
_OWN = "agent.run."
_PATHS = re.compile(r"(?:/[\w.@+-]+)*/(?=site-packages/|lib/python3|tests/emitters/)")
_STATUSES = ("unset", "ok", "error")


class Recording(SpanProcessor):
    """Notes each span's start, what was set before its first child, and its end. Safe under threads."""

    def __init__(self):
        self._guard = threading.Lock()
        self.clear()

    def clear(self):
        self.spans, self.order = {}, []

    def on_start(self, span, parent_context=None):
        with self._guard:
            key = span.get_span_context().span_id
            above = self.spans.get(span.parent.span_id) if span.parent else None
            if above is not None:
                above.setdefault("soon", dict(above["span"].attributes))
            self.spans[key] = {"span": span, "attributes": dict(span.attributes), "name": span.name}
            self.order.append((key, "+"))

    def on_end(self, span):
        with self._guard:
            key = span.get_span_context().span_id
            if key in self.spans:
                self.spans[key]["ended"] = span
                self.order.append((key, "-"))

    def program(self):
        """Return the spans and, where it does not follow from their times, their order."""
        numbers = {key: str(place) for place, key in enumerate(self.spans, 1)}
        traces = {}
        began = min(noted["span"].start_time for noted in self.spans.values())
        spans = []
        for key, noted in self.spans.items():
            span = noted.get("ended", noted["span"])
            number = traces.setdefault(span.get_span_context().trace_id, len(traces) + 1)
            where = {"trace": number} if number > 1 else {}
            spans.append({"id": numbers[key], **where, **_described(noted, span, numbers, began)})
        order = [sign + numbers[key] for key, sign in self.order]
        return {"spans": spans} if order == order_of_times(spans) else {"spans": spans, "order": order}


def _described(noted, span, numbers, began):
    parent = span.parent and numbers.get(span.parent.span_id, "missing")
    start, soon, end = noted["attributes"], noted.get("soon", noted["attributes"]), dict(span.attributes)
    status = _STATUSES[span.status.status_code.value]
    found = {
        "parent": parent,
        "name": noted["name"],
        "renamed": span.name if span.name != noted["name"] else None,
        "kind": span.kind.name.lower() if span.kind.name != "INTERNAL" else None,
        "scope": span.instrumentation_scope.name if span.instrumentation_scope else None,
        "start": (span.start_time - began) // 1000,
        "end": None if span.end_time is None else (span.end_time - began) // 1000,
        "attributes": _trimmed(start),
        "soon": _trimmed({key: value for key, value in soon.items() if start.get(key) != value}),
        "later": _trimmed({key: value for key, value in end.items() if soon.get(key) != value}),
        "events": [
            [event.name, (event.timestamp - began) // 1000, _trimmed(event.attributes or {})] for event in span.events
        ],
        "status": [status, *filter(None, [_trimmed_text(span.status.description or "")])]
        if status != "unset"
        else None,
    }
    return {name: value for name, value in found.items() if value not in (None, {}, [])}


def _trimmed(attributes):
    """Return attributes without ours, long texts cut: a fixture shows names and kinds, not conversations."""
    return {
        key: value if key.endswith(_KEPT_WHOLE) else _trimmed_value(value)
        for key, value in attributes.items()
        if not key.startswith(_OWN)
    }


def _trimmed_value(value):
    if isinstance(value, str):
        return _trimmed_text(value)
    return [_trimmed_value(item) for item in value] if isinstance(value, (tuple, list)) else value


def _trimmed_text(text):
    text = _PATHS.sub("/app/", text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} … {text[-_LONGEST // 2 :]}"


def main(name):
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # connections that a closed loop leaves
    programs = importlib.import_module(f"tests.emitters.programs.{name}")
    path = FOLDER / f"{name}.json"
    known = json.loads(path.read_text())["programs"] if path.exists() else {}
    recording, memory = Recording(), _memory()
    provider = TracerProvider(resource=Resource({"service.name": "app"}), shutdown_on_exit=False)
    provider.add_span_processor(recording)
    provider.add_span_processor(AgentRunSpanProcessor(recorder=memory))
    trace.set_tracer_provider(provider)
    found = {}
    with FakeModelServer() as server:
        programs.instrument(provider)
        for title, program in programs.PROGRAMS.items():
            _run(title, program, server.url)
            print("  the model:", server.taken())
            assert recording.spans, f"{title} made no spans"
            recorded = recording.program()
            live, again = _shown_runs(memory), _replayed(recorded)
            for run in live:
                print("  live:", run)
            if _without_errors(live) != _without_errors(again):
                print("  REPLAYED OTHERWISE:", *again, sep="\n    ")
            found[title] = {**recorded, **_expected(known.get(title, {"runs": again}))}
            recording.clear()
            memory.states.clear()
    emitter = {
        "emitter": programs.EMITTER,
        "versions": {package: version(package) for package in programs.PACKAGES},
        "source": "recorded by running it with a fake model",
        "resource": {"service.name": "app"},
    }
    path.write_text(_text({**emitter, "programs": found}))


def _run(title, program, url):
    print(f"{title}:")
    try:
        copy_context().run(_called, program, url)  # a framework may leave its span current
    except Exception as problem:
        print(f"  raised {type(problem).__name__}: {problem}"[:200])
        if "-v" in sys.argv:
            traceback.print_exc()


def _called(program, url):
    result = program(url)
    if inspect.iscoroutine(result):
        asyncio.run(result)


def _replayed(recorded):
    """Return the runs of the recorded spans, made again; a draft of what a user expects."""
    program = RecordedProgram("draft", "draft", {"service.name": "app"}, recorded["spans"], [], recorded.get("order"))
    provider, memory = provider_of(program), _memory()
    provider.add_span_processor(AgentRunSpanProcessor(recorder=memory))
    program.replay(provider, "draft")
    return _shown_runs(memory)


def _memory():
    return MemoryRecorder(isolated_config("/nowhere", skip_validation=True))


def _shown_runs(memory):
    agents = {state.run_id: state.agent_name for state in memory.states}
    last = {state.event_id: plain(asdict(state)) for state in memory.states}
    return [_shown(run, agents) for run in last.values()]


def _shown(run, agents):
    wanted = {"job_type": 0, **({"error": 0} if run["error_summary"] else {})}
    return {name: value for name, value in seen_as(run, agents, wanted).items() if value not in (0, None)}


def _without_errors(runs):
    """Return runs without their errors, which are cut in what was recorded."""
    return [{name: value for name, value in run.items() if name != "error"} for run in runs]


def _expected(known):
    return {name: value for name, value in known.items() if name in ("runs", "runs_by_way")}


def _text(emitter):
    """Return the file: a line for each span and for each expected run."""
    programs = emitter.pop("programs")
    head = json.dumps(emitter, ensure_ascii=False, indent=1)[:-2]
    bodies = []
    for title, program in programs.items():
        members = [f"   {json.dumps(name)}: {_lines(value)}" for name, value in program.items()]
        bodies.append(f"  {json.dumps(title)}: {{\n" + ",\n".join(members) + "\n  }")
    return f'{head},\n "programs": {{\n' + ",\n".join(bodies) + "\n }\n}\n"


def _lines(value):
    if not (isinstance(value, list) and value and isinstance(value[0], dict)):
        return json.dumps(value, ensure_ascii=False)
    return "[\n" + ",\n".join(f"    {json.dumps(item, ensure_ascii=False)}" for item in value) + "\n   ]"


if __name__ == "__main__":
    main(Path(sys.argv[1]).stem)
