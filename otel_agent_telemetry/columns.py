"""The table of columns of `agent_runs`: what each may hold, and who may set, change and filter it.

Everything that knows the columns follows from `TABLE`: the fields of `model.RunRecord`, the
keyword arguments of the client (`argument_types`), the SQL table, the bodies and answers of the
service, the types of an export and docs/reference/columns.md. To add a column, add its row
here, add a migration that adds it to the database, and run `make columns`, which writes the
lists that type checkers and readers need.

This module stays cheap to import, because the application's thread needs it; the record
classes in `model` take milliseconds to create and are for readers and targets. Values are checked in
`column_checks`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

from otel_agent_telemetry import status as st

SCHEMA_VERSION: Final = 9
MAX_COUNT: Final = 2**63 - 1

STATE_STEP_NS: Final = 2_000
"""The least distance, in ns, between the `updated_at` of two states of one run from one recorder."""
CLOSING_STEP_NS: Final = 1_000
"""How long after the last state, in ns, the closing state of an abandoned run is dated."""

Fields = dict[str, Any]
"""A run's state on the way to disk: column name → value, defaults left out."""

Kind = Literal[
    "text",
    "time",
    "count",
    "number",
    "amount",
    "flag",
    "json",
    "uuid",
    "hex",
    "run_id",
    "status",
    "commit_source",
]
"""What a column holds.

`time`: ISO 8601 in UTC. `count`: an integer from 0 to 2^63-1. `number`: one to 2^31-1. `amount`: a
finite number from 0, a float. `flag`: 0 or 1. `json`: JSON text. The rest are texts: `hex` of exactly
`max_length` hex digits, `run_id` by the rules of run ids, `status` one of six words,
`commit_source` one of three.
"""


class Column(NamedTuple):
    """One column of `agent_runs`: a row of `TABLE`."""

    name: str
    kind: Kind
    description: str
    """One sentence, shown in docs/reference/columns.md and in `/openapi.json`."""
    required: bool = False
    """Whether every state of a run must have a value that is not empty."""
    settable: bool = True
    """Whether the application may set it by name, or as an attribute `agent.run.<name>`."""
    patchable: bool = False
    """Whether `PATCH /api/v1/runs/{event_id}` may change it."""
    filterable: bool = False
    """Whether `GET /api/v1/runs` takes a value of it as a filter."""
    listed: bool = False
    """Whether `GET /api/v1/metadata/{field}` lists its distinct values."""
    default: int | str | None = None
    """The value when nothing is given. None is "not known", stored as NULL."""
    max_length: int | None = None
    """The longest text in characters. None is no limit."""
    since: int = 8
    """The schema version that added it. A value that a later column cannot hold is kept in `context_json`, where
    earlier versions kept every value of that name."""

    @property
    def nullable(self) -> bool:
        """Return whether the database may hold NULL in it."""
        return not self.required and self.default is None


