"""Who delivers, and passing over one that stands still; with real, stopped processes."""

from __future__ import annotations

import os
import signal

import pytest
from buffers import Writer
from on_disk import Process, eventually, record

from otel_agent_telemetry.buffer.layout import (
    ack_path,
    confirm,
    drain_lock_path,
    list_writers,
    read_acknowledged,
    write_acknowledged,
)
from otel_agent_telemetry.delivery.drain_lock import STALLED_S, DrainLock, read_holder
from otel_agent_telemetry.locks import FileLock, is_stopped
from otel_agent_telemetry.operations.check_buffer import check_buffer
from otel_agent_telemetry.testing import isolated_config


class Seconds:
    """Time that passes when it is told to."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def seconds():
    return Seconds()


@pytest.fixture
def waiting(tmp_path, clock):
    """A buffer in which a record waits."""
    writer = Writer(tmp_path / "buffer", now_ns=clock.now_ns())
    writer.write(record(1))
    yield writer
    writer.die()


@pytest.fixture
def holder(waiting, seconds):
    lock = DrainLock(waiting.folder, monotonic=seconds)
    assert lock.try_acquire()
    yield lock
    lock.release()


def test_the_holder_is_named_with_its_progress(holder, waiting, seconds):
    """Process, host and a number that grows; written at most twice a second."""
    assert read_holder(waiting.folder).pid == os.getpid()
    before = read_holder(waiting.folder).progress
    holder.note_progress()
    assert read_holder(waiting.folder).progress == before
    seconds.now += 1
    holder.note_progress()

    assert read_holder(waiting.folder).progress == before + 2


def test_a_holder_that_stands_still_is_passed_over(holder, waiting, seconds):
    """After ten seconds without progress, while something waits; and no more once it goes on."""
    other = DrainLock(waiting.folder, monotonic=seconds)
    assert not other.try_acquire()
    assert not other.holder_stalled()
    seconds.now += STALLED_S - 0.1
    assert not other.holder_stalled()
    seconds.now += 0.2
    assert other.holder_stalled()

    holder.note_progress()

    assert not other.holder_stalled()


def test_nothing_is_passed_over_for_nothing(holder, waiting, seconds):
    """A holder without work may rest."""
    other = DrainLock(waiting.folder, monotonic=seconds)
    other.holder_stalled()
    write_acknowledged(waiting.segment(), waiting.segment().stat().st_size)
    seconds.now += 2 * STALLED_S

    assert not other.holder_stalled()


@pytest.mark.parametrize("content", [b"", b"null", b"[]", b'{"pid": "x"}', b"\xff"])
def test_a_holder_that_says_nothing_is_never_passed_over(waiting, seconds, content):
    """An older version writes nothing into the file: it delivers all the same."""
    drain_lock_path(waiting.folder).write_bytes(content)
    held = FileLock(drain_lock_path(waiting.folder))
    assert held.try_acquire()
    other = DrainLock(waiting.folder, monotonic=seconds)
    for _ in range(3):
        assert not other.holder_stalled()
        seconds.now += STALLED_S
    held.release()


def test_a_confirmation_never_goes_back_and_needs_its_segment(tmp_path):
    """What a process writes that was stopped meanwhile: others have come further, or removed the file."""
    segment = tmp_path / "segment"
    segment.write_bytes(b"x" * 100)
    confirm(segment, 80)
    confirm(segment, 40)
    assert read_acknowledged(segment) == 80
    segment.unlink()
    ack_path(segment).unlink()

    confirm(segment, 90)

    assert not ack_path(segment).exists()


HOLD = """
import sys
from pathlib import Path
from otel_agent_telemetry.delivery.drain_lock import DrainLock
lock = DrainLock(Path(sys.argv[1]))
assert lock.try_acquire()
print("held", flush=True)
sys.stdin.readline()
"""

RECORD = """
import sys
from otel_agent_telemetry import TelemetryClient, TelemetryConfig
client = TelemetryClient(TelemetryConfig(base_dir=sys.argv[1], discover_service=False, db_synchronous="OFF"))
client.start_run("agent", "job", run_id="open")
client.end_run(client.start_run("agent", "job", run_id="ended"))
print("recorded", flush=True)
sys.stdin.readline()
"""


@pytest.mark.durability
def test_a_stopped_process_holds_nobody_up(tmp_path):
    """Another process delivers beside it after ten seconds; doctor names it; its own open run stays open."""
    from on_disk import rows_of

    config = isolated_config(tmp_path / "base")
    config.buffer_dir.mkdir(parents=True)
    with Process(HOLD, config.buffer_dir) as stopped, Process(RECORD, config.base_dir) as recording:
        assert stopped.line() == "held"
        os.kill(stopped.pid, signal.SIGSTOP)
        eventually(lambda: is_stopped(stopped.pid))
        assert recording.line() == "recorded"
        eventually(lambda: set(rows_of(config)) == {"open", "ended"})
        assert rows_of(config)["open"]["status"] == "running"
        found = [finding for finding in check_buffer(config) if str(stopped.pid) in finding.text]
        assert [finding.level for finding in found] == ["error"]
        os.kill(recording.pid, signal.SIGSTOP)
        eventually(lambda: is_stopped(recording.pid))
        assert len(list_writers(config.buffer_dir)) == 1
        os.kill(recording.pid, signal.SIGCONT)
        os.kill(stopped.pid, signal.SIGCONT)
        recording.tell()
        assert recording.end()[0] == 0


def test_a_process_that_is_gone_or_runs_is_not_stopped():
    """Neither this one nor a number that no process has."""
    assert not is_stopped(os.getpid())
    assert not is_stopped(2**22 + 1)
