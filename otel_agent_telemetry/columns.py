"""The columns of a run: which there are, what each may hold, which a caller may set.

What the application's thread needs of the model, apart from the record classes: those cost
milliseconds to make and are wanted by readers and targets only.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from otel_agent_telemetry import status as st
from otel_agent_telemetry.clock import normal_iso
from otel_agent_telemetry.errors import RecordError
from otel_agent_telemetry.patterns import lazy
from otel_agent_telemetry.run_id import check_custom_run_id

SCHEMA_VERSION: Final = 8
MAX_COUNT: Final = 2**63 - 1

STATE_STEP_NS: Final = 2_000
"""How far apart, at least, a recorder keeps the `updated_at` of two states of one run."""
CLOSING_STEP_NS: Final = 1_000
"""How far behind the last state the closing state of a run without an owner lies."""

Fields = dict[str, Any]
"""A run's state on the way to disk: column name → value, defaults left out."""

COLUMNS: Final = (
    *("event_id", "run_id", "schema_version", "created_at", "updated_at", "start_time", "end_time"),
    *("agent_name", "agent_owner", "job_type", "status", "trigger_type", "product", "product_family"),
    *("platform", "subdomain", "website", "website_section", "item_name", "items_discovered", "items_succeeded"),
    *("items_failed", "items_skipped", "duration_ms", "input_summary", "output_summary", "source_ref"),
    *("target_ref", "error_summary", "error_details", "git_repo", "git_branch", "git_commit_hash"),
    *("git_run_tag", "git_commit_source", "git_commit_author", "git_commit_timestamp", "host", "environment"),
    *("metrics_json", "context_json", "api_posted", "api_posted_at", "api_retry_count", "insight_id"),
    *("parent_run_id", "trace_id", "span_id", "service_name"),
)
"""Every column of a run, in the order of the table and of `RunRecord`."""
TIME_COLUMNS: Final = frozenset(
    {"created_at", "updated_at", "start_time", "end_time", "git_commit_timestamp", "api_posted_at"}
)
COUNT_COLUMNS: Final = frozenset(
    {"items_discovered", "items_succeeded", "items_failed", "items_skipped", "duration_ms", "api_retry_count"}
)
JSON_COLUMNS: Final = frozenset({"metrics_json", "context_json"})
COMMIT_COLUMNS: Final = ("git_commit_hash", "git_commit_source", "git_commit_author", "git_commit_timestamp")
POSTING_COLUMNS: Final = ("api_posted", "api_posted_at", "api_retry_count")
REQUIRED_COLUMNS: Final = (
    "event_id",
    "run_id",
    "created_at",
    "updated_at",
    "start_time",
    "agent_name",
    "job_type",
)
SETTABLE_COLUMNS: Final = frozenset(COLUMNS) - {
    *("event_id", "run_id", "schema_version", "created_at", "updated_at", "start_time", "end_time", "status"),
    *("trace_id", "span_id"),
    *POSTING_COLUMNS,
}
"""The columns that a caller may set by name; the rest is what the library observes."""

_OUR_TIME: Final = lazy(
    r"(?!0000)\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{6}\+00:00",
    re.ASCII,
)
"""Our own form on a day that every month has: known to be right without parsing it."""
_HEX: Final = lazy(r"[0-9a-fA-F]+")
_UUID: Final = lazy(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_INTEGERS: Final = COUNT_COLUMNS | {"schema_version", "api_posted"}
HEX_DIGITS: Final = {"trace_id": 32, "span_id": 16}
"""Columns that hold an id of OpenTelemetry, and how many hex digits it has."""


def clamp(values: Mapping[str, Any], problems: list[str]) -> Fields:
    """The caller's values with those of a wrong type or negative left at the default.

    Each one left out adds a sentence to `problems`; nothing is raised (contract, "Client").
    None and the empty text are "not known" and left out without a word.
    Only for SETTABLE_COLUMNS; JSON columns pass through, `JSON_COLUMNS` are encoded later.
    """
    kept: Fields = {}
    for name, value in values.items():
        if value is None or (type(value) is str and not value):
            continue
        try:
            kept[name] = value if name in JSON_COLUMNS else check_column(name, value)
        except RecordError as problem:
            problems.append(str(problem))
        except Exception as failure:  # foreign code: a proxy, a number type of the caller's
            problems.append(f"{name}: cannot be read, {type(failure).__name__}")
    return kept


def check_column(name: str, value: Any) -> Any:
    """The value as its column holds it; raises RecordError."""
    if name in _INTEGERS:
        return _checked_count(name, value)
    if name in TIME_COLUMNS:
        return check_time(name, value)
    if not isinstance(value, str):
        raise RecordError(name, f"must be text, got {type(value).__name__}")
    if not value and name in REQUIRED_COLUMNS:
        raise RecordError(name, "must not be empty")
    check = _TEXT_CHECKS.get(name)
    return value if check is None else check(name, value)


def _checked_count(name: str, value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    is_number = hasattr(type(value), "__index__") and (not isinstance(value, bool) or name == "api_posted")
    bits = 63 if name in COUNT_COLUMNS else 31
    if not is_number or not 0 <= (count := operator.index(value)) < 1 << bits:
        raise RecordError(name, f"must be an integer from 0 to 2^{bits}-1, got {shown(value)}")
    return count


def _checked_status(name: str, value: str) -> str:
    word = st.canonical_status(value)
    if word is None:
        raise RecordError(name, f"must be one of {', '.join(st.STATUSES)}, got {shown(value)}")
    return word


def _checked_run_id(name: str, value: str) -> str:
    if (reason := check_custom_run_id(value)) is not None:
        raise RecordError(name, f"is not usable: {reason}")
    return value


def _checked_uuid(name: str, value: str) -> str:
    if _UUID.fullmatch(value) is None:
        raise RecordError(name, f"must be a UUID, got {shown(value)}")
    return value.lower()


def _checked_hex(name: str, value: str) -> str:
    digits = HEX_DIGITS[name]
    if len(value) != digits or not is_hex(value):
        raise RecordError(name, f"must be {digits} hex digits, got {shown(value)}")
    return value.lower()


_TEXT_CHECKS: Final[Mapping[str, Callable[[str, str], str]]] = {
    "status": _checked_status,
    "event_id": _checked_uuid,
    "run_id": _checked_run_id,
    "parent_run_id": _checked_run_id,
    "trace_id": _checked_hex,
    "span_id": _checked_hex,
}
FREE_TEXT_COLUMNS: Final = frozenset(COLUMNS) - _INTEGERS - TIME_COLUMNS - _TEXT_CHECKS.keys()
"""Columns that hold any text."""


def check_time(name: str, value: Any) -> str:
    """A time in our one form; raises RecordError."""
    if not isinstance(value, str):
        raise RecordError(name, f"must be ISO 8601 text, got {type(value).__name__}")
    if _OUR_TIME.fullmatch(value):
        return value
    try:
        return normal_iso(value)
    except (ValueError, OverflowError):
        raise RecordError(name, f"must be an ISO 8601 time, got {shown(value)}") from None


def is_hex(value: str) -> bool:
    """Whether a text is hex digits only."""
    return _HEX.fullmatch(value) is not None


def shown(value: Any) -> str:
    """A value as an error message may show it: short, and only of plain types."""
    if isinstance(value, str):
        return repr(value if len(value) <= 40 else value[:40] + "…")  # noqa: PLR2004
    if isinstance(value, int) and value.bit_length() > 64:  # noqa: PLR2004 - longer ones may have no decimal repr
        return "a number beyond 64 bits"
    return repr(value) if isinstance(value, (int, float, bool)) else type(value).__name__
