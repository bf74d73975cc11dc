"""The time that a page of figures is about, as its address says it: `period=7d`, or `from=2026-01-01&to=2026-01-31`.

Days are days of UTC, both ends included. Beside each period stands the one before it, of the same length,
which its figures are compared with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final
from urllib.parse import urlencode

from otel_agent_telemetry.service.responses import RequestError

CHOICES: Final = {"24h": "24 hours", "7d": "7 days", "30d": "30 days", "90d": "90 days"}
"""What `period` may be → how a page calls it."""
_DEFAULT: Final = "7d"
_HOURS: Final = 24
_MAX_DAYS: Final = 366
_DAYS: Final = {"7d": 7, "30d": 30, "90d": 90}


@dataclass(frozen=True, slots=True)
class Period:
    """A time and the one before it. `choice`: the word in the address, "" for from and to."""

    choice: str
    first: date
    last: date
    periods: tuple[str, ...]
    """Its hours or days, oldest first, as `storage.figures` names them."""
    before: tuple[str, ...]
    """The hours or days of the same time before it."""

    @property
    def title(self) -> str:
        """Return how a page calls it: `last 7 days`, `2026-01-01 to 2026-01-31`."""
        return f"last {CHOICES[self.choice]}" if self.choice else f"{self.first} to {self.last}"

    @property
    def parameters(self) -> dict[str, str]:
        """Return its parameters of an address."""
        return {"period": self.choice} if self.choice else {"from": str(self.first), "to": str(self.last)}

    def address(self, path: str, **more: str) -> str:
        """Return the address of a page about this time, with further parameters."""
        return f"{path}?{urlencode({**more, **self.parameters}, errors='replace')}"


def period_of(parameters: Mapping[str, str], now_ns: int) -> Period:
    """Return the period that an address asks for, 7 days by default. Raises RequestError 422."""
    now = datetime.fromtimestamp(now_ns / 1e9, UTC)
    given = {name: parameters[name] for name in ("from", "to") if parameters.get(name)}
    if given:
        last = _day("to", given["to"]) if "to" in given else now.date()
        return _days("", _day("from", given["from"]) if "from" in given else last, last)
    choice = parameters.get("period") or _DEFAULT
    if choice not in CHOICES:
        raise RequestError(422, f"period: {choice[:20]!r} is none of {', '.join(CHOICES)}")
    if choice in _DAYS:
        return _days(choice, now.date() - timedelta(days=_DAYS[choice] - 1), now.date())
    hours = [f"{now - timedelta(hours=back):%Y-%m-%dT%H}" for back in reversed(range(2 * _HOURS))]
    first = (now - timedelta(hours=_HOURS - 1)).date()
    return Period(choice, first, now.date(), tuple(hours[_HOURS:]), tuple(hours[:_HOURS]))


def _days(choice: str, first: date, last: date) -> Period:
    """Return the days between two. Raises RequestError 422 for none, or too many."""
    many = (last - first).days + 1
    if not 1 <= many <= _MAX_DAYS:
        raise RequestError(422, f"from, to: {first} to {last} is {many} days, and must be 1 to {_MAX_DAYS}")
    days = [(last - timedelta(days=back)).isoformat() for back in reversed(range(2 * many)) if back < last.toordinal()]
    return Period(choice, first, last, tuple(days[-many:]), tuple(days[:-many]))


def _day(name: str, text: str) -> date:
    """Return a day of the address. Raises RequestError 422."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise RequestError(422, f"{name}: {text[:20]!r} is no day such as 2026-01-31") from None
