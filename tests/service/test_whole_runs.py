"""Whole runs of several hosts in one service: what `show` says there is what it says on the host.

`WHOLE_RUN_KILLS=50` kills the service that often, at moments that `DURABILITY_SEED` decides, while a run of 1,000
events and 200 steps is recorded and delivered.
"""

from __future__ import annotations

import gzip
import os
import random
import threading
import time
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial

import anyio
import orjson
import pytest
from on_disk import Case, eventually, nobody_delivers
from running import running, serve_process
from writing_agents import quiet_port, served

from otel_agent_telemetry.clock import SystemClock
from otel_agent_telemetry.delivery.journal_cursor import waiting_lines
from otel_agent_telemetry.journal import journal_files
from otel_agent_telemetry.operations.deliver import deliver_now
from otel_agent_telemetry.operations.remote_runs import RemoteRuns
from otel_agent_telemetry.operations.run_tree import KnownParts, build_tree
from otel_agent_telemetry.operations.verify import verify
from otel_agent_telemetry.recording.recorder import Recorder
from otel_agent_telemetry.storage.database_backup import backup_database
from otel_agent_telemetry.storage.deliverers import list_deliverers
from otel_agent_telemetry.storage.restore import restore_backup
from otel_agent_telemetry.storage.run_filters import RunQuery
from otel_agent_telemetry.testing import isolated_config

KILLS = int(os.environ.get("WHOLE_RUN_KILLS", "2"))
SEED = int(os.environ.get("DURABILITY_SEED", "0")) or random.SystemRandom().randrange(1 << 30)
EVENTS, STEPS = 1_000, 200
WHOLE = {"events": EVENTS, "steps": STEPS}
MANY_KILLS = 10
PATIENCE_S = 120


