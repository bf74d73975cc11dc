"""An entry: the eight members of seed 004, and the id of the run that records the same work.

    timestamp      when it was captured, ISO 8601 with a zone, UTC, microseconds
    skill          what was executed
    status         success, failure, timeout, error or pending
    duration_ms    milliseconds, a fraction allowed
    caller         who started it
    inputs         JSON object, secrets masked, bounded
    error_message  text or null
    metadata       JSON object, secrets masked, bounded
    run_id         the run's id (not in the seed)

`failure` is an outcome that the work returned, `error` an exception that it raised. The run
has `failed` for both, and `partial` for `pending`: the captured work has ended, its outcome
is still open. Where the two statuses differ, the run's `context_json` has the entry's as
`capture_status`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

import orjson

from otel_agent_telemetry import status as st
from otel_agent_telemetry.clock import parse_iso
from otel_agent_telemetry.redaction import clean_members, kept_name
from otel_agent_telemetry.secret_patterns import mask_text
from otel_agent_telemetry.wire import bounded_repr, dumps_text

SUCCESS: Final = "success"
FAILURE: Final = "failure"
TIMEOUT: Final = "timeout"
ERROR: Final = "error"
PENDING: Final = "pending"
STATUSES: Final = (SUCCESS, FAILURE, TIMEOUT, ERROR, PENDING)

JOB_TYPE: Final = "capture"
"""`job_type` of the runs that belong to entries."""
MAX_INPUT_BYTES: Final = 65_536
"""Text kept of one entry's inputs, and of its metadata: redacting more would hold up the caller's thread."""

_MAX_DIGITS: Final = 18
_MAX_MESSAGE: Final = 16_384
_MAX_NAME: Final = 1_000
_RUN_STATUS: Final[dict[str, st.EndStatus]] = {
    SUCCESS: st.SUCCESS,
    FAILURE: st.FAILED,
    TIMEOUT: st.TIMEOUT,
    ERROR: st.FAILED,
    PENDING: st.PARTIAL,
}
_OTHER_WORDS: Final = {"failed": FAILURE, "succeeded": SUCCESS, "completed": SUCCESS, "ok": SUCCESS}
_MESSAGE_KEYS: Final = ("error_message", "error")

Entry = dict[str, Any]


def checked_status(status: object) -> str:
    """Return the status. Raises ValueError, with the message of seed 004, for anything that is no status."""
    if isinstance(status, str) and status in STATUSES:
        return status
    shown = status[:_MAX_NAME] if isinstance(status, str) else bounded_repr(status)
    raise ValueError(f"Invalid status: {shown}. Must be one of: {', '.join(STATUSES)}")


def known_status(word: object) -> str | None:
    """Return the status for a word in any case, a run's status words included; None for anything else."""
    if not issubclass(type(word), str):  # isinstance would ask the object itself
        return None
    plain = cast("str", word).strip().lower()
    return plain if plain in STATUSES else _OTHER_WORDS.get(plain)


def run_status(status: str) -> st.EndStatus:
    """Return the status of the run that belongs to an entry of this status."""
    return _RUN_STATUS[status]


def captured_between(entry: Entry, first_ns: int | None, last_ns: int | None) -> bool:
    """Return whether an entry has a time in this period, ends included; None is an open end.

    Other programs write the file too: a time that cannot be read is in no period.
    """
    try:
        at = parse_iso(entry["timestamp"])
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError):
        return False
    return (first_ns is None or first_ns <= at) and (last_ns is None or at <= last_ns)


def run_settings(entry: Entry) -> dict[str, Any]:
    """Return what the run keeps of its entry; names that are no columns go to `context_json`."""
    settings: dict[str, Any] = {name: entry[name] for name in ("inputs", "metadata") if entry[name]}
    if entry["status"] != run_status(entry["status"]):
        settings["capture_status"] = entry["status"]
    if entry["error_message"]:
        settings["error_summary"] = entry["error_message"]
    return settings


def outcome_of(result: object) -> tuple[str, str | None]:
    """Return the status that a returned dict states and, unless it is a success, its error message."""
    if not issubclass(type(result), dict):  # isinstance would ask the object itself
        return SUCCESS, None
    returned = cast("dict[Any, Any]", result)
    status = known_status(dict.get(returned, "status")) or SUCCESS
    messages = (dict.get(returned, key) for key in _MESSAGE_KEYS) if status != SUCCESS else ()
    return status, next((text for text in messages if type(text) is str and text), None)


def plain_inputs(given: object, *, secret_keys: Iterable[str] = ()) -> dict[str, Any]:
    """Return a copy of a mapping in plain JSON types, secrets masked, bounded to `MAX_INPUT_BYTES`. Never raises.

    `secret_keys`: further keys whose values are masked, at any depth, in any case.
    """
    if given is None:
        return {}
    try:
        named = given if isinstance(given, Mapping) else {"value": given}
        kept = clean_members(named, max_bytes=MAX_INPUT_BYTES, secret_keys=secret_keys)
        copied: dict[str, Any] = _loads(dumps_text(kept))
    except Exception as failure:  # the mapping's own methods
        return {"unreadable": f"{type(given).__name__} raises {type(failure).__name__}"}
    return copied


def _loads(text: str) -> Any:
    """Parse JSON text; integers beyond 64 bits, which many readers refuse, become text."""
    try:
        return orjson.loads(text)
    except ValueError:
        return json.loads(text, parse_int=lambda digits: int(digits) if len(digits) <= _MAX_DIGITS else digits)


def milliseconds(duration: object) -> float:
    """Return a duration as a finite number; 0 for what is no number, or negative."""
    try:
        number = float(duration)  # type: ignore[arg-type]  # whatever it is
    except Exception:  # its own method may raise anything
        return 0.0
    return number if math.isfinite(number) and number >= 0 else 0.0


def name_of(value: object, default: str) -> str:
    """Return a skill's or a caller's name as text of bounded length, secrets masked, whatever was given."""
    if issubclass(type(value), str):  # isinstance would ask the object itself
        return kept_name(str.__str__(cast("str", value))[:_MAX_NAME]) or default
    return default if value is None else kept_name(bounded_repr(value))


def message_of(value: object) -> str | None:
    """Return an error message with secrets masked, bounded to 16 KiB; None for None."""
    if value is None:
        return None
    return mask_text((cast("str", value) if issubclass(type(value), str) else bounded_repr(value))[:_MAX_MESSAGE])
