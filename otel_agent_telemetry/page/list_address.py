"""The filters of the list of runs as an address has them, and what a reader types read as a query.

An address is the whole state of the list: it can be kept, shared, and gone back to. Names that it does not know
and values that cannot be read are problems that the page shows beside their field; they are never left out silently,
because a list without a filter that was asked for looks like one with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from otel_agent_telemetry.clock import iso_utc, normal_iso
from otel_agent_telemetry.errors import RecordError
from otel_agent_telemetry.status import STATUSES, canonical_status
from otel_agent_telemetry.storage.list_query import SORTS, ListQuery
from otel_agent_telemetry.storage.rows import Cursor, clean_text

PAGE_SIZE: Final = 50
WHEN: Final[Mapping[str, tuple[int, int]]] = {"today": (0, 1), "yesterday": (1, 1), "last 7 days": (6, 7)}
"""Words for times → how many days before today the time begins, and how many days of UTC it has."""
LABELS: Final[Mapping[str, str]] = {
    "text": "text",
    "agent": "agent",
    "status": "status",
    "when": "started",
    "from": "started from",
    "to": "started until",
    "job": "job",
    "host": "host",
    "session": "session",
    "commit": "commit",
    "model": "model",
    "duration_from": "lasted at least",
    "duration_to": "lasted at most",
    "cost_from": "cost at least",
    "cost_to": "cost at most",
    "errors": "with errors inside",
    "all": "plumbing too",
}
"""Names of filters in an address → how the page calls them, in the order of the form."""
_TEXTS: Final = {"agent": "agent_name", "job": "job_type", "host": "host", "session": "session_id", "model": "model"}
_MAX_TEXT: Final = 400
_DAY: Final = timedelta(days=1)
_UNITS_MS: Final = {"ms": 1, "s": 1_000, "min": 60_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION: Final = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)\s*(ms|s|min|m|h|d|)", re.ASCII)
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_COMMIT: Final = re.compile(r"[0-9a-fA-F]{4,64}")
_MAX_COST: Final = 1e15


@dataclass(frozen=True, slots=True)
class ListAddress:
    """What an address asks for: `values` by name, as they were typed, the query, and what is wrong, by name."""

    values: dict[str, str]
    query: ListQuery
    problems: dict[str, str] = field(default_factory=dict)
    backwards: bool = False

    @property
    def filters(self) -> dict[str, str]:
        """Return the filters alone, without order and place."""
        return {name: value for name, value in self.values.items() if name in LABELS}

    @property
    def state(self) -> str:
        """Return filters and order as the query string of an address, without the place."""
        return urlencode(self._kept({}))

    def link(self, **changes: str | None) -> str:
        """Return the address of the list with some members changed, None takes one out; at its first page."""
        members = self._kept(changes)
        return "/?" + urlencode(members) if members else "/"

    def _kept(self, changes: Mapping[str, str | None]) -> dict[str, str]:
        """Return the members of an address that stay when some change; the place never does."""
        members = {name: value for name, value in self.values.items() if name not in ("after", "before")}
        return {name: value for name, value in {**members, **changes}.items() if value is not None}


def list_address(parameters: Mapping[str, str], now: datetime) -> ListAddress:
    """Return what the members of an address ask for. `now` decides what `today` is. Empty members are not given.

    Never raises: what cannot be read is in `problems`, and the page says so beside its field.
    """
    # Without what a database cannot hold, such as NUL: a query with it would be an error, and not an empty list.
    values = {name: clean_text(value).strip() for name, value in parameters.items()}
    values = {name: value for name, value in values.items() if value}
    asked: dict[str, Any] = {"plumbing": False}
    problems: dict[str, str] = {}
    for name, value in values.items():
        try:
            asked.update(_fields(name, value, now))
        except (ValueError, OverflowError, RecordError) as problem:
            problems[name] = str(problem)
    return ListAddress(values, ListQuery(**asked, limit=PAGE_SIZE), problems, backwards="before" in values)


def _fields(name: str, value: str, now: datetime) -> dict[str, Any]:
    """Return the fields of the query that one member of the address sets. Raises ValueError, RecordError."""
    if len(value) > _MAX_TEXT:
        raise ValueError(f"must have at most {_MAX_TEXT} characters")
    if name in _TEXTS:
        return {_TEXTS[name]: value}
    if name == "when":
        return _when(value, now)
    if name not in _READERS:
        raise ValueError("is no filter of this page")
    column, read = _READERS[name]
    return {column: read(value)}


def _when(word: str, now: datetime) -> dict[str, str]:
    """Return the time that a word names, whole days of UTC."""
    if word not in WHEN:
        raise ValueError(f"must be one of: {', '.join(WHEN)}")
    days_ago, days = WHEN[word]
    begins = datetime(now.year, now.month, now.day, tzinfo=UTC) - days_ago * _DAY
    return {"created_from": _instant(begins), "created_before": _instant(begins + days * _DAY)}


def _begin(text: str) -> str:
    """Return the beginning of a day, or an instant."""
    return _instant(datetime.fromisoformat(text).replace(tzinfo=UTC)) if _DATE.fullmatch(text) else _time(text)


def _end(text: str) -> str:
    """Return the end of a day, or an instant."""
    return _instant(datetime.fromisoformat(text).replace(tzinfo=UTC) + _DAY) if _DATE.fullmatch(text) else _time(text)


def _instant(moment: datetime) -> str:
    """Return a moment in our form of time."""
    return iso_utc(int(moment.timestamp()) * 1_000_000_000)


def _time(text: str) -> str:
    """Return an instant in our form of time. Raises ValueError in words for the reader of the page."""
    try:
        return normal_iso(text)
    except (ValueError, OverflowError):
        raise ValueError("must be a day, 2026-01-31, or a time with its zone, 2026-01-31T12:00:00Z") from None


def _milliseconds(text: str) -> int:
    """Return a duration as people type it. Raises ValueError."""
    found = _DURATION.fullmatch(text.lower())
    if found is None:
        raise ValueError("must be a duration: 90 s, 1.5 min, 2 h; a number alone is seconds")
    return round(float(found[1]) * _UNITS_MS[found[2] or "s"])


def _dollars(text: str) -> float:
    """Return an amount of US dollars, with or without the sign. Raises ValueError."""
    try:
        amount = float(text.removeprefix("$"))
    except ValueError:
        amount = -1
    if not 0 <= amount <= _MAX_COST:
        raise ValueError("must be an amount of US dollars: 0.25")
    return amount


def _status(text: str) -> str:
    """Return the stored word of a status, of any accepted spelling. Raises ValueError."""
    word = canonical_status(text)
    if word is None:
        raise ValueError(f"must be one of: {', '.join(STATUSES)}")
    return word


def _commit(text: str) -> str:
    """Return the beginning of a commit's hash. Raises ValueError."""
    if _COMMIT.fullmatch(text) is None:
        raise ValueError("must be the first 4 to 64 hex digits of a commit")
    return text.lower()


