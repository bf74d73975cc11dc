"""Text for a terminal: escaped so that it is safe to print, and times, durations and sizes for people.

Ids, names and payloads can come from anyone. Control characters would move the cursor, change
colours or the clipboard; characters that change the writing direction would make one id look
like another. Both are printed as escapes.
"""

from __future__ import annotations

import re
from typing import Any, Final

_UNSAFE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
_SHORT_ESCAPES: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(value: Any) -> str:
    r"""Return the value's text on one line, with every invisible character escaped (`\x1b`)."""
    return _UNSAFE.sub(_escape, value if isinstance(value, str) else str(value))


def printable_lines(value: Any) -> list[str]:
    """Return the printable lines of a text of several lines, such as a stack trace; at least one."""
    return [printable(line.replace("\t", "    ")) for line in str(value).splitlines()] or [""]


def shortened(text: str, width: int) -> str:
    """Return the text, cut to `width` characters with an ellipsis where it is longer."""
    return text if len(text) <= width else text[: width - 1] + "…"


def _escape(found: re.Match[str]) -> str:
    """Return the escape of one character, as Python would write it."""
    character = found[0]
    code = ord(character)
    return _SHORT_ESCAPES.get(character) or (f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}")  # noqa: PLR2004


def format_time(iso: str | None) -> str:
    """Return `2026-01-31 12:00:00` of an ISO 8601 time in UTC; "-" for None."""
    return (iso or "-")[:19].replace("T", " ")


def format_duration(milliseconds: int) -> str:
    """Return a duration as `350 ms`, `12.3 s`, `5m 07s`, `3h 20m` or `2d 03h`."""
    if milliseconds < 1000:  # noqa: PLR2004
        return f"{milliseconds} ms"
    seconds = milliseconds // 1000
    if seconds < 60:  # noqa: PLR2004
        return f"{milliseconds / 1000:.1f} s"
    for limit, divisor, big_unit, small_unit in ((3600, 60, "m", "s"), (86_400, 3600, "h", "m")):
        if seconds < limit:
            big, rest = divmod(seconds, divisor)
            return f"{big}{big_unit} {rest // (1 if small_unit == 's' else 60):02d}{small_unit}"
    days, rest = divmod(seconds, 86_400)
    return f"{days}d {rest // 3600:02d}h"


def format_size(number: float) -> str:
    """Return a number of bytes as `512 B`, `3.4 KiB` or `1.2 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:  # noqa: PLR2004
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"
