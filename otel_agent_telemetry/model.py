"""What is kept: a run's state, its events, its steps; and which of two states stands.

A run is known by `event_id`. Whoever observes it writes *states* of it: the start, maybe
updates, the end. States arrive in any order, any number of times, by any route, so the
model defines one total order on them and every store keeps the greatest (design,
invariant 2). `order_key` is that order:

1. an ended state is greater than a running one;
2. then the later `updated_at` is greater;
3. then every other column in declaration order, so that two different states are never
   "equal" and every store ends with the same row.

What is told about a run afterwards stands outside the order: commits live in a table of
their own (see `CommitLink`), and `api_posted*` only ever grows.
"""

from __future__ import annotations

import operator
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

from otel_agent_telemetry import status as st
from otel_agent_telemetry.clock import normal_iso
from otel_agent_telemetry.errors import RecordError
from otel_agent_telemetry.patterns import lazy
from otel_agent_telemetry.run_id import check_custom_run_id

try:
    from _sha1 import sha1  # type: ignore[import-not-found]  # hashlib would load OpenSSL first: 2 ms of everybody's start
except ImportError:
    from hashlib import sha1

SCHEMA_VERSION: Final = 8
MAX_COUNT: Final = 2**63 - 1

STATE_STEP_NS: Final = 2_000
"""How far apart, at least, a recorder keeps the `updated_at` of two states of one run."""
CLOSING_STEP_NS: Final = 1_000
"""How far behind the last state the closing state of a run without an owner lies."""

Fields = dict[str, Any]
"""A run's state on the way to disk: column name → value, defaults left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One state of one run: a row of `agent_runs` (contract, "Run record").

    Times are our ISO 8601 text; counts and durations integers ≥ 0; `metrics_json` and
    `context_json` JSON text; everything else text. None is "not known".
    """

    event_id: str
    run_id: str
    schema_version: int = SCHEMA_VERSION
    created_at: str
    updated_at: str
    start_time: str
    end_time: str | None = None
    agent_name: str
    agent_owner: str | None = None
    job_type: str
    status: str = st.RUNNING
    trigger_type: str | None = None
    product: str | None = None
    product_family: str | None = None
    platform: str | None = None
    subdomain: str | None = None
    website: str | None = None
    website_section: str | None = None
    item_name: str | None = None
    items_discovered: int = 0
    items_succeeded: int = 0
    items_failed: int = 0
    items_skipped: int = 0
    duration_ms: int = 0
    input_summary: str | None = None
    output_summary: str | None = None
    source_ref: str | None = None
    target_ref: str | None = None
    error_summary: str | None = None
    error_details: str | None = None
    git_repo: str | None = None
    git_branch: str | None = None
    git_commit_hash: str | None = None
    git_run_tag: str | None = None
    git_commit_source: str | None = None
    git_commit_author: str | None = None
    git_commit_timestamp: str | None = None
    host: str | None = None
    environment: str | None = None
    metrics_json: str | None = None
    context_json: str | None = None
    api_posted: int = 0
    api_posted_at: str | None = None
    api_retry_count: int = 0
    insight_id: str | None = None
    parent_run_id: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    service_name: str | None = None

    @classmethod
    def from_fields(cls, values: Mapping[str, Any]) -> RunRecord:
        """The record of a mapping that may come from anywhere; unknown keys are ignored.

        An empty text is "not known", as None is: the order of states must not tell them apart.
        Raises RecordError naming the first column that breaks a rule.
        """
        given = {
            name: _checked(name, value)
            for name, value in values.items()
            if name in _COLUMN_SET and value is not None and not (type(value) is str and not value)
        }
        _put_required(given)
        return cls(**given)

    @property
    def ended(self) -> bool:
        """Whether this state is terminal."""
        return self.status != st.RUNNING

    def to_fields(self) -> Fields:
        """Column → value, with what is at its default left out: the form that is written."""
        return {
            name: value
            for name in COLUMNS
            if (value := getattr(self, name)) is not None and (value != 0 or name == "schema_version")
        }


