"""Two runs side by side, `/compare?run=…&run=…`; the list of runs leads here, and an address can be shared.

`same=1` shows what is equal, too. Long tables show a part, and say how long they are; `at` is where the list of
steps begins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from otel_agent_telemetry.model import RunRecord
from otel_agent_telemetry.page import run_comparison as comparison
from otel_agent_telemetry.page.rendering import render
from otel_agent_telemetry.page.run_comparison import Line, Step
from otel_agent_telemetry.page.runs_view import now_of, run_address
from otel_agent_telemetry.service.requests import backend_of
from otel_agent_telemetry.storage.queries import find_run
from otel_agent_telemetry.storage.rows import clean_text
from otel_agent_telemetry.storage.run_outline import MAX_COMPARED, event_outline, step_outline

_STEPS: Final = 200
"""Steps of the list that are shown at once."""
_LINES: Final = 300
"""Lines of any other table; those that differ come first."""
_TEXT: Final = 300


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the page: its lines, how many there are with those that are left out, and how many of them differ."""

    lines: list[Line]
    total: int
    differing: int
    begins_at: int = 0


@dataclass(frozen=True, slots=True)
class _Side:
    """A run and its parts, as far as they are compared."""

    run: RunRecord
    steps: list[Step]
    events: list[str]

    @property
    def is_cut(self) -> bool:
        """Return whether the run has more steps or events than are compared."""
        return max(len(self.steps), len(self.events)) > MAX_COMPARED


async def show_comparison(request: Request) -> Response:
    """Return the comparison; 404 where a run is missing, a form where the address does not name two."""
    asked = [clean_text(word).strip() for word in request.query_params.getlist("run") if word.strip()]
    names = asked[:2]
    sides = await backend_of(request).read(lambda connection: [_read(connection, name) for name in names])
    found = [side for side in sides if side is not None]
    missing = [name for name, side in zip(names, sides, strict=True) if side is None]
    values: dict[str, Any] = {"asked": asked, "names": names, "missing": missing, "now": now_of(request)}
    values["runs"] = [(side.run, run_address(side.run.event_id, "")) for side in found]
    shows_same = request.query_params.get("same") == "1"
    if len(found) == 2:  # noqa: PLR2004 - two are compared
        at = request.query_params.get("at", "")
        begins_at = int(at) if at.isascii() and at.isdigit() and len(at) < len(str(MAX_COMPARED * 10)) else 0
        values |= _tables(found[0], found[1], begins_at=begins_at, shows_same=shows_same)
    values |= {"shows_same": shows_same, "text_characters": _TEXT, "most": MAX_COMPARED, "step": _STEPS}
    values["address"] = lambda **more: (
        "/compare?"
        + urlencode(
            [*(("run", name) for name in names), *((name, value) for name, value in more.items() if value)],
            errors="replace",
        )
    )
    return await render(request, "compare.html", values, status=404 if missing else 200)


def _read(connection: Connection, name: str) -> _Side | None:
    """Return a run by its `event_id` or its run id, with its steps and events."""
    found = find_run(connection, event_id=name.lower()) or find_run(connection, run_id=name)
    if found is None:
        return None
    steps = [Step(*row) for row in step_outline(connection, found.record.event_id)]
    return _Side(found.record, steps, event_outline(connection, found.record.event_id))


def _tables(left: _Side, right: _Side, *, begins_at: int, shows_same: bool) -> dict[str, Any]:
    """Return what the template shows of two runs."""
    in_order = comparison.steps_in_order(left.steps[:MAX_COMPARED], right.steps[:MAX_COMPARED])
    begins_at = min(begins_at, max(len(in_order) - 1, 0))
    events = left.events[:MAX_COMPARED], right.events[:MAX_COMPARED]
    first = comparison.first_difference(*events)
    at_first = [side[first] if first is not None and first < len(side) else None for side in events]
    return {
        "overview": comparison.overview(left.run, right.run),
        "by_name": _first_lines(comparison.steps_by_name(left.steps, right.steps), shows_same=True),
        "in_order": Table(
            in_order[begins_at : begins_at + _STEPS], len(in_order), _differing(in_order), begins_at=begins_at
        ),
        "attributes": _first_lines(comparison.attributes(left.run, right.run), shows_same=shows_same),
        "events": _first_lines(comparison.events_by_type(*events), shows_same=True),
        "first_event": None if first is None else (first + 1, *at_first),
        "is_cut": left.is_cut or right.is_cut,
    }


def _first_lines(lines: list[Line], *, shows_same: bool) -> Table:
    """Return a table of the lines that differ, then with `shows_same` of the others; at most 300."""
    differing = [line for line in lines if line.difference]
    same = [line for line in lines if not line.difference] if shows_same else []
    return Table([*differing, *same][:_LINES], len(lines), len(differing))


def _differing(lines: list[Line]) -> int:
    """Return how many lines differ."""
    return sum(bool(line.difference) for line in lines)
