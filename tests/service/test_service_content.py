"""Message content that is sent to the service over OTLP reaches neither its answers nor its database."""

from __future__ import annotations

import pytest
from otlp_requests import ENCODINGS, below, request, response_of, run, send, span

from tests.otel.content_cases import LEAKS

SECRET = "my knee hurts"
MESSAGES = [{"role": "user", "parts": [{"type": "text", "content": SECRET}]}]


@pytest.mark.parametrize("kind", ENCODINGS)
def test_no_name_of_content_is_stored(sqlite_service, kind):
    """As texts, as maps and lists of them; of runs, their steps and events of conventions."""
    values = (SECRET, MESSAGES, {"a": {"b": SECRET}}, [SECRET], f'[{{"text": "{SECRET}"}}]')
    attributes = {name: values[number % len(values)] for number, name in enumerate(LEAKS)}
    attributes |= {"app.settings": {"prompt": SECRET, "level": 3}, "n": 1}
    attributes.pop("all_messages_events")  # it makes a span an agent's
    sent = request(
        span(1, attributes=attributes, events=[("gen_ai.user.message", {"content": SECRET, "role": "user"})]),
        span(2, 1, attributes=attributes, events=[("gen_ai.choice", {"message": MESSAGES[0], "index": 0})]),
    )
    assert response_of(send(sqlite_service, sent, kind)) == (0, "")
    stored = run(sqlite_service)
    (step,), events = below(sqlite_service, 1, "spans"), below(sqlite_service, 1, "events")
    assert SECRET not in str((stored, step, events))
    assert SECRET.encode() not in b"".join(
        path.read_bytes() for path in sqlite_service.settings.db_path.parent.iterdir()
    )
    assert step["attributes"] == {"app.settings": {"level": 3}, "n": 1}
    assert {event["event_type"]: event["payload"] for event in events} == {
        "gen_ai.user.message": {"role": "user"},
        "gen_ai.choice": {"index": 0},
    }
    dropped = stored["context_json"]["dropped"]
    assert (dropped["ai.prompt"], dropped["app.settings.prompt"], dropped["content"]) == (2, 2, 1)
