"""Regular expressions that are compiled when they are first used.

Compiling all of this package's would cost a third of its import, on the start of every
application; most processes use few of them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from re import Pattern


class LazyPattern:
    """Stands for `re.compile(source, flags)`: has its methods, each looked up once."""

    def __init__(self, source: str, flags: int = 0) -> None:
        self._source = source
        self._flags = flags

    def __getattr__(self, name: str) -> Any:
        value = getattr(re.compile(self._source, self._flags), name)
        setattr(self, name, value)
        return value


def lazy(source: str, flags: int = 0) -> Pattern[str]:
    """A pattern over text that is compiled at its first use; an invalid one raises re.error then."""
    return LazyPattern(source, flags)  # type: ignore[return-value]  # it quacks
