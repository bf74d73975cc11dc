"""Read which commits belong to which runs: the associations of the table `commits`.

A commit is named by its hash, 40 or 64 digits, or by its beginning. An association may have been
made with a shortened hash, so a whole hash also finds those that are its beginnings, of 7 digits at
least. A run that was stored with a commit of its own (`git_commit_hash`) counts as associated with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import ColumnElement, Connection, or_, select, union_all

from otel_agent_telemetry.model import CommitLink
from otel_agent_telemetry.storage.rows import clean_text
from otel_agent_telemetry.storage.statements import begins_with
from otel_agent_telemetry.storage.tables import agent_runs, commits

SHORTEST_HASH: Final = 7
LONGEST_HASH: Final = 64
_WHOLE: Final = (40, LONGEST_HASH)
_links: Final = commits.c
_runs: Final = agent_runs.c
_link_columns: Final = tuple(_links)


def made_commit(connection: Connection, hashes: Sequence[str]) -> ColumnElement[bool]:
    """Return the condition that a run made one of these commits."""
    by_link = (
        select(_runs.id)
        .join(commits, _links.run_id == _runs.run_id)
        .where(_is_one_of(connection, _links.commit_hash, hashes))
    )
    of_its_own = select(_runs.id).where(
        _runs.git_commit_hash.is_not(None), _is_one_of(connection, _runs.git_commit_hash, hashes)
    )
    return _runs.id.in_(union_all(by_link, of_its_own))  # not OR: each half has an index


def runs_of_commits(connection: Connection, hashes: Sequence[str], *, limit: int) -> list[CommitLink]:
    """Return the associations of these commits, the latest first; at most `limit`."""
    return associations(connection, hashes=hashes, limit=limit)


def commits_of_run(connection: Connection, run_id: str, *, limit: int) -> list[CommitLink]:
    """Return the associations of a run, the latest first; at most `limit`."""
    return associations(connection, run_id=run_id, limit=limit)


def associations(
    connection: Connection, *, hashes: Sequence[str] | None = None, run_id: str | None = None, limit: int
) -> list[CommitLink]:
    """Return associations, the latest first, at most `limit`: of these commits, of this run, or all."""
    order = (_links.associated_at.desc(), _links.commit_hash, _links.run_id)
    selected = select(*_link_columns).order_by(*order).limit(limit)
    if hashes is not None:
        selected = selected.where(_is_one_of(connection, _links.commit_hash, hashes))
    if run_id is not None:
        selected = selected.where(_links.run_id == clean_text(run_id))
    return [CommitLink(**row._asdict()) for row in connection.execute(selected)]


def _is_one_of(connection: Connection, column: ColumnElement[str], hashes: Sequence[str]) -> ColumnElement[bool]:
    """Return the condition that a column names one of these commits."""
    wanted = [clean_text(one).lower() for one in hashes]
    exact = {one[:length] for one in wanted for length in range(SHORTEST_HASH, len(one) + 1)}
    beginnings = [begins_with(connection, column, one) for one in wanted if len(one) not in _WHOLE]
    return or_(column.in_(sorted(exact)), *beginnings)
