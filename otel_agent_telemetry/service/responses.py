"""JSON responses, and stored runs encoded straight from their columns.

A page of a hundred runs is a few thousand values; building models of them and validating
those again would cost more than reading them did. JSON columns are stored as text and go
into the response as they are, after a check that they are JSON.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final

import orjson
from starlette.responses import Response

from otel_agent_telemetry.columns import COLUMNS, JSON_COLUMNS
from otel_agent_telemetry.storage.queries import StoredRun
from otel_agent_telemetry.urls import commit_url, repo_url

MAX_PAGE_BYTES: Final = 32 << 20
_column_values: Final = attrgetter(*COLUMNS)
_CACHED_URLS: Final = 1024


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response whose body is `value` as JSON."""
    return raw_json_response(orjson.dumps(value), status, headers)


def raw_json_response(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response whose body is JSON already."""
    return Response(body, status, media_type="application/json", headers=dict(headers or {}))


class RunEncoder:
    """Encodes stored runs as the API shows them. Safe under threads."""

    def __init__(self, git_hosts: Mapping[str, str]) -> None:
        self._repo_url = lru_cache(maxsize=_CACHED_URLS)(lambda repo: repo_url(repo, hosts=git_hosts))
        self._commit_url = lru_cache(maxsize=_CACHED_URLS)(lambda repo, sha: commit_url(repo, sha, hosts=git_hosts))

    def encode(self, run: StoredRun) -> bytes:
        """Return one run: every column, `id`, `commit_url`, `repo_url`; JSON columns as the values they hold."""
        record = run.record
        members: dict[str, Any] = {"id": run.id, **dict(zip(COLUMNS, _column_values(record), strict=True))}
        for name in JSON_COLUMNS:
            if (text := members[name]) is not None:
                members[name] = _embedded(text)
        members["api_posted"] = bool(record.api_posted)
        members["commit_url"] = self.commit_url(record.git_repo, record.git_commit_hash)
        members["repo_url"] = self.repo_url(record.git_repo)
        return orjson.dumps(members)

    def repo_url(self, repo: str | None) -> str | None:
        """Return `urls.repo_url`, cached: the runs of a page come from a few repositories."""
        return None if repo is None else self._repo_url(repo)

    def commit_url(self, repo: str | None, sha: str | None) -> str | None:
        """Return `urls.commit_url`, cached."""
        return None if repo is None or sha is None else self._commit_url(repo, sha)

    def page(self, runs: Sequence[StoredRun]) -> tuple[bytes, int]:
        """Return a JSON array of the first runs that fit into `MAX_PAGE_BYTES`, at least one, and their number."""
        encoded: list[bytes] = []
        size = 0
        for run in runs:
            member = self.encode(run)
            size += len(member) + 1
            # One run always fits, or a page would never get past it.
            if encoded and size > MAX_PAGE_BYTES:
                break
            encoded.append(member)
        return b"[" + b",".join(encoded) + b"]", len(encoded)


def _embedded(text: str) -> Any:
    """Return a column's JSON text as a member of a response; text that is not JSON stays text."""
    with contextlib.suppress(ValueError):
        orjson.loads(text)
        return orjson.Fragment(text)
    return text
