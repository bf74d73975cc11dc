"""Write runs and the commits of runs: any states in any order end in the greatest one (design, invariant 2).

A state is compared with what is stored here, in Python, to report what became of it, and once
more by the upsert itself, because another writer may have come between: its condition is
`model.order_key` as a row value. The posting columns are raised apart, whichever state wins.

Commits associated with a run stand outside that order: while `commits` has rows for a
`run_id`, the latest of them shows in every row of that run, whatever its states hold. Of the
same commit associated twice the later `associated_at` wins, then the greater text of the rest.

Owns the tables `agent_runs` and `commits`. Transactions are the caller's (`store`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import (
    Connection,
    Dialect,
    FromClause,
    Table,
    bindparam,
    case,
    func,
    literal_column,
    or_,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.sql.expression import Executable

from otel_agent_telemetry.columns import COLUMNS, INTEGER_COLUMNS, POSTING_COLUMNS, Fields
from otel_agent_telemetry.model import CommitLink, RunRecord
from otel_agent_telemetry.run_state import ORDER_COLUMNS
from otel_agent_telemetry.run_totals import with_totals
from otel_agent_telemetry.storage.counts import add_to_counts
from otel_agent_telemetry.storage.marks import marks_against
from otel_agent_telemetry.storage.rollups import refresh_sums
from otel_agent_telemetry.storage.rows import (
    EVENT_ID,
    RUN_ID,
    CommitValues,
    Row,
    WriteOutcome,
    clean_text,
    merged,
    posting_of,
    row_of_state,
    storable_state,
    with_commit,
)
from otel_agent_telemetry.storage.sqlite_runs import write_states
from otel_agent_telemetry.storage.statements import (
    Statement,
    by_code_point,
    compile_statement,
    driver_connection,
    insert_into,
    rows_with,
)
from otel_agent_telemetry.storage.tables import agent_runs, commits

RunState = RunRecord | Fields
"""A run's state: a record, or a checked state (`run_state.checked_state`)."""

# Key of an advisory lock of PostgreSQL: "oat_link" in ASCII, so that it can be recognised in `pg_locks`.
_LINK_LOCK: Final = 0x6F61745F6C696E6B
_NEVER_POSTED: Final = (0, None, 0)
_POSTING_PARAMETERS: Final = (*(f"new_{name}" for name in POSTING_COLUMNS), "of_event_id")
_LINK_COLUMNS: Final = tuple(column.name for column in commits.c)
_LINK_ORDER: Final = ("associated_at", "commit_source", "commit_author", "commit_timestamp")
_SHOWN_COMMIT: Final = {
    "git_commit_hash": "new_hash",
    "git_commit_source": "new_source",
    "git_commit_author": "new_author",
    "git_commit_timestamp": "new_timestamp",
}
_SHOW_PARAMETERS: Final = (*_SHOWN_COMMIT.values(), "of_run_id")

_stored_runs: Final = select(*(agent_runs.c[name] for name in COLUMNS))
_associations: Final = select(
    commits.c.run_id,
    commits.c.associated_at,
    commits.c.commit_hash,
    commits.c.commit_source,
    commits.c.commit_author,
    commits.c.commit_timestamp,
)
_present_run_ids: Final = select(agent_runs.c.run_id).distinct()


def upsert_runs(connection: Connection, runs: Sequence[RunState]) -> list[WriteOutcome]:
    """Write states within the connection's transaction; return what became of each, in their order.

    `duplicate`: the state adds nothing to what is stored or came before it in `runs`;
    `deleted`: its run was deleted, and the state is not stored. On SQLite, whose writer is
    alone, by `sqlite_runs`. Raises the driver's errors, see `engine.translated`.
    """
    if connection.dialect.name == "sqlite":
        return write_states(driver_connection(connection), map(fields_of, runs))
    states = (storable_state(with_totals(fields_of(run))) for run in runs)
    return upsert_rows(connection, [row_of_state(state) for state in states])


