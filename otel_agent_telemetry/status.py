"""The six words a run's status may be, and the spellings that mean one of them.

Contract, decision 2. Nothing here logs: whoever accepts a status decides what an unknown
one costs (422 over HTTP, a warning and `failed` in the client).
"""

from __future__ import annotations

from typing import Final, cast

RUNNING: Final = "running"
SUCCESS: Final = "success"
FAILED: Final = "failed"
PARTIAL: Final = "partial"
TIMEOUT: Final = "timeout"
CANCELLED: Final = "cancelled"

STATUSES: Final = (RUNNING, SUCCESS, FAILED, PARTIAL, TIMEOUT, CANCELLED)

_SPELLINGS: Final = {
    **{word: word for word in STATUSES},
    "failure": FAILED,
    "error": FAILED,
    "completed": SUCCESS,
    "succeeded": SUCCESS,
    "ok": SUCCESS,
    "canceled": CANCELLED,
}
SPELLINGS: Final = tuple(_SPELLINGS)
"""Every accepted spelling, in lower case."""


def canonical_status(word: object) -> str | None:
    """The stored word for any accepted spelling, in any case; None for anything else."""
    if not issubclass(type(word), str):  # isinstance would ask the object itself
        return None
    text = cast("str", word)
    return _SPELLINGS.get(text) or _SPELLINGS.get(text.strip().lower())


def is_terminal(status: str) -> bool:
    """Whether a run in this status has ended; an ended run never runs again."""
    return status != RUNNING
