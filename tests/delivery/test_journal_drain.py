"""What of a journal was delivered is known in spite of all: each line goes to each database, once or again, never not."""

from __future__ import annotations

import gzip
import os
import threading

import orjson
import pytest
from on_disk import nobody_delivers

from otel_agent_telemetry import TelemetryClient
from otel_agent_telemetry.buffer.health import Health, read_health
from otel_agent_telemetry.clock import SystemClock, day_of
from otel_agent_telemetry.counters import Counters
from otel_agent_telemetry.delivery import journal_drain
from otel_agent_telemetry.delivery.deliverer import Deliverer
from otel_agent_telemetry.delivery.journal_cursor import JournalCursor, still_waiting, waiting_lines
from otel_agent_telemetry.delivery.journal_drain import JournalDrain
from otel_agent_telemetry.delivery.outcome import Delivered, Rejected, RetryLater
from otel_agent_telemetry.delivery.rejected import last_rejected
from otel_agent_telemetry.journal import journal_path
from otel_agent_telemetry.operations.check_deliverers import check_lines
from otel_agent_telemetry.operations.maintenance import cutoff_of, old_day_files
from otel_agent_telemetry.recording.recorder import Recorder
from otel_agent_telemetry.testing import InMemoryTarget, ManualClock, isolated_config
from otel_agent_telemetry.wire import encode_line, read_line

DAY_NS = 86_400 * 10**9
STORE = "0123abcd"


class Lines:
    """A target that keeps the lines that it is given, and fails as it is told."""

    name = "lines"

    def __init__(self, store=STORE, *, has_states=True):
        self.id = store
        self.has_states = has_states
        self.bodies = []
        self.reports = []
        self.fails = 0
        self.refuses = b"\xff never"

    def store(self):
        return self.id

    def deliver_lines(self, body, report):
        self.reports.append(report)
        if self.fails:
            self.fails -= 1
            return RetryLater("away")
        self.bodies.append(body)
        lines = body.splitlines()
        return Delivered(tuple(Rejected(at, "odd") for at, line in enumerate(lines) if self.refuses in line))

    @property
    def seqs(self):
        return [
            record["seq"] for body in self.bodies for line in body.splitlines() for record in read_line(line).records
        ]


class Host:
    """What a drain works for: a base directory and its journal."""

    def __init__(self, base, **settings):
        self.config = isolated_config(base, api_url="http://127.0.0.1:1", **settings)
        self.clock = ManualClock()
        self.counters = Counters()
        self.health = Health()
        self.open = 0
        self.config.buffer_dir.mkdir(parents=True)
        self.config.ndjson_dir.mkdir(parents=True)
        self.seq = 0

    def path(self, days_ago=0):
        return journal_path(self.config.ndjson_dir, day_of(self.clock.now_ns() - days_ago * DAY_NS))

    def write(self, number=1, kind="event", days_ago=0, **more):
        with self.path(days_ago).open("ab") as file:
            for _ in range(number):
                self.seq += 1
                file.write(encode_line(kind, {"writer": "w", "seq": self.seq, "timestamp": "2026-01-31", **more}))

    def drain(self, **more):
        """A drain as another process would begin it."""
        return JournalDrain(
            self, self.health, open_runs=lambda: self.open, on_batch=lambda: None, rest=lambda: None, **more
        )

    def deliver(self, target, drain=None):
        return (drain or self.drain()).run_pass(target, stop=lambda: False)


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path / "base")


def test_each_line_but_states_goes_once_to_a_database(host):
    """States go through the buffer. A second pass, by another process too, sends nothing."""
    host.write(3)
    host.write(2, "run")
    host.write(1, "span")
    target = Lines()
    assert host.deliver(target) == 4
    assert host.deliver(target) == 0
    host.write(1)
    assert host.deliver(target) == 1
    assert target.seqs == [1, 2, 3, 6, 7]
    assert host.health.lines == 5


def test_the_oldest_day_goes_first_and_late_lines_of_a_past_day_go_too(host):
    """A process whose clock is behind writes to yesterday's file."""
    host.write(1)
    host.write(1, days_ago=1)
    target = Lines()
    host.deliver(target)
    host.write(1, days_ago=1)
    host.deliver(target)
    assert target.seqs == [2, 1, 3]


