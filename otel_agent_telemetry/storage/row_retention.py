"""Delete old runs, the rows that belong to them, and old rows that never found their run.

A run is old when it was created before the cutoff and had ended by then. One that is still
`running` is never deleted, however old (`close-stale` ends it first). With a run its events,
steps and roll-up are deleted, and the commits of its `run_id` unless another run has it. Events and
steps may have a cut-off of their own (*parts*), by their own time, after which their run stays without them.

Each batch is a transaction of its own, so a retention that is killed leaves whole runs
behind, and the next one continues. Between two batches other writers can write. Before the first
the cut-off is stored, which keeps late states of what is deleted out (`marks`). The counts
follow by the database's own triggers (`counts`). A step that arrives after its run was deleted
is stored as an orphan, as one that arrives too early is, and deleted when it is old itself.

Day files of the journal are `operations.maintenance`'s.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Table, and_, delete, exists, or_, select
from sqlalchemy.sql.expression import literal_column

from otel_agent_telemetry.clock import SystemClock, iso_utc, parse_iso
from otel_agent_telemetry.deletion import CutOff
from otel_agent_telemetry.storage.counts import pack_counts
from otel_agent_telemetry.storage.deletions import has_run, put_cutoff, remove_runs
from otel_agent_telemetry.storage.marks import put_cutoff_of
from otel_agent_telemetry.storage.rows import Cursor
from otel_agent_telemetry.storage.run_filters import is_running
from otel_agent_telemetry.storage.session_metrics import delete_old_figures
from otel_agent_telemetry.storage.statements import count_rows
from otel_agent_telemetry.storage.store import Store
from otel_agent_telemetry.storage.tables import agent_runs, commits, run_events, run_rollups, run_spans
from otel_agent_telemetry.storage.traces import lock_traces
from otel_agent_telemetry.storage.turn_rows import delete_old_turns
from otel_agent_telemetry.wire import EVENT

BATCH_RUNS: Final = 200
_BATCH_ROWS: Final = 1000
# Between batches the deletion pauses as long as the batch took, so that writers get every second turn.
_MAX_PAUSE_S: Final = 0.25
_NO_RUN: Final[ColumnElement[str]] = literal_column("''")

_runs: Final = agent_runs.c
_ORPHAN_TIMES: Final = ((run_events, run_events.c.timestamp), (run_spans, run_spans.c.start_time))

Progress = Callable[[int, int], None]
"""Called with the runs deleted so far, and the number found at the beginning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OldRows:
    """How many rows are old, or were deleted, and how many old runs stay because they are still running."""

    runs: int = 0
    events: int = 0
    spans: int = 0
    rollups: int = 0
    commits: int = 0
    still_running: int = 0


def count_old(connection: Connection, cutoff: str, *, parts_cutoff: str | None = None) -> OldRows:
    """Return what a retention with these cutoffs (our texts of instants) would delete now.

    Reads only, but all that is old in one view: on SQLite (but in WAL mode) a commit waits
    until it is done, seconds for a million runs.
    """
    old = select(_runs.event_id).where(_is_old(cutoff))
    events, spans = (
        count_rows(
            connection,
            table,
            or_(
                table.c.event_id.in_(old),
                _is_orphan(table, when, cutoff),
                _is_old_part(table, when, cutoff, parts_cutoff),
            ),
        )
        for table, when in _ORPHAN_TIMES
    )
    return replace(
        count_old_runs(connection, cutoff),
        events=events,
        spans=spans,
        rollups=count_rows(connection, run_rollups, run_rollups.c.event_id.in_(old)),
        commits=count_rows(connection, commits, _has_only_old_runs(cutoff)),
    )


def count_old_runs(connection: Connection, cutoff: str) -> OldRows:
    """Return the numbers of runs to delete, and of old ones that are kept because they still run."""
    return OldRows(
        runs=count_rows(connection, agent_runs, _is_old(cutoff)),
        still_running=count_rows(connection, agent_runs, and_(_runs.created_at < cutoff, is_running())),
    )


