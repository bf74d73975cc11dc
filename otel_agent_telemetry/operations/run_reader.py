"""Read and find runs, in the service that has them or else in the local database.

`delivery.stats.service_with_runs` decides which; the commands see one interface, `RunReader`.
Statistics are read by `delivery.stats.read_stats`, which the client uses too.
A run is found by its run id or event id, or by the beginning of one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.deletion import read_marks
from otel_agent_telemetry.delivery.stats import service_with_runs
from otel_agent_telemetry.errors import RecordError
from otel_agent_telemetry.journal import journal_files, read_parts
from otel_agent_telemetry.model import CommitLink, RunRecord, later_state
from otel_agent_telemetry.operations.follow import RunFilter
from otel_agent_telemetry.operations.run_ledger import run_lines
from otel_agent_telemetry.operations.run_tree import KnownParts, RunTree, build_tree, children_below, read_tree
from otel_agent_telemetry.storage.commit_rows import runs_of_commits
from otel_agent_telemetry.storage.pricing import use_own_prices, with_cost
from otel_agent_telemetry.storage.queries import (
    MAX_COUNTED,
    count_plumbing,
    count_runs,
    list_runs,
    runs_beginning,
    runs_named,
)
from otel_agent_telemetry.storage.run_filters import RunQuery
from otel_agent_telemetry.storage.store import reading_database
from otel_agent_telemetry.storage.tree_totals import TreeTotals, trees_of
from otel_agent_telemetry.urls import without_credentials

if TYPE_CHECKING:
    from otel_agent_telemetry.operations.remote_runs import RemoteRuns

MAX_CANDIDATES: Final = 6
_MAX_LINKS: Final = 100_000


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
            # A run has several lines in the journal, in no certain order over the files: the latest state wins.
            runs[state.event_id] = state if known is None else later_state(known, state)
    exact = [run for run in runs.values() if wanted in (run.run_id, run.event_id)]
    newest_first = sorted(exact or runs.values(), key=lambda run: run.created_at, reverse=True)
    return [with_cost(run) for run in newest_first[: 1 if exact else MAX_CANDIDATES]]


def _journalled_states(config: TelemetryConfig, wanted: RunFilter) -> Iterator[RunRecord]:
    """Yield the valid run states of the journal that match, oldest file first, but for those of deleted runs."""
    deleted = read_marks(config.ndjson_dir).deleted
    for path in journal_files(config.ndjson_dir):
        for part in read_parts(path, containing=wanted.needle):
            for record in filter(wanted.matches, run_lines(part.records)):
                if record["event_id"] in deleted:
                    continue
                try:
                    yield RunRecord.from_fields(record)
                # A line of a newer or damaged version cannot be shown as a run.
                except RecordError:
                    continue


_MAX_CHILDREN: Final = 200


class RunReader(Protocol):
    """What the reading commands need. Methods raise StorageError, ConfigurationError and OSError."""

    service: str
    """URL of the service, without credentials; "" for the local database."""

    def runs(self, query: RunQuery) -> list[RunRecord] | None:
        """Return the runs that a query asks for, newest first; None when there is no database yet."""

    def hidden(self, query: RunQuery) -> int:
        """Return how many runs of plumbing meet a query's other conditions; at most a bounded number is counted."""

    def runs_of_commits(self, hashes: Sequence[str]) -> list[CommitLink]:
        """Return the associations of these commits with runs; whole hashes are asked for."""

    def number(self, query: RunQuery) -> str:
        """Return how many runs meet a query's conditions, as a text: `1,234`, or `more than 100,000`."""

    def trees(self, records: Sequence[RunRecord]) -> list[TreeTotals]:
        """Return what each of these runs and the runs inside it used together."""

    def find(self, wanted: str) -> RunMatch:
        """Return the run that an id, or the beginning of one, stands for."""

    def tree(self, record: RunRecord, *, limit: int) -> RunTree:
        """Return a run with at most `limit` events and `limit` steps, and its child runs."""


