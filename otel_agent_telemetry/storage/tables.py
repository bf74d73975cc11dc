"""The tables of schema version 9, as the code writes and reads them.

`migrations/versions` holds the frozen statements that create a database; a test compares the
two. The columns of `agent_runs` are `id` and those of `columns.TABLE`, in that order. There are
no foreign keys: events and commits may arrive before their run. Each index costs every
insert, so there are only those that a read needs.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    Table,
    Text,
    and_,
    literal_column,
    text,
)
from sqlalchemy.types import TypeEngine

from otel_agent_telemetry.columns import TABLE
from otel_agent_telemetry.columns import Column as RunColumn
from otel_agent_telemetry.storage import alert_tables  # noqa: F401 - its tables belong to the metadata, too
from otel_agent_telemetry.storage.table_parts import ROW_ID, metadata, partial_index

UNKNOWN_START: Final = -1
"""`start_ns` of a span that an earlier version has stored, to the microsecond of `start_time` only."""
_NO_START: Final = text(str(UNKNOWN_START))
NO_WRITER: Final = ""
"""`writer` of an event or step that came over OTLP, and not as a line of a journal."""
LOG_WRITER: Final = "logs"
"""`writer` of an event that came as a log record of a coding agent (`storage.turn_records`)."""

_INTEGERS: Final[dict[str, type[TypeEngine[int]]]] = {"count": BigInteger, "number": Integer, "flag": Integer}
_TEXT_OR_AMOUNT: Final[dict[str, type[TypeEngine[Any]]]] = {"amount": Double}


def _run_column(column: RunColumn) -> Column[Any]:
    """Return the column of `agent_runs` for a row of the table of columns."""
    if column.kind in _INTEGERS:
        return Column(column.name, _INTEGERS[column.kind], nullable=False, server_default=text("0"))
    return Column(column.name, _TEXT_OR_AMOUNT.get(column.kind, Text), nullable=column.nullable)


agent_runs: Final = Table("agent_runs", metadata, Column("id", ROW_ID, primary_key=True), *map(_run_column, TABLE))
"""A row is a run in its latest state. `id` is the order of arrival in this database, not part of the run."""
Index("ux_agent_runs_event_id", agent_runs.c.event_id, unique=True)
# Not unique: an application may use one `run_id` for several runs.
Index("ix_agent_runs_run_id", agent_runs.c.run_id)
# The order of lists and of their pages; `id` decides between runs of one microsecond.
Index("ix_agent_runs_created_at", agent_runs.c.created_at, agent_runs.c.id)
_IS_RUNNING: Final = text("status = 'running'")
partial_index("ix_agent_runs_running", agent_runs.c.created_at, where=_IS_RUNNING)
Index("ix_agent_runs_start_time", agent_runs.c.start_time)
# Without it `runs --status failed` that matches nothing would read the whole table.
_NOT_SUCCEEDED: Final = text("status <> 'running' AND status <> 'success'")
partial_index(
    "ix_agent_runs_not_succeeded", agent_runs.c.status, agent_runs.c.created_at, agent_runs.c.id, where=_NOT_SUCCEEDED
)
# The list of one agent's runs, which may all be old.
Index("ix_agent_runs_agent_name", agent_runs.c.agent_name, agent_runs.c.created_at, agent_runs.c.id)
# Spans over OTLP name their run by these ids.
_HAS_TRACE: Final = text("trace_id IS NOT NULL")
partial_index("ix_agent_runs_trace_id", agent_runs.c.trace_id, agent_runs.c.span_id, where=_HAS_TRACE)
# The runs inside a run: its tree, and the sum of their tokens and cost.
_HAS_PARENT: Final = text("parent_run_id IS NOT NULL")
partial_index("ix_agent_runs_parent_run_id", agent_runs.c.parent_run_id, where=_HAS_PARENT)

for _name in ("session_id", "user_id", "change_id"):
    _is_known = text(f"{_name} IS NOT NULL")
    partial_index(
        f"ix_agent_runs_{_name}", agent_runs.c[_name], agent_runs.c.created_at, agent_runs.c.id, where=_is_known
    )
# Lists hide plumbing and show how much of it there is: the count reads this index alone.
_IS_PLUMBING: Final = text("plumbing = 1")
partial_index(
    "ix_agent_runs_plumbing",
    agent_runs.c.created_at,
    agent_runs.c.agent_name,
    agent_runs.c.job_type,
    agent_runs.c.status,
    where=_IS_PLUMBING,
)

commits: Final = Table(
    "commits",
    metadata,
    Column("commit_hash", Text, primary_key=True),
    Column("run_id", Text, primary_key=True),
    Column("commit_source", Text, nullable=False),
    Column("commit_author", Text),
    Column("commit_timestamp", Text),
    Column("associated_at", Text, nullable=False),
)
"""A row associates a commit with a run; a run may have made several, and a commit may be the work of several runs."""
Index("ix_commits_run_id", commits.c.run_id)
# A run can also be stored with its commit, without an association.
_HAS_COMMIT: Final = text("git_commit_hash IS NOT NULL")
partial_index("ix_agent_runs_git_commit_hash", agent_runs.c.git_commit_hash, where=_HAS_COMMIT)

run_events: Final = Table(
    "run_events",
    metadata,
    Column("id", ROW_ID, primary_key=True),
    Column("event_id", Text, nullable=False),
    Column("run_id", Text, nullable=False),
    Column("event_type", Text, nullable=False),
    Column("timestamp", Text, nullable=False),
    Column("payload_json", Text),
    Column("trace_id", Text),
    Column("span_id", Text, nullable=False, server_default=text("''")),
    Column("seq", Integer, nullable=False),
    Column("span_start_ns", BigInteger, nullable=False, server_default=_NO_START),
    Column("writer", Text, nullable=False, server_default=text("''")),
    Column("writer_seq", BigInteger, nullable=False, server_default=text("0")),
)
"""A row is an event of a run.

