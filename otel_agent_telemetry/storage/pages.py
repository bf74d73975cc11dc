"""How much of a page of rows is read: at most, and at once.

A page ends at its limit of rows, or once it has `MAX_PAGE_BYTES`, with at least one row. It is read
in parts, so that rows of a megabyte each do not come into memory by the thousand.
"""

from __future__ import annotations

from typing import Final

MAX_PAGE_BYTES: Final = 4 << 20
FIRST_PART: Final = 4
"""Rows to read first, before it is known how large they are."""
_PART_BYTES: Final = 2 << 20
_MOST_ROWS: Final = 500


def rows_at_a_time(size: int, rows: int) -> int:
    """Return how many rows to read next, when so many had `size` bytes: some 2 MiB of them, 500 at most."""
    return max(min(_PART_BYTES * max(rows, 1) // max(size, 1), _MOST_ROWS), 1)
