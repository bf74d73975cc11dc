"""A run's state as a row: a tuple in the order of `model.COLUMNS`, and what stands of two rows.

The order of rows is `model.order_key`, computed on tuples because a batch compares many.
A row is what every database can hold: NUL and lone surrogates are U+FFFD, and an empty text
in a column that may be empty is NULL, because the order does not tell the two apart.

Places in listings that are ordered by a time and then by a row's number: keyset pagination.
"""

from __future__ import annotations

import base64
from operator import attrgetter, itemgetter
from typing import Any, Final, NamedTuple

from otel_agent_telemetry.columns import COLUMNS, COMMIT_COLUMNS, MAX_COUNT, POSTING_COLUMNS, REQUIRED_COLUMNS
from otel_agent_telemetry.errors import RecordError
from otel_agent_telemetry.model import ORDER_COLUMNS, RunRecord
from otel_agent_telemetry.status import RUNNING

Row = tuple[Any, ...]
"""One value for each of `model.COLUMNS`."""

CommitValues = tuple[str | None, ...]
"""One value for each of `model.COMMIT_COLUMNS`."""


def _at(name: str) -> int:
    return COLUMNS.index(name)


EVENT_ID: Final = _at("event_id")
RUN_ID: Final = _at("run_id")
_STATUS: Final = _at("status")
_POSTING: Final = tuple(map(_at, POSTING_COLUMNS))
_COMMIT: Final = tuple(map(_at, COMMIT_COLUMNS))
_MUST_BE_TEXT: Final = frozenset(map(_at, (*REQUIRED_COLUMNS, "status")))

_values: Final = attrgetter(*COLUMNS)
_ordered: Final = itemgetter(*map(_at, ORDER_COLUMNS))
posting_of: Final = itemgetter(*_POSTING)
"""The values of `model.POSTING_COLUMNS` in a row."""


def row_of(record: RunRecord) -> Row:
    """The row that keeps a record."""
    return storable(_values(record))


def storable(values: Row) -> Row:
    """The same values as every database can hold them; the same object when nothing had to change."""
    if "" in values:
        values = tuple(None if value == "" and at not in _MUST_BE_TEXT else value for at, value in enumerate(values))
    if _is_clean("".join([value for value in values if value.__class__ is str])):
        return values
    return tuple(clean_text(value) for value in values)


def clean_text(value: Any) -> Any:
    """A text without what databases cannot hold; anything else as it is."""
    if not isinstance(value, str) or _is_clean(value):
        return value
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\x00", "\ufffd")


def _is_clean(text: str) -> bool:
    if "\x00" in text:
        return False
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def record_of(row: Row) -> RunRecord:
    """The record that a row keeps."""
    return RunRecord(**dict(zip(COLUMNS, row, strict=True)))


def row_key(row: Row) -> Row:
    """`model.order_key` of the row's record."""
    return (row[_STATUS] != RUNNING, *["" if value is None else value for value in _ordered(row)])


def merged(stored: Row, state: Row) -> Row:
    """What stands of two states of one run; `stored` itself when the other adds nothing.

    The greater state, and of each posting column the greater value.
    """
    stands = state if row_key(state) > row_key(stored) else stored
    posting = tuple(_greater(stored[at], state[at]) for at in _POSTING)
    return stands if posting_of(stands) == posting else _with(stands, _POSTING, posting)


def _greater(one: Any, other: Any) -> Any:
    if one is None or other is None:
        return other if one is None else one
    return max(one, other)


def with_commit(row: Row, commit: CommitValues | None) -> Row:
    """The row showing a commit that was associated with its run."""
    return row if commit is None else _with(row, _COMMIT, commit)


def _with(row: Row, places: tuple[int, ...], values: Row) -> Row:
    changed = list(row)
    for at, value in zip(places, values, strict=True):
        changed[at] = value
    return tuple(changed)


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
