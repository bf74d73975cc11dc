"""What an OTLP request of any signal holds: its items, and what its sender is told about those that are refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

T = TypeVar("T")

_MAX_REASONS: Final = 5


@dataclass(slots=True)
class Received(Generic[T]):
    """The items of a request. `refused` is how many were refused, `reasons` has the first few reasons.

    `order`: returns what items are sorted by before a large request is stored in parts.
    """

    order: Callable[[T], int] = field(compare=False)
    items: list[T] = field(default_factory=list)
    refused: int = 0
    reasons: list[str] = field(default_factory=list)

    def refuse(self, reason: str, count: int = 1) -> None:
        """Count an item that cannot be taken, with the reason."""
        self.refused += count
        self.warn(reason)

    def warn(self, reason: str) -> None:
        """Note something that the sender should know, of an item that may be taken all the same."""
        if reason not in self.reasons and len(self.reasons) < _MAX_REASONS:
            self.reasons.append(reason)

    def parts(self, most: int, *, after: int = 0) -> Iterator[list[T]]:
        """Yield the items without the first `after`, at most so many at once; where they are more, in their order."""
        # Whenever the request is repeated the order is the same, because `after` counts in it.
        if len(self.items) > most:
            self.items.sort(key=self.order)
        for start in range(after, len(self.items), most):
            yield self.items[start : start + most]