def delete_old(
    store: Store, cutoff: str, *, parts_cutoff: str | None = None, on_progress: Progress | None = None
) -> OldRows:
    """Delete what is old and return how much that was; `store` must be open.

    `parts_cutoff`: events and steps of runs that have ended are deleted if they are older than that.

    Blocks for as long as it takes. Its transactions take tens of milliseconds each; only the
    count of old runs, at the beginning, keeps a commit on SQLite (but in WAL mode) waiting
    for longer, tenths of a second for a million runs. Raises StorageError; what was deleted
    before that is deleted.
    """
    return _Retention(store, cutoff, parts_cutoff, on_progress).run()


class _Retention:
    """One call of `delete_old`."""

    def __init__(self, store: Store, cutoff: str, parts_cutoff: str | None, on_progress: Progress | None) -> None:
        self._store = store
        self._cutoff = cutoff
        self._parts_cutoff = parts_cutoff
        self._on_progress = on_progress
        self._deleted: dict[str, int] = {}

    def run(self) -> OldRows:
        """Delete in batches, then return what was deleted from each table."""
        with self._store.reading() as connection:
            found = count_old_runs(connection, self._cutoff)
        applied = CutOff(cutoff=self._cutoff, applied_at=iso_utc(SystemClock.now_ns()))
        self._store.transact(partial(put_cutoff, cutoff=applied))
        if self._parts_cutoff is not None:
            of_parts = applied._replace(cutoff=self._parts_cutoff)
            self._store.transact(partial(put_cutoff_of, record_type=EVENT, mark=of_parts))
        self._delete_runs(found.runs)
        for table, when in _ORPHAN_TIMES:
            self._delete_orphans(table, when)
            self._delete_parts(table, when)
        self._delete_commits_without_run()
        self._store.transact(partial(delete_old_turns, cutoff_ns=parse_iso(self._cutoff)))
        self._store.transact(partial(delete_old_figures, cutoff=self._cutoff))
        deleted = {name.removeprefix("run_").removeprefix("agent_"): number for name, number in self._deleted.items()}
        return OldRows(**deleted, still_running=found.still_running)

    def _delete_runs(self, total: int) -> None:
        """Delete the old runs page by page, each page with all that belongs to its runs."""
        last: Cursor | None = None
        while page := self._page_of_old(last):
            # From the last row on: a run that was kept in this page (it runs again) is not read for ever.
            last = Cursor(page[-1].created_at, page[-1].id)
            self._transact(partial(delete_runs, ids=[row.id for row in page], cutoff=self._cutoff))
            if self._on_progress is not None:
                self._on_progress(min(self._deleted.get("agent_runs", 0), total), total)
        if self._deleted.get("agent_runs"):
            self._store.transact(pack_counts)

    def _page_of_old(self, last: Cursor | None) -> Sequence[Any]:
        """Return the next old runs, oldest first: read before the lock is taken, checked again under it."""
        selected = select(_runs.id, _runs.created_at).where(_is_old(self._cutoff))
        if last is not None:
            is_later = or_(_runs.created_at > last.time, _runs.id > last.id)
            selected = selected.where(_runs.created_at >= last.time, is_later)
        with self._store.reading() as connection:
            return connection.execute(selected.order_by(_runs.created_at, _runs.id).limit(BATCH_RUNS)).all()

    def _delete_orphans(self, table: Table, when: ColumnElement[Any]) -> None:
        """Delete old rows that never found a run, in batches."""
        orphans = select(table.c.id).where(_is_orphan(table, when, self._cutoff)).limit(_BATCH_ROWS)
        while True:
            with self._store.reading() as connection:
                ids = connection.execute(orphans).scalars().all()
            if not ids:
                return
            still_orphans = and_(table.c.id.in_(ids), table.c.event_id == _NO_RUN)
            self._transact(partial(_delete_from, table=table, which=still_orphans))

    def _delete_parts(self, table: Table, when: ColumnElement[Any]) -> None:
        """Delete old rows whose run stays, or is not there, in the order of their numbers."""
        is_old = _is_old_part(table, when, self._cutoff, self._parts_cutoff)
        last = 0
        while True:
            # From the last row on: the table has no index on times, and is read once.
            page = select(table.c.id).where(table.c.id > last, is_old).order_by(table.c.id).limit(_BATCH_ROWS)
            with self._store.reading() as connection:
                ids = connection.execute(page).scalars().all()
            if not ids:
                return
            last = ids[-1]
            self._transact(partial(_delete_from, table=table, which=and_(table.c.id.in_(ids), is_old)))

    def _delete_commits_without_run(self) -> None:
        """Delete old associations whose run never came, in batches."""
        has_no_run = and_(commits.c.associated_at < self._cutoff, ~has_run(commits.c.run_id))
        keys = select(commits.c.commit_hash, commits.c.run_id).where(has_no_run).limit(_BATCH_ROWS)
        while True:
            with self._store.reading() as connection:
                found = connection.execute(keys).all()
            if not found:
                return
            which = and_(commits.c.run_id.in_({row.run_id for row in found}), has_no_run)
            self._transact(partial(_delete_from, table=commits, which=which))

    def _transact(self, work: Callable[[Connection], dict[str, int]]) -> None:
        """Run one transaction, then pause as long as it took."""
        # SQLite's waiting writers poll, they do not queue: without a pause they would never get the lock.
        started = time.monotonic()
        for name, number in self._store.transact(work).items():
            self._deleted[name] = self._deleted.get(name, 0) + number
        time.sleep(min(time.monotonic() - started, _MAX_PAUSE_S))


