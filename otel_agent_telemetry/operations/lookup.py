"""Finding a run by its run id or event id, whole or the beginning of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.errors import RecordError
from otel_agent_telemetry.journal import journal_files, read_parts
from otel_agent_telemetry.model import RunRecord, later_state
from otel_agent_telemetry.operations.follow import RunFilter
from otel_agent_telemetry.operations.run_ledger import run_lines
from otel_agent_telemetry.storage.configured_database import reading_database
from otel_agent_telemetry.storage.pricing import with_cost
from otel_agent_telemetry.storage.queries import runs_beginning, runs_named

MAX_CANDIDATES: Final = 6


@dataclass(frozen=True, slots=True)
class RunMatch:
    """The result of a search by id.

    One run: `record`. Several: `candidates`, newest first, at most six. `older_runs` counts
    older runs of exactly the same run id. `stored` is False when only the journal has the run.
    """

    record: RunRecord | None = None
    candidates: tuple[RunRecord, ...] = ()
    older_runs: int = 0
    stored: bool = True


def find_by_id(config: TelemetryConfig, wanted: str) -> RunMatch:
    """Return the run with this id, else the only one whose id begins with it.

    The database is searched first, then the journal. Of several runs with exactly this run
    id the newest is returned. Raises StorageError, OSError.
    """
    with reading_database(config) as connection:
        if connection is not None:
            exact = runs_named(connection, wanted, limit=MAX_CANDIDATES)
            if exact:
                return RunMatch(exact[0], older_runs=len(exact) - 1)
            beginning = runs_beginning(connection, wanted, limit=MAX_CANDIDATES)
            if beginning:
                return _match_of(beginning, stored=True)
    return _match_of(_find_in_journal(config, wanted), stored=False)


def _match_of(runs: list[RunRecord], *, stored: bool) -> RunMatch:
    """Return the only run, or all as candidates."""
    if len(runs) == 1:
        return RunMatch(runs[0], stored=stored)
    return RunMatch(candidates=tuple(runs), stored=stored)


def _find_in_journal(config: TelemetryConfig, wanted: str) -> list[RunRecord]:
    """Return the latest states of the runs that match; runs with exactly this id before beginnings of it."""
    runs: dict[str, RunRecord] = {}
    for state in _journalled_states(config, RunFilter(wanted)) if wanted else ():
        known = runs.get(state.event_id)
        # States of runs found already are needed, further runs are not.
        if known is not None or len(runs) < MAX_CANDIDATES:
            runs[state.event_id] = state if known is None else later_state(known, state)
    exact = [run for run in runs.values() if wanted in (run.run_id, run.event_id)]
    newest_first = sorted(exact or runs.values(), key=lambda run: run.created_at, reverse=True)
    return [with_cost(run) for run in newest_first[: 1 if exact else MAX_CANDIDATES]]


def _journalled_states(config: TelemetryConfig, wanted: RunFilter) -> Iterator[RunRecord]:
    """Yield the valid run states of the journal that match, oldest file first."""
    for path in journal_files(config.ndjson_dir):
        for part in read_parts(path, containing=wanted.needle):
            for record in filter(wanted.matches, run_lines(part.records)):
                try:
                    yield RunRecord.from_fields(record)
                # A line of a newer or damaged version cannot be shown as a run.
                except RecordError:
                    continue
