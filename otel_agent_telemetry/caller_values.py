"""What callers of the client give, of whatever type, as the run's columns, words and attributes of spans take it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from otel_agent_telemetry.column_checks import fits, plain_text
from otel_agent_telemetry.columns import LATER_COLUMNS, SETTABLE_COLUMNS
from otel_agent_telemetry.redaction import clean
from otel_agent_telemetry.wire import bounded_repr, dumps_text

SCALARS: Final = frozenset({str, int, float, bool})
"""The types that every version of OpenTelemetry takes as an attribute's value."""


def split_settings(kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the columns that a caller may set, and everything else."""
    if SETTABLE_COLUMNS.issuperset(kwargs) and LATER_COLUMNS.isdisjoint(kwargs):
        return {**kwargs}, {}
    settings = {name: value for name, value in kwargs.items() if name in SETTABLE_COLUMNS}
    for name in LATER_COLUMNS & settings.keys():  # names of the application's own in earlier versions
        if not fits(name, settings[name]):
            del settings[name]
    extra = {name: value for name, value in kwargs.items() if name not in settings}
    return settings, extra


def word_of(value: Any, default: str) -> str:
    """Return a name that a caller gives as text; the default for none and for an empty one."""
    if type(value) is str:
        return value or default
    value = plain_text(value)
    if issubclass(type(value), str):  # isinstance would ask the object itself
        return value or default
    return default if value is None else bounded_repr(value)


def given_summary(settings: Mapping[str, Any], summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return the error summary that the block set itself: it is not replaced with the exception's."""
    return {"error_summary": settings["error_summary"]} if summary and settings.get("error_summary") else {}


def kept_payload(payload: Any, *, max_bytes: int) -> Any:
    """Return the payload as it may be stored, or why it cannot be read: it changes, or its methods raise."""
    try:
        return clean(payload, max_bytes=max_bytes)
    except Exception as problem:
        return {"unreadable": f"{type(payload).__name__} whose items raise {type(problem).__name__}"}


def event_attributes(payload: Any) -> dict[str, Any]:
    """Return a payload as every OpenTelemetry version takes it: scalars as they are, the rest as JSON text."""
    if payload is None:
        return {}
    if type(payload) is not dict:
        return {"payload": dumps_text(payload)}
    return {
        str(name): value if type(value) in SCALARS else dumps_text(value)
        for name, value in payload.items()
        if value is not None
    }