def test_nothing_is_confirmed_before_the_target_has_committed(host):
    """What failed is sent again, by whoever comes next."""
    host.write(2)
    target = Lines()
    target.fails = 1
    assert isinstance(host.deliver(target), RetryLater)
    assert still_waiting(host.config, waiting_lines(host.config)) == {} or waiting_lines(host.config)
    assert host.deliver(target) == 2
    assert target.seqs == [1, 2]
    assert waiting_lines(host.config) == {}


def test_another_database_gets_everything(host):
    """A service whose database was made anew has another id; each has a cursor of its own."""
    host.write(2)
    first, second = Lines(), Lines("beef")
    host.deliver(first)
    host.write(1)
    host.deliver(second)
    host.deliver(first)
    assert (first.seqs, second.seqs) == ([1, 2, 3], [1, 2, 3])


def test_a_database_that_is_new_gets_the_states_that_another_was_given(host):
    """They have left the buffer. States that are written from then on go through it, to this database."""
    host.write(2, "run")
    host.write(1)
    first = Lines("aaaa", has_states=False)
    host.deliver(first)
    host.write(1, "run")
    host.write(1)
    host.deliver(first)
    assert first.seqs == [1, 2, 3, 5]
    restored = Lines("bbbb")
    host.deliver(restored)
    host.write(1, "run")
    host.deliver(restored)
    assert restored.seqs == [1, 2, 3, 4, 5]


