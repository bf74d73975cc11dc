"""The second look of `verify` at runs whose stored content differs from the journal's: in which columns.

The first look compares hashes of lines as they were written. A difference can be one of spelling
(JSON that went through a service, a time in another zone), so the states of these runs are read
again, checked and merged as the database does it, and compared column by column.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection

from otel_agent_telemetry.columns import JSON_COLUMNS, LATER_COLUMNS, SCHEMA_VERSION, Fields
from otel_agent_telemetry.errors import RecordError
from otel_agent_telemetry.journal import read_parts
from otel_agent_telemetry.model import RunRecord
from otel_agent_telemetry.operations.run_ledger import run_lines
from otel_agent_telemetry.run_content import CONTENT_COLUMNS
from otel_agent_telemetry.run_state import checked_state, merged_state
from otel_agent_telemetry.storage.queries import own_states
from otel_agent_telemetry.storage.rollups import rollups_of
from otel_agent_telemetry.storage.rows import storable_state
from otel_agent_telemetry.wire import load_json

_FIRST_COMPARED: Final = 8
"""Rows of earlier versions were made anew by their upgrade."""
_UNREADABLE: Final = object()


@dataclass(frozen=True, slots=True)
class StoredRuns:
    """Runs as they are stored, and the `event_id` of those that took the name of the first agent inside them."""

    records: Sequence[RunRecord]
    adopted: Collection[str] = ()


def stored_runs(connection: Connection, event_ids: Collection[str]) -> StoredRuns:
    """Return the runs of the database with these `event_id`. Raises the driver's errors."""
    rollups = rollups_of(connection, event_ids).items()
    adopted = {event_id for event_id, one in rollups if one.agent is not None and one.agent.adopted is not None}
    return StoredRuns(own_states(connection, event_ids), adopted)


def altered_columns(stored: StoredRuns, files: Collection[Path]) -> dict[str, list[str]]:
    """Return `event_id` → the columns in which a stored run differs from the journal's; runs that differ in one.

    Reads all of `files`, day files of the journal. Raises OSError.
    """
    expected = _journalled_states(files, {record.event_id for record in stored.records})
    found = {}
    for record in stored.records:
        state = expected.get(record.event_id)
        if state is None or state["updated_at"] != record.updated_at:  # written since the first look
            continue
        names = list(_differing(state, record.to_fields()))
        if record.event_id in stored.adopted:
            names = [name for name in names if name != "agent_name"]
        if names:
            found[record.event_id] = names
    return found


def _journalled_states(files: Collection[Path], event_ids: Collection[str]) -> dict[str, Fields]:
    """Return `event_id` → the state in which the journal leaves the run; without runs that break a rule."""
    states: dict[str, Fields] = {}
    for path in files:
        # All files once, whatever number of runs: the journal has no index of runs.
        for part in read_parts(path):
            for line in run_lines(part.records):
                if line["event_id"] in event_ids:
                    try:
                        state = storable_state(checked_state(line))
                    except RecordError:  # delivery refuses it too
                        continue
                    known = states.get(state["event_id"])
                    states[state["event_id"]] = state if known is None else merged_state(known, state)
    return states


def _differing(state: Fields, stored: Fields) -> Iterator[str]:
    """Yield the columns in which two states of one run differ."""
    if state["schema_version"] < _FIRST_COMPARED:
        return
    # Columns that a state of an earlier version does not have were filled by the upgrade of the database.
    left_out = LATER_COLUMNS if state["schema_version"] < SCHEMA_VERSION else ()
    for name in CONTENT_COLUMNS:
        if name not in left_out and _meaning(name, state.get(name)) != _meaning(name, stored.get(name)):
            yield name


def _meaning(name: str, value: Any) -> Any:
    """Return what a column's value means: of JSON what it holds, whatever its spelling."""
    if name not in JSON_COLUMNS or not value:
        return value or None
    loaded = load_json(value, _UNREADABLE)
    return value if loaded is _UNREADABLE else loaded
