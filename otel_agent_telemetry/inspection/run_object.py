"""A run as JSON: what `--json` prints, in the shape of the service's answers (contract, "HTTP service")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from otel_agent_telemetry.columns import COLUMNS, JSON_COLUMNS
from otel_agent_telemetry.model import RunRecord
from otel_agent_telemetry.urls import commit_url, repo_url


def run_object(record: RunRecord, *, git_hosts: Mapping[str, str]) -> dict[str, Any]:
    """Every column, JSON columns as objects, `api_posted` a boolean, and `commit_url`, `repo_url`."""
    values: dict[str, Any] = {name: getattr(record, name) for name in COLUMNS}
    for name in JSON_COLUMNS:
        values[name] = loaded(values[name])
    values["api_posted"] = bool(record.api_posted)
    values["commit_url"] = commit_url(record.git_repo, record.git_commit_hash, hosts=git_hosts)
    values["repo_url"] = repo_url(record.git_repo, hosts=git_hosts)
    return values


def loaded(text: str | None) -> Any:
    """The value of a JSON text; a text that is not JSON as it is."""
    if text is None:
        return None
    try:
        return orjson.loads(text)
    except ValueError:
        return text
