"""Writers whose processes have ended: their records are delivered, their open runs closed, their files removed."""

from __future__ import annotations

from buffers import Drained
from drain_cases import AwayAfter, statuses
from on_disk import record

from otel_agent_telemetry.buffer.health import read_health
from otel_agent_telemetry.buffer.layout import lock_path
from otel_agent_telemetry.clock import iso_utc, parse_iso
from otel_agent_telemetry.delivery.outcome import RetryLater
from otel_agent_telemetry.wire import encode_line


def test_gone_writer_is_delivered_closed_and_removed(writers, drained, target, folder):
    """Invariant 6: what it left is delivered, its open runs are failed, its files go."""
    writer = writers()
    writer.write(record(1), record(2), record(2, status="success", updated=3))
    writer.die()

    assert drained(target) == 3  # two runs, and the closing of one

    assert statuses(target) == {"run-1": "failed", "run-2": "success"}
    assert [run["run_id"] for run in drained.closed] == ["run-1"]
    assert drained.health.closed_runs == 1
    assert sorted(path.name for path in folder.iterdir()) == ["health.json"]


def test_writer_that_left_properly_is_removed_too(writers, drained, target, folder):
    """A sealed segment of a finished process: nothing to close."""
    writer = writers()
    writer.write(record(1, status="success", updated=1))
    writer.leave()

    drained(target)

    assert drained.closed == []
    assert drained.health.writers_gone == 1
    assert sorted(path.name for path in folder.iterdir()) == ["health.json"]


def test_closing_names_process_host_and_last_sign_of_life(writers, drained, target, clock, folder):
    """`end_time` is the latest of: the last state, the journal's last line of that run, the last beat."""
    writer = writers()
    writer.write(record(1), record(2))
    writer.beat_at(record(1, updated=30).updated_at)
    raw = folder.parent / "raw"
    raw.mkdir()
    event = {
        "writer": writer.name,
        "event_id": record(1).event_id,
        "timestamp": record(1, updated=77).updated_at,
    }
    (raw / f"events_{writer.identity.started[:10].replace('-', '')}.ndjson").write_bytes(encode_line("event", event))
    writer.die()

    drained(target)

    one, two = (target.runs[record(number).event_id] for number in (1, 2))
    assert one.end_time == record(1, updated=77).updated_at
    assert one.duration_ms == 77_000
    assert two.end_time == record(1, updated=30).updated_at
    assert one.error_summary == (
        f"process {writer.identity.pid} on {writer.identity.host} is gone; "
        f"the run never ended (last sign of life {one.end_time})"
    )


def test_closing_names_the_last_error_that_the_journal_knows_of_the_run(writer, drained, target, folder):
    """Of its steps and exceptions, not of other runs'."""
    writer.write(record(1), record(2))
    raw = folder.parent / "raw"
    raw.mkdir()
    head = {"writer": writer.name, "event_id": record(1).event_id, "start_time": record(1, updated=3).updated_at}
    failed = encode_line("span", {**head, "status": "error", "status_message": "529 overloaded"})
    (raw / f"events_{writer.identity.started[:10].replace('-', '')}.ndjson").write_bytes(failed)
    writer.die()

    drained(target)

    one, two = (target.runs[record(number).event_id] for number in (1, 2))
    assert one.error_summary.endswith("; its last error: 529 overloaded")
    assert "last error" not in two.error_summary


def test_closing_from_a_pinned_segment_after_a_restart_of_the_deliverer(writer, drained, target, folder, clock):
    """A new deliverer reads confirmed segments again to know which runs are open, and delivers nothing twice."""
    writer.write(record(1), record(2))
    writer.rotate()
    writer.write(record(2, status="success", updated=1))
    drained(target)
    drained.drain.release()
    writer.die()
    batches = len(target.batches)

    successor = Drained(folder, clock=clock)
    assert successor(target) == 1

    assert statuses(target) == {"run-1": "failed", "run-2": "success"}
    assert len(target.batches) == batches + 1
    successor.drain.release()


def test_closing_waits_for_the_target_and_is_the_same_again(writers, drained, target, folder, clock):
    """The target goes away between delivery and closing; the writer's files stay until it is done."""
    writer = writers()
    writer.write(record(1))
    writer.die()
    target = AwayAfter(1)

    assert isinstance(drained(target), RetryLater)
    assert writer.segments == [0]
    first = drained(target)

    assert first == 1
    assert statuses(target) == {"run-1": "failed"}
    assert writer.segments is None


def test_counters_of_a_gone_writer_outlive_it(writers, drained, target, folder):
    """`doctor` still shows what it could not write."""
    writer = writers()
    writer.buffer.note({"events": 7, "journal_failed": 2, "last_error": "journal write: full"})
    writer.die()

    drained(target)

    health = read_health(folder)
    assert health.counters == {"events": 7, "journal_failed": 2}
    assert health.last_problem == "journal write: full"


def test_removed_lock_file_never_undoes_an_end(writers, drained, target):
    """Its owner looks dead: its runs are closed; when they end after all, under a new identity, that stands."""
    writer = writers()
    writer.write(record(1), record(2))
    lock_path(writer.folder, writer.name).unlink()
    drained(target)
    drained(target)
    assert statuses(target) == {"run-1": "failed", "run-2": "failed"}

    reborn = writers()
    reborn.write(record(1, status="success", updated=1))
    drained(target)

    assert statuses(target) == {"run-1": "success", "run-2": "failed"}


def test_removed_lock_file_before_anyone_looked_loses_no_record(writers, drained, target):
    """Segments without a lock file are found by their own names."""
    writer = writers()
    writer.write(record(1, status="success", updated=1))
    lock_path(writer.folder, writer.name).unlink()

    for _ in range(3):
        drained(target)

    assert statuses(target) == {"run-1": "success"}
    assert writer.segments is None


def test_a_run_is_closed_from_its_latest_state_among_many_lines(writers, drained, target):
    """Lines are read together: of several states of a run among them the last one counts."""
    writer = writers()
    states = [record(number, updated=update) for update in (1, 2, 3) for number in range(200)]
    writer.write(*states)
    writer.die()

    drained(target)

    assert {closed["run_id"]: closed["updated_at"] for closed in drained.closed} == {
        f"run-{number}": iso_utc(parse_iso(record(number, updated=3).updated_at) + 1_000) for number in range(200)
    }


def test_many_gone_writers_are_worked_off_in_bounded_numbers(writers, drained, target, folder):
    """Two hundred crashed processes: no pass opens them all at once, and soon none is left."""
    for number in range(200):
        writer = writers()
        writer.write(record(number))
        writer.die()

    passes = 0
    while any(folder.glob("*.lock")):
        drained(target)
        passes += 1
        assert passes < 10

    assert len(target.runs) == 200
    assert set(statuses(target).values()) == {"failed"}
    assert passes >= 3
