"""What `doctor` says: one finding for each thing looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that was looked at: how it is, and when it is not well how to mend it."""

    level: Level
    about: str
    text: str
    mend: str = ""


def ok(about: str, text: str) -> Finding:
    """It is well."""
    return Finding("ok", about, text)


def warn(about: str, text: str, mend: str) -> Finding:
    """Runs are kept, but something is not as it should be."""
    return Finding("warn", about, text, mend)


def error(about: str, text: str, mend: str) -> Finding:
    """Runs are, or will be, lost or not delivered."""
    return Finding("error", about, text, mend)