It came over OTLP, and `seq` is its number within its span; or as the line `writer_seq` that
`writer` wrote to its journal. `payload_json` holds its attributes as an object. `run_id` is
repeated from the run so that readers need no join.
"""
HAS_NO_LINE: Final = run_events.c.writer == literal_column("''")
HAS_LINE: Final = run_events.c.writer != literal_column("''")
# An exporter that repeats a request must not store its events twice. Equal span ids of two runs
# (an application that seeds `random`) differ in when the span began.
partial_index(
    "ux_run_events_place",
    run_events.c.trace_id,
    run_events.c.span_id,
    run_events.c.span_start_ns,
    run_events.c.seq,
    unique=True,
    where=HAS_NO_LINE,
)
partial_index("ux_run_events_line", run_events.c.writer, run_events.c.writer_seq, unique=True, where=HAS_LINE)
Index("ix_run_events_event_id", run_events.c.event_id)
IS_LOG: Final = and_(run_events.c.seq < literal_column("0"), HAS_NO_LINE)
"""Of an event that came as a log record (`storage.run_logs`)."""
partial_index("ix_run_events_log", run_events.c.trace_id, where=IS_LOG)
# By both: by `event_id` alone, which is empty, SQLite would read every event that waits.
partial_index("ix_run_events_log_run", run_events.c.event_id, run_events.c.run_id, where=IS_LOG)

run_spans: Final = Table(
    "run_spans",
    metadata,
    Column("id", ROW_ID, primary_key=True),
    Column("event_id", Text, nullable=False),
    Column("run_id", Text, nullable=False),
    Column("trace_id", Text, nullable=False),
    Column("span_id", Text, nullable=False),
    Column("parent_span_id", Text),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("status_message", Text),
    Column("start_time", Text, nullable=False),
    Column("end_time", Text),
    Column("duration_ms", BigInteger, nullable=False, server_default=text("0")),
    Column("attributes_json", Text),
    Column("is_run", Integer, nullable=False, server_default=text("0")),
    Column("usage_json", Text),
    Column("start_ns", BigInteger, nullable=False, server_default=_NO_START),
    Column("parent_start", Text),
    Column("writer", Text, nullable=False, server_default=text("''")),
    Column("writer_seq", BigInteger, nullable=False, server_default=text("0")),
)
"""A row is a step of a run: a span below its root, or the root itself (`is_run` = 1).

