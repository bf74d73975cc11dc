"""Runs as answers: straight from the stored columns to JSON bytes.

A page of a hundred runs is a few thousand values; building models of them and validating
those again would cost more than reading them did. JSON columns are stored as text and are
put into the answer as they are, once they have been seen to be JSON.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final

import orjson
from fastapi import Response

from otel_agent_telemetry.columns import COLUMNS, JSON_COLUMNS
from otel_agent_telemetry.storage.queries import StoredRun
from otel_agent_telemetry.urls import commit_url, repo_url

MAX_PAGE_BYTES: Final = 32 << 20
_values: Final = attrgetter(*COLUMNS)
_KEPT_URLS: Final = 1024


def json_answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A value as a JSON answer."""
    return raw_answer(orjson.dumps(value), status, headers)


def raw_answer(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON bytes as an answer."""
    return Response(body, status, media_type="application/json", headers=dict(headers or {}))


class RunEncoder:
    """Encodes stored runs as the contract's answers. Safe under threads."""

    def __init__(self, git_hosts: Mapping[str, str]) -> None:
        self._repo_url = lru_cache(maxsize=_KEPT_URLS)(lambda repo: repo_url(repo, hosts=git_hosts))
        self._commit_url = lru_cache(maxsize=_KEPT_URLS)(lambda repo, sha: commit_url(repo, sha, hosts=git_hosts))

    def encode(self, run: StoredRun) -> bytes:
        """One run: every column, `id`, `commit_url`, `repo_url`; JSON columns as what they hold."""
        record = run.record
        members: dict[str, Any] = {"id": run.id, **dict(zip(COLUMNS, _values(record), strict=True))}
        for name in JSON_COLUMNS:
            if (text := members[name]) is not None:
                members[name] = embedded(text)
        members["api_posted"] = bool(record.api_posted)
        members["commit_url"] = self.commit_url(record.git_repo, record.git_commit_hash)
        members["repo_url"] = self.repo_url(record.git_repo)
        return orjson.dumps(members)

    def repo_url(self, repo: str | None) -> str | None:
        """`urls.repo_url`, remembered: the runs of a page come from a few repositories."""
        return None if repo is None else self._repo_url(repo)

    def commit_url(self, repo: str | None, sha: str | None) -> str | None:
        """`urls.commit_url`, remembered."""
        return None if repo is None or sha is None else self._commit_url(repo, sha)

    def page(self, runs: Sequence[StoredRun]) -> tuple[bytes, int]:
        """A JSON array of as many of the runs, from the first on, as an answer may hold, and how many those are."""
        encoded: list[bytes] = []
        size = 0
        for run in runs:
            one = self.encode(run)
            size += len(one) + 1
            if encoded and size > MAX_PAGE_BYTES:
                break
            encoded.append(one)
        return b"[" + b",".join(encoded) + b"]", len(encoded)


def embedded(text: str) -> Any:
    """A column's JSON text as a member of an answer; text that is no JSON stays text."""
    with contextlib.suppress(ValueError):
        orjson.loads(text)
        return orjson.Fragment(text)
    return text
