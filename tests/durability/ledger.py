"""What the killed processes said they did, held against what was kept."""

from __future__ import annotations

import sqlite3
import threading
import time
import zlib
from collections.abc import Iterable
from typing import Any

from otel_agent_telemetry import TelemetryConfig
from otel_agent_telemetry.buffer.layout import drain_lock_path, list_writers
from otel_agent_telemetry.delivery.deliverer import Deliverer
from otel_agent_telemetry.delivery.outcome import RetryLater
from otel_agent_telemetry.journal import journal_files, read_journal
from otel_agent_telemetry.locks import FileLock
from otel_agent_telemetry.recording.recorder import Recorder


class Ledger:
    """Issued and acknowledged steps of any number of processes."""

    def __init__(self) -> None:
        self.issued: set[str] = set()
        self.acknowledged: set[str] = set()

    def read(self, said: bytes) -> None:
        """Take in what one process wrote to its pipe; a last line without LF never happened."""
        for line in said.decode().split("\n")[:-1]:
            kind, _, step = line.partition(" ")
            (self.issued if kind == "i" else self.acknowledged).add(step)

    def of(self, kind: str, steps: Iterable[str]) -> set[str]:
        """Run ids (or `RUN N` for events) of the steps of one kind."""
        return {step.partition(" ")[2] for step in steps if step.startswith(kind + " ")}


class LaterClock:
    """Two minutes on: a lock file without a segment is by then nobody's beginning any more."""

    def now_ns(self) -> int:
        return time.time_ns() + 120_000_000_000


def settle(config: TelemetryConfig) -> None:
    """Deliver everything that dead processes left, as the next process would."""
    lock = FileLock(drain_lock_path(config.buffer_dir))
    assert lock.try_acquire(), "a deliverer is still alive"
    recorder = Recorder(config, clock=LaterClock())
    deliverer = Deliverer(recorder, stop=threading.Event())
    try:
        outcome: int | RetryLater = 1
        while outcome:
            outcome = deliverer.deliver_once()
            assert not isinstance(outcome, RetryLater), outcome
    finally:
        deliverer.close()
        lock.release()
        recorder.close(0)


def assert_kept(ledger: Ledger, config: TelemetryConfig) -> dict[str, dict[str, Any]]:
    """Acknowledged ⊆ stored ⊆ issued, for starts, events and ends; returns the rows by run id."""
    rows = read_rows(config)
    issued, acknowledged = ledger.issued, ledger.acknowledged
    starts, ends = ledger.of("start", acknowledged), ledger.of("end", acknowledged)
    assert starts <= rows.keys(), f"lost runs: {sorted(starts - rows.keys())[:5]}"
    assert rows.keys() <= ledger.of("start", issued), "runs that nobody started"
    unended = {run for run in ends if rows[run]["status"] != "success"}
    assert not unended, f"lost ends: {[(run, rows[run]['status']) for run in sorted(unended)[:5]]}"
    ended = {run for run, row in rows.items() if row["status"] == "success"}
    assert ended <= ledger.of("end", issued), "ends that nobody made"
    events = read_events(config)
    assert ledger.of("event", acknowledged) <= events, "lost events"
    assert events <= ledger.of("event", issued), "events that nobody logged"
    return rows


def assert_interrupted_runs_closed(rows: dict[str, dict[str, Any]]) -> int:
    """Every run that did not end is `failed`, says why, and ended after it began; how many there are."""
    open_ends = [row for row in rows.values() if row["status"] != "success"]
    for row in open_ends:
        assert row["status"] == "failed", row
        assert "is gone" in row["error_summary"] or "exited while" in row["error_summary"], row
        assert row["end_time"] >= row["start_time"], row
        assert row["duration_ms"] >= 0
    return len(open_ends)


def assert_buffer_empty(config: TelemetryConfig) -> None:
    """Nothing waits, and nothing of the dead lies about."""
    assert list_writers(config.buffer_dir) == []


def read_rows(config: TelemetryConfig) -> dict[str, dict[str, Any]]:
    """run_id → row, from a database that is whole."""
    connection = sqlite3.connect(config.db_path)
    connection.row_factory = sqlite3.Row
    try:
        assert connection.execute("pragma integrity_check").fetchone()[0] == "ok"
        return {row["run_id"]: dict(row) for row in connection.execute("select * from agent_runs")}
    finally:
        connection.close()


def read_events(config: TelemetryConfig) -> set[str]:
    """`RUN N` of every event in the journal; each must be whole."""
    found = set()
    for path in journal_files(config.ndjson_dir):
        for line in read_journal(path):
            for record in line.records:
                if record["record_type"] == "event":
                    payload = record["payload"]
                    assert zlib.crc32(payload["filler"].encode()) == payload["crc"], "a torn event was believed"
                    found.add(f"{record['run_id']} {payload['n']}")
    return found


def pipe_to_end(fd: int) -> bytes:
    """All that was written to a pipe whose writers are gone. Closes it."""
    with open(fd, "rb") as stream:
        return stream.read()
