"""What is damaged, refused or cut off costs itself alone: segments, acknowledgements, crashes between two steps."""

from __future__ import annotations

import pytest
from buffers import Drained
from drain_cases import statuses
from on_disk import record

from otel_agent_telemetry.buffer.layout import ack_path, write_acknowledged
from otel_agent_telemetry.delivery.outcome import RetryLater
from otel_agent_telemetry.testing import InMemoryTarget
from otel_agent_telemetry.wire import decode_line, encode_line


def rejected_lines(folder):
    return [decode_line(line) for path in folder.glob("rejected/*.jsonl") for line in path.read_bytes().splitlines()]


def test_poison_is_set_aside_and_neighbours_pass(writer, drained, target, folder):
    """Invariant 5: lines that are no records and records that the target refuses go to `rejected/` with the reason."""
    target.refuse(lambda run: run.run_id == "run-3", reason="agent unknown")
    writer.write(record(1))
    writer.raw(encode_line("run", {"event_id": "no uuid", "run_id": "poison"}))
    writer.raw(encode_line("event", {"event_type": "agent.run.commit", "run_id": "run-1", "payload": "none"}))
    writer.write(record(3), record(4))

    assert drained(target) == 3

    assert sorted(statuses(target)) == ["run-1", "run-4"]
    reasons = [(line["record_type"], line.get("run_id"), line["rejected_because"]) for line in rejected_lines(folder)]
    assert [reason[:2] for reason in reasons] == [("run", "poison"), ("event", "run-1"), ("run", "run-3")]
    assert "event_id" in reasons[0][2]
    assert reasons[2][2] == "agent unknown"
    assert drained.health.rejected == 3
    assert drained(target) == 0


def test_rejects_that_cannot_be_kept_hold_the_delivery_back(writer, drained, target, folder):
    """When `rejected/` cannot be written, nothing is confirmed: poison is not dropped silently."""
    (folder / "rejected").write_bytes(b"")
    target.refuse(lambda run: run.run_id == "run-1")
    writer.write(record(1), record(2))

    assert isinstance(drained(target), RetryLater)
    (folder / "rejected").unlink()

    assert drained(target) == 2
    assert len(rejected_lines(folder)) == 1


class _Crash(Exception):
    pass


class _CrashesAfterKeeping(InMemoryTarget):
    """Commits the batch; then the delivering process dies before it can note that."""

    def deliver(self, batch):
        super().deliver(batch)
        raise _Crash


def test_crash_between_delivery_and_ack_delivers_again_to_no_effect(writer, drained, folder, clock):
    """The next deliverer hands the same records over; the rows are the same."""
    target = _CrashesAfterKeeping()
    writer.write(record(1), record(1, status="success", updated=2), record(2))
    with pytest.raises(_Crash):
        drained(target)
    before = target.runs
    again = InMemoryTarget()
    again._states = dict(before)
    successor = Drained(folder, clock=clock)

    assert successor(again) == 2

    assert again.runs == before
    successor.drain.release()


@pytest.mark.parametrize("content", [b"", b"\x00" * 21, b"99999999999999999999\n", b"rubbish", None])
def test_corrupted_or_lost_ack_loses_nothing(writer, drained, target, folder, clock, content):
    """A new deliverer delivers everything again; nothing is taken for confirmed that is not."""
    writer.write(record(1, status="success", updated=1))
    drained(target)
    writer.write(record(2, status="success", updated=1))
    ack = ack_path(writer.segment())
    ack.unlink() if content is None else ack.write_bytes(content)
    successor = Drained(folder, clock=clock)

    assert successor(target) == 2

    assert sorted(statuses(target)) == ["run-1", "run-2"]
    successor.drain.release()


def test_ack_in_the_middle_of_a_line_delivers_that_line_again(writer, drained, target):
    """An ack that is no line's end never cuts a record."""
    writer.write(record(1), record(2))
    write_acknowledged(writer.segment(), writer.segment().stat().st_size - 5)

    assert drained(target) == 1
    assert statuses(target) == {"run-2": "running"}


def test_ack_that_cannot_be_written_is_counted_and_not_fatal(writer, drained, target):
    """The delivery went through; it may be repeated later."""
    ack_path(writer.segment()).mkdir()
    writer.write(record(1))

    assert drained(target) == 1
    assert "noting a delivery" in drained.counters.last_error


def test_segment_cut_mid_line_is_delivered_as_far_as_it_goes(writers, drained, target):
    """Power cut: the head is told as torn, once, and everything before it counts."""
    writer = writers()
    writer.write(record(1, status="success", updated=1), record(2))
    writer.die()
    content = writer.segment().read_bytes()
    writer.segment().write_bytes(content[:-30])

    drained(target)

    assert statuses(target) == {"run-1": "success"}
    assert drained.health.torn_lines == 1
    assert writer.segments is None


def test_noise_in_a_segment_costs_only_itself(writers, drained, target):
    """Zeros, binary and a huge line without LF between records of a live writer."""
    writer = writers()
    writer.write(record(1))
    writer.raw(b"\x00" * 70_000 + b"\xff\xfe{\n")
    writer.write(record(2))
    writer.raw(b"\n\n")
    writer.write(record(3))

    assert drained(target) == 3
    assert drained.health.torn_lines == 1


def test_torn_lines_are_counted_once_however_often_they_are_read(writers, drained, target, folder, clock):
    """Retries and new deliverers read them again; the count is of lines, not of readings."""
    writer = writers()
    writer.write(record(1))
    writer.raw(b"torn\n")
    writer.write(record(2))
    target.be_away(3)
    for _ in range(4):
        drained(target)
    assert drained.health.torn_lines == 1
    drained.drain.release()

    successor = Drained(folder, clock=clock)
    successor(target)

    assert successor.health.torn_lines == 1
    successor.drain.release()


def test_removed_segment_is_forgotten(writer, drained, target):
    """Someone cleans the folder under us: the rest goes on."""
    writer.write(record(1))
    writer.rotate()
    writer.write(record(2))
    drained(target)
    writer.segment(0).unlink()
    writer.write(record(3))

    assert drained(target) == 1
    assert sorted(statuses(target)) == ["run-1", "run-2", "run-3"]


def test_open_run_of_a_removed_segment_does_not_block_the_others(writers, drained, target):
    """The segment that held a running state was removed by hand, then the process died: its neighbours are closed."""
    writer = writers()
    writer.write(record(1))
    writer.rotate()
    writer.write(record(2))
    drained(target)
    writer.segment(0).unlink()
    drained(target)
    writer.die()

    drained(target)

    assert statuses(target)["run-2"] == "failed"
    assert writer.segments is None
