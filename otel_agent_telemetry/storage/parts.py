"""Many values for `IN (…)`, in parts of as many as one statement should take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

T = TypeVar("T")

_MAX_PARAMETERS: Final = 500


def in_parts(values: Iterable[T]) -> Iterator[list[T]]:
    """The values in lists of at most 500; none for none."""
    whole = list(values)
    for start in range(0, len(whole), _MAX_PARAMETERS):
        yield whole[start : start + _MAX_PARAMETERS]
