"""What is new of a run that is open: read again and again, from a place that a reader keeps.

The place (`Seen`) is all that is needed to go on, also at another service of the same database: the
last rows that were seen, and the steps that had not ended by then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from sqlalchemy import Connection, func, select

from otel_agent_telemetry.storage.event_rows import EventLine, event_lines_added, last_event_number
from otel_agent_telemetry.storage.queries import StoredRun, find_run
from otel_agent_telemetry.storage.step_rows import StepRow, last_step_number, open_steps, steps_after, steps_numbered
from otel_agent_telemetry.storage.tables import agent_runs

MAX_OPEN: Final = 100
"""Open steps that a place holds; the end of a further one shows when the page is loaded again."""
MAX_ROWS: Final = 500
"""New events, and new steps, of one read; the next one goes on."""
_LATE_ROWS: Final = 200
_MAX_PLACE: Final = 2_500
_FAR_NUMBER: Final = 2**63


class Seen(NamedTuple):
    """The highest row numbers of events and steps that a reader has, and the numbers of its steps that are open."""

    event: int = 0
    step: int = 0
    open_steps: tuple[int, ...] = ()

    def to_text(self) -> str:
        """Return the place as the id of an event of a stream."""
        return f"{self.event}.{self.step}.{'-'.join(map(str, self.open_steps))}"

    @classmethod
    def from_text(cls, text: str) -> Seen | None:
        """Return the place of a text made by `to_text`, None for any other."""
        parts = text[:_MAX_PLACE].split(".")
        try:
            event, step, numbers = parts
            seen = cls(int(event), int(step), tuple(int(one) for one in numbers.split("-")[:MAX_OPEN] if one))
        except ValueError:
            return None
        return seen if all(0 <= one < _FAR_NUMBER for one in (seen.event, seen.step, *seen.open_steps)) else None


class Changes(NamedTuple):
    """What a run has now, and what it has had since a place; `inside` changes with the runs inside it."""

    run: StoredRun
    events: Sequence[EventLine]
    steps: Sequence[StepRow]
    inside: tuple[int, str]
    seen: Seen


def seen_now(connection: Connection, event_id: str) -> Seen:
    """Return the place of a reader who has everything that is there."""
    return Seen(
        last_event_number(connection, event_id),
        last_step_number(connection, event_id),
        tuple(open_steps(connection, event_id, limit=MAX_OPEN)),
    )


def changes_since(connection: Connection, event_id: str, seen: Seen) -> Changes | None:
    """Return what a run has had since a place; None when there is no such run (any more).

    On PostgreSQL a row may become visible after one with a higher number, which another transaction
    wrote, so the last numbers are read once more: an event or a step may come twice.
    """
    run = find_run(connection, event_id=event_id)
    if run is None:
        return None
    late = _LATE_ROWS if connection.dialect.name == "postgresql" else 0
    events = event_lines_added(connection, event_id, max(seen.event - late, 0), limit=MAX_ROWS)
    new = steps_after(connection, event_id, max(seen.step - late, 0), limit=MAX_ROWS)
    known = steps_numbered(connection, event_id, seen.open_steps) if seen.open_steps else []
    ended = [step for step in known if step.end_time is not None]
    still_open = [step.id for step in (*known, *new) if step.end_time is None]
    place = Seen(
        max([seen.event, *(event.id for event in events)]),
        max([seen.step, *(step.id for step in new)]),
        tuple(dict.fromkeys(still_open))[-MAX_OPEN:],
    )
    steps = {step.id: step for step in (*ended, *new)}
    return Changes(run, events, list(steps.values()), _inside(connection, run.record.run_id), place)


def _inside(connection: Connection, run_id: str) -> tuple[int, str]:
    """Return how many runs name this one as their parent, and when the last of them changed."""
    columns = agent_runs.c
    counted = select(func.count(), func.max(columns.updated_at)).where(columns.parent_run_id == run_id)
    count, changed = connection.execute(counted).one()
    return int(count), str(changed or "")
