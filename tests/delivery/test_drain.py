"""The buffer on its way to a target: what is delivered, confirmed, kept and removed."""

from __future__ import annotations

import tracemalloc

from buffers import Drained
from drain_cases import AwayAfter, statuses
from on_disk import record

from otel_agent_telemetry.buffer.health import read_health
from otel_agent_telemetry.buffer.layout import ack_path
from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.delivery.outcome import RetryLater


def test_no_folder_is_nothing_to_do(drained, target):
    """A host where nobody has recorded anything."""
    assert drained(target) == 0
    assert target.batches == []


def test_live_writer_is_delivered_and_kept(writer, drained, target):
    """Its records are with the target, its segment stays, and a second pass delivers nothing."""
    writer.write(record(1), record(2, status="success", updated=1))

    assert drained(target) == 2
    assert statuses(target) == {"run-1": "running", "run-2": "success"}
    assert writer.segments == [0]
    assert drained(target) == 0
    assert len(target.batches) == 1
    assert drained.closed == []


def test_states_of_one_run_share_a_batch_as_one(writer, drained, target):
    """Start, update and end that wait together cost the target one record: the end."""
    writer.write(record(1), record(1, updated=1), record(1, status="success", updated=2), record(1, updated=1))

    assert drained(target) == 1
    assert [[run.status for run in batch.records] for batch in target.batches] == [["success"]]


def test_what_is_appended_later_is_delivered_later(writer, drained, target):
    """A pass goes on where the last one stopped."""
    writer.write(record(1))
    drained(target)
    writer.write(record(1, status="success", updated=1))

    assert drained(target) == 1
    assert statuses(target) == {"run-1": "success"}


def test_sealed_and_confirmed_segment_is_removed(writer, drained, target):
    """With its ack; the one being written stays."""
    writer.write(record(1, status="success", updated=1))
    writer.rotate()

    drained(target)

    assert writer.segments == [1]
    assert not ack_path(writer.segment(0)).exists()


def test_segment_with_an_open_run_is_pinned(writer, drained, target):
    """It holds what the run would be closed from, and goes when the run has ended elsewhere."""
    writer.write(record(1), record(2, status="success", updated=1))
    writer.rotate()
    drained(target)
    assert writer.segments == [0, 1]

    writer.write(record(1, status="success", updated=5))
    drained(target)

    assert writer.segments == [1]


def test_only_the_latest_state_of_an_open_run_pins(writer, drained, target):
    """A later update in a later segment frees the earlier one, however many there are."""
    for update in range(4):
        writer.write(record(1, updated=update))
        writer.rotate()
        drained(target)

    assert writer.segments == [3, 4]


def test_nothing_is_confirmed_while_the_target_is_away(writer, drained, target):
    """Whatever number of passes: when it comes back everything is delivered, once."""
    target.be_away(3, reason="down", after_s=9.0)
    writer.write(*(record(number, status="success", updated=1) for number in range(5)))
    writer.rotate()

    assert [drained(target) for _ in range(3)] == [RetryLater("down", 9.0)] * 3
    assert writer.segments == [0, 1]
    assert drained(target) == 5
    assert len(target.runs) == 5
    assert writer.segments == [1]
    assert drained.health.last_problem == "down"


def test_away_in_the_middle_of_a_backlog_keeps_what_was_confirmed(writer, drained, clock, folder):
    """Of 1,200 records the first batch is confirmed; the rest is delivered after the outage, not again the first."""
    target = AwayAfter(1)
    writer.write(*(record(number) for number in range(1200)))

    assert isinstance(drained(target), RetryLater)
    confirmed = len(target.runs)
    assert 500 <= confirmed < 1000
    assert drained(target) == 1200 - confirmed
    assert len(target.runs) == 1200
    assert sum(len(batch) for batch in target.batches[2:]) == 1200 - confirmed


def test_commit_associations_are_delivered(writer, drained, target):
    """They take the way of the runs."""
    writer.write(record(1))
    writer.commit("run-1", commit_hash="abcdef1", commit_source="ci", associated_at="2026-01-01T00:00:00Z")

    assert drained(target) == 2
    assert [(link.run_id, link.commit_hash) for link in target.links] == [("run-1", "abcdef1")]


def test_stopping_ends_between_two_batches_without_loss(writer, drained, target):
    """`stop` is asked after each batch; the next pass delivers the rest."""
    writer.write(*(record(number) for number in range(1200)))

    first = drained(target, stop=lambda: True)
    assert 500 <= first < 1000
    assert drained(target) == 1200 - first
    assert len(target.runs) == 1200


def test_many_writers_share_batches(writers, drained, target):
    """Thirty processes with one run each cost one request."""
    for number in range(30):
        writers().write(record(number))

    assert drained(target) == 30
    assert len(target.batches) == 1


def test_memory_is_bounded_whatever_the_backlog(writers, folder, clock):
    """Draining 20,000 records holds a batch and what is open, not the backlog."""
    writer = writers(segment_bytes=256 << 10)
    for number in range(20_000):
        writer.write(record(number, status="success", updated=1, error_details="x" * 200))
    writer.buffer.sync()
    writer.buffer.sync()
    sink, drained = _Counting(), Drained(folder, clock=clock, remember=False)
    tracemalloc.start()

    delivered = drained(sink)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert delivered == sink.taken == 20_000
    assert peak < 12 << 20
    assert len(writer.segments) <= 3


class _Counting:
    name = "counting"

    def __init__(self):
        self.taken = 0

    def deliver(self, batch):
        from otel_agent_telemetry.delivery.outcome import Delivered

        self.taken += len(batch)
        return Delivered()

    def close(self):
        pass


def test_health_goes_on_from_the_last_deliverer(writers, drained, target, folder, clock):
    """Sums survive the process that made them."""
    writers().write(record(1))
    drained(target)
    drained.drain.release()
    writers().write(record(2))

    successor = Drained(folder, clock=clock)
    successor(target)

    assert read_health(folder).delivered == 2
    assert read_health(folder).last_delivery == iso_utc(clock.now_ns())
    successor.drain.release()


def test_health_that_cannot_be_written_stops_nothing(writer, drained, target, folder):
    """A folder in its place: counted, delivered all the same."""
    (folder / "health.json").mkdir()
    writer.write(record(1))

    assert drained(target) == 1
    assert "health.json" in drained.counters.last_error
