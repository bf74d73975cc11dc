"""Commits and lines of a repository with their runs: from the store, from the repository, and from the messages.

What the store knows comes first. Where it knows nothing, because it is another one, is away, or
has deleted the run, the hooks' file and the trailer still name the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from otel_agent_telemetry.commits.local_index import LocalIndex, read_index
from otel_agent_telemetry.commits.repository import BlamedLine, Commit, Repository
from otel_agent_telemetry.errors import StoreUnavailableError
from otel_agent_telemetry.model import CommitLink, RunRecord
from otel_agent_telemetry.operations.run_reader import RunReader
from otel_agent_telemetry.storage.run_filters import RunQuery

NamedBy = Literal["store", "repository", "trailer"]
_NOT_COMMITTED: Final = "0" * 40
_HASHES: Final = 200
_RUNS: Final = 1_000
_NO_HOOK: Final = "no hook of ours saw it, or no run was open when it was made"


@dataclass(frozen=True, slots=True)
class RunOfCommit:
    """A run of a commit, who names it, and what the store has of it, None where it has nothing."""

    run_id: str
    named_by: tuple[NamedBy, ...]
    record: RunRecord | None


@dataclass(frozen=True, slots=True)
class CommitRuns:
    """A commit, its runs, and why it has these or none."""

    commit: Commit
    runs: tuple[RunOfCommit, ...]
    why: str


@dataclass(frozen=True, slots=True)
class History:
    """What was found; `problem` is why the store could not be read, "" where it was."""

    commits: Sequence[CommitRuns]
    problem: str = ""


def history_of(repository: Repository, commits: Sequence[Commit], reader: RunReader, *, trailer: str) -> History:
    """Return commits with their runs, in their order.

    Blocks for a query for each 200 commits, and for one for each run that a message alone names.
    Raises ConfigurationError, StorageError, but not where the store is away.
    """
    index = read_index(repository.common_dir)
    problem, links, records = "", _Links(()), dict[str, RunRecord]()
    try:
        links = _Links(reader.runs_of_commits([commit.commit_hash for commit in commits]))
        records = _records(reader, commits, _named(commits, index, trailer))
    except StoreUnavailableError as unavailable:
        problem = str(unavailable)
    return History([_runs_of(commit, links, index, records, trailer) for commit in commits], problem)


@dataclass(frozen=True, slots=True)
class LineRuns:
    """A line of a file, and the commit that it came with and its runs; None while it is not committed."""

    line: BlamedLine
    commit: CommitRuns | None


def blame_of(
    repository: Repository, lines: Sequence[BlamedLine], reader: RunReader, *, trailer: str
) -> tuple[list[LineRuns], str]:
    """Return the lines of a file with their runs, and why the store could not be read; see `history_of`."""
    names = list(
        dict.fromkeys(line.commit_hash for line in lines if not _NOT_COMMITTED.startswith(line.commit_hash[:40]))
    )
    commits = repository.commits(names, walk=False) if names else []
    history = history_of(repository, commits, reader, trailer=trailer)
    known = {found.commit.commit_hash: found for found in history.commits}
    return [LineRuns(line, known.get(line.commit_hash)) for line in lines], history.problem


class _Links:
    """Associations by commit; one that was made with a shortened hash counts for the whole."""

    def __init__(self, links: Iterable[CommitLink]) -> None:
        self._by_hash: dict[str, list[str]] = {}
        for link in links:
            self._by_hash.setdefault(link.commit_hash.lower(), []).append(link.run_id)
        self._lengths = sorted({len(name) for name in self._by_hash})

    def of(self, commit: Commit) -> list[str]:
        """Return the ids of a commit's runs."""
        names = (commit.commit_hash[:length] for length in self._lengths)
        return [run_id for name in names for run_id in self._by_hash.get(name, ())]


def _named(commits: Sequence[Commit], index: LocalIndex, trailer: str) -> list[str]:
    """Return the ids of runs that the repository names."""
    ids = (
        run_id
        for commit in commits
        for run_id in (*index.runs.get(commit.commit_hash, ()), *commit.trailer_runs(trailer))
    )
    return list(dict.fromkeys(ids))


def _records(reader: RunReader, commits: Sequence[Commit], named: Sequence[str]) -> dict[str, RunRecord]:
    """Return run id → the newest run with it, of the runs of these commits."""
    found: list[RunRecord] = []
    for start in range(0, len(commits), _HASHES):
        hashes = tuple(commit.commit_hash for commit in commits[start : start + _HASHES])
        found += reader.runs(RunQuery(commits=hashes, limit=_RUNS)) or []
    known = {record.run_id for record in found}
    for run_id in named:
        # Named by the repository alone: the association has not arrived, or is in another store.
        if run_id not in known:
            found += reader.runs(RunQuery(run_id=run_id, limit=1)) or []
    return {record.run_id: record for record in sorted(found, key=lambda record: record.created_at)}


def _runs_of(
    commit: Commit, links: _Links, index: LocalIndex, records: dict[str, RunRecord], trailer: str
) -> CommitRuns:
    """Return a commit with its runs, those of the store first."""
    # The store first: an association there may have been corrected since, a message cannot be.
    named: dict[str, list[NamedBy]] = {}
    sources: tuple[tuple[NamedBy, Sequence[str]], ...] = (
        ("store", links.of(commit)),
        ("repository", index.runs.get(commit.commit_hash, ())),
        ("trailer", commit.trailer_runs(trailer)),
    )
    for source, run_ids in sources:
        for run_id in dict.fromkeys(run_ids):
            named.setdefault(run_id, []).append(source)
    runs = tuple(RunOfCommit(run_id, tuple(by), records.get(run_id)) for run_id, by in named.items())
    why = index.why.get(commit.commit_hash) or (f"named by {' and '.join(runs[0].named_by)}" if runs else _NO_HOOK)
    return CommitRuns(commit, runs, why)