`event_id` is that of the nearest run above it, and may change when an agent's span arrives
between them. `usage_json` holds tokens, model and cost of this span alone. `parent_start` is
when the parent span began, where its sender sent both together. `writer` and `writer_seq` name
the last line of a step that came from a journal.
"""
# A span repeated by an exporter is the same row; ids that an application seeds differ in the start.
Index("ux_run_spans_span", run_spans.c.trace_id, run_spans.c.span_id, run_spans.c.start_ns, unique=True)
STEP_HAS_NO_LINE: Final = run_spans.c.writer == literal_column("''")
STEP_HAS_LINE: Final = run_spans.c.writer != literal_column("''")
partial_index(
    # Not unique: a step has two lines, and one row that holds the number of the last.
    "ix_run_spans_line",
    run_spans.c.writer,
    run_spans.c.writer_seq,
    where=STEP_HAS_LINE,
)
Index("ix_run_spans_event_id", run_spans.c.event_id, run_spans.c.trace_id, run_spans.c.parent_span_id)

run_rollups: Final = Table(
    "run_rollups",
    metadata,
    Column("event_id", Text, primary_key=True),
    Column("parent_run_id", Text),
    Column("usage_json", Text, nullable=False),
    Column("metrics_json", Text),
)
"""A row holds the sums of the steps that arrived over OTLP for a run, which may not have arrived itself."""
partial_index("ix_run_rollups_parent_run_id", run_rollups.c.parent_run_id, where=_HAS_PARENT)

run_keys: Final = Table(
    "run_keys",
    metadata,
    Column("run_key", Text, primary_key=True),
    Column("event_id", Text, nullable=False),
)
"""A row maps the ids of a root span that never arrived to the run that stands in its place, and that it joins later."""
Index("ix_run_keys_event_id", run_keys.c.event_id)

_ZERO: Final = text("0")
deliverers: Final = Table(
    "deliverers",
    metadata,
    Column("host", Text, primary_key=True),
    Column("base_dir", Text, primary_key=True),
    Column("version", Text, nullable=False),
    Column("first_seen", Text, nullable=False),
    Column("last_seen", Text, nullable=False),
    Column("oldest_unsent", Text),
    Column("backlog_records", BigInteger, nullable=False, server_default=_ZERO),
    Column("backlog_bytes", BigInteger, nullable=False, server_default=_ZERO),
    Column("open_runs", BigInteger, nullable=False, server_default=_ZERO),
    Column("rejected", BigInteger, nullable=False, server_default=_ZERO),
    Column("lost", BigInteger, nullable=False, server_default=_ZERO),
)
"""A row is a base directory on a host whose journal is delivered here, as its last request described it.

`oldest_unsent` is when the oldest record that waits was written, None when none does. `rejected`
and `lost` count records since that base directory began. `last_seen` is this service's time.
"""

log_senders: Final = Table(
    "log_senders",
    metadata,
    Column("sender", Text, primary_key=True),
    Column("records", BigInteger, nullable=False),
    Column("last_seen", Text, nullable=False),
)
"""A row is a `service.name` and how many of its log records named no run, and so were not kept."""

session_metrics: Final = Table(
    "session_metrics",
    metadata,
    Column("series", Text, primary_key=True),
    Column("start_ns", BigInteger, primary_key=True, autoincrement=False),
    Column("point_ns", BigInteger, primary_key=True, autoincrement=False),
    Column("time", Text, nullable=False),
    Column("sender", Text, nullable=False),
    Column("session_id", Text, nullable=False),
    Column("figure", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("value", Double, nullable=False),
)
"""A row is what a coding agent's metric counted of a session (`storage.session_metrics`).

`series` is a digest of its sender, session, name and attributes. Of a metric that is sent as the change since
the last time (delta) each data point is a row, `point_ns` its time. Of a cumulative one the last since `start_ns`
is, and `point_ns` is 0. `time` is the time of the data point.
"""
Index("ix_session_metrics_session", session_metrics.c.session_id, session_metrics.c.sender)
Index("ix_session_metrics_time", session_metrics.c.time)

store_facts: Final = Table(
    "store_facts", metadata, Column("name", Text, primary_key=True), Column("value", Text, nullable=False)
)
"""A row is something that this database knows of itself: `store_id`, which a deliverer's cursor belongs to."""

