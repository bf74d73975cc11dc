"""Comparing this host's journal with a service, for `verify`.

Compared is by UTC day and host (`storage.digests`): where the number of runs and their digest are
equal, the service has them as the journal does, and only where they differ are the runs listed one
by one. A service that is away, or older than these calls, is not compared, and the report says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Final

from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.deletion import Marks
from otel_agent_telemetry.errors import ConfigurationError, StorageError
from otel_agent_telemetry.model import RunRecord
from otel_agent_telemetry.operations.altered_runs import StoredRuns
from otel_agent_telemetry.operations.compare_lines import LineComparison, compare_lines
from otel_agent_telemetry.operations.line_ledger import LineLedger
from otel_agent_telemetry.operations.remote_runs import RemoteRuns
from otel_agent_telemetry.operations.run_ledger import RunLedger
from otel_agent_telemetry.urls import without_credentials

_LOOKED_AT_AGAIN: Final = 200


class ServiceComparison:
    """The service side of one `verify`. `problem` is why something could not be compared, "" when all was."""

    def __init__(self, url: str, config: TelemetryConfig) -> None:
        self.name = without_credentials(url)
        self.problem = ""
        self.lines: LineComparison | None = None
        """How events and steps differ; None where they were not compared."""
        self._url = url
        self._config = config

    def read(self, ledger: RunLedger, lines: LineLedger | None) -> Marks:
        """Add the service's runs to a ledger of digests, and compare events and steps; return its marks of deletions.

        Blocks for a request for each day of the journal, and more where something differs. Raises
        ConfigurationError for a URL that cannot be asked.
        """
        marks = Marks()
        with self._remote() as remote:
            if self._compare(remote, ledger):
                marks = remote.marks()
                if lines is not None:
                    self._compare_lines(remote, lines, marks)
        return marks

    def _compare_lines(self, remote: RemoteRuns, lines: LineLedger, marks: Marks) -> None:
        """Compare events and steps, but for those that the service has deleted."""
        since = max(marks.parts_cutoff, "" if marks.cutoff is None else marks.cutoff.cutoff)
        lines.leave_out(marks.deleted, before=since)
        self.lines = compare_lines(lines, remote, since=since)
        if self.lines is None:
            self.problem = f"{self.name} is older than this version and has no call for events and steps"

    def records(self, event_ids: Sequence[str]) -> StoredRuns:
        """Return the service's runs with these `event_id`, one request each, the first two hundred."""
        records: list[RunRecord] = []
        with self._remote() as remote:
            for event_id in event_ids[:_LOOKED_AT_AGAIN]:
                records += remote.named(event_id, limit=1)
        return StoredRuns(records)

    @contextmanager
    def _remote(self) -> Iterator[RemoteRuns]:
        """Yield the service; what it answers wrongly, or not at all, ends the block and becomes the problem."""
        with closing(RemoteRuns(self._url, self._config)) as remote:
            try:
                yield remote
            except (StorageError, ConfigurationError) as problem:
                self.problem = problem.with_hint()

    def _compare(self, remote: RemoteRuns, ledger: RunLedger) -> bool:
        """Add the service's runs of every place of the journal; return False when the service has no such call."""
        answers: dict[str, Mapping[str, tuple[int, str]]] = {}
        for place, runs, digest in ledger.places():
            day, _, host = place.partition(" ")
            if not day:  # a state that breaks a rule is stored nowhere
                continue
            if day not in answers:
                answer = remote.day_digests(day)
                if answer is None:
                    self.problem = f"{self.name} is older than this version and has no call for it"
                    return False
                answers = {day: answer}
            if answers[day].get(host) == (runs, digest):
                ledger.all_stored(place)
            else:
                ledger.stored_digests(remote.run_digests(day, host))
        return True
