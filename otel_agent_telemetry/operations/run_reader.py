"""Where runs are read: the service that they go to, else the local database. One door for both."""

from __future__ import annotations

from contextlib import closing
from typing import Any, Protocol

from otel_agent_telemetry.buffer.health import read_health
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.model import RunRecord
from otel_agent_telemetry.operations.database import reading_database
from otel_agent_telemetry.operations.lookup import ENOUGH, Found, find_by_id, one_of
from otel_agent_telemetry.operations.remote_runs import RemoteRuns
from otel_agent_telemetry.operations.run_tree import Overrides, RunTree, children_below, read_tree, tree_of
from otel_agent_telemetry.storage.queries import RunQuery, list_runs, run_stats
from otel_agent_telemetry.storage.writer_lock import WriterLock
from otel_agent_telemetry.urls import without_credentials

_MAX_CHILDREN = 200


class RunSource(Protocol):
    """What the reading commands ask. None: there is no database yet. Raises StorageError, ConfigurationError."""

    name: str
    """A service's URL without credentials; "" for the local database."""

    def runs(self, query: RunQuery) -> list[RunRecord] | None:
        """The runs that a query asks for, newest first."""

    def stats(self, now_ns: int) -> dict[str, Any] | None:
        """`{"total_runs", "agents", "recent_24h", "statuses"}`."""

    def find(self, wanted: str) -> Found:
        """The run that a person means."""

    def tree(self, record: RunRecord, *, limit: int) -> RunTree:
        """A run and what happened in it."""


class LocalRuns:
    """The configured database, and the journal."""

    name = ""

    def __init__(self, config: TelemetryConfig) -> None:
        self._config = config

    def runs(self, query: RunQuery) -> list[RunRecord] | None:
        """See `RunSource`."""
        with reading_database(self._config) as connection:
            return None if connection is None else list_runs(connection, query)

    def stats(self, now_ns: int) -> dict[str, Any] | None:
        """See `RunSource`."""
        with reading_database(self._config) as connection:
            return None if connection is None else run_stats(connection, now_ns)

    def find(self, wanted: str) -> Found:
        """See `RunSource`; the beginning of an id will do."""
        return find_by_id(self._config, wanted)

    def tree(self, record: RunRecord, *, limit: int) -> RunTree:
        """See `RunSource`."""
        return read_tree(self._config, record, limit=limit)


class ServiceRuns:
    """A service, and what this machine's journal adds to its runs."""

    def __init__(self, url: str, config: TelemetryConfig) -> None:
        self.name = without_credentials(url)
        self._url = url
        self._config = config

    def _remote(self) -> closing[RemoteRuns]:
        return closing(RemoteRuns(self._url, self._config))

    def runs(self, query: RunQuery) -> list[RunRecord] | None:
        """See `RunSource`."""
        with self._remote() as remote:
            return list(remote.runs(query))

    def stats(self, now_ns: int) -> dict[str, Any] | None:  # noqa: ARG002 - the service's clock counts
        """See `RunSource`."""
        with self._remote() as remote:
            return remote.stats()

    def find(self, wanted: str) -> Found:
        """See `RunSource`; the whole run id or event id is needed."""
        with self._remote() as remote:
            found = remote.named(wanted, limit=ENOUGH)
        return Found(found[0], others=len(found) - 1) if found else one_of([], stored=True)

    def tree(self, record: RunRecord, *, limit: int) -> RunTree:
        """See `RunSource`."""
        with self._remote() as remote:
            told = Overrides(
                children_below(record, lambda run_id: remote.children(run_id, limit=_MAX_CHILDREN)),
                remote.spans(record.event_id),
                remote.events(record.event_id),
            )
        return tree_of(self._config, record, told, limit=limit)


def source_of(config: TelemetryConfig) -> RunSource:
    """Where runs of this configuration are read. Connects to nothing yet."""
    url = config.api_url or _discovered(config)
    return LocalRuns(config) if url is None else ServiceRuns(url, config)


def _discovered(config: TelemetryConfig) -> str | None:
    """A service that took the last delivery and does not write this database."""
    target = read_health(config.buffer_dir).target
    if not target.startswith(("http://", "https://")):
        return None
    holder = WriterLock(config.db_path).holder()
    return None if holder is not None and holder.url == target else target
