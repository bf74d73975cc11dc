"""Runs written over the standard library are those written through SQLAlchemy."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from current_database import make_sqlite_file
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from on_disk import record

from otel_agent_telemetry.columns import COLUMNS
from otel_agent_telemetry.errors import SchemaError
from otel_agent_telemetry.model import CommitLink, RunRecord, later_state
from otel_agent_telemetry.run_state import checked_state, merged_state
from otel_agent_telemetry.storage.rows import row_of
from otel_agent_telemetry.storage.runs import link_commits, upsert_rows
from otel_agent_telemetry.storage.sqlite_file import open_sqlite, transaction
from otel_agent_telemetry.storage.sqlite_runs import write_links, write_states
from otel_agent_telemetry.storage.store import Store
from otel_agent_telemetry.testing import isolated_config

TABLES = {
    "agent_runs": COLUMNS,
    "commits": ("commit_hash", "run_id", "commit_source", "commit_author", "commit_timestamp", "associated_at"),
    "run_counts": ("agent_name", "job_type", "status", "runs"),
    "run_hours": ("hour", "runs"),
    "run_rollups": ("event_id", "parent_run_id", "usage_json"),
}

texts = some.sampled_from([None, "a", "ä", "b\x00c", "x" * 50])


@some.composite
def states(draw):
    """A state of one of three runs, at one of few moments, so that ties and reversals are common."""
    number = draw(some.integers(1, 3))
    moment = draw(some.integers(0, 2))
    posted = draw(some.integers(0, 2))
    more = {
        "agent_name": draw(some.sampled_from(["agent", "other"])),
        "item_name": draw(texts),
        "error_summary": draw(texts),
        "items_failed": draw(some.integers(0, 2)),
        "api_posted": min(posted, 1),
        "api_retry_count": posted,
        "api_posted_at": draw(some.sampled_from([None, record(5).updated_at])),
        "git_commit_hash": draw(some.sampled_from([None, "1234567"])),
        "trace_id": draw(some.sampled_from([None, "0" * 31 + "1"])),
        "created_at": draw(some.sampled_from([record(1).created_at, record(4000).created_at])),
    }
    status = draw(some.sampled_from(["running", "success", "failed"]))
    return replace(record(number, status=status, updated=moment), **more)


links = some.builds(
    CommitLink,
    run_id=some.sampled_from(["run-1", "run-2", "run-9"]),
    commit_hash=some.sampled_from(["abcdef1", "abcdef2"]),
    commit_source=some.sampled_from(["ci", "llm"]),
    commit_author=some.sampled_from([None, "", "A"]),
    associated_at=some.sampled_from([record(1).updated_at, record(2).updated_at]),
)
batches = some.lists(some.tuples(some.lists(states(), max_size=6), some.lists(links, max_size=2)), max_size=5)


def contents(path: Path):
    with closing(sqlite3.connect(path)) as connection:
        return {
            table: sorted(
                connection.execute(f"SELECT {', '.join(columns)} FROM {table}").fetchall(),
                key=repr,
            )
            for table, columns in TABLES.items()
        }


def write_as_with_other_writers(connection, *, records, commits):
    """Write as on PostgreSQL: by upserts whose condition is the order of states. Return the outcomes."""
    outcomes = upsert_rows(connection, [row_of(one) for one in records])
    link_commits(connection, commits)
    return outcomes


def nonzero(rows):
    return [row for row in rows if row[-1]]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(batches)
def test_the_same_rows_as_through_the_store(given_batches):
    """Any states in any order, in any batches, with associations between: runs, commits, counts, outcomes are equal."""
    with TemporaryDirectory() as folder:
        ours, theirs = (isolated_config(Path(folder) / name, db_synchronous="OFF") for name in ("ours", "theirs"))
        make_sqlite_file(theirs)
        store = Store(theirs)
        store.open()
        with closing(open_sqlite(ours)) as connection:
            for records, commits in given_batches:
                expected = store.transact(partial(write_as_with_other_writers, records=records, commits=commits))
                payloads = [asdict(link) for link in commits]
                with transaction(connection):
                    outcomes = write_states(connection, [checked_state(one.to_fields()) for one in records])
                    write_links(connection, [(payload.pop("run_id"), payload) for payload in payloads])
                assert outcomes == expected
        store.close()
        mine, other = contents(ours.db_path), contents(theirs.db_path)
        for table in ("agent_runs", "commits", "run_rollups"):
            assert mine[table] == other[table]
        for table in ("run_counts", "run_hours"):
            assert nonzero(mine[table]) == nonzero(other[table])


@settings(max_examples=100, deadline=None)
@given(some.lists(states().map(lambda state: replace(state, event_id=record(1).event_id)), min_size=1, max_size=6))
def test_states_as_mappings_are_ordered_as_records_are(records):
    """`merged_state` is `later_state`, and `checked_state` keeps what a record keeps."""
    standing, mapped = records[0], checked_state(records[0].to_fields())
    for one in records[1:]:
        standing = later_state(standing, one)
        mapped = merged_state(mapped, checked_state(one.to_fields()))

    assert RunRecord.from_fields(mapped) == standing


def test_many_rows_share_a_statement_and_none_is_lost(tmp_path):
    """Numbers of rows around the size of a statement."""
    config = isolated_config(tmp_path, db_synchronous="OFF")
    written = 0
    with closing(open_sqlite(config)) as connection:
        for count in (1, 15, 16, 17, 33):
            rows = [checked_state(record(written + n).to_fields()) for n in range(count)]
            written += count
            with transaction(connection):
                write_states(connection, rows)
        assert connection.execute("SELECT count(*) FROM agent_runs").fetchone() == (written,)


@pytest.mark.parametrize("statement", ["UPDATE alembic_version SET version_num = '0008'", "DROP TABLE alembic_version"])
def test_a_file_of_an_older_version_is_refused_untouched(tmp_path, statement):
    """A recording process never upgrades: the hint names the commands that do."""
    config = isolated_config(tmp_path)
    open_sqlite(config).close()
    with closing(sqlite3.connect(config.db_path, isolation_level=None)) as connection:
        connection.execute(statement)
    before = config.db_path.read_bytes()

    with pytest.raises(SchemaError, match="older than this version") as raised:
        open_sqlite(config)

    assert "init-db" in raised.value.hint
    assert config.db_path.read_bytes() == before


def test_a_file_of_a_newer_version_or_of_another_application_is_refused_untouched(tmp_path):
    """As the SQLAlchemy side does."""
    for name, statement in (
        ("newer", "UPDATE alembic_version SET version_num = '9999'"),
        ("other", "CREATE TABLE x (y)"),
    ):
        config = isolated_config(tmp_path / name)
        if name == "newer":
            open_sqlite(config).close()
        else:
            config.db_path.parent.mkdir(parents=True)
        with closing(sqlite3.connect(config.db_path, isolation_level=None)) as connection:
            connection.execute(statement)
        before = config.db_path.read_bytes()
        with pytest.raises(SchemaError):
            open_sqlite(config)
        assert config.db_path.read_bytes() == before
