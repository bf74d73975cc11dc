"""A run's state as a row: conversion, what a database can hold, which of two states wins, and cursors.

A row is a tuple in the order of `columns.COLUMNS`. The order of rows is `model.order_key`,
computed on tuples because a batch compares many. A row is what every database can hold: NUL
and lone surrogates are U+FFFD, and an empty text in a column that may be empty is NULL,
because the order does not distinguish the two. Nothing here touches a database.
"""

from __future__ import annotations

from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from otel_agent_telemetry.columns import (
    COLUMNS,
    COMMIT_COLUMNS,
    INTEGER_COLUMNS,
    MAX_COUNT,
    POSTING_COLUMNS,
    REQUIRED_COLUMNS,
    Fields,
)
from otel_agent_telemetry.errors import RecordError
from otel_agent_telemetry.interpreter import importing
from otel_agent_telemetry.run_state import ORDER_COLUMNS
from otel_agent_telemetry.status import RUNNING

if TYPE_CHECKING:
    from otel_agent_telemetry.model import RunRecord

WriteOutcome = Literal["inserted", "updated", "duplicate", "deleted"]
"""What became of a state that was written: the first of its run, a change, nothing new, or its run is deleted."""
UNCHANGED: Final[frozenset[WriteOutcome]] = frozenset({"duplicate", "deleted"})
"""The outcomes of states that changed nothing."""

Row = tuple[Any, ...]
"""One value for each of `columns.COLUMNS`."""

CommitValues = tuple[str | None, ...]
"""One value for each of `columns.COMMIT_COLUMNS`."""


def _index_of(name: str) -> int:
    """Return the position of a column in a row."""
    return COLUMNS.index(name)


EVENT_ID: Final = _index_of("event_id")
RUN_ID: Final = _index_of("run_id")
_RECEIVED_AT: Final = _index_of("received_at")
_STATUS: Final = _index_of("status")
_POSTING: Final = tuple(map(_index_of, POSTING_COLUMNS))
_COMMIT: Final = tuple(map(_index_of, COMMIT_COLUMNS))
_TEXTS_NEVER_NULL: Final = frozenset((*REQUIRED_COLUMNS, "status"))
_MUST_BE_TEXT: Final = frozenset(map(_index_of, _TEXTS_NEVER_NULL))

_DEFAULTS: Final = tuple(0 if name in INTEGER_COLUMNS else None for name in COLUMNS)
"""The value of each column that a state leaves out; `status` and `schema_version` every state has."""

_values: Final = attrgetter(*COLUMNS)
_ordered: Final = itemgetter(*map(_index_of, ORDER_COLUMNS))
posting_of: Final = itemgetter(*_POSTING)
"""The values of `columns.POSTING_COLUMNS` in a row."""


def row_of(record: RunRecord) -> Row:
    """Return the row that keeps a record."""
    return storable(_values(record))


def row_of_state(state: Fields) -> Row:
    """Return the row that keeps a storable state (`storable_state`)."""
    return tuple(map(state.get, COLUMNS, _DEFAULTS))


def storable(values: Row) -> Row:
    """Return the values as every database can hold them; the same object when nothing had to change."""
    if "" in values:
        values = tuple(
            None if value == "" and index not in _MUST_BE_TEXT else value for index, value in enumerate(values)
        )
    return storable_texts(values)


def storable_texts(values: Row) -> Row:
    """Return the values with their texts as every database can hold them; the same object if nothing had to change."""
    # One scan of all texts together: nearly every row is clean.
    if _is_clean("".join([value for value in values if value.__class__ is str])):
        return values
    return tuple(map(clean_text, values))


def storable_state(state: Fields) -> Fields:
    """Return a state as every database can hold it; the same object when nothing had to change.

    An empty text is left out: it is "not known", and every required column has a value.
    """
    values = state.values()
    if "" not in values and _is_clean("".join([value for value in values if value.__class__ is str])):
        return state
    return {name: clean_text(value) for name, value in state.items() if value != "" or name in _TEXTS_NEVER_NULL}


def clean_text(value: Any) -> Any:
    """Return a text without what databases cannot hold, and anything else as it is."""
    if not isinstance(value, str) or _is_clean(value):
        return value
    # UTF-16 joins a pair of surrogates to its character; a lone one becomes U+FFFD.
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\x00", "\ufffd")


def _is_clean(text: str) -> bool:
    """Return whether both databases can store a text: no NUL, no lone surrogates."""
    if "\x00" in text:
        return False
    if text.isascii():  # no surrogates; by far the usual case, and free in CPython
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def record_of(row: Row) -> RunRecord:
    """Return the record that a row keeps."""
    with importing():
        from otel_agent_telemetry.model import RunRecord  # delivery imports this module and makes no records

    return RunRecord(**dict(zip(COLUMNS, row, strict=True)))


def row_key(row: Row) -> Row:
    """Return `model.order_key` of the row's record."""
    return (row[_STATUS] != RUNNING, *["" if value is None else value for value in _ordered(row)])


def merged(stored: Row, state: Row) -> Row:
    """Return the greater of two states of one run, with the greater value of each posting column.

    Returns `stored` itself when `state` adds nothing.
    """
    winner = state if row_key(state) > row_key(stored) else stored
    if winner is state and state[_RECEIVED_AT] != stored[_RECEIVED_AT] and stored[_RECEIVED_AT] is not None:
        winner = _with(state, (_RECEIVED_AT,), (stored[_RECEIVED_AT],))
    posting = tuple(_greater(stored[index], state[index]) for index in _POSTING)
    return winner if posting_of(winner) == posting else _with(winner, _POSTING, posting)


def _greater(one: Any, other: Any) -> Any:
    """Return the greater of two values of which None is the least."""
    if one is None or other is None:
        return other if one is None else one
    return max(one, other)


def with_commit(row: Row, commit: CommitValues | None) -> Row:
    """Return the row showing a commit that was associated with its run; without a commit, as it is."""
    return row if commit is None else _with(row, _COMMIT, commit)


def _with(row: Row, indexes: tuple[int, ...], values: Row) -> Row:
    """Return a row with some of its values replaced."""
    changed = list(row)
    for index, value in zip(indexes, values, strict=True):
        changed[index] = value
    return tuple(changed)


class Cursor(NamedTuple):
    """One row's place in a listing ordered by a time and then by the row's number; a page continues after it."""

    time: str
    id: int

    def to_text(self) -> str:
        """Return the cursor as an opaque word for a URL."""
        import base64  # no recording process pages: it would be paid at the exit of each

        return base64.urlsafe_b64encode(f"{self.id}:{self.time}".encode()).decode().rstrip("=")

    @classmethod
    def from_text(cls, word: str) -> Cursor:
        """Return the cursor of a word made by `to_text`. Raises RecordError for any other."""
        try:
            import base64

            number, _, time = base64.urlsafe_b64decode(word + "=" * (-len(word) % 4)).decode().partition(":")
            return cls(clean_text(time), _checked_id(int(number)))
        except ValueError:
            raise RecordError("cursor", "is not one that a listing returned") from None


def _checked_id(number: int) -> int:
    """Return a position that a row id can have. Raises ValueError."""
    if not 0 <= number <= MAX_COUNT:
        raise ValueError
    return number
