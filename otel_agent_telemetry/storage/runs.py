"""Writing runs: any states in any order end in the greatest one (design, invariant 2).

A state is compared with what is stored here, in Python, to say what became of it, and once
more by the statement itself, for a writer that came between. Commits associated with a run
stand outside the order: while `commits` has rows for a `run_id`, the latest of them shows in
every row of that run, whatever its states say.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, Literal

from sqlalchemy import Column, Connection, Select, select, text

from otel_agent_telemetry.columns import COLUMNS
from otel_agent_telemetry.model import CommitLink, RunRecord
from otel_agent_telemetry.storage.counts import add_to_counts
from otel_agent_telemetry.storage.key_lookup import in_parts
from otel_agent_telemetry.storage.rows import (
    EVENT_ID,
    RUN_ID,
    CommitValues,
    Row,
    clean_text,
    merged,
    row_of,
    with_commit,
)
from otel_agent_telemetry.storage.run_statements import COMMIT_KEYS, link_statement, show_statement, write_rows
from otel_agent_telemetry.storage.tables import agent_runs, commits

WriteOutcome = Literal["inserted", "updated", "duplicate"]

_LINK_LOCK: Final = 0x6F61745F6C696E6B
_JSON_KEYS: Final = text("SELECT value FROM json_each(:keys)")

_stored_rows: Final = select(*(agent_runs.c[name] for name in COLUMNS))
_links: Final = select(
    commits.c.run_id,
    commits.c.associated_at,
    commits.c.commit_hash,
    commits.c.commit_source,
    commits.c.commit_author,
    commits.c.commit_timestamp,
)
_present: Final = select(agent_runs.c.run_id).distinct()


def upsert_runs(connection: Connection, records: Sequence[RunRecord]) -> list[WriteOutcome]:
    """What became of each record, by position, within the connection's transaction.

    `duplicate`: the record adds nothing to what is stored or came before it in `records`.
    Raises the driver's errors, see `errors_of.translated`.
    """
    lock_links(connection, shared=True)
    rows = [row_of(record) for record in records]
    shown = latest_commits(connection, {row[RUN_ID] for row in rows})
    stored = _read_stored(connection, {row[EVENT_ID] for row in rows})
    standing = dict(stored)
    outcomes: list[WriteOutcome] = []
    for row in rows:
        state = with_commit(row, shown.get(row[RUN_ID]))
        before = standing.get(row[EVENT_ID])
        after = state if before is None else merged(before, state)
        standing[row[EVENT_ID]] = after
        outcomes.append("inserted" if before is None else "duplicate" if after is before else "updated")
    changes = [(stored.get(key), row) for key, row in standing.items()]
    changes = [(before, now) for before, now in changes if now is not before]
    write_rows(connection, agent_runs, [now for _, now in changes])
    add_to_counts(connection, changes)
    return outcomes


def link_commits(connection: Connection, links: Sequence[CommitLink]) -> list[bool]:
    """Keep commit associations and show them; whether a run with that id is there, by position.

    An association whose run is not there yet shows as soon as the run arrives.
    """
    if not links:
        return []
    lock_links(connection, shared=False)
    link_statement(connection.dialect).execute(connection, COMMIT_KEYS, [_link_row(link) for link in links])
    shown = latest_commits(connection, {link.run_id for link in links})
    show_statement(connection.dialect).execute(
        connection, _SHOW_NAMES, [(*values, run_id) for run_id, values in shown.items()]
    )
    present = {run_id for (run_id,) in _rows_of(connection, _present, agent_runs.c.run_id, shown)}
    return [clean_text(link.run_id) in present for link in links]


_SHOW_NAMES: Final = ("new_hash", "new_source", "new_author", "new_timestamp", "of_run_id")


def latest_commits(connection: Connection, run_ids: Iterable[str]) -> dict[str, CommitValues]:
    """`run_id` → the commit columns of its latest association, for those that have one."""
    latest: dict[str, Row] = {}
    for run_id, *link in _rows_of(connection, _links, commits.c.run_id, run_ids):
        row = tuple(link)
        if run_id not in latest or row[:2] > latest[run_id][:2]:
            latest[run_id] = row
    return {run_id: row[1:] for run_id, row in latest.items()}


def _link_row(link: CommitLink) -> Row:
    return tuple(clean_text(getattr(link, name)) or None for name in COMMIT_KEYS)


def _read_stored(connection: Connection, event_ids: Iterable[str]) -> dict[str, Row]:
    return {row[EVENT_ID]: tuple(row) for row in _rows_of(connection, _stored_rows, agent_runs.c.event_id, event_ids)}


def _rows_of(connection: Connection, chosen: Select[Any], key: Column[str], wanted: Iterable[str]) -> Iterator[Any]:
    """The chosen rows whose key is one of those wanted."""
    if connection.dialect.name == "sqlite":  # one parameter: a list of them costs more to bind than to look up
        keys = json.dumps([clean_text(value) for value in wanted])
        yield from connection.execute(chosen.where(key.in_(_JSON_KEYS)), {"keys": keys})
        return
    for part in in_parts(wanted):
        yield from connection.execute(chosen.where(key.in_(part)))


def lock_links(connection: Connection, *, shared: bool) -> None:
    """On PostgreSQL: no association comes between a run's look at `commits` and its commit.

    Runs among themselves go on in parallel. A transaction that will write both takes the
    lock unshared at its beginning, because two that share it cannot both unshare it.
    SQLite has one writer anyway.
    """
    if connection.dialect.name == "postgresql":
        how = "pg_advisory_xact_lock_shared" if shared else "pg_advisory_xact_lock"
        connection.execute(text(f"SELECT {how}(:key)"), {"key": _LINK_LOCK})
