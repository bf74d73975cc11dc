"""Figures and times as people read them. Every function takes what a run holds, None included, and returns text."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final
from urllib.parse import quote, urlsplit

NOTHING: Final = "\N{EN DASH}"
"""What a page shows where a run holds no value."""
_SECOND_MS: Final = 1_000
_MINUTE_MS: Final = 60 * _SECOND_MS
_HOUR_MS: Final = 60 * _MINUTE_MS
_DAY_MS: Final = 24 * _HOUR_MS
_THOUSAND: Final = 1_000
_KIBI: Final = 1_024
_SMALL_COST: Final = 0.01
_MOST_PLACES: Final = 12
_LINK_SCHEMES: Final = frozenset({"http", "https"})
_STEPS: Final = ((_DAY_MS, "d"), (_HOUR_MS, "h"), (_MINUTE_MS, "min"), (_SECOND_MS, "s"))


def duration(milliseconds: float | None) -> str:
    """Return a duration with its two largest units: `340 ms`, `4.2 s`, `3 min 5 s`, `2 d 4 h`."""
    if milliseconds is None:
        return NOTHING
    if milliseconds < _SECOND_MS:
        return f"{milliseconds:.0f} ms"
    if milliseconds < _MINUTE_MS:
        return f"{milliseconds / _SECOND_MS:.3g} s"
    for (unit_ms, unit), (smaller_ms, smaller) in pairwise(_STEPS):
        if milliseconds >= unit_ms:
            whole, rest = divmod(int(milliseconds), unit_ms)
            return f"{whole} {unit} {rest // smaller_ms} {smaller}" if rest >= smaller_ms else f"{whole} {unit}"
    return NOTHING  # not reached: a minute or more has one of the units above


def number(value: float | None) -> str:
    """Return a count with its thousands apart: `12,345`. Nothing for None."""
    return NOTHING if value is None else f"{value:,.0f}"


def short_number(value: float | None) -> str:
    """Return a count in at most four digits and its unit: `950`, `12.3 k`, `4.56 M`."""
    return NOTHING if value is None else _in_unit(value, _THOUSAND, ("", " k", " M", " G", " T"))


def cost(dollars: float | None) -> str:
    """Return a cost in US dollars: two digits after the point, below a cent the first two that count."""
    if dollars is None:
        return NOTHING
    if dollars == 0 or abs(dollars) >= _SMALL_COST:
        return f"${dollars:,.2f}"
    # As many places as show two digits: `2g` would turn to `6.9e-05`.
    places = min(1 - math.floor(math.log10(abs(dollars))), _MOST_PLACES)
    return f"${dollars:.{places}f}"


def percent(share: float | None) -> str:
    """Return a share between 0 and 1 as a percentage: `98.5 %`."""
    return NOTHING if share is None else f"{share * 100:.3g} %"


def bytes_size(value: float | None) -> str:
    """Return a number of bytes in the unit that fits: `512 B`, `3.4 MiB`."""
    return NOTHING if value is None else _in_unit(value, _KIBI, (" B", " KiB", " MiB", " GiB", " TiB"))


def _in_unit(value: float, step: int, units: tuple[str, ...]) -> str:
    """Return an amount in the largest unit of which it has one; a unit is `step` of the one before."""
    amount, unit = float(value), 0
    # What is shown as a whole step is one of the next unit: 999,999 is `1 M`, not `1e+03 k`.
    while max(abs(amount), float(f"{abs(amount):.3g}")) >= step and unit < len(units) - 1:
        amount, unit = amount / step, unit + 1
    is_whole = unit == 0 or abs(amount) >= _THOUSAND
    return f"{amount:,.0f}{units[unit]}" if is_whole else f"{amount:.3g}{units[unit]}"


def cut(text: str | None, characters: int) -> str:
    """Return a text of one line whose end, where it is longer, is shown to be missing: `2026-11-28T08…`."""
    if not text or len(text) <= characters:
        return text or ""
    return text[: characters - 1] + "\N{HORIZONTAL ELLIPSIS}"


def relative_time(instant: str | None, now: datetime) -> str:
    """Return how long ago an ISO 8601 instant was: `12 s ago`, `3 h ago`; days past a month as a date."""
    moment = _moment(instant)
    if moment is None:
        return NOTHING
    seconds = (now - moment).total_seconds()
    if seconds < 0:
        return "in the future"
    for limit, size, unit in ((60, 1, "s"), (3600, 60, "min"), (86_400, 3600, "h"), (30 * 86_400, 86_400, "d")):
        if seconds < limit:
            return f"{int(seconds // size)} {unit} ago"
    return moment.date().isoformat()


def exact_time(instant: str | None) -> str:
    """Return an ISO 8601 instant to the millisecond in UTC: `2026-11-28 08:05:31.123 UTC`; other text as it is."""
    moment = _moment(instant)
    if moment is None:
        return instant or NOTHING
    return f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03d} UTC"


def _moment(instant: str | None) -> datetime | None:
    """Return an instant in UTC, None for text that is none."""
    try:
        moment = datetime.fromisoformat(instant or "")
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def web_link(address: str | None) -> str | None:
    """Return an address that a page may link to, None for any other: `javascript:` must not become a link."""
    try:
        parts = urlsplit(address or "")
    except ValueError:
        return None
    return address if parts.scheme in _LINK_SCHEMES and parts.netloc else None


def path_part(text: str) -> str:
    """Return text as one part of a path, whatever signs it has; what no address can hold becomes `?`."""
    return quote(text, safe="", errors="replace")
