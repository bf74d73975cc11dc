"""A run as a JSON object: one shape for `--json`, exported JSON lines and the service's answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from operator import attrgetter
from typing import Any, Final

import orjson

from otel_agent_telemetry.columns import COLUMNS, FLAG_COLUMNS, JSON_COLUMNS
from otel_agent_telemetry.model import RunRecord
from otel_agent_telemetry.urls import commit_url, repo_url

_values: Final = attrgetter(*COLUMNS)


def run_object(record: RunRecord, *, git_hosts: Mapping[str, str]) -> dict[str, Any]:
    """Return the object of a run; `git_hosts` are the configured hosts of its two URLs."""
    return run_members(
        record,
        json_value=_parse_json,
        repo_url=partial(repo_url, hosts=git_hosts),
        commit_url=partial(commit_url, hosts=git_hosts),
    )


def run_members(
    record: RunRecord,
    *,
    json_value: Callable[[str], Any],
    repo_url: Callable[[str | None], str | None],
    commit_url: Callable[[str | None, str | None], str | None],
) -> dict[str, Any]:
    """Return every column, flags as booleans, and `commit_url`, `repo_url` (None where unknown).

    `json_value` makes the member of a JSON column from its text. A caller with many runs can
    pass cached URL functions and leave JSON text unparsed.
    """
    members: dict[str, Any] = dict(zip(COLUMNS, _values(record), strict=True))
    for name in JSON_COLUMNS:
        if (text := members[name]) is not None:
            members[name] = json_value(text)
    for name in FLAG_COLUMNS:
        members[name] = bool(members[name])
    members["commit_url"] = commit_url(record.git_repo, record.git_commit_hash)
    members["repo_url"] = repo_url(record.git_repo)
    return members


def _parse_json(text: str) -> Any:
    """Return the value of a JSON text; text that is not JSON is returned unchanged."""
    try:
        return orjson.loads(text)
    except ValueError:
        return text
