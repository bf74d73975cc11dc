"""How a run ended: its status and why, from its span, from an exception, or from what was known last. Pure.

Owns the columns that only an ended run has. Which status a type of exception means is in the
table of conventions (`conventions.exception_status`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from otel_agent_telemetry import status as st
from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.columns import Fields
from otel_agent_telemetry.last_error import with_last_error
from otel_agent_telemetry.otel import conventions as names
from otel_agent_telemetry.otel.spans import SpanView
from otel_agent_telemetry.patterns import lazy
from otel_agent_telemetry.redaction import clean
from otel_agent_telemetry.secret_patterns import mask_text

_MAX_SUMMARY: Final = 2_000
_MAX_DETAILS: Final = 64_000
_STACK: Final = lazy(r"\n\s+at |\nTraceback \(most recent|\n +File \"|\ngoroutine ")


class Ending(NamedTuple):
    """How a run ended: its status and, unless it succeeded, why."""

    status: str
    summary: str | None = None
    details: str | None = None


_SUCCEEDED: Final = Ending(st.SUCCESS)


def ending_of(view: SpanView, exception: Mapping[str, Any] | None, interrupted: BaseException | None) -> Ending:
    """Return how the run ended, by the span alone.

    `exception`: attributes of the last exception event. `interrupted`: an exception that
    ended the span without being recorded on it (OpenTelemetry records `Exception` only).
    """
    if view.status == "error" or (exception is not None and _exception_decides(view)):
        kind = str((exception or {}).get(names.EXCEPTION_TYPE) or view.attributes.get(names.ERROR_TYPE) or "")
        message = str((exception or {}).get(names.EXCEPTION_MESSAGE) or "") or view.status_message or ""
        return Ending(names.exception_status(kind, message.partition("\n")[0]), *_why(view, exception))
    if interrupted is not None:
        return ending_of_exception(interrupted)
    return _SUCCEEDED


def _exception_decides(view: SpanView) -> bool:
    """Return whether the sender of a span reports a failure by the exception alone, with the status unset."""
    sender = names.sender_of(view.attributes, view.resource)
    return sender is not None and sender.exception_decides


def ending_with_status(given_status: object, ending: Ending) -> Ending:
    """Return the ending with the status that was given for it; what is no final status becomes `failed`."""
    word = st.canonical_status(given_status)
    if word == st.SUCCESS:
        return _SUCCEEDED
    final = word if word is not None and st.is_terminal(word) else st.FAILED
    return Ending(final, ending.summary, ending.details)


def ending_of_exception(problem: BaseException) -> Ending:
    """Return the ending that an exception means; leaving with exit code 0 is a success."""
    if isinstance(problem, SystemExit) and problem.code in (None, 0):
        return Ending(st.SUCCESS)
    kind, message = type(problem).__name__, _text(problem)
    return Ending(names.exception_status(kind, message), f"{kind}: {message}"[:_MAX_SUMMARY])


def ending_of_left_open(view: SpanView, exception: Mapping[str, Any] | None, last_error: str | None) -> Ending:
    """Return how a run ends that its process left open: failed, with the last error known of it or of its steps."""
    summary = "the process exited while the run was still open"
    error, details = _why(view, exception)
    return Ending(st.FAILED, with_last_error(summary, error or last_error or "")[:_MAX_SUMMARY], details)


def _why(view: SpanView, exception: Mapping[str, Any] | None) -> tuple[str | None, str | None]:
    """Return the error in one line, and in full."""
    if exception:
        kind = str(exception.get(names.EXCEPTION_TYPE) or "")
        message, stack = _message_and_stack(str(exception.get(names.EXCEPTION_MESSAGE) or ""))
        summary = f"{kind}: {message}" if kind and message else kind or message or "Exception"
        stack = str(exception.get(names.EXCEPTION_STACK) or "") or stack
    else:
        summary, stack = _message_and_stack(view.status_message or str(view.attributes.get(names.ERROR_TYPE) or ""))
    return summary[:_MAX_SUMMARY] or None, stack[-_MAX_DETAILS:] or None


def _message_and_stack(text: str) -> tuple[str, str]:
    """Return a message's first line, and all of it, where it holds a stack; else the message, and nothing."""
    return (text.lstrip().partition("\n")[0].rstrip(), text) if _STACK.search(text) else (text, "")


def _text(problem: BaseException) -> str:
    """Return the message of an exception, whose `__str__` is code of the application and may raise."""
    try:
        return str(problem)
    except Exception as failure:
        return f"<str raises {type(failure).__name__}>"


def ending_fields(ending: Ending, *, start_ns: int, end_ns: int, updated_ns: int) -> Fields:
    """Return the columns that only an ended run has."""
    # A clock that was set back during the run: it must not end before it began.
    ends = max(end_ns, start_ns)
    ended_at = iso_utc(ends)
    fields: Fields = {
        "status": ending.status,
        "end_time": ended_at,
        "duration_ms": (ends - start_ns) // 1_000_000,
        "updated_at": ended_at if updated_ns == ends else iso_utc(updated_ns),
    }
    return fields | error_fields(ending)


def error_fields(ending: Ending) -> Fields:
    """Return the columns that say why a run failed; none for one that succeeded."""
    fields: Fields = {}
    if ending.summary:
        fields["error_summary"] = clean(ending.summary)
    if ending.details:
        fields["error_details"] = mask_text(ending.details)
    return fields
