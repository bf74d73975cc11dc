"""Record a program in any language: `python tests/emitters/record_otlp.py NAME TITLE COMMAND...`, a tool of maintainers.

Runs the command with a receiver on loopback in `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` (OTLP over HTTP, protobuf or JSON) and a
model in `MODEL_URL`, and writes the spans that came to the program TITLE of `tests/emitters/recorded/NAME.json`. That file
must be there, with `emitter`, `versions`, `source`, `resource` and `programs`; the runs that a user expects are kept, and
are empty for a new program.

Spans arrive after their end: what they had at their start is known only of senders that note it, as
`programs/javascript/recording.mjs` does, in the attributes `recorded.start` and `recorded.soon`. Of others everything
counts as given at the start, but for names that tell of a result.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

from otel_agent_telemetry.otel.otlp_spans import _KINDS, _STATUSES, values_of
from otel_agent_telemetry.service.otlp_parsing import parse_json, parse_protobuf
from otel_agent_telemetry.service.otlp_signals import TRACES
from tests.emitters.fake_model_server import FakeModelServer
from tests.emitters.otlp_receiver import OtlpReceiver
from tests.emitters.record import FOLDER, _text, _trimmed, _trimmed_text

START, SOON = "recorded.start", "recorded.soon"
_RESULTS = re.compile(r"usage|token|response|output|result|finish|error|duration|status|cost")


def spans_of(received):
    """Return the spans that were posted, each with the name of its scope; logs and metrics are passed over."""
    spans = []
    for request in received:
        if request.signal == "traces":
            parsed = (parse_json if request.is_json else parse_protobuf)(request.content, TRACES)
            for group in parsed.request.resource_spans:
                spans += [(span, scope.scope.name) for scope in group.scope_spans for span in scope.spans]
    return spans


def described(spans):
    """Return received spans as the recorded programs describe spans, in the order in which they began."""
    spans = sorted(spans, key=lambda one: (one[0].start_time_unix_nano, -one[0].end_time_unix_nano))
    numbers = {span.span_id: str(place) for place, (span, _) in enumerate(spans, 1)}
    began = spans[0][0].start_time_unix_nano
    traces = {}
    return [_described(span, scope, numbers, traces, began) for span, scope in spans]


def _described(span, scope, numbers, traces, began):
    end = values_of(span.attributes)
    name, at_start = json.loads(end.pop(START, "null")) or (span.name, [key for key in end if not _RESULTS.search(key)])
    soon = [key for key in json.loads(end.pop(SOON, "[]")) if key in end and key not in at_start]
    trace = traces.setdefault(span.trace_id, len(traces) + 1)
    kind, status = _KINDS[span.kind], _STATUSES[span.status.code]
    found = {
        "id": numbers[span.span_id],
        "trace": trace if trace > 1 else None,
        "parent": numbers.get(span.parent_span_id, "missing") if any(span.parent_span_id) else None,
        "name": name,
        "renamed": span.name if span.name != name else None,
        "kind": kind if kind != "internal" else None,
        "scope": scope,
        "start": (span.start_time_unix_nano - began) // 1000,
        "end": (span.end_time_unix_nano - began) // 1000,
        "attributes": _trimmed({key: end[key] for key in at_start if key in end}),
        "soon": _trimmed({key: end[key] for key in soon}),
        "later": _trimmed({key: value for key, value in end.items() if key not in at_start and key not in soon}),
        "events": [
            [event.name, (event.time_unix_nano - began) // 1000, _trimmed(values_of(event.attributes))]
            for event in span.events
        ],
        "status": [status, *filter(None, [_trimmed_text(span.status.message)])] if status != "unset" else None,
    }
    return {key: value for key, value in found.items() if value not in (None, {}, [])}


def main(name, title, *command):
    path = FOLDER / f"{name}.json"
    emitter = json.loads(path.read_text())
    with OtlpReceiver() as receiver, FakeModelServer() as model:
        places = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{receiver.url}/v1/traces", "MODEL_URL": model.url}
        done = subprocess.run(command, env={**os.environ, **places}, check=False)
        spans = spans_of(receiver.received)
        print("exit code:", done.returncode, "the model:", model.taken(), "spans:", len(spans))
    known = emitter["programs"].get(title, {"runs": []})
    emitter["programs"][title] = {**known, "spans": described(spans)}
    emitter["programs"][title].pop("order", None)
    path.write_text(_text(emitter))


if __name__ == "__main__":
    main(*sys.argv[1:])
