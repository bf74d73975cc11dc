"""Check the values of columns: what a caller, a client of the service or a journal gives for one.

`check_column` is strict and raises RecordError; it is used where a wrong value can be refused, by the service and by
readers of journals. `clamp` is for the application's own calls, which never fail: it leaves a wrong value out and
returns why. Which columns there are, and what each may hold, is in `columns`.

This module stays cheap to import, because the application's thread needs it: its patterns are compiled on first use.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final
from uuid import UUID

import orjson

from otel_agent_telemetry import status as st
from otel_agent_telemetry.clock import normal_iso
from otel_agent_telemetry.columns import (
    AMOUNT_COLUMNS,
    COLUMNS,
    COUNT_COLUMNS,
    HEX_DIGITS,
    INTEGER_COLUMNS,
    JSON_COLUMNS,
    KIND_OF,
    REQUIRED_COLUMNS,
    TIME_COLUMNS,
    Fields,
    Kind,
)
from otel_agent_telemetry.errors import RecordError
from otel_agent_telemetry.patterns import lazy
from otel_agent_telemetry.run_id import check_custom_run_id

_PLAIN_TYPES: Final = frozenset({str, int, float, bool, type(None)})
_MAX_AMOUNT: Final = 1e15
_OUR_TIME: Final = lazy(
    r"(?!0000)\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{6}\+00:00",
    re.ASCII,
)
"""The normal form on a day that every month has: valid without parsing it."""
_HEX: Final = lazy(r"[0-9a-fA-F]+")
_PLUMBING: Final = "plumbing"
"""The flag that is filtered by: nothing but 0 and 1 would be found again."""
_UUID: Final = lazy(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def clamp(values: Mapping[str, Any], problems: list[str]) -> Fields:
    """Return the caller's values without those of a wrong type and negative ones.

    Adds a sentence to `problems` for each value left out; raises nothing (contract, "Client").
    None and the empty text are "not known" and left out without a sentence. A count may be a
    number of any type that is whole, or its digits as text; a text may be an `Enum` or a UUID.
    Only for SETTABLE_COLUMNS; values of JSON_COLUMNS are returned unchanged and encoded later.
    """
    kept: Fields = {}
    for name, value in values.items():
        if value is None or (type(value) is str and not value):
            continue
        try:
            kept[name] = value if name in JSON_COLUMNS else check_column(name, _meant(name, value))
        except RecordError as problem:
            problems.append(str(problem))
        except Exception as failure:  # code of the caller: a proxy, a number type
            problems.append(f"{name}: cannot be read, {type(failure).__name__}")
    return kept


def _meant(name: str, value: Any) -> Any:
    """Return what a caller's value means where its type is another one; else the value itself."""
    value = plain_text(value)
    if name in AMOUNT_COLUMNS:
        return _float(value)
    if name not in COUNT_COLUMNS:
        return value
    if type(value) is str and (digits := value.strip()).isascii() and digits.isdigit():
        return int(digits)
    if not isinstance(value, (int, float, str)) and hasattr(type(value), "as_integer_ratio"):  # Decimal, Fraction
        whole, parts = value.as_integer_ratio()
        return whole if parts == 1 else value
    return value


def _float(value: Any) -> Any:
    """Return a number of any type, or its text, as a float; anything else as it is."""
    if isinstance(value, bool) or not (isinstance(value, (int, float, str)) or hasattr(type(value), "__float__")):
        return value
    try:
        return float(value)
    except (ValueError, OverflowError):
        return value


def fits(name: str, value: Any) -> bool:
    """Return whether a column takes what a caller gives for it; None and the empty text it does. Never raises."""
    if value is None or (type(value) is str and not value):
        return True
    try:
        if name in JSON_COLUMNS:
            return isinstance(value, Mapping) or (isinstance(value, str) and value.lstrip()[:1] == "{")
        check_column(name, _meant(name, value))
    except Exception:  # a RecordError; or code of the caller: a proxy, a number type
        return False
    return True


def plain_text(value: Any) -> Any:
    """Return the value of an `Enum`'s member, and a UUID as text; anything else as it is."""
    if type(value) in _PLAIN_TYPES:
        return value
    if issubclass(type(value), Enum):
        return plain_text(value.value)
    # By exact type: a class of the application's may have a `__str__` that does anything.
    return str(value) if type(value) is UUID else value