TABLE: Final = (
    Column(
        "event_id",
        "uuid",
        "Idempotency key, a UUID: states with the same `event_id` are states of one run.",
        required=True,
        settable=False,
    ),
    Column(
        "run_id",
        "run_id",
        "The run's id: 1 to 255 characters, not blank, without `/`, `\\` and NUL.",
        required=True,
        settable=False,
        filterable=True,
        max_length=255,
    ),
    Column("schema_version", "number", "Schema version of the record.", settable=False, default=SCHEMA_VERSION),
    Column(
        "created_at", "time", "When the run was first recorded; default `start_time`.", required=True, settable=False
    ),
    Column(
        "updated_at",
        "time",
        "When this state was observed: the later of two states is kept; default `created_at`.",
        required=True,
        settable=False,
    ),
    Column("start_time", "time", "When the run started.", required=True, settable=False),
    Column("end_time", "time", "When the run ended.", settable=False, patchable=True),
    Column("agent_name", "text", "Name of the agent.", required=True, filterable=True, listed=True),
    Column("agent_owner", "text", "Person or team responsible for the agent.", listed=True),
    Column("job_type", "text", "What the agent does in this run.", required=True, filterable=True, listed=True),
    Column(
        "status",
        "status",
        "`running`, or how the run ended: `success`, `failed`, `partial`, `timeout`, `cancelled`.",
        settable=False,
        patchable=True,
        filterable=True,
        listed=True,
        default=st.RUNNING,
    ),
    Column("trigger_type", "text", "What started the run.", listed=True),
    Column("product", "text", "Product that the run works for.", listed=True),
    Column("product_family", "text", "Family of that product.", listed=True),
    Column("platform", "text", "Platform that the run works for.", listed=True),
    Column("subdomain", "text", "Subdomain of the website.", listed=True),
    Column("website", "text", "Website that the run works on.", listed=True),
    Column("website_section", "text", "Section of the website.", listed=True),
    Column("item_name", "text", "Item that the run works on."),
    Column("items_discovered", "count", "Number of items found.", patchable=True, default=0),
    Column("items_succeeded", "count", "Number of items that succeeded.", patchable=True, default=0),
    Column("items_failed", "count", "Number of items that failed.", patchable=True, default=0),
    Column("items_skipped", "count", "Number of items skipped.", patchable=True, default=0),
    Column(
        "duration_ms",
        "count",
        "Milliseconds from start to end; measured, a value set by the application is ignored.",
        patchable=True,
        default=0,
    ),
    Column("input_summary", "text", "Short description of the input.", patchable=True),
    Column("output_summary", "text", "Short description of the output.", patchable=True),
    Column("source_ref", "text", "Where the input comes from: a path, a URL."),
    Column("target_ref", "text", "Where the output goes: a path, a URL."),
    Column("error_summary", "text", "Why the run failed, in one line.", patchable=True),
    Column("error_details", "text", "Why the run failed, in full: a stack trace, for example.", patchable=True),
    Column("git_repo", "text", "URL of the repository that the run works in, without credentials.", listed=True),
    Column("git_branch", "text", "Branch that the run works on.", listed=True),
    Column("git_commit_hash", "text", "Commit that the run made.", patchable=True),
    Column("git_run_tag", "text", "Tag of the run in the repository or its pipeline."),
    Column("git_commit_source", "commit_source", "Who associated the commit: `manual`, `llm` or `ci`.", patchable=True),
    Column("git_commit_author", "text", "Author of the commit.", patchable=True),
    Column("git_commit_timestamp", "time", "When the commit was made.", patchable=True),
    Column("host", "text", "Host that the run ran on.", filterable=True, listed=True),
    Column("environment", "text", "Deployment environment, `production` for example.", filterable=True, listed=True),
    Column(
        "metrics_json",
        "json",
        "Metrics: an object, or the JSON text of one. `gen_ai` holds models, calls and tokens.",
        patchable=True,
    ),
    Column(
        "context_json", "json", "Everything else that is known: an object, or the JSON text of one.", patchable=True
    ),
    Column("api_posted", "flag", "Whether the webhook has received the run.", settable=False, default=0),
    Column("api_posted_at", "time", "When the webhook received the run.", settable=False),
    Column("api_retry_count", "count", "Number of retries of the webhook.", settable=False, default=0),
    Column("insight_id", "text", "Id of the insight that the run belongs to."),
    Column("parent_run_id", "run_id", "`run_id` of the run that contains this one.", filterable=True, max_length=255),
    Column(
        "trace_id", "hex", "Trace id of the run's span, 32 hex digits.", settable=False, filterable=True, max_length=32
    ),
    Column("span_id", "hex", "Span id of the run's span, 16 hex digits.", settable=False, max_length=16),
    Column("service_name", "text", "`service.name` of the program.", filterable=True, listed=True),
    Column(
        "received_at", "time", "When a service first received the run; null without a service.", settable=False, since=9
    ),
    Column("session_id", "text", "Session or conversation that the run belongs to.", filterable=True, since=9),
    Column("user_id", "text", "User whom the run works for; from spans only with a setting.", filterable=True, since=9),
    Column("agent_version", "text", "Version of the agent.", filterable=True, listed=True, since=9),
    Column("change_id", "text", "Change that the run works on, a pull request.", filterable=True, since=9),
    Column("pipeline_url", "text", "Address of the pipeline run that the run is part of.", since=9),
    Column("start_commit", "text", "Commit that the run began on.", settable=False, filterable=True, since=9),
    Column("model", "text", "Model that was called most.", filterable=True, listed=True, since=9),
    Column("input_tokens", "count", "Tokens that models read, cached ones included.", default=0, since=9),
    Column("output_tokens", "count", "Tokens that models wrote, reasoning included.", default=0, since=9),
    Column("cost_usd", "amount", "Cost in US dollars as far as it is known; null is not known.", since=9),
    Column("model_calls", "count", "Number of calls of models.", default=0, since=9),
    Column("tool_calls", "count", "Number of calls of tools.", default=0, since=9),
    Column("labels", "json", "Labels: an object of texts, from `agent.label.*`.", since=9),
    Column(
        "plumbing",
        "flag",
        "Whether the run is a root span of an agent's program that does no agent's work.",
        settable=False,
        filterable=True,
        default=0,
        since=9,
    ),
)
"""Every column of a run, in the order of the database and of `RunRecord`."""

