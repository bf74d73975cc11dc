"""Endpoints that write runs and commit associations. Each responds after the commit that holds the write.

A change of a stored run is read, decided and written inside one transaction of the writer.
The function that does so returns its outcome, errors included: an exception would roll back the writes
of other requests in the same transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from otel_agent_telemetry import status as st
from otel_agent_telemetry.clock import iso_utc, parse_iso
from otel_agent_telemetry.columns import COMMIT_COLUMNS, STATE_STEP_NS
from otel_agent_telemetry.errors import RecordError
from otel_agent_telemetry.model import CommitLink, RunRecord
from otel_agent_telemetry.service import run_schemas, schemas
from otel_agent_telemetry.service.backend import Backend
from otel_agent_telemetry.service.openapi import OperationGroup, json_body, responses
from otel_agent_telemetry.service.requests import backend_of, event_id_of, parsed_body, run_not_found
from otel_agent_telemetry.service.responses import RequestError, json_response
from otel_agent_telemetry.service.run_bodies import commit_link_from_body, patch_from_body, run_from_body
from otel_agent_telemetry.storage.queries import last_association, own_state
from otel_agent_telemetry.storage.store import WriteBatch, WriteResult, write_batch

_DEFAULT_SOURCE = "manual"


@dataclass(frozen=True, slots=True)
class PatchedRun:
    """The run after a PATCH, and whether the PATCH changed it."""

    record: RunRecord
    changed: bool


def patch_run(
    connection: Connection, event_id: str, fields: Mapping[str, Any], *, now_ns: int
) -> PatchedRun | RecordError | None:
    """Set fields of a run. Return None when there is no such run, RecordError for a value that breaks a rule.

    Within the transaction of the writer, which on PostgreSQL holds the lock of the row from the first statement on.
    Raises nothing for values of the client.
    """
    stored = own_state(connection, event_id)
    if stored is None:
        return None
    # Storing it would change nothing, because an end is never undone, and the client would not notice.
    if fields.get("status") == st.RUNNING and stored.ended:
        return RecordError("status", f"the run has ended as {stored.status}; an ended run never runs again")
    if "status" in fields and fields["status"] is None:
        return RecordError("status", f"must be one of {', '.join(st.STATUSES)}")
    try:
        # A commit set by PATCH becomes an association: only those stand against a later state of the run.
        link = _commit_link(stored, fields, _association_time(connection, stored.run_id, now_ns))
    except RecordError as problem:
        return problem
    state = replace(stored, **_settable(stored, fields, with_commit=link is None))
    # A given end without a duration: the run lasted from its start to that end.
    if fields.get("end_time") and "duration_ms" not in fields:
        lasted_ns = parse_iso(fields["end_time"]) - parse_iso(stored.start_time)
        state = replace(state, duration_ms=max(lasted_ns // 1_000_000, 0))
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


T = TypeVar("T")

MAX_BATCH: Final = 10_000
_STATUS_OF: Final = {"inserted": "created", "updated": "updated", "duplicate": "duplicate", "deleted": "deleted"}
_MESSAGES: Final = {
    "duplicate": "this state, or a later one, is stored already",
    "deleted": "the run was deleted, and no state of it is stored again",
}
_PLACEHOLDER_RUN_ID: Final = "run"
"""A commit link needs a run id; that of a path is replaced by the run's own inside the transaction."""
_MAX_SHOWN_ID: Final = 80

operations = OperationGroup("runs")


@operations.add(
    "POST",
    "/api/v1/runs",
    summary="Store one state of a run",
    responses=responses(schemas.RunStored, 201, 400, 413, 415, 422, 429, 503),
    request_body=json_body(run_schemas.RunBody),
)
async def create_run(request: Request) -> Response:
    """Store a run's start, a later state or its end: the same call, any number of times, in any order.

    Of two states of one `event_id` the later one stands, and an end is never undone. Fields
    that are no columns of a run are stored in its `context_json`.

    201 for each of the outcomes, a repetition included: a client that retries must not see an error.
    """
    # The response is sent outside: the body's bytes are released as soon as the write is committed.
    async with parsed_body(request, run_from_body) as state:
        result = await backend_of(request).write(WriteBatch((state,)))
    status = _STATUS_OF[result.outcomes[0]]
    if status in _MESSAGES:
        return json_response({"status": status, "event_id": state["event_id"], "message": _MESSAGES[status]}, 201)
    return json_response({"status": status, "event_id": state["event_id"], "run_id": state["run_id"]}, 201)


@operations.add(
    "POST",
    "/api/v1/runs/batch",
    summary="Store up to 10,000 states of runs",
    responses=responses(schemas.BatchStored, 200, 400, 413, 415, 422, 429, 503),
    request_body=json_body(run_schemas.RunBody, many=True),
)
async def create_runs(request: Request) -> Response:
    """Store every valid item in one transaction; invalid ones are listed in `errors` and do not fail the others."""
    async with parsed_body(request, partial(_parse_items, parse=run_from_body)) as items:
        result = await items.write(backend_of(request), WriteBatch)
    deleted = result.count("deleted")
    answer = {
        "inserted": result.count("inserted"),
        "updated": result.count("updated"),
        # Clients that know of no deletions take these for settled all the same.
        "duplicates": result.count("duplicate") + deleted,
        "errors": items.errors,
        "total": items.total,
    }
    return json_response({**answer, "deleted": deleted} if deleted else answer)


