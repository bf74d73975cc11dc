"""Which run a person means: by run id or event id, whole or the beginning of it.

A run as JSON: what `--json` prints, in the shape of the service's answers (contract, "HTTP service").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from otel_agent_telemetry.columns import COLUMNS, JSON_COLUMNS
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.errors import RecordError
from otel_agent_telemetry.journal import journal_files, read_journal
from otel_agent_telemetry.model import RunRecord, later_state
from otel_agent_telemetry.operations.database import reading_database
from otel_agent_telemetry.operations.follow import RunFilter
from otel_agent_telemetry.storage.queries import runs_beginning, runs_named
from otel_agent_telemetry.urls import commit_url, repo_url
from otel_agent_telemetry.wire import RUN

ENOUGH = 6


@dataclass(frozen=True, slots=True)
class Found:
    """What an id led to. One run: `record`; several: `candidates`, newest first, at most six.

    `others` counts older runs of exactly the same run id. `stored` is False when only the
    journal knows the run.
    """

    record: RunRecord | None = None
    candidates: tuple[RunRecord, ...] = ()
    others: int = 0
    stored: bool = True


def find_by_id(config: TelemetryConfig, wanted: str) -> Found:
    """The run with this id, else the only one whose id begins so; the database first, then the journal.

    Of several runs with exactly this run id the newest is meant. Raises StorageError, OSError.
    """
    with reading_database(config) as connection:
        if connection is not None:
            exact = runs_named(connection, wanted, limit=ENOUGH)
            if exact:
                return Found(exact[0], others=len(exact) - 1)
            found = runs_beginning(connection, wanted, limit=ENOUGH)
            if found:
                return one_of(found, stored=True)
    return one_of(_journalled(config, wanted), stored=False)


def one_of(found: list[RunRecord], *, stored: bool) -> Found:
    """The only run found, or what there is to choose from."""
    if len(found) == 1:
        return Found(found[0], stored=stored)
    return Found(candidates=tuple(found), stored=stored)


def _journalled(config: TelemetryConfig, wanted: str) -> list[RunRecord]:
    """Runs that the journal alone knows, by their latest state; exact ids before beginnings."""
    chosen = RunFilter(wanted)
    runs: dict[str, RunRecord] = {}
    for path in journal_files(config.ndjson_dir) if wanted else ():
        for line in read_journal(path, containing=chosen.needle):
            for record in line.records:
                if record["record_type"] != RUN or not chosen.takes(record):
                    continue
                try:
                    state = RunRecord.from_fields(record)
                except RecordError:
                    continue
                known = runs.get(state.event_id)
                if known is not None or len(runs) < ENOUGH:
                    runs[state.event_id] = state if known is None else later_state(known, state)
    exact = [run for run in runs.values() if wanted in (run.run_id, run.event_id)]
    return sorted(exact or runs.values(), key=lambda run: run.created_at, reverse=True)[: 1 if exact else ENOUGH]


def run_object(record: RunRecord, *, git_hosts: Mapping[str, str]) -> dict[str, Any]:
    """Every column, JSON columns as objects, `api_posted` a boolean, and `commit_url`, `repo_url`."""
    values: dict[str, Any] = {name: getattr(record, name) for name in COLUMNS}
    for name in JSON_COLUMNS:
        values[name] = loaded(values[name])
    values["api_posted"] = bool(record.api_posted)
    values["commit_url"] = commit_url(record.git_repo, record.git_commit_hash, hosts=git_hosts)
    values["repo_url"] = repo_url(record.git_repo, hosts=git_hosts)
    return values


def loaded(text: str | None) -> Any:
    """The value of a JSON text; a text that is not JSON as it is."""
    if text is None:
        return None
    try:
        return orjson.loads(text)
    except ValueError:
        return text