def test_states_of_a_compressed_day_go_to_a_new_database_too(host):
    """All of them: its size says nothing of the lines that are in it."""
    host.write(2, "run", days_ago=5)
    path = host.path(5)
    path.with_suffix(".ndjson.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    target = Lines(has_states=False)
    assert host.deliver(target) == 0
    assert host.deliver(target, host.drain(archives=True)) == 2
    assert host.deliver(target, host.drain(archives=True)) == 0


def test_a_line_that_is_being_written_waits_for_its_end(host):
    """Behind a torn one the next line stands; at the end of a past day it is sent as it is."""
    host.write(1)
    with host.path().open("ab") as file:
        file.write(b'{"record_type":"event","writer":"w","se')
    target = Lines()
    assert host.deliver(target) == 1
    assert host.deliver(target) == 0
    host.write(1)
    assert host.deliver(target) == 1
    with host.path().open("ab") as file:
        file.write(encode_line("event", {"writer": "w", "seq": 9}).rstrip(b"\n"))
    assert host.deliver(target) == 0
    host.clock.advance(3 * DAY_NS / 1e9)
    assert host.deliver(target) == 1
    assert target.seqs == [1, 2, 9]


def test_a_line_behind_a_torn_state_is_sent(host):
    """The physical line begins as a state's, and holds an event."""
    with host.path().open("ab") as file:
        file.write(b'{"record_type":"run","writer":"w","s')
    host.write(1)
    target = Lines()
    host.deliver(target)
    assert target.seqs == [1]


@pytest.mark.parametrize("damage", ["removed", "empty", "garbage", "odd"])
def test_a_lost_cursor_costs_a_repetition_and_no_line(host, damage):
    """Whatever happened to the file."""
    host.write(2)
    target = Lines()
    host.deliver(target)
    path = host.config.buffer_dir / f"journal-{STORE}.cursor"
    if damage == "removed":
        path.unlink()
    else:
        path.write_bytes(
            {"empty": b"", "garbage": b"\xff{", "odd": b'{"days": {"20260131": [1], "x": [-1, 2, 3]}}'}[damage]
        )
    host.deliver(target)
    assert target.seqs == [1, 2, 1, 2]


def test_a_file_that_was_replaced_or_cut_begins_anew(host):
    """As after a rotation by another tool, or a restore of the folder."""
    host.write(2)
    target = Lines()
    host.deliver(target)
    host.path().rename(host.path().with_suffix(".1"))
    host.write(4)
    host.deliver(target)
    assert target.seqs == [1, 2, 3, 4, 5, 6]
    os.truncate(host.path(), 0)
    host.write(1)
    host.deliver(target)
    assert target.seqs[-1] == 7


def test_a_new_file_with_the_inode_of_the_old_one_begins_anew(host):
    """File systems give a new file the inode of the one just removed; shippers that go by it alone skip its first lines."""
    host.write(2)
    target = Lines()
    host.deliver(target)
    confirmed = host.path().read_bytes()
    host.seq = 100
    with host.path().open("r+b") as file:  # the same inode, other content, and longer than before
        for number in range(5):
            file.write(encode_line("event", {"writer": "other", "seq": 101 + number, "timestamp": "2026-02-01"}))
    assert host.path().stat().st_size > len(confirmed)
    assert host.deliver(target) == 5
    assert target.seqs == [1, 2, 101, 102, 103, 104, 105]


def test_days_that_are_gone_leave_the_cursor(host):
    """It does not grow for ever."""
    host.write(1, days_ago=2)
    host.deliver(Lines())
    host.path(2).unlink()
    host.write(1)
    host.deliver(Lines())
    value = orjson.loads((host.config.buffer_dir / f"journal-{STORE}.cursor").read_bytes())
    assert list(value["days"]) == [day_of(host.clock.now_ns())]
    assert JournalCursor(host.config.buffer_dir, STORE).confirmed(host.path()) == host.path().stat().st_size


def test_batches_are_bounded_and_a_line_may_be_longer_than_one(host, monkeypatch):
    """In lines, and in bytes."""
    monkeypatch.setattr(journal_drain, "MAX_LINES", 10)
    monkeypatch.setattr(journal_drain, "MAX_BYTES", 4096)
    host.write(25)
    host.write(1, payload="x" * 50_000)
    host.write(1)
    target = Lines()
    assert host.deliver(target) == 27
    assert target.seqs == list(range(1, 28))
    assert max(body.count(b"\n") for body in target.bodies) == 10
    assert sorted(len(body) > 4096 for body in target.bodies)[-2:] == [False, True]


def test_a_refused_line_is_set_aside_with_the_reason(host):
    """Its neighbours are delivered; what is no record is kept as text."""
    host.write(1)
    with host.path().open("ab") as file:
        file.write(b"\xff never json\n")
    host.write(1, payload="\N{LATIN SMALL LETTER A} marked")
    target = Lines()
    host.deliver(target)
    (one,) = last_rejected(host.config.buffer_dir, limit=5)
    assert (one["rejected_because"], one["line"]) == ("odd", "\ufffd never json")
    assert (host.health.rejected, host.health.lines) == (1, 2)
    assert host.deliver(target) == 0


def test_a_target_of_states_alone_is_sent_nothing_and_it_is_said(host, caplog):
    """A service of an earlier version, a database, and TELEMETRY_DELIVER=runs."""
    host.write(2)
    old = Lines(None)
    assert host.deliver(old) == 0
    assert "takes no events and steps" in caplog.text
    assert host.health.takes_lines is False
    assert host.deliver(InMemoryTarget()) == 0
    host.config = host.config.with_(deliver="runs")
    assert host.deliver(Lines()) == 0
    assert old.bodies == []


def test_a_pass_ends_when_it_is_asked_to_stop(host, monkeypatch):
    """Between two batches; what is left is known to be left."""
    monkeypatch.setattr(journal_drain, "MAX_LINES", 1)
    host.write(5)
    target, stop = Lines(), threading.Event()
    drain = JournalDrain(host, host.health, open_runs=lambda: 0, on_batch=stop.set, rest=lambda: None)
    assert drain.run_pass(target, stop=stop.is_set) == 1
    assert drain.has_more
    assert host.deliver(target) == 4


def test_each_request_says_what_waits_behind_it(host, monkeypatch):
    """Bytes to the end of the journal, their number estimated, and the time of the last line before them."""
    monkeypatch.setattr(journal_drain, "MAX_LINES", 2)
    host.write(4)
    host.open = 3
    target = Lines()
    host.deliver(target)
    first, second = target.reports[:2]
    assert (first.backlog_records, first.oldest_unsent, first.open_runs) == (2, "2026-01-31", 3)
    assert first.backlog_bytes == sum(map(len, target.bodies[1:2]))
    assert (second.backlog_records, second.backlog_bytes, second.oldest_unsent) == (0, 0, None)
    assert first.base_dir == str(host.config.base_dir)


def test_an_idle_host_with_open_runs_gives_a_sign_of_life(host, monkeypatch):
    """One a minute, and one when the last run has ended, so that its silence means nothing."""
    drain, target = host.drain(), Lines()
    host.open = 1
    host.deliver(target, drain)
    host.deliver(target, drain)
    assert [report.open_runs for report in target.reports] == [1]
    host.open = 0
    host.deliver(target, drain)
    host.deliver(target, drain)
    assert [report.open_runs for report in target.reports] == [1, 0]
    monkeypatch.setattr(journal_drain, "_SIGN_OF_LIFE_S", 0.0)
    host.open = 2
    host.deliver(target, drain)
    host.deliver(target, drain)
    assert len(target.reports) == 4


def test_doctor_says_what_waits_and_which_service_takes_no_events(host):
    """Events that stay on their host are a finding, and how many bytes wait is one."""
    host.write(2)
    host.health.target, host.health.takes_lines = "http://old", False
    host.health.write(host.config.buffer_dir)
    (finding,) = check_lines(host.config)
    assert (finding.level, "http://old takes states of runs only" in finding.text) == ("warn", True)
    host.deliver(Lines())
    host.write(1)
    host.health.write(host.config.buffer_dir)
    (finding,) = check_lines(host.config)
    size = len(host.path().read_bytes().splitlines()[-1]) + 1
    assert finding.text == f"2 events and steps were delivered, {size} bytes of the journal wait"


def test_retention_keeps_days_that_a_service_does_not_have(host):
    """An old day file goes when its lines are confirmed, and not before; without a service at once."""
    host.write(1, days_ago=40)
    host.write(1, days_ago=39)
    cutoff, now_ns = cutoff_of(30, host.clock.now_ns()), host.clock.now_ns()
    assert old_day_files(host.config, cutoff, now_ns=now_ns).held_back == 2
    target = Lines()
    host.deliver(target)
    host.health.write(host.config.buffer_dir)
    host.write(1, days_ago=39)
    found = old_day_files(host.config, cutoff, now_ns=now_ns)
    assert (found.files, found.held_back) == ((host.path(40),), 1)
    for config in (host.config.with_(deliver="runs"), isolated_config(host.config.base_dir)):
        Health().write(host.config.buffer_dir)
        assert len(old_day_files(config, cutoff, now_ns=now_ns).files) == 2


def test_a_compressed_day_goes_on_where_its_file_was(host):
    """By a command or a service; a recording process passes it over, and retention keeps it until then."""
    host.write(3, days_ago=5)
    target = Lines()
    host.deliver(target)
    host.health.write(host.config.buffer_dir)
    host.write(2, days_ago=5)
    path = host.path(5)
    archive = path.with_suffix(".ndjson.gz")
    archive.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    assert list(waiting_lines(host.config)) == [archive]
    assert host.deliver(target) == 0
    assert host.deliver(target, host.drain(archives=True)) == 2
    assert waiting_lines(host.config) == {}
    assert host.deliver(target, host.drain(archives=True)) == 0
    assert target.seqs == [1, 2, 3, 4, 5]


def test_whoever_waits_for_a_state_knows_already_that_lines_follow(tmp_path):
    """Else a flush in another process would take the first delivery for the whole of it."""
    config = isolated_config(tmp_path / "base", api_url="http://127.0.0.1:1")
    noted = []

    class Target(InMemoryTarget):
        has_states = True

        def store(self):
            return STORE

        def deliver_lines(self, body, report):
            return Delivered(())

        def deliver(self, batch):
            noted.append(read_health(config.buffer_dir).takes_lines)
            return super().deliver(batch)

    with nobody_delivers(config), TelemetryClient(config).track_run("agent", "job") as run:
        run.log_event("an event")
    recorder = Recorder(config)
    deliverer = Deliverer(recorder, stop=threading.Event())
    deliverer._target, deliverer._resolved_at = Target(), SystemClock.monotonic_s()
    try:
        deliverer.deliver_once(lambda: False)
    finally:
        deliverer.close()
        recorder.close(timeout_s=0)
    assert noted == [True]
