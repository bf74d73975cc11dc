"""What a commit's hook leaves to the background: finding the run, and keeping which commit it made.

A process of its own, started by `hook.sh`; nobody waits for it or sees what it prints. The
association goes the way of every record: into the journal and the buffer of the base
directory, and from there to the store when that can be reached.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from otel_agent_telemetry.argument_types import CommitSource
from otel_agent_telemetry.client import TelemetryClient
from otel_agent_telemetry.clock import iso_utc, parse_iso
from otel_agent_telemetry.commits.find_run import Circumstances, Finding, find_run
from otel_agent_telemetry.commits.local_index import add_lines, read_index
from otel_agent_telemetry.commits.repository import Commit, Repository, trailer_to_read
from otel_agent_telemetry.config import TelemetryConfig, process_environment
from otel_agent_telemetry.errors import AgentTelemetryError
from otel_agent_telemetry.operations.run_reader import open_reader

_EXPORT_S: Final = 7.0
"""Before the first look for a run that an agent has named: agents send every five seconds, and until they do,
the turn before is the last one that the store knows."""
_WAITS_S: Final = (3.0, 7.0, 15.0)
"""Between the looks."""
_MAX_LATE: Final = 50
_CI: Final = frozenset({"1", "true", "yes"})


class CommitRecorder:
    """Keeps the runs of a repository's commits: in the store's journal and buffer, and in the repository."""

    def __init__(self, config: TelemetryConfig, repository: Repository, *, trailer: str) -> None:
        self._client = TelemetryClient(config)
        self._repository = repository
        self._common_dir = repository.common_dir
        self._trailer = trailer
        ci = process_environment().get("CI", "").lower() in _CI
        self._source: CommitSource = "ci" if ci else "llm"

    def close(self) -> None:
        """Deliver what can be delivered within the exit timeout."""
        self._client.close()

    def record_commit(self, name: str, find: Callable[[Commit], Finding], *, signs: str = "") -> None:
        """Keep the runs of a new commit: those of its message, and the one that it was made in.

        `signs`: what an agent named, by which `record_late` looks again for a run that is not there yet.
        """
        (commit,) = self._repository.commits([name], walk=False)
        runs = commit.trailer_runs(self._trailer)
        self._associate(commit, runs)
        finding = find(commit)
        if finding.run_id is not None and finding.run_id not in runs:
            self._associate(commit, [finding.run_id])
        later = [("later", commit.commit_hash, signs)] if finding.is_early and signs else []
        add_lines(self._common_dir, [("why", commit.commit_hash, finding.why), *later])
        # It may have been amended meanwhile; whoever looked then did not find what is kept only now.
        self._follow([commit.commit_hash])

    def record_late(self, find: Callable[[Commit, str], Finding]) -> None:
        """Look again for runs that agents had named and not sent yet; some send a run when it ends.

        `find` is given a commit and its signs. The newest 50 of the last commits without a run are looked at.
        """
        index = read_index(self._common_dir)
        waiting = [name for name in index.later if not index.runs.get(name)]
        for name in waiting[-_MAX_LATE:]:
            with contextlib.suppress(AgentTelemetryError):  # a commit that was removed since
                (commit,) = self._repository.commits([name], walk=False)
                finding = find(commit, index.later[name])
                if finding.run_id is not None:
                    self._associate(commit, [finding.run_id])
                    add_lines(self._common_dir, [("why", name, finding.why)])
                    self._follow([name])

    def record_rewritten(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Keep the runs of commits that git rewrote: those of the old one and those of the new one's message."""
        self._follow([old for old, _ in pairs])

    def _follow(self, commits: Iterable[str]) -> None:
        """Give what was made of these commits their runs."""
        index = read_index(self._common_dir)
        for old in commits:
            for new in index.successors(old):
                with contextlib.suppress(AgentTelemetryError):  # a commit that a later rewrite left to be removed
                    (commit,) = self._repository.commits([new], walk=False)
                    known = index.runs.get(new, ())
                    runs = dict.fromkeys((*index.runs.get(old, ()), *commit.trailer_runs(self._trailer)))
                    self._associate(commit, [run_id for run_id in runs if run_id not in known])
                    add_lines(self._common_dir, [("why", new, f"it was made of {old} by an amend or a rebase")])

    def _associate(self, commit: Commit, run_ids: Sequence[str]) -> None:
        """Keep that a commit belongs to runs. Never raises."""
        for run_id in run_ids:
            self._client.associate_commit(
                run_id, commit.commit_hash, self._source, commit.author, iso_utc(parse_iso(commit.committed_at))
            )
        add_lines(self._common_dir, [("commit", commit.commit_hash, run_id) for run_id in run_ids])


def main(arguments: Sequence[str]) -> None:
    """Do what a hook asks for: `commit GIT_DIR TRAILER HASH OPEN_RUNS` or `rewrite GIT_DIR TRAILER`."""
    _detach()
    kind, git_dir, trailer = arguments[:3]
    config = TelemetryConfig.from_env()
    recorder = CommitRecorder(config, Repository(git_dir=Path(git_dir)), trailer=trailer_to_read(trailer))
    try:
        if kind == "rewrite":
            recorder.record_rewritten(_pairs(sys.stdin))
        else:
            name, open_runs = arguments[3], [run_id for run_id in arguments[4].split("\n") if run_id]
            signs = Circumstances(process_environment(), (), "").signs
            recorder.record_commit(name, lambda commit: _find_patiently(config, commit, open_runs), signs=signs)
        recorder.record_late(partial(look_again, config))
    finally:
        recorder.close()


def _detach() -> None:
    """Leave the session of the terminal, and the folder, which may be removed or unmounted."""
    with contextlib.suppress(OSError, AttributeError):  # the leader of its group already; Windows has no sessions
        os.setsid()
    os.chdir("/")


def _pairs(lines: Iterable[str]) -> list[tuple[str, str]]:
    """Return old and new hash of each line that git gives `post-rewrite`."""
    words = (line.split() for line in lines)
    return [(pair[0], pair[1]) for pair in words if len(pair) >= 2]  # noqa: PLR2004 - old and new


def _find_patiently(config: TelemetryConfig, commit: Commit, open_runs: Sequence[str]) -> Finding:
    """Look for the run, and again while its agent may not have sent it yet. Blocks up to half a minute."""
    variables = process_environment()
    circumstances = Circumstances(variables, open_runs, iso_utc(parse_iso(commit.committed_at)))
    if config.command_run_id is None and config.parent_run_id is None and circumstances.signs:
        time.sleep(_EXPORT_S)
        circumstances = replace(circumstances, is_past=True)
    finding = _look(config, circumstances)
    for wait_s in _WAITS_S:
        if not finding.is_early:
            break
        time.sleep(wait_s)
        finding = _look(config, circumstances)
    return finding


def look_again(config: TelemetryConfig, commit: Commit, signs: str) -> Finding:
    """Return the run of a commit that was made a while ago, by what its agent named then. Never raises."""
    circumstances = Circumstances.of_signs(signs, iso_utc(parse_iso(commit.committed_at)))
    parent = circumstances.variables.get("TRACEPARENT")
    then = config.with_(command_run_id=None, parent_run_id=None, trace_parent=parent)
    return _look(then, circumstances)


def _look(config: TelemetryConfig, circumstances: Circumstances) -> Finding:
    """Return what can be found now; a store that is away is a reason like any other."""
    try:
        return find_run(config, circumstances, open_reader(config))
    except (AgentTelemetryError, OSError) as problem:
        return Finding(None, f"the runs could not be read: {problem}", is_early=True)
