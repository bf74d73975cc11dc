"""The six words that a run's status may be, and the spellings of each (contract, decision 2).

An unknown word is an error to the caller of this module: 422 over HTTP, a warning and `failed`
in the client.
"""

from __future__ import annotations

from typing import Final, Literal, cast, get_args

RunStatus = Literal["running", "success", "failed", "partial", "timeout", "cancelled"]
"""A status as it is stored."""
EndStatus = Literal[
    "success", "failed", "partial", "timeout", "cancelled",
    "failure", "error", "completed", "succeeded", "ok", "canceled",
]  # fmt: skip
"""A status that a run may end with, or a spelling of one; at run time upper case is accepted too."""

RUNNING: Final = "running"
SUCCESS: Final = "success"
FAILED: Final = "failed"
PARTIAL: Final = "partial"
TIMEOUT: Final = "timeout"
CANCELLED: Final = "cancelled"

STATUSES: Final[tuple[RunStatus, ...]] = get_args(RunStatus)

_SPELLINGS: Final[dict[str, RunStatus]] = {
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


def canonical_status(word: object) -> RunStatus | None:
    """Return the stored word for any accepted spelling, in any case; None for anything else."""
    if not issubclass(type(word), str):  # isinstance would call __class__ of the caller's object
        return None
    text = cast("str", word)
    return _SPELLINGS.get(text) or _SPELLINGS.get(text.strip().lower())


def is_terminal(status: str) -> bool:
    """Return whether a run in this status has ended; an ended run never runs again."""
    return status != RUNNING
