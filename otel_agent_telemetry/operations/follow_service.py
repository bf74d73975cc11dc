"""Following the runs of a service: its newest runs, then each run that is new or has changed.

Of one run its events and steps are read as well. Each look costs two requests, and one for every
run that has ended since the last look.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Final

from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.journal import time_of
from otel_agent_telemetry.model import RunEvent, RunRecord, RunSpan
from otel_agent_telemetry.operations.follow import RunFilter
from otel_agent_telemetry.operations.remote_runs import RemoteRuns
from otel_agent_telemetry.status import RUNNING
from otel_agent_telemetry.storage.run_filters import RunQuery
from otel_agent_telemetry.wire import EVENT, RUN, SPAN, Line

_NEWEST: Final = 100
_MOST_OPEN: Final = 1000


class ServiceFollower:
    """Reads a service, each time what it has not returned yet. Methods block and raise as `RemoteRuns`."""

    poll_s = 1.0
    torn = 0

    def __init__(self, url: str, config: TelemetryConfig, wanted: RunFilter) -> None:
        self._remote = RemoteRuns(url, config)
        self._wanted = wanted.beginning
        self._seen: dict[str, str] = {}
        """`event_id` → `updated_at`, of the newest runs."""
        self._open: dict[str, str] = {}
        """The same, of the runs among those that had not ended."""
        self._parts: set[str] = set()
        """The events and steps of a single run that were returned."""

    def close(self) -> None:
        """Close the connections."""
        self._remote.close()

    def last(self, count: int) -> list[Line]:
        """Return the states of the `count` newest runs, oldest first; of a single run its last `count` records."""
        if self._wanted:
            return list(self._records_of_run())[-count:] if count else []
        runs = list(self._remote.runs(RunQuery(limit=max(count, 1))))[:count]
        return list(self._changed(runs[::-1]))

    def read_new(self) -> Iterator[Line]:
        """Yield the states of runs that are new or have changed; of a single run its new records."""
        if self._wanted:
            yield from self._records_of_run()
            return
        newest = list(self._remote.runs(RunQuery(limit=_NEWEST)))[::-1]
        running = list(self._remote.runs(RunQuery(status=RUNNING, limit=_MOST_OPEN)))
        still_open = {run.event_id for run in running}
        ended = [event_id for event_id in self._open if event_id not in still_open]
        yield from self._changed([run for event_id in ended for run in self._remote.named(event_id, limit=1)])
        yield from self._changed(newest)

    def _changed(self, runs: Iterable[RunRecord]) -> Iterator[Line]:
        """Yield the runs that were not returned in this state before."""
        for run in runs:
            if self._seen.get(run.event_id, self._open.get(run.event_id)) != run.updated_at:
                yield {"record_type": RUN, **run.to_fields()}
            self._seen[run.event_id] = run.updated_at
            if run.ended:
                self._open.pop(run.event_id, None)
            else:
                self._open[run.event_id] = run.updated_at
        while len(self._seen) > 10 * _NEWEST:  # in the order in which they were seen
            del self._seen[next(iter(self._seen))]

    def _records_of_run(self) -> Iterator[Line]:
        """Yield what is new of the run with the wanted id, in order of time."""
        for run in self._remote.named(self._wanted, limit=1):
            lines = [_line(event) for event in self._remote.events(run.event_id)]
            lines += [_line(step) for step in self._remote.spans(run.event_id)]
            for line in sorted(lines, key=time_of):
                if (text := repr(line)) not in self._parts:
                    self._parts.add(text)
                    yield line
            yield from self._changed((run,))


def _line(part: RunEvent | RunSpan) -> Line:
    """Return an event or a step as its line in a journal."""
    return {"record_type": EVENT if isinstance(part, RunEvent) else SPAN, **asdict(part)}