def _sort(text: str) -> str:
    """Return a word for an order of the list. Raises ValueError."""
    if text not in SORTS:
        raise ValueError(f"must be one of: {', '.join(SORTS)}")
    return text


def _is_ascending(text: str) -> bool:
    """Return whether the least comes first. Raises ValueError."""
    if text not in ("asc", "desc"):
        raise ValueError("must be asc or desc")
    return text == "asc"


def _is_on(text: str) -> bool:
    """Return True for the value of a box that is ticked. Raises ValueError for any other."""
    if text != "1":
        raise ValueError("must be 1, or left out")
    return True


def _plumbing(text: str) -> bool | None:
    """Return the filter on plumbing for a list of all runs: none."""
    return None if _is_on(text) else False


_READERS: Final[Mapping[str, tuple[str, Callable[[str], Any]]]] = {
    "text": ("text", str),
    "status": ("status", _status),
    "from": ("created_from", _begin),
    "to": ("created_before", _end),
    "commit": ("commit", _commit),
    "duration_from": ("duration_from_ms", _milliseconds),
    "duration_to": ("duration_to_ms", _milliseconds),
    "cost_from": ("cost_from", _dollars),
    "cost_to": ("cost_to", _dollars),
    "errors": ("with_errors", _is_on),
    "all": ("plumbing", _plumbing),
    "sort": ("sort", _sort),
    "order": ("ascending", _is_ascending),
    "after": ("cursor", Cursor.from_text),
    "before": ("cursor", Cursor.from_text),
}
"""Names of an address → the field of the query, and what reads a value. Each raises ValueError or RecordError."""
