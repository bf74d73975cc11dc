"""Time: one seam for the wall clock, and the one text form of an instant.

An instant is an `int` of nanoseconds since 1970 UTC inside, and text
`YYYY-MM-DDTHH:MM:SS.ffffff+00:00` in files and databases. The text has a fixed width and
one zone, so comparing texts compares instants, in Python and in SQL.
"""

from __future__ import annotations

import re
import time
from datetime import datetime, timedelta, timezone
from typing import Protocol

from otel_agent_telemetry.patterns import lazy

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_NS = 1_000_000_000
_EARLIEST = "0001-01-01T00:00:00.000000+00:00"
_LATEST = "9999-12-31T23:59:59.999999+00:00"
_FRACTION = lazy(r"(?<=:\d\d)[.,](\d+)")
_COMPACT_OFFSET = lazy(r"(?<=:\d\d)((?:\.\d+)?[+-]\d\d)(\d\d)$")


class Clock(Protocol):
    """Where time comes from; `testing.ManualClock` is the other implementation."""

    def now_ns(self) -> int:
        """Wall-clock nanoseconds since 1970 UTC; may jump either way."""


class SystemClock:
    """The machine's wall clock."""

    now_ns = staticmethod(time.time_ns)


class _SecondCache:
    """The text of the last second formatted: most instants of a busy process share it."""

    __slots__ = ("entry",)

    def __init__(self) -> None:
        self.entry: tuple[int, str] = (-1, "")


_cache = _SecondCache()


def iso_utc(ns: int) -> str:
    """Text of an instant, to the microsecond, UTC. Instants outside years 1..9999 are clamped."""
    second, rest = divmod(ns, _NS)
    cached, prefix = _cache.entry
    if cached != second:
        try:
            prefix = (_EPOCH + timedelta(seconds=second)).isoformat()[:19]
        except OverflowError:
            return _EARLIEST if second < 0 else _LATEST
        _cache.entry = (second, prefix)
    return f"{prefix}.{rest // 1000:06d}+00:00"


def parse_iso(text: str) -> int:
    """Nanoseconds of an ISO 8601 text; without a zone it is taken as UTC, without a time as midnight.

    Fractions of any length are read and cut to the microsecond, on every Python alike.
    Raises ValueError when the text is not a date and time.
    """
    normal = text.strip()
    if normal[-1:] in ("Z", "z"):
        normal = normal[:-1] + "+00:00"
    normal = _FRACTION.sub(_six_digits, normal, count=1)
    moment = datetime.fromisoformat(_COMPACT_OFFSET.sub(r"\1:\2", normal))
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    delta = moment - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * _NS + delta.microseconds * 1000


def _six_digits(fraction: re.Match[str]) -> str:
    return f".{fraction[1][:6]:<06}"


def normal_iso(text: str) -> str:
    """The same instant in our one form. Raises ValueError."""
    return iso_utc(parse_iso(text))


def day_of(ns: int) -> str:
    """UTC day of an instant as `YYYYMMDD`, the journal's file key."""
    return iso_utc(ns)[:10].replace("-", "")