def upsert_rows(connection: Connection, rows: Sequence[Row]) -> list[WriteOutcome]:
    """Write states given as rows, as `upsert_runs` does, where other writers may come between. For both dialects.

    A lock is held to the end of the transaction, shared with other writers of runs. Raises the driver's errors.
    """
    lock_links(connection, shared=True)
    commits_of = latest_commits(connection, {row[RUN_ID] for row in rows})
    # After the lock: what is read here is what the outcomes are reported against.
    stored = _stored_rows(connection, {row[EVENT_ID] for row in rows})
    marks = marks_against(connection, {row[EVENT_ID] for row in rows})
    current = dict(stored)
    outcomes: list[WriteOutcome] = []
    for row in rows:  # a batch may hold several states of one run: each is compared with the one before
        if marks and row[EVENT_ID] not in current and marks.cover(dict(zip(COLUMNS, row, strict=True))):
            outcomes.append("deleted")
            continue
        state = with_commit(row, commits_of.get(row[RUN_ID]))
        before = current.get(row[EVENT_ID])
        after = state if before is None else merged(before, state)
        current[row[EVENT_ID]] = after
        outcomes.append("inserted" if before is None else "duplicate" if after is before else "updated")
    changes = [(stored.get(key), row) for key, row in current.items()]
    changes = [(before, now) for before, now in changes if now is not before]
    write_rows(connection, agent_runs, [now for _, now in changes])
    add_to_counts(connection, changes)
    refresh_sums(connection, [row[EVENT_ID] for _, row in changes])
    return outcomes


def fields_of(run: RunState) -> Fields:
    """Return a state as column → value."""
    return run.to_fields() if isinstance(run, RunRecord) else run


def link_commits(connection: Connection, links: Sequence[CommitLink]) -> list[bool]:
    """Write commit associations; return for each, in their order, whether a run with that id is stored.

    Every row of the run then shows its latest association. One whose run is not stored yet
    shows as soon as the run is written.
    """
    if not links:
        return []
    lock_links(connection, shared=False)
    _upsert_link(connection.dialect).execute(connection, _LINK_COLUMNS, [_link_row(link) for link in links])
    latest = latest_commits(connection, {link.run_id for link in links})
    _show_commit(connection.dialect).execute(
        connection, _SHOW_PARAMETERS, [(*values, run_id) for run_id, values in latest.items()]
    )
    present = {run_id for (run_id,) in rows_with(connection, _present_run_ids, agent_runs.c.run_id, latest)}
    return [clean_text(link.run_id) in present for link in links]


def latest_commits(connection: Connection, run_ids: Iterable[str]) -> dict[str, CommitValues]:
    """Return `run_id` → the commit columns of its latest association, for those that have one."""
    latest: dict[str, Row] = {}
    for run_id, *link in rows_with(connection, _associations, commits.c.run_id, run_ids):
        row = tuple(link)
        if run_id not in latest or row[:2] > latest[run_id][:2]:
            latest[run_id] = row
    return {run_id: row[1:] for run_id, row in latest.items()}


def _link_row(link: CommitLink) -> Row:
    """Return an association as a row of `commits`."""
    return tuple(clean_text(getattr(link, name)) or None for name in _LINK_COLUMNS)


def _stored_rows(connection: Connection, event_ids: Iterable[str]) -> dict[str, Row]:
    """Return the stored rows of these runs by event id."""
    rows = rows_with(connection, _stored_runs, agent_runs.c.event_id, event_ids)
    return {row[EVENT_ID]: tuple(row) for row in rows}


def lock_links(connection: Connection, *, shared: bool) -> None:
    """Keep associations out between a run's reading of `commits` and its commit. PostgreSQL only.

    Writers of runs share the lock and go on in parallel. A transaction that will write runs
    and associations takes it exclusively at its beginning: of two that share it, neither
    could get it exclusively. SQLite has one writer anyway. Held until the transaction ends.
    """
    if connection.dialect.name == "postgresql":
        function = "pg_advisory_xact_lock_shared" if shared else "pg_advisory_xact_lock"
        connection.execute(text(f"SELECT {function}(:key)"), {"key": _LINK_LOCK})


def write_rows(connection: Connection, table: Table, rows: list[Row]) -> None:
    """Insert states into `table`, or replace the stored ones that are smaller; harmless to repeat.

    `table`: `agent_runs`, or a table of the same columns that a copy is made into.
    """
    upsert, posting = _run_statements(table, connection.dialect)
    if connection.dialect.name == "postgresql":
        # One locking order: two writers of the same runs never deadlock.
        rows = sorted(rows, key=itemgetter(EVENT_ID))
    upsert.execute(connection, COLUMNS, rows)
    # The upsert raises the columns only where the new state wins; a losing state may hold a later posting.
    posted = [(*values, row[EVENT_ID]) for row in rows if (values := posting_of(row)) != _NEVER_POSTED]
    posting.execute(connection, _POSTING_PARAMETERS, posted)


