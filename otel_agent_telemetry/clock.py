"""Time: a replaceable wall clock, and the one text form of an instant.

An instant is an `int` of nanoseconds since 1970 UTC inside, and text
`YYYY-MM-DDTHH:MM:SS.ffffff+00:00` in files and databases. The text has a fixed width and
one zone, so comparing texts compares instants, in Python and in SQL.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Protocol

from otel_agent_telemetry.patterns import lazy

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NS = 1_000_000_000
_LARGEST_SECONDS = 10**12
_EARLIEST = "0001-01-01T00:00:00.000000+00:00"
_LATEST = "9999-12-31T23:59:59.999999+00:00"
_FIRST_SECOND = -62_135_596_800
_LAST_SECOND = 253_402_300_799
_MOMENT = lazy(
    r"(?P<day>\d{4}-\d\d-\d\d)"
    r"(?:[Tt ](?P<time>(?:[01]\d|2[0-3])(?::[0-5]\d(?::[0-5]\d)?)?)(?:(?<=:\d\d:\d\d)[.,](?P<fraction>\d+))?"
    r"(?:[Zz]|(?P<hours>[+-](?:[01]\d|2[0-3])):?(?P<minutes>[0-5]\d)(?P<seconds>:[0-5]\d)?)?|[Zz])?",
    re.ASCII,
)
"""What is passed to `datetime.fromisoformat`: Python versions differ in what else it accepts."""


class Clock(Protocol):
    """A source of wall-clock time: `SystemClock`, or `testing.ManualClock` in tests."""

    def now_ns(self) -> int:
        """Return nanoseconds since 1970 UTC; two calls may differ in either direction when the clock is set."""


class SystemClock:
    """The machine's wall clock."""

    now_ns = staticmethod(time.time_ns)
    monotonic_s = staticmethod(time.monotonic)
    """Seconds that no clock change moves. Kept here, where tools that freeze the time of a test do not find it."""


class _SecondCache:
    """The text of the last second formatted: most instants of a busy process share it."""

    __slots__ = ("entry",)

    def __init__(self) -> None:
        self.entry: tuple[int, str] = (1 << 80, "")
        """Where the second begins, in nanoseconds, and its text without a fraction."""


_cache = _SecondCache()


def iso_utc(ns: int) -> str:
    """Return an instant as text, to the microsecond, UTC. Instants outside years 1..9999 are clamped."""
    begins, prefix = _cache.entry
    rest = ns - begins
    if not 0 <= rest < _NS:
        second, rest = divmod(ns, _NS)
        if not _FIRST_SECOND <= second <= _LAST_SECOND:
            return _EARLIEST if second < 0 else _LATEST
        prefix = _to_the_second(second)
        _cache.entry = (second * _NS, prefix)
    # One more than a million, whose first digit is left away: a format with a width costs three times as much, and a
    # table of digits, which is faster in a loop, costs more in an application: its texts are cold.
    return f"{prefix}.{str(1_000_000 + rest // 1000)[1:]}+00:00"


def _to_the_second(second: int) -> str:
    """Return the text of a second since 1970, by the proleptic Gregorian calendar.

    In plain arithmetic: `datetime` may crash while the interpreter finalises (CPython 3.13.0).
    """
    days, rest = divmod(second, 86_400)
    # Years that begin in March have their leap day at the end; 400 of them have 146,097 days.
    era, day_of_era = divmod(days + 719_468, 146_097)
    year = (day_of_era - day_of_era // 1_460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year + year // 4 - year // 100)
    month = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * month + 2) // 5 + 1
    year += 400 * era + (month >= 10)  # noqa: PLR2004 - January and February belong to the next year
    month = month + 3 if month < 10 else month - 9  # noqa: PLR2004 - the same
    hour, rest = divmod(rest, 3_600)
    return f"{year:04d}-{month:02d}-{day:02d}T{hour:02d}:{rest // 60:02d}:{rest % 60:02d}"


def parse_iso(text: str) -> int:
    """Return the nanoseconds of an ISO 8601 text; the default zone is UTC, the default time midnight.

    `YYYY-MM-DD`, then `T` or a space and `hh`, `hh:mm` or `hh:mm:ss`, then `Z`, `±hh:mm` or `±hhmm`.
    Fractions of a second have any length and are cut to the microsecond. Dates by week or
    without hyphens and times without colons are refused, on every Python alike.
    Raises ValueError when the text is not a date and time.
    """
    found = _MOMENT.fullmatch(text.strip())
    if found is None:
        raise ValueError("not an ISO 8601 date and time")
    delta = datetime.fromisoformat(_plain(found)) - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * _NS + delta.microseconds * 1000


def _plain(found: re.Match[str]) -> str:
    """Return the text in the form that every Python version reads alike."""
    time_of_day = found["time"] or "00:00"
    fraction = f".{found['fraction'][:6]:<06}" if found["fraction"] else ""
    offset = f"{found['hours']}:{found['minutes']}{found['seconds'] or ''}" if found["hours"] else "+00:00"
    return f"{found['day']}T{time_of_day}{fraction}{offset}"


def instant_ns(value: object, default_ns: int) -> int:
    """Return the nanoseconds since 1970 that a caller's timestamp means.

    An `int` is nanoseconds, as OpenTelemetry has it. A `float` below 10^12 is seconds, as
    `time.time()` gives them, a larger one nanoseconds. A `datetime` without a zone is local
    time, as Python reads it. None, and whatever else, is the default.
    """
    if type(value) is int:
        return value
    try:
        if isinstance(value, datetime):
            value = value.timestamp()
        number = float(value)  # type: ignore[arg-type]  # numbers of any kind; others raise
        return round(number * _NS) if abs(number) < _LARGEST_SECONDS else int(number)
    except (TypeError, ValueError, OverflowError, OSError):
        return default_ns


def normal_iso(text: str) -> str:
    """Return an ISO 8601 text in the form of `iso_utc`. Raises ValueError."""
    return iso_utc(parse_iso(text))


def day_of(ns: int) -> str:
    """Return the UTC day of an instant as `YYYYMMDD`, as in the names of journal files."""
    return iso_utc(ns)[:10].replace("-", "")
