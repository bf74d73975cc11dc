"""The commits that a user names, in the repository of the working directory, and the runs of a change."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Final

from otel_agent_telemetry.commits.repository import Repository
from otel_agent_telemetry.errors import ConfigurationError
from otel_agent_telemetry.model import RunRecord
from otel_agent_telemetry.operations.run_reader import RunReader
from otel_agent_telemetry.storage.run_filters import RunQuery

MAX_COMMITS: Final = 200
"""Commits that one search may ask for."""
_HASH: Final = re.compile(r"[0-9a-fA-F]{4,64}", re.ASCII)
_CHANGE: Final = re.compile(r"I[0-9a-f]{8,40}|[k-z]{8,32}", re.ASCII)
"""A change of Gerrit or of jj."""


def commits_named(text: str) -> tuple[str, ...]:
    """Return the hashes of a commit, or of a range such as `main..topic`, newest first.

    A hash that is in no repository here is taken as it is. Raises ConfigurationError for another
    name that git does not know, and for a range of more than 200 commits or of none.
    """
    repository = Repository(folder=Path.cwd())
    if ".." not in text:
        try:
            # Also what looks like a hash: a branch may be named `deadbeef`, and then git means the branch.
            return (repository.full_hash(text),)
        except ConfigurationError:
            if _HASH.fullmatch(text):
                return (text.lower(),)
            raise ConfigurationError(f"{text}: git knows no such commit in {Path.cwd()}") from None
    found = repository.hashes([text], limit=MAX_COMMITS + 1)
    if not 0 < len(found) <= MAX_COMMITS:
        many = f"more than {MAX_COMMITS}" if found else "no"
        raise ConfigurationError(f"{text}: the range has {many} commits")
    return tuple(found)


def runs_of_change(reader: RunReader, query: RunQuery, change: str) -> list[RunRecord] | None:
    """Return the runs that a query asks for by its change, and those that made the commits of the change here."""
    found = reader.runs(query)
    hashes = _commits_of_change(change)
    if found is None or not hashes:
        return found
    by_commit = reader.runs(replace(query, change_id=None, commits=tuple(hashes[:MAX_COMMITS]))) or []
    together = {record.event_id: record for record in (*found, *by_commit)}
    return sorted(together.values(), key=lambda record: record.created_at, reverse=True)[: query.limit]


def _commits_of_change(change: str) -> list[str]:
    """Return the commits of a change of Gerrit or jj in the working directory's repository; none outside of one."""
    if not _CHANGE.fullmatch(change):
        return []
    try:
        return Repository(folder=Path.cwd()).commits_of_change(change)
    except ConfigurationError:
        return []
