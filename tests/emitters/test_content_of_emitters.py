"""What recorded emitters send as message content is stored nowhere, under none of the names that they repeat it under."""

from __future__ import annotations

import json
from dataclasses import asdict

from opentelemetry.sdk.trace import SpanProcessor

from otel_agent_telemetry import AgentRunSpanProcessor
from otel_agent_telemetry.otel.content import ContentRule, Verdict
from otel_agent_telemetry.testing import MemoryRecorder, isolated_config
from tests.emitters.recorded_program import provider_of, recorded_programs

RULE = ContentRule()
SENTENCE = 14
"""Characters from which a text with a blank is looked for: shorter ones are words that stand elsewhere too."""


def test_what_was_said_is_stored_nowhere():
    """Texts under names of content do not come back in runs, steps and events; but where they are errors or names."""
    looked_for = 0
    for program in recorded_programs():
        said, stored = recorded(program)
        looked_for += len(said)
        assert [text for text in said if json.dumps(text)[1:-1] in stored] == [], program
    assert looked_for > 100


def recorded(program):
    """Replay a program; return the sentences under its names of content, and all that was stored as one text."""
    recorder = MemoryRecorder(isolated_config("/nowhere", skip_validation=True))
    provider, looking = provider_of(program), Looking()
    provider.add_span_processor(looking)
    provider.add_span_processor(AgentRunSpanProcessor(recorder=recorder))
    program.replay(provider, "live")
    records = (*recorder.states, *recorder.events, *recorder.spans)
    excused = "\n".join(looking.excused)
    stored = json.dumps([asdict(record) for record in records], default=str)
    return {text for text in looking.said if text not in excused}, stored


class Looking(SpanProcessor):
    """Collects what ended spans hold under names of content, and what is kept for another reason."""

    def __init__(self):
        self.said = set()
        self.excused = []

    def on_end(self, span):
        self.excused += [span.name, span.status.description or ""]
        for event in span.events:
            self._look(event.attributes or {}, is_judged=RULE.ruled_events[event.name])
        self._look(span.attributes or {}, is_judged=True)

    def _look(self, attributes, *, is_judged):
        for name, value in attributes.items():
            if name.startswith(("exception.", "error")):
                self.excused.append(str(value))
            elif is_judged and RULE.verdict(name) is Verdict.CONTENT:
                self.said |= {text for text in texts_in(value) if len(text) >= SENTENCE and " " in text}


def texts_in(value):
    if isinstance(value, str):
        try:
            inside = json.loads(value) if value[:1] in "{[" else None
        except ValueError:
            inside = None
        if inside:
            yield from texts_in(inside)
        else:
            yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from texts_in(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from texts_in(item)
