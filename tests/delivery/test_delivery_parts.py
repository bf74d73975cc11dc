"""The small parts of delivery: halves, pending batches, retry policies, targets, quiet."""

from __future__ import annotations

import random

import pytest
from on_disk import record, rows_of
from opentelemetry import context as otel_context
from service import Fault

from otel_agent_telemetry.delivery.deliverer import resolve_target
from otel_agent_telemetry.delivery.http_target import HttpTarget
from otel_agent_telemetry.delivery.local_service import local_service_url
from otel_agent_telemetry.delivery.outcome import (
    Backoff,
    Batch,
    Delivered,
    Pending,
    Rejected,
    RetryLater,
    SegmentProgress,
    as_asked,
    deliver_bisected,
    reject_each,
)
from otel_agent_telemetry.delivery.rejected import count_rejected, store_rejected
from otel_agent_telemetry.delivery.sqlite_target import SqliteTarget
from otel_agent_telemetry.delivery.stats import read_stats
from otel_agent_telemetry.delivery.suppress_instrumentation import SUPPRESS_INSTRUMENTATION, suppress_instrumentation
from otel_agent_telemetry.journal import JournalPart
from otel_agent_telemetry.model import CommitLink
from otel_agent_telemetry.storage.writer_lock import WriterLock
from otel_agent_telemetry.testing import InMemoryTarget, isolated_config
from otel_agent_telemetry.wire import COMMIT_EVENT


def link(run_id="run-1"):
    return CommitLink(run_id=run_id, commit_hash="abcdef1", commit_source="ci", associated_at="2026-01-01")


class Picky(InMemoryTarget):
    """Refuses a whole batch when one item of it is poison, as a service does with 422."""

    def __init__(self, *poison):
        super().__init__()
        self.poison = poison

    def deliver(self, batch):
        names = [line["run_id"] for line in batch.lines]
        if any(name in self.poison for name in names):
            return deliver_bisected(self, batch, f"poison in {len(batch)}")
        return super().deliver(batch)


@pytest.mark.parametrize(
    "poison", [(), ("run-0",), ("run-9",), ("run-3", "run-4"), tuple(f"run-{n}" for n in range(10))]
)
def test_halves_find_exactly_the_poison(poison):
    """Whatever is poisonous is rejected at its position; everything else is delivered."""
    target = Picky(*poison)
    batch = Batch.of(tuple(record(number) for number in range(10)))

    outcome = target.deliver(batch)

    assert {batch.records[item.position].run_id for item in outcome.rejected} == set(poison)
    assert {run.run_id for run in target.runs.values()} == {f"run-{n}" for n in range(10)} - set(poison)


def test_halves_cross_from_records_to_links():
    """Positions count records first, then links, also where a half holds both."""
    target = Picky("bad-link")
    batch = Batch.of((record(1),), (link("run-1"), link("bad-link"), link("run-2")))

    assert [item.position for item in target.deliver(batch).rejected] == [2]
    assert [kept.run_id for kept in target.links] == ["run-1", "run-2"]


def test_a_half_that_must_wait_makes_the_whole_wait():
    """Nothing is confirmed when the second half could not be delivered."""
    target = InMemoryTarget()
    target.be_away(1)

    assert deliver_bisected(target, Batch.of((record(1), record(2))), "x") == RetryLater("away")
    assert reject_each(Batch.of((record(1),), (link(),)), "no") == Delivered((Rejected(0, "no"), Rejected(1, "no")))


def add(pending, *records, size=100):
    segment = SegmentProgress(0, None, acked=0)
    for fields in records:
        segment.read += size
        pending.add(JournalPart((fields,), size, 0), segment)
    return segment


def test_pending_keeps_one_state_a_run_and_all_links():
    """The greater state, whichever comes first."""
    pending = Pending()
    states = [record(1, status="success", updated=2), record(1), record(2)]
    add(
        pending,
        *({"record_type": "run", **state.to_fields()} for state in states),
        {"record_type": "event", "event_type": COMMIT_EVENT, "run_id": "run-1", "payload": {"commit_hash": "abcdef1", "commit_source": "ci",
                                                               "associated_at": "2026-01-01"}},
        {"record_type": "span", "name": "not ours to deliver"},
        {"record_type": "new in a later version"},
    )  # fmt: skip

    batch = pending.batch()

    assert [(run.run_id, run.status) for run in batch.records] == [("run-1", "success"), ("run-2", "running")]
    assert [kept.run_id for kept in batch.links] == ["run-1"]
    assert pending.refused(batch, Delivered()) == []


def test_pending_keeps_how_far_posting_has_come():
    """An end and its posted state in one batch: that it was posted is not lost."""
    ended = record(1, status="success", updated=2)
    posted = record(1, status="success", updated=2, api_posted=1, api_posted_at=ended.updated_at)
    for order in ((ended, posted), (posted, ended)):
        pending = Pending()
        add(pending, *({"record_type": "run", **state.to_fields()} for state in order))
        assert [run.api_posted for run in pending.batch().records] == [1]


def test_pending_falls_back_to_the_beginning_of_a_run_whose_end_is_no_state():
    """An end that breaks a rule is set aside; beside one that stands, a beginning is not looked at."""
    begun, ended = ({"record_type": "run", **record(1, status=status).to_fields()} for status in ("running", "success"))

    for end, status, set_aside in (({**ended, "run_id": "a/b"}, "running", 1), (ended, "success", 0)):
        pending = Pending()
        add(pending, begun if set_aside else {**begun, "run_id": "a/b"}, end)
        batch = pending.batch()
        assert [run.status for run in batch.records] == [status]
        assert len(pending.refused(batch, Delivered())) == set_aside


