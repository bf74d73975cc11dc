"""Reading runs, from the service that has them or else from the local database.

`delivery.stats.service_with_runs` decides which; the commands see one interface, `RunReader`.
Statistics are read by `delivery.stats.read_stats`, which the client uses too.
"""

from __future__ import annotations

from contextlib import closing
from typing import Final, Protocol

from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.delivery.stats import service_with_runs
from otel_agent_telemetry.model import RunRecord
from otel_agent_telemetry.operations.lookup import MAX_CANDIDATES, RunMatch, find_by_id
from otel_agent_telemetry.operations.remote_runs import RemoteRuns
from otel_agent_telemetry.operations.run_tree import KnownParts, RunTree, build_tree, children_below, read_tree
from otel_agent_telemetry.storage.configured_database import reading_database
from otel_agent_telemetry.storage.queries import RunQuery, list_runs
from otel_agent_telemetry.urls import without_credentials

_MAX_CHILDREN: Final = 200


class RunReader(Protocol):
    """What the reading commands need. Methods raise StorageError, ConfigurationError and OSError."""

    service: str
    """URL of the service, without credentials; "" for the local database."""

    def runs(self, query: RunQuery) -> list[RunRecord] | None:
        """Return the runs that a query asks for, newest first; None when there is no database yet."""

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
        return closing(RemoteRuns(self._url, self._config))

    def runs(self, query: RunQuery) -> list[RunRecord] | None:
        """Return the runs of the service; see `RunReader`."""
        with self._remote() as remote:
            return list(remote.runs(query))

    def find(self, wanted: str) -> RunMatch:
        """Return the run whose whole run id or event id this is; the API does not search by beginnings."""
        with self._remote() as remote:
            found = remote.named(wanted, limit=MAX_CANDIDATES)
        return RunMatch(found[0], older_runs=len(found) - 1) if found else RunMatch()

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

    Connects to loopback at most, to find a service on this machine.
    """
    url = service_with_runs(config)
    return LocalRuns(config) if url is None else ServiceRuns(url, config)