COLUMNS: Final = tuple(f.name for f in fields(RunRecord))
_COLUMN_SET: Final = frozenset(COLUMNS)
TIME_COLUMNS: Final = frozenset(
    {"created_at", "updated_at", "start_time", "end_time", "git_commit_timestamp", "api_posted_at"}
)
COUNT_COLUMNS: Final = frozenset(
    {"items_discovered", "items_succeeded", "items_failed", "items_skipped", "duration_ms", "api_retry_count"}
)
JSON_COLUMNS: Final = frozenset({"metrics_json", "context_json"})
COMMIT_COLUMNS: Final = ("git_commit_hash", "git_commit_source", "git_commit_author", "git_commit_timestamp")
POSTING_COLUMNS: Final = ("api_posted", "api_posted_at", "api_retry_count")
REQUIRED_COLUMNS: Final = (
    "event_id",
    "run_id",
    "created_at",
    "updated_at",
    "start_time",
    "agent_name",
    "job_type",
)
TEXT_COLUMNS: Final = frozenset(COLUMNS) - TIME_COLUMNS - COUNT_COLUMNS - {"schema_version", "api_posted"}
SETTABLE_COLUMNS: Final = frozenset(COLUMNS) - {
    *("event_id", "run_id", "schema_version", "created_at", "updated_at", "start_time", "end_time", "status"),
    *("trace_id", "span_id"),
    *POSTING_COLUMNS,
}
"""The columns that a caller may set by name; the rest is what the library observes."""

_TIE_COLUMNS: Final = tuple(
    name for name in COLUMNS if name not in {"event_id", "status", "updated_at", *COMMIT_COLUMNS, *POSTING_COLUMNS}
)
ORDER_COLUMNS: Final = ("updated_at", "status", *_TIE_COLUMNS, *COMMIT_COLUMNS)
"""Columns compared after "has it ended"; storage builds its SQL condition from the same tuple."""

