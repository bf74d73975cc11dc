"""Regular expressions that are compiled when they are first used.

Compiling all patterns of the package would be a third of its import time, and most processes
use few of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from re import Pattern


class LazyPattern:
    """Has the methods of `re.compile(source, flags)`, compiled when the first one is used."""

    def __init__(self, source: str | Callable[[], str], flags: int = 0) -> None:
        self._source = source
        self._flags = flags

    def __getattr__(self, name: str) -> Any:
        source = self._source if isinstance(self._source, str) else self._source()
        value = getattr(re.compile(source, self._flags), name)
        setattr(self, name, value)
        return value


def lazy(source: str | Callable[[], str], flags: int = 0) -> Pattern[str]:
    """Return a text pattern that is compiled at its first use, and made then where `source` is a function.

    An invalid one raises re.error then.
    """
    return LazyPattern(source, flags)  # type: ignore[return-value]  # it has all methods of a Pattern