class LocalRuns:
    """Reads the configured database and the journal."""

    service = ""

    def __init__(self, config: TelemetryConfig) -> None:
        self._config = config

    def runs(self, query: RunQuery) -> list[RunRecord] | None:
        """Return the runs of the database; see `RunReader`."""
        with reading_database(self._config) as connection:
            return None if connection is None else list_runs(connection, query)

    def hidden(self, query: RunQuery) -> int:
        """Return how many runs of plumbing the query leaves out; see `RunReader`."""
        with reading_database(self._config) as connection:
            return 0 if connection is None else count_plumbing(connection, query)

    def runs_of_commits(self, hashes: Sequence[str]) -> list[CommitLink]:
        """Return the associations of the database; see `RunReader`."""
        with reading_database(self._config) as connection:
            return [] if connection is None else runs_of_commits(connection, hashes, limit=_MAX_LINKS)

    def number(self, query: RunQuery) -> str:
        """Return how many runs meet a query's conditions; see `RunReader`."""
        with reading_database(self._config) as connection:
            found = 0 if connection is None else count_runs(connection, query)
        return f"{found:,}" if found < MAX_COUNTED else f"more than {MAX_COUNTED:,}"

    def trees(self, records: Sequence[RunRecord]) -> list[TreeTotals]:
        """Return the totals of each run's tree, of a run that is not stored its own; see `RunReader`."""
        with reading_database(self._config) as connection:
            if connection is None:
                return list(map(TreeTotals.of, records))
            return trees_of(connection, map(with_cost, records))

    def find(self, wanted: str) -> RunMatch:
        """Return the run with this id, or the only one whose id begins with it."""
        return find_by_id(self._config, wanted)

    def tree(self, record: RunRecord, *, limit: int) -> RunTree:
        """Return what database and journal have of the run."""
        return read_tree(self._config, record, limit=limit)


class ServiceRuns:
    """Reads a service, and this machine's journal for the events and steps that it does not have."""

    def __init__(self, url: str, config: TelemetryConfig) -> None:
        self.service = without_credentials(url)
        self._url = url
        self._config = config

    def _remote(self) -> closing[RemoteRuns]:
        """Return a connection to the service that is closed after the block."""
        from otel_agent_telemetry.operations.remote_runs import RemoteRuns  # most commands read the database here

        return closing(RemoteRuns(self._url, self._config))

    def runs(self, query: RunQuery) -> list[RunRecord] | None:
        """Return the runs of the service; see `RunReader`."""
        with self._remote() as remote:
            return list(remote.runs(query))

    def hidden(self, query: RunQuery) -> int:
        """Return how many runs of plumbing the query leaves out; see `RunReader`."""
        with self._remote() as remote:
            return remote.hidden(query)

    def runs_of_commits(self, hashes: Sequence[str]) -> list[CommitLink]:
        """Return the associations of the service; see `RunReader`."""
        with self._remote() as remote:
            return remote.runs_of_commits(hashes)

    def number(self, query: RunQuery) -> str:
        """Return that there are more: the API lists runs, and counts none; see `RunReader`."""
        # Counting over HTTP would read every page; the query asks for one run more than is shown.
        return f"more than {query.limit - 1:,}"

    def trees(self, records: Sequence[RunRecord]) -> list[TreeTotals]:
        """Return the totals of each run's tree, one request each; see `RunReader`."""
        with self._remote() as remote:
            return [remote.tree(record.event_id) for record in records]

    def find(self, wanted: str) -> RunMatch:
        """Return the run with this id, or the only one whose id begins with it."""
        with self._remote() as remote:
            if found := remote.named(wanted, limit=MAX_CANDIDATES):
                return RunMatch(found[0], older_runs=len(found) - 1)
            return _match_of(remote.beginning(wanted, limit=MAX_CANDIDATES) if wanted else [], stored=True)

    def tree(self, record: RunRecord, *, limit: int) -> RunTree:
        """Return what the service and the journal have of the run."""
        with self._remote() as remote:
            known = KnownParts(
                children_below(record, lambda run_id: remote.children(run_id, limit=_MAX_CHILDREN)),
                remote.spans(record.event_id),
                remote.events(record.event_id),
            )
        return build_tree(self._config, record, known, limit=limit)


def open_reader(config: TelemetryConfig) -> RunReader:
    """Return the reader of the place that has the runs of this configuration.

    Connects to loopback at most, to find a service on this machine. Raises ConfigurationError for
    the file of `TELEMETRY_PRICES`.
    """
    use_own_prices(config.prices)
    url = service_with_runs(config)
    return LocalRuns(config) if url is None else ServiceRuns(url, config)
