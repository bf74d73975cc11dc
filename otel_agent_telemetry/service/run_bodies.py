"""Conversion of JSON bodies to records: the rules of the API beyond those of `RunRecord`.

- Times need a zone.
- `metrics_json` and `context_json` are objects, or the JSON text of one.
- A field that is no column of a run is kept in `context_json`, under its own name, unless
  that name is taken there; `id`, `commit_url` and `repo_url`, which responses add, are ignored.
- `git_commit_source` is one of three words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

from otel_agent_telemetry.columns import (
    COLUMNS,
    JSON_COLUMNS,
    PATCHABLE_COLUMNS,
    TIME_COLUMNS,
    Fields,
    check_column,
    check_time,
    shown,
)
from otel_agent_telemetry.errors import RecordError
from otel_agent_telemetry.model import COMMIT_SOURCES, CommitLink, RunRecord
from otel_agent_telemetry.service.error_responses import RequestError
from otel_agent_telemetry.storage.rows import clean_text
from otel_agent_telemetry.urls import without_credentials

_COLUMNS: Final = frozenset(COLUMNS)
_RESPONSE_ONLY: Final = frozenset({"id", "commit_url", "repo_url"})
_ZONE: Final = re.compile(r".*\d(?:Z|[+-]\d\d(?::?\d\d(?::?\d\d)?)?)\s*", re.ASCII | re.IGNORECASE)
_DATE: Final = len("2026-01-31")
_DATE_AND_HOUR: Final = len("2026-01-31T12")
_UTC: Final = ("+00:00", "Z")
_MAX_NAME: Final = 255
_MAX_UNKNOWN: Final = 1000


def run_from_body(item: Any) -> RunRecord:
    """Return the state that a JSON object describes. Raises RecordError naming the first rule it breaks."""
    if not isinstance(item, dict):
        raise RecordError("run", f"must be an object, got {shown(item)}")
    if item.keys() <= _COLUMNS:
        return RunRecord.from_fields(_column_values(item))
    known = {name: value for name, value in item.items() if name in _COLUMNS}
    unknown = {name: value for name, value in item.items() if name not in _COLUMNS and name not in _RESPONSE_ONLY}
    if unknown:
        known["context_json"] = {**_checked_names(unknown), **(_object_or_none(known, "context_json") or {})}
    return RunRecord.from_fields(_column_values(known))


def _column_values(item: Mapping[str, Any]) -> Fields:
    """Return the columns as `RunRecord.from_fields` takes them. Raises RecordError."""
    fields = dict(item)
    for name in JSON_COLUMNS & fields.keys():
        value = _object_or_none(fields, name)
        fields[name] = None if value is None else _json_text(name, value)
    for name in TIME_COLUMNS & fields.keys():
        check_zone(name, fields[name])
    if fields.get("git_commit_source") not in (None, "", *COMMIT_SOURCES):
        raise RecordError("git_commit_source", f"must be one of {', '.join(COMMIT_SOURCES)}")
    if isinstance(repo := fields.get("git_repo"), str) and "@" in repo:
        fields["git_repo"] = without_credentials(repo)
    return fields


def _json_text(name: str, value: dict[str, Any]) -> str:
    """Return a JSON column's text. Raises RecordError where the text could not hold the whole value."""
    try:
        return orjson.dumps(value).decode()
    except (TypeError, RecursionError):
        raise RecordError(name, "is nested too deeply, 250 levels may be kept") from None


def _checked_names(unknown: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the fields that are no columns. Raises RecordError for too many, or a name too long."""
    if len(unknown) > _MAX_UNKNOWN:
        raise RecordError("run", f"has {len(unknown)} fields that are no columns; {_MAX_UNKNOWN} may be kept")
    if longest := next((name for name in unknown if len(name) > _MAX_NAME), None):
        raise RecordError(shown(longest), f"a field's name may have {_MAX_NAME} characters")
    return unknown


def _object_or_none(fields: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """Return a JSON column given as an object or as its text; None when it is missing or empty. Raises RecordError."""
    value = fields.get(name)
    if isinstance(value, str) and value:
        try:
            value = orjson.loads(value)
        except ValueError:
            raise RecordError(name, "must be an object, or the JSON text of one") from None
    if value is None or value == "":
        return None
    if not isinstance(value, dict):
        raise RecordError(name, f"must be an object, or the JSON text of one, got {shown(value)}")
    return value


def check_zone(name: str, value: Any) -> None:
    """Raise RecordError for a time without a zone. What is no text, or empty, is left to the column's own check."""
    if not isinstance(value, str) or not value or value.endswith(_UTC, _DATE_AND_HOUR):
        return
    if len(value) <= _DATE or _ZONE.fullmatch(value, _DATE) is None:
        raise RecordError(name, f"must have a zone, as in 2026-01-31T12:00:00Z, got {shown(value)}")


def patch_from_body(body: Any) -> Fields:
    """Return the columns that a PATCH sets, as they are stored. Raises RequestError 400 without any, RecordError."""
    if not isinstance(body, dict):
        raise RecordError("body", "must be an object of the fields to set")
    if not body:
        raise RequestError(400, "no field to update was given")
    if unknown := sorted(body.keys() - PATCHABLE_COLUMNS):
        raise RecordError(shown(unknown[0]), f"cannot be changed; PATCH takes {', '.join(sorted(PATCHABLE_COLUMNS))}")
    if body.get("duration_ms", 0) is None:
        body = {**body, "duration_ms": 0}
    return {
        name: None if value is None or value == "" else clean_text(check_column(name, value))
        for name, value in _column_values(body).items()
    }


def commit_link_from_body(body: Any, *, run_id: str | None = None, now_iso: str) -> CommitLink:
    """Return the commit link of a body, for `run_id` or else for the run that the body names. Raises RecordError.

    An `associated_at` in the future counts as now: it would outlast every later association.
    """
    if not isinstance(body, dict):
        raise RecordError("body", "must be an object with commit_hash and commit_source")
    check_zone("commit_timestamp", body.get("commit_timestamp"))
    check_zone("associated_at", body.get("associated_at"))
    given = _given(body, "associated_at") if run_id is None else None
    return CommitLink(
        run_id=body.get("run_id", "") if run_id is None else run_id,
        commit_hash=body.get("commit_hash", ""),
        commit_source=body.get("commit_source", ""),
        commit_author=body.get("commit_author"),
        commit_timestamp=_given(body, "commit_timestamp"),
        associated_at=now_iso if given is None else min(check_time("associated_at", given), now_iso),
    )


def _given(body: Mapping[str, Any], name: str) -> Any:
    """Return a member of the body; None for an empty text too."""
    value = body.get(name)
    return None if value == "" else value