@lru_cache(maxsize=16)
def _run_statements(table: Table, dialect: Dialect) -> tuple[Statement, Statement]:
    """Return the upsert of a state, and the statement that raises what the webhook reported."""
    return (
        compile_statement(_upsert(table, dialect), dialect, COLUMNS),
        compile_statement(_raise_posting(table, dialect), dialect, ()),
    )


def _upsert(table: Table, dialect: Dialect) -> Executable:
    """Return the upsert that keeps the later of two states, whatever the order of arrival."""
    statement = insert_into(table, dialect)
    new = statement.excluded
    changes: dict[str, Any] = {name: new[name] for name in COLUMNS if name != "event_id"}
    for name in POSTING_COLUMNS:
        changes[name] = _greater(name, new[name], table.c[name], dialect)
    # When a run was first received never changes, whichever state wins.
    changes["received_at"] = func.coalesce(table.c.received_at, new.received_at)
    return statement.on_conflict_do_update(  # type: ignore[no-any-return]  # the two dialects share no type
        index_elements=["event_id"], set_=changes, where=_order_key(new, dialect) > _order_key(table, dialect)
    )


def _order_key(row: Any, dialect: Dialect) -> Any:
    """Return `model.order_key` of a table's row, or of the row to be inserted, as a row value."""
    columns = row.c if isinstance(row, FromClause) else row
    ended = case((columns["status"] == literal_column("'running'"), literal_column("0")), else_=literal_column("1"))
    return tuple_(
        ended,
        *(
            columns[name] if name in INTEGER_COLUMNS else by_code_point(columns[name], dialect)
            for name in ORDER_COLUMNS
        ),
    )


def _raise_posting(table: Table, dialect: Dialect) -> Executable:
    """Return the update of the webhook's columns, which only grow, of a row whose state stays."""
    new = {name: bindparam(f"new_{name}", type_=table.c[name].type) for name in POSTING_COLUMNS}
    is_raised = [_is_greater(name, new[name], table.c[name], dialect) for name in POSTING_COLUMNS]
    changes = {name: _greater(name, new[name], table.c[name], dialect) for name in POSTING_COLUMNS}
    # Only where a value grows: an update that changes nothing would still write the row and its indexes.
    return update(table).where(table.c.event_id == bindparam("of_event_id"), or_(*is_raised)).values(changes)


def _is_greater(name: str, new: Any, old: Any, dialect: Dialect) -> Any:
    """Return the SQL condition that one value of a column is greater than another."""
    if name in INTEGER_COLUMNS:
        return new > old
    return by_code_point(new, dialect) > by_code_point(old, dialect)


def _greater(name: str, new: Any, old: Any, dialect: Dialect) -> Any:
    """Return the SQL for the greater of two values of a column."""
    return case((_is_greater(name, new, old, dialect), new), else_=old)


@lru_cache(maxsize=8)
def _upsert_link(dialect: Dialect) -> Statement:
    """Return the statement that keeps one association; its parameters are the columns of `commits`."""
    statement = insert_into(commits, dialect)
    new = statement.excluded

    def order_key(row: Any) -> Any:
        return tuple_(*(by_code_point(row[name], dialect) for name in _LINK_ORDER))

    # The same association again must not change a row, so that a repeated delivery writes nothing.
    upsert = statement.on_conflict_do_update(
        index_elements=["commit_hash", "run_id"],
        set_={name: new[name] for name in _LINK_ORDER},
        where=order_key(new) > order_key(commits.c),
    )
    return compile_statement(upsert, dialect, _LINK_COLUMNS)


@lru_cache(maxsize=8)
def _show_commit(dialect: Dialect) -> Statement:
    """Return the statement that shows a commit in every row of a run that does not show it yet."""
    differs = [agent_runs.c[column].is_distinct_from(bindparam(name)) for column, name in _SHOWN_COMMIT.items()]
    shown = (
        update(agent_runs)
        .where(agent_runs.c.run_id == bindparam("of_run_id"), or_(*differs))
        .values({column: bindparam(name) for column, name in _SHOWN_COMMIT.items()})
    )
    return compile_statement(shown, dialect, ())
