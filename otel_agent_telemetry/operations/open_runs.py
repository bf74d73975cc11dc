"""Closing runs that no process will end.

When a process dies, delivery closes its runs (invariant 6). Runs that delivery cannot see,
because the buffer was deleted, the run came from another host, or a journal was replayed,
would stay `running` for ever. Here an operator decides after how long without a sign of life
they are closed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from otel_agent_telemetry import status as st
from otel_agent_telemetry.buffer.layout import list_writers
from otel_agent_telemetry.buffer.segment import read_segment
from otel_agent_telemetry.clock import SystemClock, day_of, iso_utc, parse_iso
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.delivery.deliverer import resolve_target
from otel_agent_telemetry.delivery.outcome import Batch, Delivered, RetryLater
from otel_agent_telemetry.delivery.suppress_instrumentation import suppress_instrumentation
from otel_agent_telemetry.errors import StorageError, StoreUnavailableError
from otel_agent_telemetry.journal import journal_files, read_parts
from otel_agent_telemetry.last_activity import Activity
from otel_agent_telemetry.locks import is_locked
from otel_agent_telemetry.model import RunRecord
from otel_agent_telemetry.operations.run_ledger import run_lines
from otel_agent_telemetry.otel.left_open_usage import LeftOpenUsage
from otel_agent_telemetry.recording.journal_writer import JournalWriter
from otel_agent_telemetry.run_state import closing_state
from otel_agent_telemetry.storage.queries import iter_open_runs, own_states
from otel_agent_telemetry.storage.store import reading_database

# Bounds memory: whole runs of one chunk are held.
_CHUNK: Final = 5_000
_BATCH: Final = 500
_DAY_NS: Final = 86_400 * 1_000_000_000


def open_event_ids(config: TelemetryConfig) -> set[str]:
    """Return the `event_id` of every run that a live process of this host has open. Raises OSError."""
    open_runs: set[str] = set()
    for files in list_writers(config.buffer_dir):
        if not is_locked(files.lock):
            continue
        for _, segment in files.segments:
            for line in read_segment(segment):
                for record in run_lines(line.records):
                    # A later line of the same run replaces an earlier one.
                    running = record.get("status", st.RUNNING) == st.RUNNING
                    (open_runs.add if running else open_runs.discard)(record["event_id"])
    return open_runs


def closing_states(config: TelemetryConfig, *, older_than_ns: int) -> Iterator[RunRecord]:
    """Yield the state that closes each stale run.

    A run is stale when it is `running` in the database, open in no live process of this
    host, and without a sign of life (state, event or step in the journal) for
    `older_than_ns`. Keeps the ids of all candidates and reads a few thousand runs at a time;
    no read lock is held between them, so the caller may write. Raises StorageError, OSError.
    """
    cutoff = iso_utc(SystemClock.now_ns() - older_than_ns)
    candidates = iter(_candidates(config, cutoff))
    while chunk := list(islice(candidates, _CHUNK)):
        # Read again: the candidates may be minutes old, and a run that has ended meanwhile must not be closed.
        runs = _still_open(config, chunk)
        activities = _last_activities(config, runs)
        for run in runs:
            known = activities[run.event_id]
            # ISO 8601 in UTC: the greater text is the later time.
            sign = max(known.at, run.updated_at)
            if sign < cutoff:
                reason = "no process here has it open"
                state = closing_state(
                    run.to_fields(), reason=reason, last_sign=sign, last_error=known.error, used=known.used()
                )
                yield RunRecord.from_fields(state)


def _candidates(config: TelemetryConfig, cutoff: str) -> list[str]:
    """Return the ids of runs that are `running` since before the cutoff and not open on this host."""
    open_here = open_event_ids(config)
    with reading_database(config) as connection:
        if connection is None:
            return []
        found = (run.event_id for run in iter_open_runs(connection, older_than=cutoff))
        return [event_id for event_id in found if event_id not in open_here]


def _still_open(config: TelemetryConfig, event_ids: list[str]) -> list[RunRecord]:
    """Return those of the runs that have not ended since the candidates were read."""
    with reading_database(config) as connection:
        if connection is None:
            return []
        states = {run.event_id: run for run in own_states(connection, event_ids)}
        return [run for event_id in event_ids if (run := states.get(event_id)) is not None and not run.ended]


def _last_activities(config: TelemetryConfig, runs: list[RunRecord]) -> dict[str, Activity]:
    """Return `event_id` → the last activity in its journal lines."""
    activities = {run.event_id: Activity(LeftOpenUsage()) for run in runs}
    if not runs:
        return activities
    # One day earlier, in case the clock was set back after the run began.
    first_day = day_of(min(parse_iso(run.created_at) for run in runs) - _DAY_NS)
    for path in journal_files(config.ndjson_dir, first_day=first_day):
        for part in read_parts(path):
            for record in part.records:
                if (known := activities.get(str(record.get("event_id")))) is not None:
                    known.note(record)
    return activities


def close_runs(config: TelemetryConfig, states: Iterable[RunRecord]) -> int:
    """Write closing states to the database, through the service that writes it if there is one, and to the journal.

    Returns how many were written. Raises StoreUnavailableError when the database cannot be
    written, StorageError when it refuses a state; what was written before that stays.
    """
    # The runs were read from the local database, so they are closed there.
    target = resolve_target(config.with_(api_url=None, discover_service=False))
    journal = JournalWriter(config)
    waiting, closed = iter(states), 0
    try:
        with suppress_instrumentation():
            while batch := Batch.of(islice(waiting, _BATCH)):
                outcome = target.deliver(batch)
                if isinstance(outcome, RetryLater):
                    raise StoreUnavailableError(outcome.reason)
                refused = _refused(outcome)
                for position, state in enumerate(batch.records):
                    if position not in refused:
                        # After the database: a state that was refused must not be replayed later.
                        journal.write_run(state.to_fields())
                        closed += 1
                if refused:
                    raise StorageError("; ".join(refused.values()))
    finally:
        target.close()
        # Once at the end: a state that a power cut takes from the journal is in the database.
        journal.sync()
    return closed


def _refused(outcome: Delivered) -> dict[int, str]:
    """Return position → reason of the states that the target refused."""
    return {item.position: item.reason for item in outcome.rejected}