def test_pending_is_full_by_number_or_size():
    """500 records or 8 MiB of lines."""
    pending = Pending()
    add(pending, *({"record_type": "run", **record(n).to_fields()} for n in range(499)))
    assert not pending.full
    add(pending, {"record_type": "run", **record(999).to_fields()})
    assert pending.full

    large = Pending()
    add(large, {"record_type": "run", **record(1).to_fields()}, size=8 << 20)
    assert large.full


@pytest.mark.parametrize("payload", [None, "text", {}, {"commit_hash": "abcdef1"}, {"commit_hash": "zz", "x": 1}])
def test_pending_sets_lines_aside_that_are_no_records(payload):
    """Each with a reason that names what is wrong."""
    pending = Pending()
    add(
        pending,
        {"record_type": "run"},
        {"record_type": "event", "event_type": COMMIT_EVENT, "run_id": "r", "payload": payload},
    )

    refused = pending.refused(pending.batch(), Delivered())

    assert [line["record_type"] for line, _ in refused] == ["run", "event"]
    assert all(reason for _, reason in refused)


# --- retry policies


def test_waits_grow_from_half_a_second_to_a_minute():
    """With full jitter, for as long as it fails; a success begins anew."""
    backoff = Backoff()
    waits = [backoff.after(RetryLater("down")) for _ in range(40)]

    assert all(0 <= wait <= 60 for wait in waits)
    assert waits[0] <= 0.5
    assert max(waits[-20:]) > 10
    backoff.reset()
    assert backoff.after(RetryLater("down")) <= 0.5


@pytest.mark.parametrize(("asked", "least", "most"), [(0.0, 0, 0.5), (30.0, 30, 30), (1e9, 300, 300), (None, 0, 0.5)])
def test_retry_after_stretches_the_wait(asked, least, most):
    """What the target asked for, up to five minutes, never less than usual."""
    assert least <= Backoff().after(RetryLater("busy", asked)) <= most


def test_the_application_s_random_numbers_are_its_own():
    """Jitter draws nothing from the sequence that an application has seeded."""
    random.seed(42)
    expected = random.random()
    random.seed(42)
    Backoff().after(RetryLater("down"))

    assert random.random() == expected


def test_usual_wait_stands_unless_more_is_asked_for():
    """A webhook's 1, 2 and 4 s, by the same rule."""
    assert as_asked(RetryLater("x", 10.0), 1.0) == 10.0
    assert as_asked(RetryLater("x", 0.5), 2.0) == 2.0
    assert as_asked(RetryLater("x"), 4.0) == 4.0


# --- which target


def test_url_given_means_that_service(service, tmp_path):
    """Nothing is probed: it need not even be up."""
    service.kill()
    target = resolve_target(isolated_config(tmp_path, api_url=service.url))

    assert isinstance(target, HttpTarget)
    assert target.name == service.url
    target.close()


def test_without_a_service_the_database_is_written(tmp_path):
    """No URL, nobody there: SQLite below the base folder."""
    config = isolated_config(tmp_path, db_synchronous="OFF")
    target = resolve_target(config)

    assert isinstance(target, SqliteTarget)
    assert target.deliver(Batch.of((record(1),))) == Delivered()
    assert list(rows_of(config)) == ["run-1"]
    target.close()


def test_service_that_holds_the_database_is_found(service, tmp_path):
    """Its URL is in the writer lock; when it is gone the database is ours again."""
    config = isolated_config(tmp_path)
    lock = WriterLock(config.db_path)
    assert lock.try_acquire(service.url)

    assert local_service_url(config) == service.url
    lock.release()
    assert local_service_url(config) is None


def test_statistics_come_from_the_service_then_from_the_database(service, tmp_path):
    """HTTP first; a service that is away leaves the local database, then nothing."""
    config = isolated_config(tmp_path, api_url=service.url, db_synchronous="OFF")
    assert read_stats(config).figures["total_runs"] == 0
    service.script(Fault(500))
    assert read_stats(config).figures is None

    target = SqliteTarget(config)
    target.deliver(Batch.of((record(1, status="success", updated=1),)))
    target.close()
    service.kill()
    assert read_stats(config).figures["agents"] == {"agent": 1}


# --- rejects, quiet


def test_rejected_records_are_kept_with_the_reason(tmp_path):
    """Counted by line, over days; none when there is no folder."""
    assert count_rejected(tmp_path) == 0
    for now_ns in (0, 0, 86_400 * 10**9):
        store_rejected(tmp_path, {"record_type": "run", "run_id": "r"}, target="t", reason="why", now_ns=now_ns)

    assert count_rejected(tmp_path) == 3
    first = (tmp_path / "rejected/19700101.jsonl").read_text().splitlines()[0]
    assert first == '{"record_type":"run","rejected_by":"t","rejected_because":"why","run_id":"r"}'


def test_quiet_holds_inside_and_ends_outside():
    """Also when the block raises; a context is quiet only if it says so."""
    assert not otel_context.get_current().get(SUPPRESS_INSTRUMENTATION)
    with pytest.raises(KeyError), suppress_instrumentation():
        assert otel_context.get_current().get(SUPPRESS_INSTRUMENTATION)
        assert not otel_context.Context().get(SUPPRESS_INSTRUMENTATION)
        raise KeyError
    assert not otel_context.get_current().get(SUPPRESS_INSTRUMENTATION)