deleted_runs: Final = Table(
    "deleted_runs",
    metadata,
    Column("event_id", Text, primary_key=True),
    Column("run_id", Text, nullable=False),
    Column("deleted_at", Text, nullable=False),
    Column("deleted_by", Text, nullable=False),
    Column("trace_id", Text),
)
"""A row is the receipt of a deleted run, of which no state is stored again; `trace_id` where all of its trace is."""
partial_index("ix_deleted_runs_trace_id", deleted_runs.c.trace_id, where=_HAS_TRACE)

retention_cutoffs: Final = Table(
    "retention_cutoffs",
    metadata,
    Column("record_type", Text, primary_key=True),
    Column("cutoff", Text, nullable=False),
    Column("applied_at", Text, nullable=False),
)
"""A row is the latest cut-off of `retention` for records of one type: `run`, or `event` for events and steps."""

run_services: Final = Table("run_services", metadata, Column("service_name", Text, primary_key=True))
"""A row is a `service.name` that has sent agents' work; idle root spans of such a service are plumbing."""

run_counts: Final = Table(
    "run_counts",
    metadata,
    Column("agent_name", Text, primary_key=True),
    Column("job_type", Text, primary_key=True),
    Column("status", Text, primary_key=True),
    Column("runs", BigInteger, nullable=False),
)
"""A row is a kind of run and how many there are; `storage.counts` keeps both tables."""

run_hours: Final = Table(
    "run_hours",
    metadata,
    Column("hour", Text, primary_key=True),
    Column("runs", BigInteger, nullable=False),
)
"""A row is an hour of `created_at`, `2026-01-31T23`, and how many runs it has."""

changed_hours: Final = Table(
    "changed_hours",
    metadata,
    Column("hour", Text, primary_key=True),
    Column("change", BigInteger, nullable=False),
)
"""A row is an hour of `created_at` whose runs have changed since their figures were summed (`storage.figures`)."""


def _periods(name: str, *keys: str, sums: tuple[str, ...]) -> Table:
    """Return a table of sums, one row for each key; on SQLite the rows lie in the order of the key."""
    numbers = {"from_ms", "call_size"}
    key_columns = (
        Column(key, BigInteger if key in numbers else Text, primary_key=True, autoincrement=False) for key in keys
    )
    sum_columns = (Column(one, BigInteger, nullable=False) for one in sums)
    return Table(name, metadata, *key_columns, *sum_columns, sqlite_with_rowid=False)


_BY_STATUS: Final = ("running", "success", "failed", "partial", "timeout", "cancelled")
agent_periods: Final = _periods("agent_periods", "period", "agent_name", sums=(*_BY_STATUS, "ended", "duration_ms"))
"""A row is the runs of an agent in an hour or a day: by status, and the durations of those that ended."""
duration_periods: Final = _periods("duration_periods", "agent_name", "period", "from_ms", sums=("runs",))
"""A row is a class of durations (`storage.durations`) of an agent in a period."""
Index("ix_duration_periods_period", duration_periods.c.period)
_USED: Final = ("calls", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
_USAGE_KEY: Final = ("dimension", "period", "name", "model", "provider", "priced_by", "call_size")
usage_periods: Final = _periods("usage_periods", *_USAGE_KEY, sums=("runs", *_USED, "cost_nusd"))
"""A row is what runs used of a model in a period, see `storage.usage_sums`."""
_DONE: Final = ("tool_calls", "step_errors", "tool_decisions", "rejected_tools")
work_periods: Final = _periods(
    "work_periods", "dimension", "period", "name", sums=("runs", "ended", "failed", "duration_ms", *_DONE)
)
"""A row is what the runs under a name of a dimension did in a period, see `storage.work_sums`."""
IS_SESSION: Final = usage_periods.c.dimension == literal_column("'session'")
for _name, *_columns in (("session", "name", "period"), ("most", "period", "input_tokens", "name")):
    _indexed = [usage_periods.c[column] for column in _columns]
    Index(f"ix_usage_periods_{_name}", *_indexed, sqlite_where=IS_SESSION, postgresql_where=IS_SESSION)
_is_session: Final = work_periods.c.dimension == literal_column("'session'")
partial_index("ix_work_periods_session", work_periods.c.name, work_periods.c.period, where=_is_session)