def delete_runs(connection: Connection, *, ids: Sequence[int], cutoff: str) -> dict[str, int]:
    """Delete those of the runs that are still old; return table → deleted rows. Skip runs that another writer locks.

    Waits for steps of their traces that are being written; those written afterwards see no run.
    """
    traces = select(_runs.trace_id).where(_runs.id.in_(ids), _runs.trace_id.is_not(None))
    lock_traces(connection, connection.execute(traces).scalars().all(), shared=False)
    selected = select(_runs.id, _runs.event_id, _runs.run_id).where(_runs.id.in_(ids), _is_old(cutoff))
    # A run that another writer holds is skipped: waiting for it while holding others could deadlock.
    rows = connection.execute(selected.with_for_update(skip_locked=True)).all()
    if not rows:
        return {}
    return remove_runs(connection, rows)


def _delete_from(connection: Connection, *, table: Table, which: ColumnElement[bool]) -> dict[str, int]:
    """Delete the rows of a table that meet a condition; return table → how many."""
    return {table.name: _delete(connection, table, which)}


def _delete(connection: Connection, table: Table, which: ColumnElement[bool]) -> int:
    """Delete rows that meet a condition; return how many."""
    return connection.execute(delete(table).where(which)).rowcount


def _is_old(cutoff: str) -> ColumnElement[bool]:
    """Return the condition that a run was created before the cut-off, and has ended by then."""
    ended = or_(_runs.end_time.is_(None), _runs.end_time < cutoff)
    return and_(_runs.created_at < cutoff, ended, ~is_running())


def _is_orphan(table: Table, when: ColumnElement[Any], cutoff: str) -> ColumnElement[bool]:
    """Return the condition that a row has no run, and is older than the cut-off."""
    return and_(table.c.event_id == _NO_RUN, when < cutoff)


def _is_old_part(table: Table, when: ColumnElement[Any], cutoff: str, parts_cutoff: str | None) -> ColumnElement[bool]:
    """Return the condition for rows past their own cutoff whose run has ended, and past the runs' whose run is gone."""
    of_run = exists().where(_runs.event_id == table.c.event_id)
    is_left = and_(table.c.event_id != _NO_RUN, when < cutoff, ~of_run)
    if parts_cutoff is None:
        return is_left
    return or_(is_left, and_(when < parts_cutoff, exists().where(_runs.event_id == table.c.event_id, ~is_running())))


def _has_only_old_runs(cutoff: str) -> ColumnElement[bool]:
    """Return the condition for commits of old runs, and old commits of no run, whose `run_id` no younger run has."""
    of_old_run = exists().where(_runs.run_id == commits.c.run_id, _is_old(cutoff))
    of_younger_run = exists().where(_runs.run_id == commits.c.run_id, ~_is_old(cutoff))
    return and_(or_(of_old_run, commits.c.associated_at < cutoff), ~of_younger_run)
