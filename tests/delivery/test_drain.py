from __future__ import annotations

import tracemalloc

import pytest
from buffers import Drained, Writer
from on_disk import record

from otel_agent_telemetry.buffer.health import read_health
from otel_agent_telemetry.buffer.layout import ack_path, lock_path, write_acknowledged
from otel_agent_telemetry.clock import iso_utc, parse_iso
from otel_agent_telemetry.delivery.outcome import RetryLater
from otel_agent_telemetry.testing import InMemoryTarget
from otel_agent_telemetry.wire import decode_line, encode_line


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "buffer"


@pytest.fixture
def target():
    return InMemoryTarget()


@pytest.fixture
def writers(folder, clock):
    """Makes writers and lets go of those that a test left."""
    made = []

    def make(**more):
        clock.advance(1)
        made.append(Writer(folder, now_ns=clock.now_ns(), **more))
        return made[-1]

    yield make
    for writer in made:
        writer.die()


@pytest.fixture
def drained(folder, clock):
    opened = Drained(folder, clock=clock)
    yield opened
    opened.drain.release()


@pytest.fixture
def writer(writers):
    return writers()


def statuses(target):
    return {run.run_id: run.status for run in target.runs.values()}


def rejected_lines(folder):
    return [decode_line(line) for path in folder.glob("rejected/*.jsonl") for line in path.read_bytes().splitlines()]


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
    target = _AwayAfter(1)
    writer.write(*(record(number) for number in range(1200)))

    assert isinstance(drained(target), RetryLater)
    confirmed = len(target.runs)
    assert 500 <= confirmed < 1000
    assert drained(target) == 1200 - confirmed
    assert len(target.runs) == 1200
    assert sum(len(batch) for batch in target.batches[2:]) == 1200 - confirmed


class _AwayAfter(InMemoryTarget):
    def __init__(self, batches):
        super().__init__()
        self._good = batches

    def deliver(self, batch):
        if len(self.batches) == self._good:
            self.be_away()
        return super().deliver(batch)


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
    target = _AwayAfter(1)

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


def test_commit_associations_are_delivered(writer, drained, target):
    """They take the way of the runs."""
    writer.write(record(1))
    writer.commit("run-1", commit_hash="abcdef1", commit_source="ci", associated_at="2026-01-01T00:00:00Z")

    assert drained(target) == 2
    assert [(link.run_id, link.commit_hash) for link in target.links] == [("run-1", "abcdef1")]


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


def test_stopping_ends_between_two_batches_without_loss(writer, drained, target):
    """`stop` is asked after each batch; the next pass delivers the rest."""
    writer.write(*(record(number) for number in range(1200)))

    first = drained(target, stop=lambda: True)
    assert 500 <= first < 1000
    assert drained(target) == 1200 - first
    assert len(target.runs) == 1200


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


def test_many_writers_share_batches(writers, drained, target):
    """Thirty processes with one run each cost one request."""
    for number in range(30):
        writers().write(record(number))

    assert drained(target) == 30
    assert len(target.batches) == 1


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
