"""Conversion of JSON bodies to checked states: the rules of the API beyond those of `run_state.checked_state`.

- Times need a zone.
- `metrics_json` and `context_json` are objects, or the JSON text of one.
- A field that is no column of a run is kept in `context_json`, under its own name, unless
  that name is taken there; `id`, `commit_url` and `repo_url`, which responses add, and
  `record_type`, which lines of the journal have, are ignored. `span_work` is none with a word of
  `wire.SPAN_WORKS`, which recording processes send with their states.
- The duration of a run that has ended is the time from its start to its end, where none is given.
- `git_commit_source` is one of three words.
- Secrets are masked, as they are in what our own clients write.
- So is what a column of version 9 cannot hold, unless the column holds a number: its name was a
  field of the client's own before.

A run's body becomes a state in one pass without a record object, which would cost more than
writing its row; a test compares the two on generated bodies.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import orjson

from otel_agent_telemetry.clock import parse_iso
from otel_agent_telemetry.column_checks import check_column, check_time, fits, shown
from otel_agent_telemetry.columns import COLUMNS, JSON_COLUMNS, MAY_MISFIT, PATCHABLE_COLUMNS, TIME_COLUMNS, Fields
from otel_agent_telemetry.errors import RecordError
from otel_agent_telemetry.model import COMMIT_SOURCES, CommitLink
from otel_agent_telemetry.redaction import clean, kept_name, mask_columns
from otel_agent_telemetry.run_state import checked_state, put_required
from otel_agent_telemetry.run_totals import folded
from otel_agent_telemetry.service.request_body import loads_json
from otel_agent_telemetry.service.responses import RequestError
from otel_agent_telemetry.state_plan import AS_STORED, NUMBERS, PLAIN_NUMBERS_END
from otel_agent_telemetry.storage.rows import clean_text
from otel_agent_telemetry.urls import without_credentials
from otel_agent_telemetry.wire import AGENT_WORK, SPAN_WORK, SPAN_WORKS

_COLUMNS: Final = frozenset(COLUMNS)
_MEMBERS: Final = _COLUMNS | {SPAN_WORK}
PATCHABLE_NAMES: Final = tuple(sorted(PATCHABLE_COLUMNS))
_NOT_KEPT: Final = frozenset({"id", "commit_url", "repo_url", "record_type"})
_ZONE: Final = re.compile(r".*\d(?:Z|[+-]\d\d(?::?\d\d(?::?\d\d)?)?)\s*", re.ASCII | re.IGNORECASE)
_DATE: Final = len("2026-01-31")
_DATE_AND_HOUR: Final = len("2026-01-31T12")
_UTC: Final = ("+00:00", "Z")
_MAX_NAME: Final = 255
_LEVELS: Final = 256
_MAX_UNKNOWN: Final = 1000
_AS_STORED: Final[Mapping[str, Callable[[str], object]]] = {
    **{name: is_right for name, is_right in AS_STORED.items() if name not in JSON_COLUMNS},
    "git_commit_source": frozenset(COMMIT_SOURCES).__contains__,
    "git_repo": re.compile(r"[^@]+").fullmatch,
}
"""Text column → whether a body's text is surely right and stored as it is, by the rules of the API too."""


def run_from_body(item: Any) -> Fields:
    """Return the checked state that a JSON object describes. Raises RecordError naming the first rule it breaks."""
    if not isinstance(item, dict):
        raise RecordError("run", f"must be an object, got {shown(item)}")
    # A run as `GET` returned it may be posted again; that takes the second way, like fields of the client's own.
    is_plain = item.keys() <= _MEMBERS and item.get(SPAN_WORK, AGENT_WORK) in SPAN_WORKS
    values = item if is_plain else _with_context(item)
    try:
        state = _state_in_one_pass(values)
    except RecordError:
        # The pass stops at the first value that it meets; which rule is named has an order of its own.
        state = checked_state(column_values(without_misfits(values)))
    put_duration(state)
    return folded(mask_columns(state))


