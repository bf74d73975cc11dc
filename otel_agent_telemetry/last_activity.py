"""What the journal says last of runs that nobody ended: the last sign of life, the last error, what was used by then.

A run whose process was killed has no end that says so. Its lines do: each was written before the
caller went on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Final, Protocol

from otel_agent_telemetry.journal import is_compressed, journal_files, read_parts, time_of
from otel_agent_telemetry.last_error import error_of_line
from otel_agent_telemetry.wire import SPAN, Line

_MAX_BYTES: Final = 256 << 20


class StepUsageSum(Protocol):
    """Adds up what the steps of one run used; `otel.left_open_usage` has the one that knows attributes."""

    def add(self, step: Line) -> None:
        """Take in the line of a step that has ended, in any order; the same step again changes nothing."""

    def shown(self) -> dict[str, Any]:
        """Return the member `gen_ai` of the run's metrics; empty where nothing was used."""


class Activity:
    """When the last line of a run was (our ISO text), and the last error that a line of it names; "" for none.

    `steps` adds up what its steps used, where attributes are understood.
    """

    __slots__ = ("_error_at", "_steps", "at", "error")

    def __init__(self, steps: StepUsageSum | None = None) -> None:
        self.at = self.error = self._error_at = ""
        self._steps = steps

    def used(self) -> dict[str, Any]:
        """Return what the run used by then, as `gen_ai` of its metrics; empty where that is not known."""
        return self._steps.shown() if self._steps is not None else {}

    def note(self, record: Line) -> None:
        """Take in a line of the run, in any order."""
        at = time_of(record)
        self.at = max(self.at, at)
        if at >= self._error_at and (error := error_of_line(record)):
            self.error, self._error_at = error, at
        if self._steps is not None and record.get("record_type") == SPAN and record.get("end_time"):
            self._steps.add(record)


class ActivityJournal:
    """The journal of a host, asked for the last activity of runs. `new_sum` makes what adds up a run's steps."""

    def __init__(self, folder: Path, new_sum: Callable[[], StepUsageSum] | None = None) -> None:
        self._folder = folder
        self._new_sum = new_sum

    def of_writer(
        self, writer: str, runs: Collection[str], *, first_day: str, max_bytes: int = _MAX_BYTES
    ) -> dict[str, Activity]:
        """Return `event_id` → the last activity of each of these runs in the lines that a writer left.

        Reads at most the last `max_bytes` of each day from `first_day` on, and no compressed days.
        """
        activities = {event_id: Activity(self._new_sum and self._new_sum()) for event_id in runs}
        for path in journal_files(self._folder, first_day=first_day):
            if is_compressed(path):
                continue  # read in the background, where nothing may be imported that an archive needs
            offset = max(path.stat().st_size - max_bytes, 0)
            for part in read_parts(path, containing=writer, offset=offset):
                for record in part.records:
                    # The writer's name can stand in the text of another's line.
                    if record.get("writer") == writer and (known := activities.get(str(record.get("event_id")))):
                        known.note(record)
        return activities