COLUMNS: Final = tuple(column.name for column in TABLE)
KIND_OF: Final[Mapping[str, Kind]] = {column.name: column.kind for column in TABLE}


def _of_kind(*kinds: Kind) -> frozenset[str]:
    """Return the names of the columns that hold one of these kinds."""
    return frozenset(column.name for column in TABLE if column.kind in kinds)


TIME_COLUMNS: Final = _of_kind("time")
COUNT_COLUMNS: Final = _of_kind("count")
INTEGER_COLUMNS: Final = _of_kind("count", "number", "flag")
JSON_COLUMNS: Final = _of_kind("json")
AMOUNT_COLUMNS: Final = _of_kind("amount")
FLAG_COLUMNS: Final = _of_kind("flag")
LATER_COLUMNS: Final = frozenset(column.name for column in TABLE if column.since > 8)  # noqa: PLR2004 - the first one
"""Columns whose names were fields of the application's own in version 8."""
MAY_MISFIT: Final = LATER_COLUMNS - COUNT_COLUMNS - AMOUNT_COLUMNS
"""Those of them for which a service's body may hold any value: what does not fit is kept in `context_json`."""
REQUIRED_COLUMNS: Final = tuple(column.name for column in TABLE if column.required)
FALLBACKS: Final[Mapping[str, tuple[str, ...]]] = {
    "created_at": ("start_time",),
    "updated_at": ("created_at", "start_time"),
}
"""Required columns that a sparse state may leave out → the columns whose value they take, the first that has one."""
SETTABLE_COLUMNS: Final = frozenset(column.name for column in TABLE if column.settable)
"""The columns that a caller may set by name; the library observes the rest."""
PATCHABLE_COLUMNS: Final = frozenset(column.name for column in TABLE if column.patchable)
FILTERABLE_COLUMNS: Final = tuple(column.name for column in TABLE if column.filterable)
LISTED_COLUMNS: Final = tuple(column.name for column in TABLE if column.listed)
HEX_DIGITS: Final = {column.name: column.max_length for column in TABLE if column.kind == "hex"}
"""Columns that hold an id of OpenTelemetry → its number of hex digits."""

COMMIT_COLUMNS: Final = ("git_commit_hash", "git_commit_source", "git_commit_author", "git_commit_timestamp")
"""The columns of a commit association, in the order in which two of them are compared."""
POSTING_COLUMNS: Final = ("api_posted", "api_posted_at", "api_retry_count")
"""The columns of the webhook's delivery, which only grow."""
TOTAL_COLUMNS: Final[tuple[str, ...]] = (
    "model",
    "input_tokens",
    "output_tokens",
    "cost_usd",
    "model_calls",
    "tool_calls",
)
"""The columns that repeat what `metrics_json` holds under `gen_ai` (`run_totals`)."""
OBSERVED_BY_STORE: Final = frozenset({*TOTAL_COLUMNS, "received_at", "plumbing"})
"""Columns that the place which stores a run decides: no part of the order of its states."""