@dataclass(slots=True)
class _Items(Generic[T]):
    """An array's valid items with their index, and the errors of the others."""

    body: Sequence[Any]
    valid: list[tuple[int, T]]
    errors: list[dict[str, Any]]

    @property
    def total(self) -> int:
        """Return the number of items in the request."""
        return len(self.body)

    async def write(self, backend: Backend, batch_of: Callable[[list[T]], WriteBatch]) -> WriteResult:
        """Write the valid items; those that the database refuses join the errors. Raises as `write_each` does."""
        result, refused = await backend.write_each(self.valid, lambda pairs: batch_of([item for _, item in pairs]))
        for (index, _), reason in refused:
            self.refuse(index, reason)
        # What the database refused was appended after what the rules refused.
        self.errors.sort(key=itemgetter("index"))
        return result

    def refuse(self, index: int, reason: str) -> None:
        """Add an error for the item at `index`."""
        item = self.body[index]
        given = item.get("event_id") if isinstance(item, dict) else None
        event_id = given[:_MAX_SHOWN_ID] if isinstance(given, str) else None
        # A reason may quote a lone surrogate of the body, which JSON cannot carry.
        self.errors.append({"index": index, "event_id": event_id, "reason": reason.encode("utf-8", "replace").decode()})


def _parse_items(body: Any, *, parse: Callable[[Any], T]) -> _Items[T]:
    """Return the items of a batch, each parsed or refused. Raises RecordError, RequestError 413."""
    if not isinstance(body, list):
        raise RecordError("body", "must be an array")
    # A limit in items beside that in bytes: a small body of tiny items could hold up the writer for seconds.
    if len(body) > MAX_BATCH:
        raise RequestError(413, f"a batch may have {MAX_BATCH} items, this one has {len(body)}; send less at once")
    items: _Items[T] = _Items(body, [], [])
    for index, item in enumerate(body):
        try:
            items.valid.append((index, parse(item)))
        except RecordError as problem:
            items.refuse(index, str(problem))
    return items


@operations.add(
    "PATCH",
    "/api/v1/runs/{event_id}",
    summary="Set fields of a run",
    path_parameters=run_schemas.EventIdPath,
    responses=responses(schemas.RunPatched, 200, 400, 404, 413, 415, 422, 429, 503),
    request_body=json_body(run_schemas.RunPatch),
)
async def update_run(request: Request) -> Response:
    """Set fields of a stored run and its `updated_at`; for corrections, such as ending a run that never will.

    Fields of the body that cannot be changed are named in `ignored`; 400 when there are no others.
    """
    async with parsed_body(request, patch_from_body) as patch:
        backend, event_id = backend_of(request), event_id_of(request)
        now_ns = backend.clock.now_ns()
        patched = await backend.change(lambda connection: patch_run(connection, event_id, patch.fields, now_ns=now_ns))
    if patched is None:
        raise run_not_found(event_id)
    # Returned by the change and raised only here: raised inside, it would roll back the whole group.
    if isinstance(patched, RecordError):
        raise patched
    answer = {"event_id": event_id, "updated": patched.changed, "fields_updated": sorted(patch.fields)}
    return json_response({**answer, "ignored": patch.ignored})


@operations.add(
    "POST",
    "/api/v1/runs/{event_id}/associate-commit",
    summary="Associate a commit with a run",
    path_parameters=run_schemas.EventIdPath,
    responses=responses(schemas.CommitAssociated, 200, 400, 404, 413, 415, 422, 429, 503),
    request_body=json_body(schemas.CommitBody),
)
async def associate_commit(request: Request) -> Response:
    """Associate a commit; the run shows it from now on, and a late state of the run does not erase it."""
    async with parsed_body(request, lambda body: body) as body:
        link = await associate_with_run(request, body)
    return json_response(
        {
            "status": "success",
            "event_id": event_id_of(request),
            "run_id": link.run_id,
            "commit_hash": link.commit_hash,
        }
    )


async def associate_with_run(request: Request, body: Any) -> CommitLink:
    """Associate the commit that a body describes with the run of the path. Raises RecordError, RequestError 404."""
    backend, event_id = backend_of(request), event_id_of(request)
    now_ns = backend.clock.now_ns()
    link = commit_link_from_body(body, run_id=_PLACEHOLDER_RUN_ID, now_iso=iso_utc(now_ns))
    record = await backend.change(lambda connection: associate_run(connection, event_id, link, now_ns=now_ns))
    if record is None:
        raise run_not_found(event_id)
    return replace(link, run_id=record.run_id)


@operations.add(
    "POST",
    "/api/v1/commits",
    summary="Associate commits with runs by run_id",
    responses=responses(schemas.CommitsStored, 200, 400, 413, 415, 422, 429, 503),
    request_body=json_body(schemas.CommitOfRun, many=True),
)
async def associate_commits(request: Request) -> Response:
    """Associate commits with runs that may not be stored yet; `pending` ones show as soon as their run is.

    Of two commits of one run the one with the later `associated_at` shows. The same again changes nothing.
    """
    backend = backend_of(request)
    parse = partial(commit_link_from_body, now_iso=iso_utc(backend.clock.now_ns()))
    async with parsed_body(request, partial(_parse_items, parse=parse)) as items:
        result = await items.write(backend, lambda links: WriteBatch((), links))
    linked = sum(result.linked)
    return json_response(
        {"linked": linked, "pending": len(result.linked) - linked, "errors": items.errors, "total": items.total}
    )
