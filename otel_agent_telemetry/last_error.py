"""The last error that the steps and events of a run name, for a run that nobody ended. Pure.

A step names one where its status is `error`; an event where it describes an exception.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from otel_agent_telemetry.wire import EVENT, SPAN, Line

EXCEPTION: Final = "exception"
"""The name of the event that describes an exception (OpenTelemetry)."""
_MAX_ERROR: Final = 1_000


def error_of_step(status: str, message: str | None, attributes: Mapping[str, Any]) -> str:
    """Return the error of a step in one line; empty for a step that did not fail, or does not say why."""
    return _one_line(message or attributes.get("error.type")) if status == "error" else ""


def error_of_exception(payload: Mapping[str, Any]) -> str:
    """Return the error of the attributes of an exception event, `Type: message`; empty where they name none."""
    parts = (_one_line(payload.get(f"exception.{name}")) for name in ("type", "message"))
    return ": ".join(filter(None, parts))


def error_of_line(line: Line) -> str:
    """Return the error that a line of the journal names; empty for none."""
    kind = line.get("record_type")
    if kind == SPAN:
        attributes = line.get("attributes")
        message = line.get("status_message")
        return error_of_step(str(line.get("status")), message, attributes if isinstance(attributes, dict) else {})
    payload = line.get("payload") if kind == EVENT and line.get("event_type") == EXCEPTION else None
    return error_of_exception(payload) if isinstance(payload, dict) else ""


def with_last_error(summary: str, error: str) -> str:
    """Return why a run was ended in its place, with the last error known of it."""
    return f"{summary}; its last error: {error}" if error else summary


def _one_line(text: object) -> str:
    """Return the first line of a text, with the second where the first only announces it."""
    if not isinstance(text, str):
        return ""
    first, *more = map(str.strip, text.strip().split("\n", 2))
    return (f"{first} {more[0]}" if more and first.endswith(":") else first)[:_MAX_ERROR]
