"""Durations as people write them: `90s`, `30m`, `1d12h`."""

from __future__ import annotations

import re
from typing import Final

_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)", re.ASCII)
_UNITS_S: Final = {"w": 604_800.0, "d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_MAX_S: Final = 100 * 366 * 86_400
_PARTS_SHOWN: Final = 2


def begins_with_duration(text: str) -> bool:
    """Return whether a text begins with a number and a unit, as no ISO 8601 time does."""
    return _PART.match(text.strip().lower()) is not None


def duration_s(text: str) -> float:
    """Return the seconds of a duration such as `90s`, `2h` or `1d12h`. Raises ValueError with the rule it breaks."""
    word = text.strip().lower()
    parts = _PART.findall(word)
    # `findall` skips what it does not know; put together again, the parts must be the whole text.
    if not parts or "".join(number + unit for number, unit in parts) != word:
        raise ValueError("is not a duration: write 90s, 30m, 2h, 3d or 1w")
    seconds = sum(float(number) * _UNITS_S[unit] for number, unit in parts)
    if seconds > _MAX_S:
        raise ValueError("is longer than a hundred years")
    return seconds


def duration_text(seconds: float) -> str:
    """Return a duration in its two largest units at most: `1d12h`, `1m30s`, `2h`; `0s` below a millisecond."""
    parts: list[str] = []
    left_ms = round(seconds * 1000)
    for unit in ("d", "h", "m", "s", "ms"):
        many, left_ms = divmod(left_ms, round(_UNITS_S[unit] * 1000))
        if many:
            parts.append(f"{many}{unit}")
    return "".join(parts[:_PARTS_SHOWN]) or "0s"
