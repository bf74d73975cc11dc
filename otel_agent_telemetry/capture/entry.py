"""An entry: the eight members of seed 004, and the id of the run that it is as well.

    timestamp      when it was captured, ISO 8601 with a zone, UTC, microseconds
    skill          what was done
    status         success, failure, timeout, error or pending
    duration_ms    milliseconds, a fraction allowed
    caller         who asked for it
    inputs         JSON object, secrets masked, bounded
    error_message  text or null
    metadata       JSON object, secrets masked, bounded
    run_id         the run's id (not in the seed)

`failure` is what the work said of itself, `error` is what it raised. The run has `failed`
for both, and `partial` for `pending`: the work that was captured is over, its outcome is
not. Where the words differ, the run's `context_json` has the entry's as `capture_status`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

import orjson

from otel_agent_telemetry import status as st
from otel_agent_telemetry.redaction import clean_members
from otel_agent_telemetry.secret_patterns import mask_text
from otel_agent_telemetry.wire import bounded_repr, dumps_text

SUCCESS: Final = "success"
FAILURE: Final = "failure"
TIMEOUT: Final = "timeout"
ERROR: Final = "error"
PENDING: Final = "pending"
STATUSES: Final = (SUCCESS, FAILURE, TIMEOUT, ERROR, PENDING)

JOB_TYPE: Final = "capture"
"""`job_type` of the runs that are entries."""
MAX_INPUT_BYTES: Final = 65_536
"""Text kept of one entry's inputs, and of its metadata: enough to know a call by, on the caller's thread."""

_MAX_DIGITS: Final = 18
_MAX_MESSAGE: Final = 16_384
_MAX_NAME: Final = 1_000
_RUN_STATUS: Final = {
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
    """The status. Raises ValueError, in the words of seed 004, for what is none."""
    if isinstance(status, str) and status in STATUSES:
        return status
    shown = status[:_MAX_NAME] if isinstance(status, str) else bounded_repr(status)
    raise ValueError(f"Invalid status: {shown}. Must be one of: {', '.join(STATUSES)}")


def known_status(word: object) -> str | None:
    """The status that a word means, in any case, or one of a run's words for it; None for anything else."""
    if not issubclass(type(word), str):  # isinstance would ask the object itself
        return None
    plain = cast("str", word).strip().lower()
    return plain if plain in STATUSES else _OTHER_WORDS.get(plain)


def run_status(status: str) -> str:
    """The status of the run that is an entry of this status."""
    return _RUN_STATUS[status]


def told_of(entry: Entry) -> dict[str, Any]:
    """What the run is told of its entry: names that are no columns go to `context_json`."""
    told: dict[str, Any] = {name: entry[name] for name in ("inputs", "metadata") if entry[name]}
    if entry["status"] != run_status(entry["status"]):
        told["capture_status"] = entry["status"]
    if entry["error_message"]:
        told["error_summary"] = entry["error_message"]
    return told


def verdict_of(result: object) -> tuple[str, str | None]:
    """What a returned dict says of the work: a status and, unless it is a success, why."""
    if not issubclass(type(result), dict):  # isinstance would ask the object itself
        return SUCCESS, None
    told = cast("dict[Any, Any]", result)
    status = known_status(dict.get(told, "status")) or SUCCESS
    said = (dict.get(told, key) for key in _MESSAGE_KEYS) if status != SUCCESS else ()
    return status, next((text for text in said if type(text) is str and text), None)


def plain_inputs(given: object, *, secret_keys: Iterable[str] = ()) -> dict[str, Any]:
    """A mapping as an entry may hold it: a copy in plain JSON types, secrets masked, bounded. Never raises."""
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
    """What JSON text says; integers beyond 64 bits, which many readers refuse, as text."""
    try:
        return orjson.loads(text)
    except ValueError:
        return json.loads(text, parse_int=lambda digits: int(digits) if len(digits) <= _MAX_DIGITS else digits)


def milliseconds(duration: object) -> float:
    """A duration as a number that JSON has; what is none, or negative, is 0."""
    try:
        number = float(duration)  # type: ignore[arg-type]  # whatever it is
    except Exception:  # its own method may raise anything
        return 0.0
    return number if math.isfinite(number) and number >= 0 else 0.0


def name_of(value: object, default: str) -> str:
    """A skill's or a caller's name, whatever was given."""
    if issubclass(type(value), str):  # isinstance would ask the object itself
        return str.__str__(cast("str", value))[:_MAX_NAME] or default
    return default if value is None else bounded_repr(value)


def message_of(value: object) -> str | None:
    """An error message with secrets masked, bounded."""
    if value is None:
        return None
    return mask_text((cast("str", value) if issubclass(type(value), str) else bounded_repr(value))[:_MAX_MESSAGE])
