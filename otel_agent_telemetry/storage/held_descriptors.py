"""Whether the descriptors that SQLite opened for a file are still its own.

An application may close descriptors by number (`os.closerange`), and its next files get those
numbers. SQLite writes to its numbers whatever they lead to, so it is asked before that.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_LISTING: Final = Path("/proc/self/fd")


class HeldDescriptors:
    """The descriptors of this process that lead now to a database file, or to its `-wal` and `-shm`."""

    def __init__(self, path: Path) -> None:
        real = os.path.realpath(path)
        self._identities = dict(_descriptors_of({real, f"{real}-wal", f"{real}-shm"}))

    def intact(self) -> bool:
        """Return whether each still leads to the same file; True where the platform lists no descriptors."""
        return all(_identity(number) == identity for number, identity in self._identities.items())


def _descriptors_of(paths: set[str]) -> list[tuple[int, tuple[int, int]]]:
    try:
        numbers = [int(name) for name in os.listdir(_LISTING)]
    except OSError:  # no such listing
        return []
    return [(number, _identity(number)) for number in numbers if _target(number) in paths]


def _target(number: int) -> str:
    try:
        return str((_LISTING / str(number)).readlink())
    except OSError:  # closed meanwhile
        return ""


def _identity(number: int) -> tuple[int, int]:
    try:
        status = os.fstat(number)
    except OSError:
        return 0, 0
    return status.st_dev, status.st_ino
