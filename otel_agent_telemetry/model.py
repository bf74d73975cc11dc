"""The records that are stored: states of runs, events, spans and commits; and the order of states.

A run is identified by `event_id`. Each observer of a run writes *states* of it: the start,
updates, the end. States arrive in any order, any number of times, by any route, so the model
defines one total order on them and every store keeps the greatest (design, invariant 2).
`order_key` is that order:

1. an ended state is greater than a running one;
2. then the later `updated_at` is greater;
3. then every other column in the order of the table, so that two different states are never
   equal and every store ends with the same row.

Three things are not part of the order: commits have a table of their own (see `CommitLink`), of
`api_posted*` the greater value is kept, whichever state is, and columns.OBSERVED_BY_STORE are
decided where a run is stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, get_args

from otel_agent_telemetry import status as st
from otel_agent_telemetry.argument_types import CommitSource, RunStatus
from otel_agent_telemetry.column_checks import FREE_TEXT_COLUMNS, check_column, check_time, is_hex, shown
from otel_agent_telemetry.columns import (
    AMOUNT_COLUMNS,
    COLUMNS,
    POSTING_COLUMNS,
    TOTAL_COLUMNS,
    Fields,
)
from otel_agent_telemetry.errors import RecordError
from otel_agent_telemetry.run_id import check_custom_run_id
from otel_agent_telemetry.run_state import ORDER_COLUMNS, put_required
from otel_agent_telemetry.run_totals import totals_in


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One state of one run: a row of `agent_runs` (docs/reference/columns.md).

    Times are ISO 8601 text in UTC, durations integers in ms, `metrics_json` and `context_json`
    JSON text. None is "not known".
    """

    # --- columns, written by `make columns`
    event_id: str
    run_id: str
    schema_version: int = 9
    created_at: str
    updated_at: str
    start_time: str
    end_time: str | None = None
    agent_name: str
    agent_owner: str | None = None
    job_type: str
    status: RunStatus = "running"
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
    received_at: str | None = None
    session_id: str | None = None
    user_id: str | None = None
    agent_version: str | None = None
    change_id: str | None = None
    pipeline_url: str | None = None
    start_commit: str | None = None
    model: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None
    model_calls: int = 0
    tool_calls: int = 0
    labels: str | None = None
    plumbing: int = 0
    # --- end of columns

    @classmethod
    def from_fields(cls, values: Mapping[str, Any]) -> RunRecord:
        """Return the record of an unchecked mapping; unknown keys are ignored, totals are read from `metrics_json`.

        An empty text is "not known", as None is, because the order of states treats them as
        equal. Raises RecordError naming the first column that breaks a rule.
        """
        given: Fields = {
            name: value if type(value) is str and name in FREE_TEXT_COLUMNS else check_column(name, value)
            for name, value in values.items()
            if name in _COLUMN_SET and value is not None and not (type(value) is str and not value)
        }
        put_required(given)
        if given.keys().isdisjoint(TOTAL_COLUMNS):
            given.update(totals_in(given.get("metrics_json")))
        return cls(**given)

    @property
    def ended(self) -> bool:
        """Return whether this state is terminal."""
        return self.status != st.RUNNING

    def to_fields(self) -> Fields:
        """Return column → value without the defaults: the form that is written to disk."""
        return {
            name: value
            for name in COLUMNS
            if (value := getattr(self, name)) is not None and (value != 0 or name in _KEPT_ZEROS)
        }


_COLUMN_SET: Final = frozenset(COLUMNS)
_KEPT_ZEROS: Final = AMOUNT_COLUMNS | {"schema_version"}
"""Columns of which 0 is another value than none."""


def order_key(record: RunRecord) -> tuple[Any, ...]:
    """Return the sort key of a state among the states of its run; the greatest state is kept.

    None counts as the empty text, as in the database: two spellings of "not known" must not be two states.
    """
    values = (getattr(record, name) for name in ORDER_COLUMNS)
    return (record.ended, *("" if value is None else value for value in values))


def later_state(one: RunRecord, other: RunRecord) -> RunRecord:
    """Return the greater of two states of one run, with the greater value of each posting column.

    Both must be of one run; which of them is given first does not matter.
    """
    kept, dropped = (one, other) if order_key(one) >= order_key(other) else (other, one)
    grown = {
        name: value
        for name in POSTING_COLUMNS
        if (value := getattr(dropped, name)) and (not (current := getattr(kept, name)) or value > current)
    }
    return replace(kept, **grown) if grown else kept


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent:
    """An event of a run. `event_id` is that of the run."""

    event_id: str
    run_id: str
    event_type: str
    timestamp: str
    payload: Any = None
    trace_id: str | None = None
    span_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpan:
    """A child span of a run, started (`end_time` None) or ended.

    `status` is `running`, `unset`, `ok` or `error`; `attributes` hold JSON values only.
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


COMMIT_SOURCES: Final[tuple[CommitSource, ...]] = get_args(CommitSource)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitLink:
    """The association of a commit with the run that made it; anyone who knows the run id may add one.

    Associations are stored apart from states, so that a state that arrives later cannot erase
    one. The run's `git_commit_*` columns show the one with the latest `associated_at`.
    Raises RecordError for a value that breaks a rule.
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
        if not (isinstance(commit, str) and 7 <= len(commit) <= 64 and is_hex(commit)):  # noqa: PLR2004
            raise RecordError("commit_hash", f"must be 7 to 64 hex digits, got {shown(commit)}")
        if self.commit_source not in COMMIT_SOURCES:
            raise RecordError(
                "commit_source",
                f"must be one of {', '.join(COMMIT_SOURCES)}, got {shown(self.commit_source)}",
            )
        if self.commit_author is not None and not isinstance(self.commit_author, str):
            raise RecordError("commit_author", f"must be text, got {shown(self.commit_author)}")
        if self.commit_timestamp is not None:
            object.__setattr__(self, "commit_timestamp", check_time("commit_timestamp", self.commit_timestamp))

    @classmethod
    def from_event(cls, event: Mapping[str, Any]) -> CommitLink:
        """Return the association of an `agent.run.commit` line. Raises RecordError."""
        payload = event.get("payload")
        if not isinstance(payload, Mapping):
            raise RecordError("payload", "must be an object")
        try:
            return cls(run_id=event["run_id"], **payload)
        except (TypeError, KeyError) as problem:
            raise RecordError("payload", f"is not a commit association: {problem}") from None