def record(tracer, name, *, events, steps):
    """A run with so many events, a part of them within so many steps, and a run inside it."""
    with tracer.start_as_current_span(name, attributes={"agent.run.agent_name": name}) as run:
        for number in range(steps):
            with tracer.start_as_current_span(f"step {number}", attributes={"n": number, "list": ["a", "b"]}) as step:
                for at in range(events // (2 * steps)):
                    step.add_event(f"in step {number}", {"at": at})
        with tracer.start_as_current_span("inner", attributes={"agent.run.agent_name": f"{name} inner"}) as inner:
            inner.add_event("in the inner run")
        for number in range(events - steps * (events // (2 * steps))):
            run.add_event("checkpoint", {"number": number, "text": "é" * 10})


def shown(tree):
    """All that `show` says of a run, but for when a service got it."""
    return orjson.loads(orjson.dumps([list(map(asdict, tree.events)), list(map(asdict, tree.steps))]))


def assert_equal_everywhere(service_url, case, agents):
    """The host's journal by itself, and the service by itself, show the same; return of how many runs."""
    remote = RemoteRuns(service_url, isolated_config("/nonexistent"))
    elsewhere = isolated_config("/nonexistent")
    try:
        compared = [one for one in remote.runs(RunQuery(limit=1_000)) if one.agent_name.startswith(agents)]
        for record in compared:
            here = build_tree(case.config, record, KnownParts(), limit=10_000)
            parts = KnownParts((), remote.spans(record.event_id), remote.events(record.event_id))
            there = build_tree(elsewhere, record, parts, limit=10_000)
            assert here.events
            assert shown(there) == shown(here)
        return len(compared)
    finally:
        remote.close()


@contextmanager
def host(folder, url):
    """A host with a base directory of its own."""
    case = Case(isolated_config(folder, api_url=url, api_timeout_s=10.0, exit_timeout_s=1.0))
    try:
        yield case
    finally:
        case.close()


def killed_while_recording(service, tracer, name, *, events, steps, delay_s):
    """Record a run; kill the service a while after it has the first of it."""
    recording = threading.Thread(target=record, args=(tracer, name), kwargs={"events": events, "steps": steps})
    recording.start()
    eventually(partial(served, service, name))
    time.sleep(delay_s)  # the random moment at which it dies, not a synchronisation
    service.kill()
    recording.join(PATIENCE_S)
    assert not recording.is_alive()


@pytest.mark.durability
def test_two_hosts_and_a_service_that_is_killed(tmp_path, postgres_url):
    """One host delivers while the service is killed again and again; the other was offline meanwhile."""
    print(f"\nDURABILITY_SEED={SEED} WHOLE_RUN_KILLS={KILLS}")
    port, env, dice = quiet_port(), {"TELEMETRY_DATABASE_URL": postgres_url}, random.Random(SEED)
    url = f"http://127.0.0.1:{port}"
    with host(tmp_path / "a", url) as first, host(tmp_path / "b", url) as second:
        tracer = first.tracer()
        with nobody_delivers(second.config):
            record(second.tracer(), "second", events=EVENTS, steps=STEPS)
            for number in range(KILLS):
                with serve_process(tmp_path / "service", env, port=port) as service:
                    size = {"events": 50, "steps": 10} if number and KILLS < MANY_KILLS else WHOLE
                    killed_while_recording(service, tracer, f"first {number}", **size, delay_s=dice.random() * 0.5)
        with serve_process(tmp_path / "service", env, port=port) as service:
            for case in (first, second):
                assert deliver_now(case.config, timeout_s=PATIENCE_S).done
                assert waiting_lines(case.config) == {}
            assert assert_equal_everywhere(url, first, "first") == 2 * KILLS
            assert assert_equal_everywhere(url, second, "second") == 2
            assert len(served(service, "second")) == 1


def test_a_flush_waits_for_events_and_steps(tmp_path, sqlite_service):
    """True means that all of it is there."""
    with host(tmp_path / "a", sqlite_service.url) as case:
        tracer = case.tracer()
        recorder = Recorder.shared(case.config)
        record(tracer, "flushed", events=20, steps=4)
        assert recorder.flush(PATIENCE_S)
        assert_equal_everywhere(sqlite_service.url, case, "flushed")
        with tracer.start_as_current_span("open", attributes={"agent.run.agent_name": "flushed open"}) as run:
            assert recorder.flush(PATIENCE_S)
            run.add_event("an event alone")
            assert recorder.flush(PATIENCE_S)
            assert_equal_everywhere(sqlite_service.url, case, "flushed open")
            (one,) = sqlite_service.app.state.backend._read(list_deliverers)
            assert (one.base_dir, one.backlog_bytes) == (str(case.config.base_dir), 0)


def test_states_alone_go_where_that_is_asked_for(tmp_path, sqlite_service):
    """`TELEMETRY_DELIVER=runs`; later `all` delivers what stands in the journal."""
    with host(tmp_path / "a", sqlite_service.url) as case:
        with nobody_delivers(case.config):
            record(case.tracer(), "alone", events=20, steps=4)
        assert deliver_now(case.config.with_(deliver="runs"), timeout_s=PATIENCE_S).done
        (run,) = sqlite_service.client.get("/api/v1/runs?agent_name=alone").json()
        assert sqlite_service.client.get(f"/api/v1/runs/{run['event_id']}/events").json() == []
        report = deliver_now(case.config, timeout_s=PATIENCE_S)
        # 29 of events and steps, and four states: whether another database had those is not known.
        assert (report.done, report.lines, report.waiting_bytes) == (True, 33, 0)
        assert_equal_everywhere(sqlite_service.url, case, "alone")


def test_a_service_whose_database_was_restored_gets_all_again(tmp_path, sqlite_settings):
    """What came after the backup, states too, from a day that the host has compressed since; nothing comes twice.

    As YugabyteDB's users ask of a replication after a restore (issue 3319 there): some again, never a hole.
    """
    with running(sqlite_settings) as service, host(tmp_path / "a", service.url) as case:
        record(case.tracer(), "before", events=4, steps=2)
        assert deliver_now(case.config, timeout_s=PATIENCE_S).done
        backup = backup_database(sqlite_settings.db_path, sqlite_settings.backups_dir, SystemClock())
        record(case.tracer(), "after", events=4, steps=2)
        assert deliver_now(case.config, timeout_s=PATIENCE_S).done
    for day in journal_files(case.config.ndjson_dir):
        day.with_suffix(".ndjson.gz").write_bytes(gzip.compress(day.read_bytes()))
        day.unlink()
    restore_backup(sqlite_settings, sqlite_settings.db_path, backup, force=True)
    with running(sqlite_settings) as service:
        config = case.config.with_(api_url=service.url)
        assert not verify(config).ok
        assert deliver_now(config, timeout_s=PATIENCE_S).done
        assert assert_equal_everywhere(service.url, case, ("before", "after")) == 4
        assert verify(config).ok


def test_a_service_over_the_base_directory_takes_what_is_in_its_journal(tmp_path, serving):
    """A local database has states alone, until a service begins to run over it; and what is recorded while it runs."""
    case = Case(isolated_config(tmp_path / "base"))
    record(case.tracer(), "local", events=20, steps=4)
    case.close()
    service = serving(case.config)
    wait_until_brought(service, "local")
    assert assert_equal_everywhere(service.url, case, "local") == 2
    (run,) = service.client.get("/api/v1/runs?agent_name=local").json()
    counts = [len(service.client.get(f"/api/v1/runs/{run['event_id']}/{what}").json()) for what in ("events", "spans")]
    assert counts == [20, 4]

    record(case.tracer(), "later", events=20, steps=4)
    case.close()
    wait_until_brought(service, "later")
    assert assert_equal_everywhere(service.url, case, "later") == 2


def wait_until_brought(service, name):
    """Wait until the service has all of the journal under its base directory, and a run with the run inside it."""

    def is_brought():
        now = anyio.run(service.app.state.backend.journal_progress)
        assert 0 <= now.confirmed <= now.size
        return now.size and not now.waiting

    eventually(is_brought)
    eventually(lambda: served(service, name) and served(service, f"{name} inner"))


def test_nothing_counts_as_waiting_where_states_alone_are_asked_for(tmp_path, serving):
    """A service with `TELEMETRY_DELIVER=runs` does not bring the journal, and does not seem to be about to."""
    case = Case(isolated_config(tmp_path / "base", deliver="runs"))
    record(case.tracer(), "alone", events=2, steps=1)
    case.close()
    service = serving(case.config)
    assert anyio.run(service.app.state.backend.journal_progress) == (0, 0)
