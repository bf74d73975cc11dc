"""Find the items that make a target refuse a batch, by trying halves of it.

A database or a service may refuse a whole batch for one item, for a reason that no check of
ours names (a text too long for an index, a body too large). The neighbours of such an item
must be written all the same (design, invariant 5). What a refusal is, and how a part is
written, is the caller's: the loop below works for blocking and for asynchronous writes.

    bisection = Bisection(items)
    for part in bisection:
        try:
            write(part)
        except StorageError as problem:
            bisection.refuse(str(problem))
    bisection.refused  # [(position in items, reason), ...]

With n refused items of N at most about 2 n log2(N) parts are tried.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class Bisection(Generic[T]):
    """Iterate over the parts of `items` to write: all of them first, then halves of what was refused.

    Parts come in the order of the items and never overlap with a part that was accepted. An
    empty sequence has no parts. With `refusal` the whole is known to be refused for that
    reason, so its halves come first. Not shared between threads.
    """

    def __init__(self, items: Sequence[T], *, refusal: str | None = None) -> None:
        self._items = items
        self._waiting: list[range] = [range(len(items))] if items else []
        self._tried: range | None = None
        self.refused: list[tuple[int, str]] = []
        """Position and reason of each item that was refused by itself, in order of position."""
        if refusal is not None:
            next(iter(self), None)
            self.refuse(refusal)

    def __iter__(self) -> Iterator[Sequence[T]]:
        while self._waiting:
            self._tried = self._waiting.pop()
            yield self._items[self._tried.start : self._tried.stop]

    def refuse(self, reason: str) -> None:
        """Note that the part that was yielded last is refused: try its halves, or give its one item up."""
        tried, self._tried = self._tried, None
        if tried is None:
            return
        if len(tried) == 1:
            self.refused.append((tried.start, reason))
            return
        middle = len(tried) // 2
        # Last in, first out: the first half and all that becomes of it is tried before the second.
        self._waiting += [tried[middle:], tried[:middle]]
