"""Places in listings that are ordered by a time and then by a row's number: keyset pagination."""

from __future__ import annotations

import base64
from typing import NamedTuple

from otel_agent_telemetry.columns import MAX_COUNT
from otel_agent_telemetry.errors import RecordError
from otel_agent_telemetry.storage.rows import clean_text


class Position(NamedTuple):
    """The place of one row; a page goes on behind it."""

    at: str
    id: int

    def to_text(self) -> str:
        """The position as an opaque word for a URL."""
        return base64.urlsafe_b64encode(f"{self.id}:{self.at}".encode()).decode().rstrip("=")

    @classmethod
    def from_text(cls, word: str) -> Position:
        """The position of a word made by `to_text`. Raises RecordError for any other."""
        try:
            number, _, at = base64.urlsafe_b64decode(word + "=" * (-len(word) % 4)).decode().partition(":")
            return cls(clean_text(at), _checked_id(int(number)))
        except ValueError:
            raise RecordError("cursor", "is not one that a listing returned") from None


def _checked_id(number: int) -> int:
    if not 0 <= number <= MAX_COUNT:
        raise ValueError
    return number
