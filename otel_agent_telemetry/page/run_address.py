"""What the address of a run's page asks for.

The state of the page is in its address alone, so that a link shows a colleague the same rows, and
going back is free. Unknown words and numbers count as not given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlencode

from otel_agent_telemetry.errors import RecordError
from otel_agent_telemetry.page.formats import path_part
from otel_agent_telemetry.storage.rows import Cursor

ONLY: Final = {"errors": "failed", "models": "model calls", "tools": "tool calls", "critical": "critical path"}
"""What the timeline can be narrowed to, and how a page calls it."""
_MAX_FLIPPED: Final = 200
_MAX_TEXT: Final = 255
_MAX_STATE: Final = 4_000
_FAR_NUMBER: Final = 2**63


@dataclass(frozen=True, slots=True)
class RunAddress:
    """The members of an address: those of the timeline (`step_tree.View`), then those of the list of events.

    `in_list` is the state of the list of runs that led here (`list_address`), so that its next run can be shown.
    """

    top: int | None = None
    level: int | None = None
    flipped: tuple[int, ...] = ()
    skip: int = 0
    only: str = ""
    find: str = ""
    event_type: str = ""
    after: Cursor | None = None
    in_list: str = ""

    @classmethod
    def of(cls, parameters: Mapping[str, str]) -> RunAddress:
        """Return what an address asks for."""
        only = parameters.get("only", "")
        return cls(
            top=_number(parameters.get("top")),
            level=_number(parameters.get("level")),
            flipped=tuple(_numbers(parameters.get("flip", "")))[:_MAX_FLIPPED],
            skip=_number(parameters.get("skip")) or 0,
            only=only if only in ONLY else "",
            find=parameters.get("find", "")[:_MAX_TEXT],
            event_type=parameters.get("type", "")[:_MAX_TEXT],
            after=_cursor(parameters.get("after")),
            in_list=parameters.get("list", "")[:_MAX_STATE],
        )

    def members(self) -> dict[str, str]:
        """Return the members that are set, by their names in an address."""
        values = {
            "top": self.top,
            "level": self.level,
            "flip": ".".join(map(str, self.flipped)),
            "skip": self.skip,
            "only": self.only,
            "find": self.find,
            "type": self.event_type,
            "after": self.after.to_text() if self.after else "",
            "list": self.in_list,
        }
        return {name: str(value) for name, value in values.items() if value}

    def address(self) -> str:
        """Return the end of the address, `?` alone when nothing is set."""
        return "?" + urlencode(self.members(), errors="replace")

    def flips(self) -> Callable[[int], str]:
        """Return what makes the end of the address that opens a folded step, or folds an open one, by its number."""
        plain = replace(self, flipped=()).address()
        joined = plain if plain == "?" else f"{plain}&"

        def address(number: int) -> str:
            kept = [one for one in self.flipped if one != number]
            flipped = kept if len(kept) < len(self.flipped) else [*kept, number]
            return f"{joined}flip={'.'.join(map(str, flipped[-_MAX_FLIPPED:]))}" if flipped else plain

        return address

    def beside(self) -> RunAddress:
        """Return the address without what it says of the timeline."""
        return RunAddress(event_type=self.event_type, after=self.after, in_list=self.in_list)

    def insides(self) -> Callable[[int], str]:
        """Return what makes the end of the address of a step and what is inside it, by its number."""
        kept = self.beside().address()[1:]
        return lambda number: f"?top={number}&{kept}" if kept else f"?top={number}"


def run_path(event_id: str) -> str:
    """Return the path of a run's page."""
    return f"/runs/{path_part(event_id)}"


def _number(text: str | None) -> int | None:
    """Return a number above 0 of an address, None for anything else."""
    if not text or len(text) > len(str(_FAR_NUMBER)) or not (text.isascii() and text.isdigit()):
        return None
    return int(text) if 0 < int(text) < _FAR_NUMBER else None


def _numbers(text: str) -> Iterator[int]:
    """Yield the numbers of a list, without what is none."""
    return (number for part in text.split(".")[:_MAX_FLIPPED] if (number := _number(part)) is not None)


def _cursor(word: str | None) -> Cursor | None:
    """Return a place in the list of events; None for a word that names none."""
    try:
        return Cursor.from_text(word) if word else None
    except RecordError:
        return None