_OUR_TIME: Final = lazy(
    r"(?!0000)\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{6}\+00:00",
    re.ASCII,
)
"""Our own form on a day that every month has: known to be right without parsing it."""
_UUID: Final = lazy(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_FALLBACKS: Final = {"created_at": ("start_time",), "updated_at": ("created_at", "start_time")}
_INTEGERS: Final = COUNT_COLUMNS | {"schema_version", "api_posted"}


def order_key(record: RunRecord) -> tuple[Any, ...]:
    """Sort key of a state among the states of its run; the greatest stands."""
    values = (getattr(record, name) for name in ORDER_COLUMNS)
    return (record.ended, *("" if value is None else value for value in values))


def later_state(one: RunRecord, other: RunRecord) -> RunRecord:
    """What stands of two states of one run: the greater one, with the greater of each posting column."""
    stands, fallen = (one, other) if order_key(one) >= order_key(other) else (other, one)
    grown = {
        name: value
        for name in POSTING_COLUMNS
        if (value := getattr(fallen, name)) and (not (kept := getattr(stands, name)) or value > kept)
    }
    return replace(stands, **grown) if grown else stands


def span_event_id(trace_id: str, span_id: str) -> str:
    """The UUID (version 8) of the run that a span is, the same wherever the span is read.

    Source: design, invariant 2. SHA-1 over `trace_id:span_id` in hex, as RFC 9562 lays out.
    """
    digest = sha1(f"{trace_id}:{span_id}".encode(), usedforsecurity=False).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-8{digest[13:16]}-a{digest[17:20]}-{digest[20:32]}"


def new_event_id() -> str:
    """A fresh UUID for a run that no span stands for."""
    return str(uuid.uuid4())


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent:
    """Something that happened during a run. `event_id` is the run's, as on every line."""

    event_id: str
    run_id: str
    event_type: str
    timestamp: str
    payload: Any = None
    trace_id: str | None = None
    span_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpan:
    """A step of a run: a child span, started (`end_time` None) or ended.

    `status` is `running`, `unset`, `ok` or `error`; `attributes` are JSON-able.
    """

    event_id: str
    run_id: str
    trace_id: str
    span_id: str
    parent_span_id: str | None
    name: str
    kind: str = "internal"
    status: str = "running"
    status_message: str | None = None
    start_time: str
    end_time: str | None = None
    duration_ms: int = 0
    attributes: Mapping[str, Any] = field(default_factory=dict)


COMMIT_SOURCES: Final = ("manual", "llm", "ci")
COMMIT_EVENT: Final = "agent.run.commit"
"""`event_type` of the journal line that carries a CommitLink."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitLink:
    """Says that a commit came from a run; told at any time by anyone who knows the run id.

    Kept apart from run states, so that a state that arrives later cannot erase it; of two
    links of one run the later `associated_at` shows in the run's `git_commit_*` columns.
    """

    run_id: str
    commit_hash: str
    commit_source: str
    commit_author: str | None = None
    commit_timestamp: str | None = None
    associated_at: str

    def __post_init__(self) -> None:
        if check_custom_run_id(self.run_id) is not None:
            raise RecordError("run_id", "must be 1..255 characters without '/', '\\' or NUL")
        commit = self.commit_hash
        if not (isinstance(commit, str) and 7 <= len(commit) <= 40 and _is_hex(commit)):  # noqa: PLR2004
            raise RecordError("commit_hash", f"must be 7 to 40 hex digits, got {_shown(commit)}")
        if self.commit_source not in COMMIT_SOURCES:
            raise RecordError(
                "commit_source",
                f"must be one of {', '.join(COMMIT_SOURCES)}, got {_shown(self.commit_source)}",
            )
        if self.commit_author is not None and not isinstance(self.commit_author, str):
            raise RecordError("commit_author", f"must be text, got {_shown(self.commit_author)}")
        if self.commit_timestamp is not None:
            object.__setattr__(self, "commit_timestamp", _checked_time("commit_timestamp", self.commit_timestamp))


def clamp(values: Mapping[str, Any], problems: list[str]) -> Fields:
    """The caller's values with those of a wrong type or negative left at the default.

    Each one left out adds a sentence to `problems`; nothing is raised (contract, "Client").
    Only for SETTABLE_COLUMNS; JSON columns pass through, `JSON_COLUMNS` are encoded later.
    """
    kept: Fields = {}
    for name, value in values.items():
        if value is None:
            continue
        try:
            kept[name] = value if name in JSON_COLUMNS else _checked(name, value)
        except RecordError as problem:
            problems.append(str(problem))
        except Exception as failure:  # foreign code: a proxy, a number type of the caller's
            problems.append(f"{name}: cannot be read, {type(failure).__name__}")
    return kept


def _checked(name: str, value: Any) -> Any:
    """The value as its column holds it; raises RecordError."""
    if name in _INTEGERS:
        return _checked_count(name, value)
    if name in TIME_COLUMNS:
        return _checked_time(name, value)
    if not isinstance(value, str):
        raise RecordError(name, f"must be text, got {type(value).__name__}")
    if name == "status":
        word = st.canonical_status(value)
        if word is None:
            raise RecordError("status", f"must be one of {', '.join(st.STATUSES)}, got {_shown(value)}")
        return word
    if name == "run_id" and (reason := check_custom_run_id(value)) is not None:
        raise RecordError("run_id", f"is not usable: {reason}")
    if name == "event_id":
        if _UUID.fullmatch(value) is None:
            raise RecordError("event_id", f"must be a UUID, got {_shown(value)}")
        return value.lower()
    return value


def _checked_count(name: str, value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) and name != "api_posted":
        value = None
    if not hasattr(type(value), "__index__") or not 0 <= (count := operator.index(value)) <= MAX_COUNT:
        raise RecordError(name, f"must be an integer from 0 to 2^63-1, got {_shown(value)}")
    return count


def _checked_time(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise RecordError(name, f"must be ISO 8601 text, got {type(value).__name__}")
    if _OUR_TIME.fullmatch(value):
        return value
    try:
        return normal_iso(value)
    except (ValueError, OverflowError):
        raise RecordError(name, f"must be an ISO 8601 time, got {_shown(value)}") from None


def _put_required(given: Fields) -> None:
    """Fill what a sparse mapping may leave out although the column must have it. Raises RecordError."""
    for name in REQUIRED_COLUMNS:
        if name not in given:
            fallback = next((other for other in _FALLBACKS.get(name, ()) if other in given), None)
            if fallback is None:
                raise RecordError(name, "is required")
            given[name] = given[fallback]


def _is_hex(value: str) -> bool:
    return all(c in "0123456789abcdefABCDEF" for c in value)


def _shown(value: Any) -> str:
    """A value as an error message may show it: short, and only of plain types."""
    if isinstance(value, str):
        return repr(value if len(value) <= 40 else value[:40] + "…")  # noqa: PLR2004
    if isinstance(value, int) and value.bit_length() > 64:  # noqa: PLR2004 - longer ones may have no decimal repr
        return "a number beyond 64 bits"
    return repr(value) if isinstance(value, (int, float, bool)) else type(value).__name__
