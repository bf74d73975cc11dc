"""The second look of `verify` at runs whose stored content differs from the journal's: in which columns.

The first look compares hashes of lines as they were written. A difference can be one of spelling
(JSON that went through a service, a time in another zone), so the states of these runs are read
again, checked and merged as the database does it, and compared column by column.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection

from otel_agent_telemetry.columns import JSON_COLUMNS, LATER_COLUMNS, SCHEMA_VERSION, Fields
from otel_agent_telemetry.errors import RecordError
from otel_agent_telemetry.journal import read_parts
from otel_agent_telemetry.operations.run_ledger import run_lines
from otel_agent_telemetry.run_content import CONTENT_COLUMNS
from otel_agent_telemetry.run_state import checked_state, merged_state
from otel_agent_telemetry.storage.queries import own_states
from otel_agent_telemetry.storage.rows import storable_state
from otel_agent_telemetry.storage.steps import rollups_of
from otel_agent_telemetry.wire import load_json

_UNREADABLE: Final = object()


def altered_columns(
    connection: Connection, files: Collection[Path], event_ids: Collection[str]
) -> dict[str, list[str]]:
    """Return `event_id` → the columns in which the stored run differs from the journal's; runs that differ in one.

    Reads all of `files`, day files of the journal. Raises OSError and the driver's errors.
    """
    expected = _journalled_states(files, set(event_ids))
    # A run may have taken the name of the first agent inside it (`span_agents`).
    adopted = {
        event_id
        for event_id, rollup in rollups_of(connection, expected).items()
        if rollup.agent is not None and rollup.agent.adopted is not None
    }
    found = {}
    for record in own_states(connection, expected):
        state = expected[record.event_id]
        if state["updated_at"] != record.updated_at:  # written since the first look
            continue
        names = list(_differing(state, record.to_fields()))
        if record.event_id in adopted:
            names = [name for name in names if name != "agent_name"]
        if names:
            found[record.event_id] = names
    return found


def _journalled_states(files: Collection[Path], event_ids: Collection[str]) -> dict[str, Fields]:
    """Return `event_id` → the state in which the journal leaves the run; without runs that break a rule."""
    states: dict[str, Fields] = {}
    for path in files:
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
