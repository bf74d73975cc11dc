"""A settings file as text that can be changed place by place: what its two forms have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Final

from otel_agent_telemetry.errors import ConfigurationError

Place = tuple[str, ...]
"""Names from the top of a settings file down to one setting."""
MISSING: Final = object()
"""The value of a place where nothing stands."""


class NotReadableError(ConfigurationError):
    """A settings file that cannot be read, or changed at a place; the message quotes nothing of it."""


class Document(ABC):
    """The text of a settings file, and the values in it. Not shared between threads."""

    data: Any
    """All values, as Python has them."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.newline = "\r\n" if "\r\n" in text else "\n"

    def value(self, place: Place) -> Any:
        """Return the value at a place, MISSING where there is none."""
        found = self.data
        for name in place:
            if not isinstance(found, Mapping) or name not in found:
                return MISSING
            found = found[name]
        return found

    def put(self, place: Place, value: Any) -> None:
        """Set a value, and make what is missing above it; every other value stays. Raises NotReadableError."""
        self._checked(place, value, lambda: self._write(place, value))

    def put_source(self, place: Place, source: str, value: Any) -> None:
        """Set a value by the text that it once had. Raises NotReadableError."""
        self._checked(place, value, lambda: self._write_source(place, source))

    def remove(self, place: Place) -> None:
        """Remove what stands at a place. Raises NotReadableError."""
        if self.value(place) is not MISSING:
            self._checked(place, MISSING, lambda: self._remove(place))

    def _checked(self, place: Place, value: Any, change: Any) -> None:
        """Make a change, unless it would alter any other value: an unexpected form of a file loses nothing."""
        # Whatever a form of file there is that the parser of places misunderstands, the values show it.
        wanted, before = changed(self.data, place, value), self.text
        try:
            change()
        except NotReadableError:
            self._restore(before)
            raise
        if self.data != wanted:
            self._restore(before)
            raise NotReadableError(f"{'.'.join(place)} cannot be changed without changing more; write it by hand")

    def _splice(self, *edits: tuple[int, int, str]) -> None:
        """Replace parts of the text, given as start, end and what stands there then, in order; read it anew."""
        text = self.text
        for start, end, inserted in reversed(edits):
            text = text[:start] + inserted + text[end:]
        self._restore(text)

    def _restore(self, text: str) -> None:
        """Take a text and read it."""
        self.text = text
        self._parse()

    @abstractmethod
    def _parse(self) -> None:
        """Read the text. Raises NotReadableError."""

    @abstractmethod
    def source(self, place: Place) -> str | None:
        """Return the text of the value at a place, None where there is none."""

    @abstractmethod
    def inside(self, place: Place) -> str | None:
        """Return the text inside of an object, or a table with a header, that has no values; None for any other."""

    @abstractmethod
    def is_made_for(self, place: Place) -> bool:
        """Return whether an object or a table is missing, or has no values, before something goes into it."""

    @abstractmethod
    def empty(self, place: Place, inside: str | None) -> None:
        """Give such an object or table the text inside that it once had, or with None remove it."""

    @abstractmethod
    def _write(self, place: Place, value: Any) -> None: ...

    @abstractmethod
    def _write_source(self, place: Place, source: str) -> None: ...

    @abstractmethod
    def _remove(self, place: Place) -> None: ...


def changed(data: Any, place: Place, value: Any) -> Any:
    """Return a copy of some data with another value at a place, or without one: MISSING."""
    if not place:
        return value
    copy = dict(data) if isinstance(data, Mapping) else {}
    below = changed(copy.get(place[0], {}), place[1:], value)
    if below is MISSING:
        copy.pop(place[0], None)
    else:
        copy[place[0]] = below
    return copy
