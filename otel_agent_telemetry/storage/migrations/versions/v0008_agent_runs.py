# ruff: noqa: INP001 - loaded by Alembic from its folder, never imported
"""Schema version 8: created, or rebuilt from a database of version 7.

The tables are written out here as they are in version 8, whatever `storage.tables` becomes.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from alembic.config import Config

from otel_agent_telemetry.storage.version_7 import copy_runs, drop_indexes, set_aside
from otel_agent_telemetry.storage.version_7_tables import carry_commits, carry_events, lost_objects

revision = "0008"
down_revision = None
branch_labels = None
depends_on = None

_OWN_TABLES = {"agent_runs", "run_events", "run_spans", "commits", "run_counts", "run_hours"}
_CARRIED = {"commits": carry_commits, "run_events": carry_events}
"""Tables whose rows are copied from the old ones."""
_TEXT_BEFORE_COUNTS = (
    *("trigger_type", "product", "product_family", "platform", "subdomain", "website", "website_section"),
    "item_name",
)
_COUNTS = ("items_discovered", "items_succeeded", "items_failed", "items_skipped", "duration_ms")
_TEXT_AFTER_COUNTS = (
    *("input_summary", "output_summary", "source_ref", "target_ref", "error_summary", "error_details"),
    *("git_repo", "git_branch", "git_commit_hash", "git_run_tag", "git_commit_source", "git_commit_author"),
    *("git_commit_timestamp", "host", "environment", "metrics_json", "context_json"),
)
_TEXT_AT_THE_END = ("insight_id", "parent_run_id", "trace_id", "span_id", "service_name")


def upgrade() -> None:
    """Create the tables that are missing; keep every run of a version 7 database."""
    connection = op.get_bind()
    older = set(sa.inspect(connection).get_table_names()) & _OWN_TABLES
    notes: list[str] = []
    if "agent_runs" in older:
        notes += filter(None, [lost_objects(connection), *_rebuild_runs(connection)])
    else:
        _create_runs("agent_runs")
    _index_runs()
    for name in sorted(older - {"agent_runs"}):
        set_aside(connection, name)
        if name not in _CARRIED:
            notes.append(f"the table {name} was set aside as it was, as {name}_version_7")
    _create_commits()
    _create_events()
    _create_spans()
    _create_counts()
    notes += [carry(connection) for name, carry in _CARRIED.items() if name in older]
    (op.get_context().config or Config()).attributes.setdefault("notes", []).extend(notes)


def _rebuild_runs(connection: sa.Connection) -> list[str]:
    """Copy the runs into a new table and rename it to `agent_runs`; views that name the table stay valid.

    Returns notes about what is not as it was.
    """
    op.execute("PRAGMA legacy_alter_table=ON")
    drop_indexes(connection, "agent_runs")
    _create_runs("agent_runs_8")
    op.create_index("ux_agent_runs_8_event_id", "agent_runs_8", ["event_id"], unique=True)
    notes = copy_runs(connection, "agent_runs_8")
    op.drop_table("agent_runs")
    op.rename_table("agent_runs_8", "agent_runs")
    op.drop_index("ux_agent_runs_8_event_id", "agent_runs")
    op.execute("PRAGMA legacy_alter_table=OFF")
    return notes


def _create_runs(name: str) -> None:
    op.create_table(
        name,
        _id(),
        _required("event_id"),
        _required("run_id"),
        _number("schema_version", sa.Integer()),
        *map(_required, ("created_at", "updated_at", "start_time")),
        sa.Column("end_time", sa.Text()),
        _required("agent_name"),
        sa.Column("agent_owner", sa.Text()),
        _required("job_type"),
        _required("status"),
        *map(_optional, _TEXT_BEFORE_COUNTS),
        *(_number(count, sa.BigInteger()) for count in _COUNTS),
        *map(_optional, _TEXT_AFTER_COUNTS),
        _number("api_posted", sa.Integer()),
        sa.Column("api_posted_at", sa.Text()),
        _number("api_retry_count", sa.BigInteger()),
        *map(_optional, _TEXT_AT_THE_END),
    )


def _index_runs() -> None:
    running, child = sa.text("status = 'running'"), sa.text("parent_run_id IS NOT NULL")
    op.create_index("ux_agent_runs_event_id", "agent_runs", ["event_id"], unique=True)
    op.create_index("ix_agent_runs_run_id", "agent_runs", ["run_id"])
    op.create_index("ix_agent_runs_created_at", "agent_runs", ["created_at", "id"])
    op.create_index(
        "ix_agent_runs_running", "agent_runs", ["created_at"], sqlite_where=running, postgresql_where=running
    )
    op.create_index(
        "ix_agent_runs_parent_run_id",
        "agent_runs",
        ["parent_run_id"],
        sqlite_where=child,
        postgresql_where=child,
    )


def _create_commits() -> None:
    op.create_table(
        "commits",
        sa.Column("commit_hash", sa.Text(), primary_key=True),
        sa.Column("run_id", sa.Text(), primary_key=True),
        _required("commit_source"),
        *map(_optional, ("commit_author", "commit_timestamp")),
        _required("associated_at"),
    )
    op.create_index("ix_commits_run_id", "commits", ["run_id"])


def _create_events() -> None:
    op.create_table(
        "run_events",
        _id(),
        *map(_required, ("event_id", "run_id", "event_type", "timestamp")),
        *map(_optional, ("payload_json", "trace_id")),
        sa.Column("span_id", sa.Text(), nullable=False, server_default=sa.text("''")),
        sa.Column("seq", sa.Integer(), nullable=False),
    )
    op.create_index("ux_run_events_place", "run_events", ["event_id", "span_id", "seq"], unique=True)


def _create_spans() -> None:
    op.create_table(
        "run_spans",
        _id(),
        *map(_required, ("event_id", "run_id", "trace_id", "span_id")),
        _optional("parent_span_id"),
        *map(_required, ("name", "kind", "status")),
        _optional("status_message"),
        _required("start_time"),
        _optional("end_time"),
        _number("duration_ms", sa.BigInteger()),
        _optional("attributes_json"),
    )
    op.create_index("ux_run_spans_span", "run_spans", ["trace_id", "span_id"], unique=True)
    op.create_index("ix_run_spans_event_id", "run_spans", ["event_id"])


def _create_counts() -> None:
    """Create two tables of counts, and on SQLite fill them and add the trigger that counts deletions."""
    op.create_table(
        "run_counts",
        *(sa.Column(name, sa.Text(), primary_key=True) for name in ("agent_name", "job_type", "status")),
        sa.Column("runs", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "run_hours",
        sa.Column("hour", sa.Text(), primary_key=True),
        sa.Column("runs", sa.BigInteger(), nullable=False),
    )
    if op.get_bind().dialect.name != "sqlite":
        return
    op.execute(
        "INSERT INTO run_counts"
        " SELECT agent_name, job_type, status, count(*) FROM agent_runs GROUP BY agent_name, job_type, status"
    )
    op.execute("INSERT INTO run_hours SELECT substr(created_at, 1, 13), count(*) FROM agent_runs GROUP BY 1")
    op.execute("""
        CREATE TRIGGER agent_runs_deleted AFTER DELETE ON agent_runs BEGIN
            UPDATE run_counts SET runs = runs - 1 WHERE agent_name = old.agent_name
                AND job_type = old.job_type AND status = old.status;
            UPDATE run_hours SET runs = runs - 1 WHERE hour = substr(old.created_at, 1, 13);
        END""")


def _id() -> sa.Column[int]:
    return sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True)


def _required(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False)


def _optional(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text())


def _number(name: str, kind: sa.types.TypeEngine[int]) -> sa.Column[int]:
    return sa.Column(name, kind, nullable=False, server_default=sa.text("0"))