def check_column(name: str, value: Any) -> Any:
    """Return the value as its column holds it. Raises RecordError."""
    if name in INTEGER_COLUMNS:
        return _checked_count(name, value)
    if name in TIME_COLUMNS:
        return check_time(name, value)
    if name in AMOUNT_COLUMNS:
        return _checked_amount(name, value)
    if not isinstance(value, str):
        raise RecordError(name, f"must be text, got {type(value).__name__}")
    if not value and name in REQUIRED_COLUMNS:
        raise RecordError(name, "must not be empty")
    check = _TEXT_CHECKS.get(name)
    return value if check is None else check(name, value)


def _checked_count(name: str, value: Any) -> int:
    """Return an integer within the bounds of its column. Raises RecordError."""
    # JSON of other languages has one type of number: 3.0 is a count.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    is_number = hasattr(type(value), "__index__") and (not isinstance(value, bool) or KIND_OF[name] == "flag")
    bits = 63 if name in COUNT_COLUMNS else 1 if name == _PLUMBING else 31
    if not is_number or not 0 <= (count := operator.index(value)) < 1 << bits:
        raise RecordError(name, f"must be an integer from 0 to 2^{bits}-1, got {shown(value)}")
    return count


def _checked_amount(name: str, value: Any) -> float:
    """Return a finite number from 0 as a float. Raises RecordError."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= _MAX_AMOUNT:
        raise RecordError(name, f"must be a number from 0, got {shown(value)}")
    return float(value)


def _checked_status(name: str, value: str) -> str:
    """Return the stored word of a status. Raises RecordError."""
    word = st.canonical_status(value)
    if word is None:
        raise RecordError(name, f"must be one of {', '.join(st.STATUSES)}, got {shown(value)}")
    return word


def _checked_run_id(name: str, value: str) -> str:
    """Return a run id that keeps the rules of run ids. Raises RecordError."""
    if (reason := check_custom_run_id(value)) is not None:
        raise RecordError(name, f"is not usable: {reason}")
    return value


def _checked_uuid(name: str, value: str) -> str:
    """Return a UUID in lower case. Raises RecordError."""
    if _UUID.fullmatch(value) is None:
        raise RecordError(name, f"must be a UUID, got {shown(value)}")
    return value.lower()


def _checked_hex(name: str, value: str) -> str:
    """Return an id of OpenTelemetry in lower case. Raises RecordError."""
    digits = HEX_DIGITS[name]
    if len(value) != digits or not is_hex(value):
        raise RecordError(name, f"must be {digits} hex digits, got {shown(value)}")
    return value.lower()


def _checked_labels(name: str, value: str) -> str:
    """Return the JSON text of an object. Raises RecordError."""
    try:
        is_object = isinstance(orjson.loads(value), dict)
    except ValueError:
        is_object = False
    if not is_object:
        raise RecordError(name, "must be the JSON text of an object")
    return value


_CHECK_OF_KIND: Final[Mapping[Kind, Callable[[str, str], str]]] = {
    "status": _checked_status,
    "uuid": _checked_uuid,
    "run_id": _checked_run_id,
    "hex": _checked_hex,
}
_TEXT_CHECKS: Final[dict[str, Callable[[str, str], str]]] = {
    name: _CHECK_OF_KIND[kind] for name, kind in KIND_OF.items() if kind in _CHECK_OF_KIND
}
_TEXT_CHECKS["labels"] = _checked_labels  # read by SQL, which a text that is no JSON would fail
FREE_TEXT_COLUMNS: Final = frozenset(COLUMNS) - INTEGER_COLUMNS - AMOUNT_COLUMNS - TIME_COLUMNS - _TEXT_CHECKS.keys()
"""Columns that hold any text."""


def check_time(name: str, value: Any) -> str:
    """Return a time as ISO 8601 in UTC with microseconds. Raises RecordError."""
    if not isinstance(value, str):
        raise RecordError(name, f"must be ISO 8601 text, got {type(value).__name__}")
    if _OUR_TIME.fullmatch(value):
        return value
    try:
        return normal_iso(value)
    except (ValueError, OverflowError):
        raise RecordError(name, f"must be an ISO 8601 time, got {shown(value)}") from None


def is_hex(value: str) -> bool:
    """Return whether a text is hex digits only."""
    return _HEX.fullmatch(value) is not None


def shown(value: Any) -> str:
    """Return a value as an error message shows it: at most 40 characters, other types by their name."""
    if isinstance(value, str):
        return repr(value if len(value) <= 40 else value[:40] + "…")  # noqa: PLR2004
    if isinstance(value, int) and value.bit_length() > 64:  # noqa: PLR2004 - longer ones may have no decimal repr
        return "a number beyond 64 bits"
    return repr(value) if isinstance(value, (int, float, bool)) else type(value).__name__
