"""What is changed in a run that is stored: read, decided and written inside the writer's transaction.

Each function returns what became of it, a problem included: an exception would undo what
others have waiting in the same transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection

from otel_agent_telemetry import status as st
from otel_agent_telemetry.clock import iso_utc, parse_iso
from otel_agent_telemetry.columns import COMMIT_COLUMNS, STATE_STEP_NS
from otel_agent_telemetry.errors import RecordError
from otel_agent_telemetry.model import CommitLink, RunRecord
from otel_agent_telemetry.storage.queries import last_association, own_state
from otel_agent_telemetry.storage.store import WriteBatch, write_batch

_DEFAULT_SOURCE = "manual"


@dataclass(frozen=True, slots=True)
class Changed:
    """The run as it is now, and whether that is different from before."""

    record: RunRecord
    different: bool


def patch_run(
    connection: Connection, event_id: str, fields: Mapping[str, Any], *, now_ns: int
) -> Changed | RecordError | None:
    """Set fields of a run; None when there is no such run. The same again changes nothing."""
    stored = own_state(connection, event_id)
    if stored is None:
        return None
    if fields.get("status") == st.RUNNING and stored.ended:
        return RecordError("status", f"the run has ended as {stored.status}; an ended run never runs again")
    if "status" in fields and fields["status"] is None:
        return RecordError("status", f"must be one of {', '.join(st.STATUSES)}")
    try:
        link = _link_of(stored, fields, _later_than_told(connection, stored.run_id, now_ns))
    except RecordError as problem:
        return problem
    state = replace(stored, **_settable(stored, fields, with_commit=link is None))
    if state == stored and link is None:
        return Changed(stored, different=False)
    if state != stored:
        state = replace(state, updated_at=_after(stored.updated_at, now_ns))
    result = write_batch(connection, WriteBatch((state,), (link,) if link is not None else ()))
    return Changed(state, different=link is not None or result.outcomes == ("updated",))


def _settable(stored: RunRecord, fields: Mapping[str, Any], *, with_commit: bool) -> dict[str, Any]:
    """The values to set; None takes a number back to 0."""
    return {
        name: 0 if value is None and isinstance(getattr(stored, name), int) else value
        for name, value in fields.items()
        if with_commit or name not in COMMIT_COLUMNS
    }


def _later_than_told(connection: Connection, run_id: str, now_ns: int) -> str:
    """Now, and later than every association of the run: what is associated last shows."""
    told = last_association(connection, run_id)
    return iso_utc(now_ns) if told is None else _after(told, now_ns)


def _after(stored: str, now_ns: int) -> str:
    """Now, and later than a stored time whatever the clocks say: what was set last stands."""
    return iso_utc(max(now_ns, parse_iso(stored) + STATE_STEP_NS))


def _link_of(stored: RunRecord, fields: Mapping[str, Any], now_iso: str) -> CommitLink | None:
    """A commit that is set is an association, so that no late state of the run erases it. Raises RecordError."""
    if not any(name in fields for name in COMMIT_COLUMNS):
        return None
    values = {name: fields[name] if name in fields else getattr(stored, name) for name in COMMIT_COLUMNS}
    commit, source, author, timestamp = (values[name] for name in COMMIT_COLUMNS)
    if stored.git_commit_hash and not commit:
        raise RecordError("git_commit_hash", "a commit can be replaced by another, not taken away")
    if not commit or values == {name: getattr(stored, name) for name in COMMIT_COLUMNS}:
        return None
    return CommitLink(
        run_id=stored.run_id,
        commit_hash=commit,
        commit_source=source or _DEFAULT_SOURCE,
        commit_author=author,
        commit_timestamp=timestamp,
        associated_at=now_iso,
    )


def associate(connection: Connection, event_id: str, told: CommitLink, *, now_ns: int) -> RunRecord | None:
    """Associate a commit with the run of this event id, whatever run id `told` has; None when there is none."""
    stored = own_state(connection, event_id)
    if stored is None:
        return None
    at = _later_than_told(connection, stored.run_id, now_ns)
    write_batch(connection, WriteBatch((), (replace(told, run_id=stored.run_id, associated_at=at),)))
    return stored
