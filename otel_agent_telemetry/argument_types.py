"""Types of the arguments that the client takes, for type checkers and editors.

A column that the application may set is a keyword argument of `start_run`, `track_run`,
`end_run` and `set_metrics`; a misspelt one fails the type check. At run time other names are
kept under `context_json`, and a typed caller passes them there: `context_json={"shard": 3}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypedDict

from otel_agent_telemetry.status import EndStatus, RunStatus

TriggerType = Literal[
    "api", "ci", "cli", "cron", "event", "manual", "mcp", "queue", "scheduler", "test", "web", "webhook"
]
"""What started a run. At run time any text is kept."""

CommitSource = Literal["manual", "llm", "ci"]
"""Who associated a commit with a run."""


class RunSettings(TypedDict, total=False):
    """The columns that the application may set by name, at any time in a run. None is "not known"."""

    # --- columns, written by `make columns`
    agent_owner: str | None
    product: str | None
    product_family: str | None
    platform: str | None
    subdomain: str | None
    website: str | None
    website_section: str | None
    item_name: str | None
    items_discovered: int | None
    items_succeeded: int | None
    items_failed: int | None
    items_skipped: int | None
    duration_ms: int | None
    input_summary: str | None
    output_summary: str | None
    source_ref: str | None
    target_ref: str | None
    error_summary: str | None
    error_details: str | None
    git_repo: str | None
    git_branch: str | None
    git_commit_hash: str | None
    git_run_tag: str | None
    git_commit_source: CommitSource | None
    git_commit_author: str | None
    git_commit_timestamp: str | None
    host: str | None
    environment: str | None
    metrics_json: Mapping[str, Any] | str | None
    context_json: Mapping[str, Any] | str | None
    insight_id: str | None
    parent_run_id: str | None
    service_name: str | None
    session_id: str | None
    user_id: str | None
    agent_version: str | None
    change_id: str | None
    pipeline_url: str | None
    model: str | None
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None
    model_calls: int | None
    tool_calls: int | None
    labels: Mapping[str, Any] | str | None
    # --- end of columns


class StartSettings(RunSettings, total=False):
    """Keyword arguments of `start_run` and `track_run`."""

    run_id: str | None
    """A custom run id; default a generated one."""


class EndSettings(RunSettings, total=False):
    """Keyword arguments of `end_run`: these three replace what `start_run` was given."""

    agent_name: str | None
    job_type: str | None
    trigger_type: TriggerType | None


class UpdateSettings(EndSettings, total=False):
    """Keyword arguments of `RunContext.set_metrics`."""

    status: EndStatus
    """The status with which the run ends when its block ends without an exception, such as `partial`."""


__all__ = [
    "CommitSource",
    "EndSettings",
    "EndStatus",
    "RunSettings",
    "RunStatus",
    "StartSettings",
    "TriggerType",
    "UpdateSettings",
]
