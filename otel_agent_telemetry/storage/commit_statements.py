"""The SQL by which commit associations are kept and shown, compiled once for each dialect.

Of the same commit told twice of one run the later `associated_at` stands, then the greater
text of the rest, so that any order of telling ends in the same row.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Dialect, bindparam, or_, tuple_, update

from otel_agent_telemetry.storage.run_statements import Statement, by_code_point, compiled, insert_into
from otel_agent_telemetry.storage.tables import agent_runs, commits

COMMIT_KEYS: Final = tuple(column.name for column in commits.c)
_ORDER: Final = ("associated_at", "commit_source", "commit_author", "commit_timestamp")
_SHOWN: Final = {
    "git_commit_hash": "new_hash",
    "git_commit_source": "new_source",
    "git_commit_author": "new_author",
    "git_commit_timestamp": "new_timestamp",
}


@lru_cache(maxsize=8)
def link_statement(dialect: Dialect) -> Statement:
    """Keeps one association; parameters are the columns of `commits`."""
    statement = insert_into(commits, dialect)
    new = statement.excluded

    def order(side: Any) -> Any:
        return tuple_(*(by_code_point(side[name], dialect) for name in _ORDER))

    return compiled(
        statement.on_conflict_do_update(
            index_elements=["commit_hash", "run_id"],
            set_={name: new[name] for name in _ORDER},
            where=order(new) > order(commits.c),
        ),
        dialect,
        COMMIT_KEYS,
    )


@lru_cache(maxsize=8)
def show_statement(dialect: Dialect) -> Statement:
    """Shows a commit in every row of a run that does not show it yet."""
    differs = [agent_runs.c[column].is_distinct_from(bindparam(name)) for column, name in _SHOWN.items()]
    return compiled(
        update(agent_runs)
        .where(agent_runs.c.run_id == bindparam("of_run_id"), or_(*differs))
        .values({column: bindparam(name) for column, name in _SHOWN.items()}),
        dialect,
        (),
    )
