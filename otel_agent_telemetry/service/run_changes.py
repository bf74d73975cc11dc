"""Changes of stored runs: read, decide and write inside one transaction of the writer.

Each function returns its outcome, errors included: an exception would roll back the writes
of other requests in the same transaction.
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
class PatchedRun:
    """The run after a PATCH, and whether the PATCH changed it."""

    record: RunRecord
    changed: bool


def patch_run(
    connection: Connection, event_id: str, fields: Mapping[str, Any], *, now_ns: int
) -> PatchedRun | RecordError | None:
    """Set fields of a run. Return None when there is no such run, RecordError for a value that breaks a rule."""
    stored = own_state(connection, event_id)
    if stored is None:
        return None
    # Storing it would change nothing, because an end is never undone, and the client would not notice.
    if fields.get("status") == st.RUNNING and stored.ended:
        return RecordError("status", f"the run has ended as {stored.status}; an ended run never runs again")
    if "status" in fields and fields["status"] is None:
        return RecordError("status", f"must be one of {', '.join(st.STATUSES)}")
    try:
        link = _commit_link(stored, fields, _association_time(connection, stored.run_id, now_ns))
    except RecordError as problem:
        return problem
    state = replace(stored, **_settable(stored, fields, with_commit=link is None))
    if state == stored and link is None:
        return PatchedRun(stored, changed=False)
    # A PATCH that changes nothing keeps its time, so that repeating it stays without effect.
    if state != stored:
        state = replace(state, updated_at=_after(stored.updated_at, now_ns))
    result = write_batch(connection, WriteBatch((state,), (link,) if link is not None else ()))
    return PatchedRun(state, changed=link is not None or result.outcomes == ("updated",))


def _settable(stored: RunRecord, fields: Mapping[str, Any], *, with_commit: bool) -> dict[str, Any]:
    """Return the values to set; None resets a number to 0. A commit that becomes an association is left out."""
    return {
        name: 0 if value is None and isinstance(getattr(stored, name), int) else value
        for name, value in fields.items()
        if with_commit or name not in COMMIT_COLUMNS
    }


def _association_time(connection: Connection, run_id: str, now_ns: int) -> str:
    """Return the time for a new association: now, or just after the last one, so that the new one shows."""
    last = last_association(connection, run_id)
    return iso_utc(now_ns) if last is None else _after(last, now_ns)


def _after(stored: str, now_ns: int) -> str:
    """Return now, or just after a stored time when the clock is behind it: the last change must stand."""
    return iso_utc(max(now_ns, parse_iso(stored) + STATE_STEP_NS))


def _commit_link(stored: RunRecord, fields: Mapping[str, Any], now_iso: str) -> CommitLink | None:
    """Return the association for a PATCH of commit fields, so that no late state erases it. Raises RecordError."""
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


def associate_run(connection: Connection, event_id: str, link: CommitLink, *, now_ns: int) -> RunRecord | None:
    """Associate a commit with the run of this event id, ignoring the link's run id; return None without such a run."""
    stored = own_state(connection, event_id)
    if stored is None:
        return None
    associated_at = _association_time(connection, stored.run_id, now_ns)
    write_batch(connection, WriteBatch((), (replace(link, run_id=stored.run_id, associated_at=associated_at),)))
    return stored
