"""What a new SQLite file of this version holds, as SQL: made from the migrations, kept here frozen.

A recording process makes its file from this, without Alembic; a test holds the two together.
Written by `tests/storage/freeze_ddl.py`, not by hand.
"""

from __future__ import annotations

from typing import Final

KNOWN_REVISIONS: Final = (
    "0008",
    "0009",
    "0010",
    "0011",
    "0012",
    "0013",
    "0014",
    "0015",
    "0016",
    "0017",
    "0018",
    "0019",
    "0020",
    "0021",
    "0022",
    "0023",
)
"""Every revision of the schema, oldest first."""
HEAD_REVISION: Final = KNOWN_REVISIONS[-1]
STATEMENTS: Final = """
CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY
(version_num))

CREATE TABLE agent_runs (id INTEGER NOT NULL, event_id TEXT NOT NULL, run_id TEXT NOT NULL, schema_version INTEGER
DEFAULT 0 NOT NULL, created_at TEXT NOT NULL, updated_at TEXT NOT NULL, start_time TEXT NOT NULL, end_time TEXT,
agent_name TEXT NOT NULL, agent_owner TEXT, job_type TEXT NOT NULL, status TEXT NOT NULL, trigger_type TEXT, product
TEXT, product_family TEXT, platform TEXT, subdomain TEXT, website TEXT, website_section TEXT, item_name TEXT,
items_discovered BIGINT DEFAULT 0 NOT NULL, items_succeeded BIGINT DEFAULT 0 NOT NULL, items_failed BIGINT DEFAULT 0
NOT NULL, items_skipped BIGINT DEFAULT 0 NOT NULL, duration_ms BIGINT DEFAULT 0 NOT NULL, input_summary TEXT,
output_summary TEXT, source_ref TEXT, target_ref TEXT, error_summary TEXT, error_details TEXT, git_repo TEXT,
git_branch TEXT, git_commit_hash TEXT, git_run_tag TEXT, git_commit_source TEXT, git_commit_author TEXT,
git_commit_timestamp TEXT, host TEXT, environment TEXT, metrics_json TEXT, context_json TEXT, api_posted INTEGER
DEFAULT 0 NOT NULL, api_posted_at TEXT, api_retry_count BIGINT DEFAULT 0 NOT NULL, insight_id TEXT, parent_run_id
TEXT, trace_id TEXT, span_id TEXT, service_name TEXT, received_at TEXT, session_id TEXT, user_id TEXT, agent_version
TEXT, change_id TEXT, pipeline_url TEXT, start_commit TEXT, model TEXT, input_tokens BIGINT DEFAULT 0 NOT NULL,
output_tokens BIGINT DEFAULT 0 NOT NULL, cost_usd DOUBLE, model_calls BIGINT DEFAULT 0 NOT NULL, tool_calls BIGINT
DEFAULT 0 NOT NULL, labels TEXT, plumbing INTEGER DEFAULT 0 NOT NULL, PRIMARY KEY (id))

CREATE UNIQUE INDEX ux_agent_runs_event_id ON agent_runs (event_id)

CREATE INDEX ix_agent_runs_run_id ON agent_runs (run_id)

CREATE INDEX ix_agent_runs_created_at ON agent_runs (created_at, id)

CREATE INDEX ix_agent_runs_running ON agent_runs (created_at) WHERE status = 'running'

CREATE INDEX ix_agent_runs_parent_run_id ON agent_runs (parent_run_id) WHERE parent_run_id IS NOT NULL

CREATE TABLE commits (commit_hash TEXT NOT NULL, run_id TEXT NOT NULL, commit_source TEXT NOT NULL, commit_author
TEXT, commit_timestamp TEXT, associated_at TEXT NOT NULL, PRIMARY KEY (commit_hash, run_id))

CREATE INDEX ix_commits_run_id ON commits (run_id)

CREATE TABLE run_events (id INTEGER NOT NULL, event_id TEXT NOT NULL, run_id TEXT NOT NULL, event_type TEXT NOT
NULL, timestamp TEXT NOT NULL, payload_json TEXT, trace_id TEXT, span_id TEXT DEFAULT '' NOT NULL, seq INTEGER NOT
NULL, span_start_ns BIGINT DEFAULT (-1) NOT NULL, writer TEXT DEFAULT '' NOT NULL, writer_seq BIGINT DEFAULT 0 NOT
NULL, PRIMARY KEY (id))

CREATE TABLE run_spans (id INTEGER NOT NULL, event_id TEXT NOT NULL, run_id TEXT NOT NULL, trace_id TEXT NOT NULL,
span_id TEXT NOT NULL, parent_span_id TEXT, name TEXT NOT NULL, kind TEXT NOT NULL, status TEXT NOT NULL,
status_message TEXT, start_time TEXT NOT NULL, end_time TEXT, duration_ms BIGINT DEFAULT 0 NOT NULL, attributes_json
TEXT, is_run INTEGER DEFAULT 0 NOT NULL, usage_json TEXT, start_ns BIGINT DEFAULT (-1) NOT NULL, parent_start TEXT,
writer TEXT DEFAULT '' NOT NULL, writer_seq BIGINT DEFAULT 0 NOT NULL, PRIMARY KEY (id))

CREATE TABLE run_counts (agent_name TEXT NOT NULL, job_type TEXT NOT NULL, status TEXT NOT NULL, runs BIGINT NOT
NULL, PRIMARY KEY (agent_name, job_type, status))

CREATE TABLE run_hours (hour TEXT NOT NULL, runs BIGINT NOT NULL, PRIMARY KEY (hour))

CREATE TRIGGER agent_runs_deleted AFTER DELETE ON agent_runs BEGIN UPDATE run_counts SET runs = runs - 1 WHERE
agent_name = old.agent_name AND job_type = old.job_type AND status = old.status; UPDATE run_hours SET runs = runs -
1 WHERE hour = substr(old.created_at, 1, 13); END

CREATE INDEX ix_run_spans_event_id ON run_spans (event_id, trace_id, parent_span_id)

CREATE INDEX ix_run_events_event_id ON run_events (event_id)

CREATE TABLE run_rollups (event_id TEXT NOT NULL, parent_run_id TEXT, usage_json TEXT NOT NULL, metrics_json TEXT,
PRIMARY KEY (event_id))

CREATE INDEX ix_run_rollups_parent_run_id ON run_rollups (parent_run_id) WHERE parent_run_id IS NOT NULL

CREATE UNIQUE INDEX ux_run_spans_span ON run_spans (trace_id, span_id, start_ns)

CREATE INDEX ix_agent_runs_trace_id ON agent_runs (trace_id, span_id) WHERE trace_id IS NOT NULL

CREATE INDEX ix_agent_runs_start_time ON agent_runs (start_time)

CREATE INDEX ix_agent_runs_not_succeeded ON agent_runs (status, created_at, id) WHERE status <> 'running' AND status
<> 'success'

CREATE INDEX ix_agent_runs_session_id ON agent_runs (session_id, created_at, id) WHERE session_id IS NOT NULL

CREATE INDEX ix_agent_runs_user_id ON agent_runs (user_id, created_at, id) WHERE user_id IS NOT NULL

CREATE INDEX ix_agent_runs_change_id ON agent_runs (change_id, created_at, id) WHERE change_id IS NOT NULL

CREATE INDEX ix_agent_runs_plumbing ON agent_runs (created_at, agent_name, job_type, status) WHERE plumbing = 1

CREATE VIEW run_totals AS SELECT a.event_id, a.run_id, coalesce(a.parent_run_id, r.parent_run_id) AS parent_run_id,
a.agent_name, a.job_type, a.status, a.created_at, a.model, a.input_tokens, a.output_tokens, a.cost_usd,
a.model_calls, a.tool_calls, coalesce(r.metrics_json, a.metrics_json) AS metrics_json FROM agent_runs a LEFT JOIN
run_rollups r ON r.event_id = a.event_id

CREATE TABLE run_keys (run_key TEXT NOT NULL, event_id TEXT NOT NULL, PRIMARY KEY (run_key))

CREATE INDEX ix_run_keys_event_id ON run_keys (event_id)

CREATE TABLE run_services (service_name TEXT NOT NULL, PRIMARY KEY (service_name))

CREATE UNIQUE INDEX ux_run_events_place ON run_events (trace_id, span_id, span_start_ns, seq) WHERE writer = ''

CREATE UNIQUE INDEX ux_run_events_line ON run_events (writer, writer_seq) WHERE writer <> ''

CREATE INDEX ix_run_spans_line ON run_spans (writer, writer_seq) WHERE writer <> ''

CREATE TABLE deliverers (host TEXT NOT NULL, base_dir TEXT NOT NULL, version TEXT NOT NULL, first_seen TEXT NOT
NULL, last_seen TEXT NOT NULL, oldest_unsent TEXT, backlog_records BIGINT DEFAULT 0 NOT NULL, backlog_bytes BIGINT
DEFAULT 0 NOT NULL, open_runs BIGINT DEFAULT 0 NOT NULL, rejected BIGINT DEFAULT 0 NOT NULL, lost BIGINT DEFAULT 0
NOT NULL, PRIMARY KEY (host, base_dir))

CREATE TABLE store_facts (name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (name))

CREATE TABLE deleted_runs (event_id TEXT NOT NULL, run_id TEXT NOT NULL, deleted_at TEXT NOT NULL, deleted_by TEXT
NOT NULL, trace_id TEXT, PRIMARY KEY (event_id))

CREATE INDEX ix_deleted_runs_trace_id ON deleted_runs (trace_id) WHERE trace_id IS NOT NULL

CREATE TABLE retention_cutoffs (record_type TEXT NOT NULL, cutoff TEXT NOT NULL, applied_at TEXT NOT NULL, PRIMARY
KEY (record_type))

CREATE TABLE changed_hours (hour TEXT NOT NULL, change BIGINT NOT NULL, PRIMARY KEY (hour))

CREATE TABLE agent_periods (period TEXT NOT NULL, agent_name TEXT NOT NULL, running BIGINT NOT NULL, success BIGINT
NOT NULL, failed BIGINT NOT NULL, partial BIGINT NOT NULL, timeout BIGINT NOT NULL, cancelled BIGINT NOT NULL, ended
BIGINT NOT NULL, duration_ms BIGINT NOT NULL, PRIMARY KEY (period, agent_name)) WITHOUT ROWID

CREATE TABLE duration_periods (agent_name TEXT NOT NULL, period TEXT NOT NULL, from_ms BIGINT NOT NULL, runs BIGINT
NOT NULL, PRIMARY KEY (agent_name, period, from_ms)) WITHOUT ROWID

CREATE INDEX ix_duration_periods_period ON duration_periods (period)

CREATE TABLE usage_periods (dimension TEXT NOT NULL, period TEXT NOT NULL, name TEXT NOT NULL, model TEXT NOT NULL,
provider TEXT NOT NULL, priced_by TEXT NOT NULL, call_size BIGINT NOT NULL, runs BIGINT NOT NULL, calls BIGINT NOT
NULL, input_tokens BIGINT NOT NULL, output_tokens BIGINT NOT NULL, cache_read_tokens BIGINT NOT NULL,
cache_write_tokens BIGINT NOT NULL, cost_nusd BIGINT NOT NULL, PRIMARY KEY (dimension, period, name, model,
provider, priced_by, call_size)) WITHOUT ROWID

CREATE INDEX ix_usage_periods_session ON usage_periods (name, period) WHERE dimension = 'session'

CREATE INDEX ix_usage_periods_most ON usage_periods (period, input_tokens, name) WHERE dimension = 'session'

CREATE TRIGGER agent_runs_figures_new AFTER INSERT ON agent_runs BEGIN INSERT INTO changed_hours VALUES
(substr(NEW.created_at, 1, 13), 0) ON CONFLICT (hour) DO UPDATE SET change = change + 1; END

CREATE TRIGGER agent_runs_moved AFTER UPDATE ON agent_runs WHEN OLD.parent_run_id IS NOT NEW.parent_run_id OR
OLD.run_id <> NEW.run_id OR OLD.created_at <> NEW.created_at BEGIN INSERT INTO changed_hours VALUES
(substr(OLD.created_at, 1, 13), 0) ON CONFLICT (hour) DO UPDATE SET change = change + 1; INSERT INTO changed_hours
SELECT substr(created_at, 1, 13), 0 FROM agent_runs WHERE run_id = OLD.parent_run_id ON CONFLICT (hour) DO UPDATE
SET change = change + 1; INSERT INTO changed_hours SELECT substr(created_at, 1, 13), 0 FROM agent_runs WHERE
parent_run_id = OLD.run_id ON CONFLICT (hour) DO UPDATE SET change = change + 1; END

CREATE TRIGGER agent_runs_figures_gone AFTER DELETE ON agent_runs BEGIN INSERT INTO changed_hours VALUES
(substr(OLD.created_at, 1, 13), 0) ON CONFLICT (hour) DO UPDATE SET change = change + 1; INSERT INTO changed_hours
SELECT substr(created_at, 1, 13), 0 FROM agent_runs WHERE run_id = OLD.parent_run_id ON CONFLICT (hour) DO UPDATE
SET change = change + 1; INSERT INTO changed_hours SELECT substr(created_at, 1, 13), 0 FROM agent_runs WHERE
parent_run_id = OLD.run_id ON CONFLICT (hour) DO UPDATE SET change = change + 1; END

CREATE TRIGGER run_rollups_new AFTER INSERT ON run_rollups BEGIN INSERT INTO changed_hours SELECT substr(created_at,
1, 13), 0 FROM agent_runs WHERE event_id = NEW.event_id ON CONFLICT (hour) DO UPDATE SET change = change + 1; END

CREATE TRIGGER run_rollups_other AFTER UPDATE ON run_rollups BEGIN INSERT INTO changed_hours SELECT
substr(created_at, 1, 13), 0 FROM agent_runs WHERE event_id = NEW.event_id ON CONFLICT (hour) DO UPDATE SET change =
change + 1; INSERT INTO changed_hours SELECT substr(created_at, 1, 13), 0 FROM agent_runs WHERE run_id =
OLD.parent_run_id ON CONFLICT (hour) DO UPDATE SET change = change + 1; END

CREATE TRIGGER run_rollups_gone AFTER DELETE ON run_rollups BEGIN INSERT INTO changed_hours SELECT
substr(created_at, 1, 13), 0 FROM agent_runs WHERE event_id = OLD.event_id ON CONFLICT (hour) DO UPDATE SET change =
change + 1; INSERT INTO changed_hours SELECT substr(created_at, 1, 13), 0 FROM agent_runs WHERE run_id =
OLD.parent_run_id ON CONFLICT (hour) DO UPDATE SET change = change + 1; END

CREATE INDEX ix_agent_runs_agent_name ON agent_runs (agent_name, created_at, id)

CREATE INDEX ix_run_events_log ON run_events (trace_id) WHERE seq < 0 AND writer = ''

CREATE INDEX ix_run_events_log_run ON run_events (event_id, run_id) WHERE seq < 0 AND writer = ''

CREATE TABLE log_senders (sender TEXT NOT NULL, records BIGINT NOT NULL, last_seen TEXT NOT NULL, PRIMARY KEY
(sender))

CREATE TABLE session_metrics (series TEXT NOT NULL, start_ns BIGINT NOT NULL, point_ns BIGINT NOT NULL, time TEXT
NOT NULL, sender TEXT NOT NULL, session_id TEXT NOT NULL, figure TEXT NOT NULL, model TEXT NOT NULL, value DOUBLE
NOT NULL, PRIMARY KEY (series, start_ns, point_ns))

CREATE INDEX ix_session_metrics_session ON session_metrics (session_id, sender)

CREATE INDEX ix_session_metrics_time ON session_metrics (time)

CREATE TABLE work_periods (dimension TEXT NOT NULL, period TEXT NOT NULL, name TEXT NOT NULL, runs BIGINT NOT NULL,
ended BIGINT NOT NULL, failed BIGINT NOT NULL, duration_ms BIGINT NOT NULL, tool_calls BIGINT NOT NULL, step_errors
BIGINT NOT NULL, tool_decisions BIGINT NOT NULL, rejected_tools BIGINT NOT NULL, PRIMARY KEY (dimension, period,
name)) WITHOUT ROWID

CREATE INDEX ix_work_periods_session ON work_periods (name, period) WHERE dimension = 'session'

CREATE TRIGGER agent_runs_figures_other AFTER UPDATE OF run_id, created_at, start_time, agent_name, status,
duration_ms, host, session_id, parent_run_id, model, input_tokens, output_tokens, cost_usd, model_calls,
metrics_json, plumbing, user_id, git_repo, labels, tool_calls ON agent_runs BEGIN INSERT INTO changed_hours VALUES
(substr(NEW.created_at, 1, 13), 0) ON CONFLICT (hour) DO UPDATE SET change = change + 1; END

CREATE TABLE alerts (id INTEGER NOT NULL, rule TEXT NOT NULL, subject TEXT NOT NULL, about TEXT NOT NULL, measure
TEXT NOT NULL, value DOUBLE, threshold DOUBLE, opened_at TEXT NOT NULL, calm_since TEXT, resolved_at TEXT, event_id
TEXT, PRIMARY KEY (id))

CREATE UNIQUE INDEX ux_alerts_open ON alerts (rule, subject) WHERE resolved_at IS NULL

CREATE INDEX ix_alerts_subject ON alerts (rule, subject)

CREATE INDEX ix_alerts_opened_at ON alerts (opened_at)

CREATE TABLE alert_notices (alert_id BIGINT NOT NULL, state TEXT NOT NULL, body TEXT NOT NULL, made_at TEXT NOT
NULL, claimed_at TEXT, done_at TEXT, problem TEXT DEFAULT '' NOT NULL, PRIMARY KEY (alert_id, state))

CREATE INDEX ix_alert_notices_waiting ON alert_notices (made_at) WHERE done_at IS NULL

CREATE TABLE turns (turn_id TEXT NOT NULL, stretch TEXT NOT NULL, prompt TEXT DEFAULT '' NOT NULL, begin_ns BIGINT
DEFAULT (-1) NOT NULL, begin_sequence BIGINT DEFAULT (-1) NOT NULL, event_id TEXT NOT NULL, has_root INTEGER DEFAULT
0 NOT NULL, silent_ns BIGINT NOT NULL, is_open INTEGER DEFAULT 1 NOT NULL, base_json TEXT NOT NULL, figures_json
TEXT NOT NULL, state_json TEXT, PRIMARY KEY (turn_id))

CREATE INDEX ix_turns_stretch ON turns (stretch, begin_ns)

CREATE INDEX ix_turns_event_id ON turns (event_id)

CREATE INDEX ix_turns_open ON turns (silent_ns) WHERE is_open = 1

CREATE TABLE turn_records (id INTEGER NOT NULL, identity TEXT NOT NULL, stretch TEXT NOT NULL, turn_id TEXT DEFAULT
'' NOT NULL, own_turn TEXT DEFAULT '' NOT NULL, prompt TEXT DEFAULT '' NOT NULL, time_ns BIGINT NOT NULL, sequence
BIGINT DEFAULT (-1) NOT NULL, silent_ns BIGINT NOT NULL, role TEXT NOT NULL, trace_id TEXT DEFAULT '' NOT NULL,
usage_json TEXT, PRIMARY KEY (id))

CREATE UNIQUE INDEX ux_turn_records_identity ON turn_records (identity)

CREATE INDEX ix_turn_records_turn ON turn_records (turn_id)

CREATE INDEX ix_turn_records_stretch ON turn_records (stretch, time_ns)

CREATE INDEX ix_agent_runs_git_commit_hash ON agent_runs (git_commit_hash) WHERE git_commit_hash IS NOT NULL
""".strip().split("\n\n")
"""In the order in which they are run."""
