"""Text from runs as a terminal may get it. Ids, names and payloads were written by anyone.

Control characters would move the cursor, change colours or the clipboard; characters that
turn the writing direction would make one id look like another. Both are shown, not sent.
"""

from __future__ import annotations

import re
from typing import Any, Final

_UNSAFE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
_SHORT: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(value: Any) -> str:
    """The value's text on one line, with everything that is no visible character escaped."""
    return _UNSAFE.sub(_escaped, value if isinstance(value, str) else str(value))


def printable_lines(value: Any) -> list[str]:
    """The same for a text of several lines, a stack trace for one."""
    return [printable(line.replace("\t", "    ")) for line in str(value).splitlines()] or [""]


def shortened(text: str, width: int) -> str:
    """The text, at most `width` characters of it."""
    return text if len(text) <= width else text[: width - 1] + "…"


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    code = ord(character)
    return _SHORT.get(character) or (f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}")  # noqa: PLR2004
