"""The page of a commit, `/commits/{hash}`: the runs that made it; and the commits of a run, for its page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.model import CommitLink, RunRecord
from otel_agent_telemetry.page.formats import web_link
from otel_agent_telemetry.page.rendering import render
from otel_agent_telemetry.service.requests import backend_of
from otel_agent_telemetry.service.responses import RequestError
from otel_agent_telemetry.storage.commit_rows import commits_of_run, runs_of_commits
from otel_agent_telemetry.storage.queries import list_runs
from otel_agent_telemetry.storage.run_filters import RunQuery
from otel_agent_telemetry.urls import commit_url

MAX_COMMITS: Final = 50
"""Commits that the page of a run names."""
_MAX_RUNS: Final = 100
_HASH: Final = re.compile(r"[0-9a-f]{4,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class CommitOfRun:
    """A commit of a run; `address` is its page on the platform of the repository, None where that is not known."""

    commit_hash: str
    author: str | None
    address: str | None


def read_commits(connection: Connection, run: RunRecord, settings: TelemetryConfig) -> list[CommitOfRun]:
    """Return the commits of a run, the latest first; one more than MAX_COMMITS where there are more."""
    found = [
        (link.commit_hash, link.commit_author) for link in commits_of_run(connection, run.run_id, limit=MAX_COMMITS + 1)
    ]
    if run.git_commit_hash and run.git_commit_hash not in {name for name, _ in found}:
        found.insert(0, (run.git_commit_hash, run.git_commit_author))  # stored with the run
    hosts = dict(settings.git_hosts)
    return [CommitOfRun(name, author, web_link(commit_url(run.git_repo, name, hosts=hosts))) for name, author in found]


async def show_commit(request: Request) -> Response:
    """Return the page of a commit by its hash or the beginning of one. Raises RequestError 404 for one of no run."""
    name = str(request.path_params["commit"]).lower()
    if not _HASH.fullmatch(name):
        raise RequestError(404, "not found: a commit is named by 4 to 64 hex digits")
    backend = backend_of(request)
    values = await backend.read(lambda connection: _read(connection, name, backend.settings))
    if not values["runs"] and not values["waiting"]:
        raise RequestError(404, f"commit not found: no run is associated with {name}")
    return await render(request, "commit.html", {"commit": name, "most": _MAX_RUNS, **values})


def _read(connection: Connection, name: str, settings: TelemetryConfig) -> dict[str, Any]:
    """Return the runs of a commit, newest first, and the associations of runs that are not stored."""
    links = runs_of_commits(connection, [name], limit=_MAX_RUNS + 1)
    runs = list_runs(connection, RunQuery(commits=(name,), limit=_MAX_RUNS + 1))
    known = {run.run_id for run in runs}
    return {
        "runs": runs,
        "by_run": {link.run_id: link for link in reversed(links)},
        "waiting": [link for link in links if link.run_id not in known],
        # An association may have been made with the beginning of the hash alone.
        "whole": max([name, *(link.commit_hash for link in links)], key=len),
        "address": _address(runs, links, settings),
    }


def _address(runs: Sequence[RunRecord], links: Sequence[CommitLink], settings: TelemetryConfig) -> str | None:
    """Return the page of the commit on the platform of a run's repository; None where none is known."""
    # Of the runs of one commit some may have no repository: their agents do not name one.
    names = {link.run_id: link.commit_hash for link in links}
    hosts = dict(settings.git_hosts)
    found = (commit_url(run.git_repo, names.get(run.run_id, run.git_commit_hash), hosts=hosts) for run in runs)
    return next((link for link in map(web_link, found) if link), None)