def put_duration(state: Fields) -> None:
    """Set the duration of a state that has an end and no duration: from its start to its end, 0 for an earlier end."""
    if (end := state.get("end_time")) and not state.get("duration_ms"):
        state["duration_ms"] = max((parse_iso(end) - parse_iso(state["start_time"])) // 1_000_000, 0)


def without_misfits(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a body whose values that a column of a later version cannot hold are in `context_json`.

    Raises RecordError. Clients of earlier versions may have fields of their own under these names.
    """
    misfits = {name: values[name] for name in MAY_MISFIT & values.keys() if not fits(name, values[name])}
    if not misfits:
        return values
    kept = {name: value for name, value in values.items() if name not in misfits}
    kept["context_json"] = {**misfits, **(_object_or_none(kept, "context_json") or {})}
    return kept


def _state_in_one_pass(values: Mapping[str, Any]) -> Fields:
    """Return what `checked_state(column_values(values))` returns, looking at each value once. Raises RecordError."""
    state: Fields = {}
    for name, value in values.items():
        if type(value) is str:
            is_right = _AS_STORED.get(name)
            if is_right is not None and is_right(value):
                state[name] = value
            elif value:
                state[name] = _stored_value(name, value)
        elif type(value) is int and name in NUMBERS and 0 <= value < PLAIN_NUMBERS_END:
            state[name] = value
        elif type(value) is dict and name in JSON_COLUMNS:
            state[name] = _json_text(name, value)
        elif value is not None:
            state[name] = _stored_value(name, value)
    put_required(state)
    return state


def _stored_value(name: str, value: Any) -> Any:
    """Return one column's value, neither None nor empty, as it is stored. Raises RecordError."""
    return check_column(name, column_values({name: value})[name])


def _with_context(item: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a body whose fields that are no columns are in `context_json`. Raises RecordError."""
    ours = _MEMBERS if item.get(SPAN_WORK) in SPAN_WORKS else _COLUMNS
    known = {name: value for name, value in item.items() if name in ours}
    unknown = {name: value for name, value in item.items() if name not in ours and name not in _NOT_KEPT}
    if unknown:
        # What stands in `context_json` explicitly wins over a stray field of the same name.
        known["context_json"] = {**_checked_names(unknown), **(_object_or_none(known, "context_json") or {})}
    return known


def column_values(item: Mapping[str, Any]) -> Fields:
    """Return a body's columns as `run_state.checked_state` takes them. Raises RecordError."""
    fields = dict(item)
    for name in JSON_COLUMNS & fields.keys():
        value = _object_or_none(fields, name)
        fields[name] = None if value is None else _json_text(name, value)
    for name in TIME_COLUMNS & fields.keys():
        check_zone(name, fields[name])
    if fields.get("git_commit_source") not in (None, "", *COMMIT_SOURCES):
        raise RecordError("git_commit_source", f"must be one of {', '.join(COMMIT_SOURCES)}")
    # Clients take the URL from `git remote`, where CI systems put a token.
    if isinstance(repo := fields.get("git_repo"), str) and "@" in repo:
        fields["git_repo"] = without_credentials(repo)
    return fields


def _json_text(name: str, value: dict[str, Any]) -> str:
    """Return a JSON column's text, secrets masked. Raises RecordError where the text could not hold the whole value."""
    try:
        return orjson.dumps(clean(value, max_bytes=sys.maxsize, max_depth=_LEVELS)).decode()
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
            value = loads_json(value.encode("utf-8", "replace"))
        except RequestError:
            raise RecordError(name, "must be an object, or the JSON text of one") from None
    if value is None or value == "":
        return None
    if not isinstance(value, dict):
        raise RecordError(name, f"must be an object, or the JSON text of one, got {shown(value)}")
    return value


def check_zone(name: str, value: Any) -> None:
    """Raise RecordError for a time without a zone. What is no text, or empty, is left to the column's own check."""
    # From the hour on: the dashes of a date look like the offset of a zone.
    if not isinstance(value, str) or not value or value.endswith(_UTC, _DATE_AND_HOUR):
        return
    if len(value) <= _DATE or _ZONE.fullmatch(value, _DATE) is None:
        raise RecordError(name, f"must have a zone, as in 2026-01-31T12:00:00Z, got {shown(value)}")


class Patch(NamedTuple):
    """The columns that a PATCH sets, as they are stored, and the names in its body that it cannot set."""

    fields: Fields
    ignored: tuple[str, ...]


def patch_from_body(body: Any) -> Patch:
    """Return what a PATCH sets. Raises RequestError 400 when that is nothing, RecordError."""
    if not isinstance(body, dict):
        raise RecordError("body", "must be an object of the fields to set")
    # A client may send the whole state that it has; what identifies a run, or orders its states, stays as it is.
    ignored = tuple(sorted(body.keys() - PATCHABLE_COLUMNS))
    given = {name: value for name, value in body.items() if name in PATCHABLE_COLUMNS}
    if not given:
        raise RequestError(400, f"no field was given that can be changed; PATCH takes {', '.join(PATCHABLE_NAMES)}")
    # By the API a null duration is 0, where null resets any other column.
    if given.get("duration_ms", 0) is None:
        given["duration_ms"] = 0
    fields = {
        name: None if value is None or value == "" else clean_text(check_column(name, value))
        for name, value in column_values(given).items()
    }
    return Patch(mask_columns(fields), tuple(name[:_MAX_NAME] for name in ignored[:_MAX_UNKNOWN]))


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
        commit_author=kept_name(author) if isinstance(author := body.get("commit_author"), str) else author,
        commit_timestamp=_given(body, "commit_timestamp"),
        associated_at=now_iso if given is None else min(check_time("associated_at", given), now_iso),
    )


def _given(body: Mapping[str, Any], name: str) -> Any:
    """Return a member of the body; None for an empty text too."""
    value = body.get(name)
    return None if value == "" else value
