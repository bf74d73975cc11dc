"""Collectors and the service are killed under a stream of runs: what was answered arrives, and nothing twice.

COLLECTOR_OUTAGE_S=60 keeps the service away for a minute, as the ordinary run does for two seconds.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import contextmanager

import httpx
import pytest
from on_disk import eventually
from stored_runs import stored_runs, stored_steps
from streaming import Stream, client_of, new_ids, send_run, text

from tests.service.running import serve_process

OUTAGE_S = float(os.environ.get("COLLECTOR_OUTAGE_S", "2"))
pytestmark = pytest.mark.durability


@contextmanager
def streaming(collector):
    stream = Stream(collector)
    try:
        yield stream
    finally:
        stream.stop()


def assert_all_arrive(stream, base):
    """Every answered run is a row with its one step and its one event; nothing is there that was not sent."""
    eventually(lambda: stream.kept <= stored_runs(base).keys(), within_s=120)
    rows = stored_runs(base)
    assert rows.keys() <= stream.sent
    assert {(row["agent_name"], row["status"]) for row in rows.values()} == {("streamer", "success")}
    below = stored_steps(base)
    assert {event_id: below[event_id] for event_id in stream.kept} == dict.fromkeys(stream.kept, (1, 1))
    assert set(below.values()) == {(1, 1)}


def test_collector_killed_while_the_service_is_down(collect, tmp_path):
    """Service killed, collector killed in the middle of it, both back after a while: all that was answered is there."""
    base = tmp_path / "service"
    with serve_process(base) as first:
        port = httpx.URL(first.url).port
        collector = collect("gateway.yaml", TELEMETRY_API_URL=first.url)
        with streaming(collector) as stream:
            stream.more()
            first.kill()
            stream.more()
            collector.kill()
            collector.start()
            stream.more()
            threading.Event().wait(OUTAGE_S)
            with serve_process(base, port=port):
                stream.more()
                stream.stop()
                assert_all_arrive(stream, base)
    print(f"\n{len(stream.kept)} of {len(stream.sent)} runs were answered, all arrived")


def test_each_of_a_chain_is_killed_in_turn(collect, tmp_path):
    """Agent, gateway and service, twice, each while the one behind it is away."""
    base = tmp_path / "service"
    with serve_process(base) as first:
        port = httpx.URL(first.url).port
        gateway = collect("gateway.yaml", TELEMETRY_API_URL=first.url)
        agent = collect("agent.yaml", COLLECTOR_GATEWAY_URL=gateway.url)
        with streaming(agent) as stream:
            for _ in range(2):
                stream.more()
                gateway.kill()
                stream.more()
                agent.kill()
                agent.start()
                stream.more()
                gateway.start()
            first.kill()
            stream.more()
            gateway.kill()
            gateway.start()
            with serve_process(base, port=port):
                stream.more()
                stream.stop()
                assert_all_arrive(stream, base)


def test_service_that_answers_503_is_asked_again(collect, tmp_path):
    """Its database is locked by somebody for a while: the runs wait in the collector and arrive."""
    base = tmp_path / "service"
    with serve_process(base, {"TELEMETRY_API_WRITE_TIMEOUT_S": "0.3"}) as service:
        collector = collect("local.yaml", TELEMETRY_API_URL=service.url)
        with streaming(collector) as stream:
            stream.more()
            eventually(lambda: stored_runs(base))
            locking = sqlite3.connect(base / "db" / "telemetry.sqlite", isolation_level=None, timeout=20)
            locking.execute("BEGIN IMMEDIATE")
            stream.more()
            eventually(lambda: "503" in service.log or "503" in collector.log)
            locking.execute("ROLLBACK")
            locking.close()
            stream.stop()
            assert_all_arrive(stream, base)


def test_collector_that_is_terminated_passes_on_what_it_can_and_keeps_the_rest(collect, tmp_path):
    """SIGTERM with the service away: exit 0 soon, and the next start delivers what waited."""
    base = tmp_path / "service"
    with serve_process(base) as first:
        port = httpx.URL(first.url).port
    collector = collect("gateway.yaml", TELEMETRY_API_URL=first.url)
    with streaming(collector) as stream:
        stream.more()
        stream.stop()
    assert collector.terminate() == 0, collector.log
    with serve_process(base, port=port):
        collector.start()
        assert_all_arrive(stream, base)


def test_full_queue_makes_senders_wait(collect, tmp_path):
    """The service is away and the queue holds 3 kB: soon nothing is answered any more; later all that was is there."""
    base = tmp_path / "service"
    with serve_process(base) as first:
        port = httpx.URL(first.url).port
    collector = collect(
        "local.yaml", TELEMETRY_API_URL=first.url, COLLECTOR_QUEUE_BYTES="3000", COLLECTOR_BATCH_BYTES="1000"
    )
    with streaming(collector) as stream:
        eventually(lambda: stream.kept and stands_still(stream))
        with serve_process(base, port=port):
            stream.more()
            stream.stop()
            assert_all_arrive(stream, base)


def test_large_spans_that_waited_are_not_refused_for_their_sum(collect, tmp_path):
    """1,000 runs with prompts of 25 kB while the gateway is away: no request is larger than the next one takes."""
    base = tmp_path / "service"
    with serve_process(base, {"TELEMETRY_DB_SYNCHRONOUS": "OFF"}) as service:
        gateway = collect("gateway.yaml", TELEMETRY_API_URL=service.url)
        agent = collect("agent.yaml", COLLECTOR_GATEWAY_URL=gateway.url)
        gateway.kill()
        prompt = [text("gen_ai.input.messages", "x" * 25_000)]
        with client_of(agent) as client:
            kept = {sent(client, attributes=prompt) for _ in range(1000)}
        gateway.start()
        eventually(lambda: kept <= stored_runs(base).keys(), within_s=120)
        assert "Dropping data" not in agent.log + gateway.log


def sent(client, **more):
    """The event id of a run that was answered."""
    trace_id, span_id = new_ids()
    return send_run(client, trace_id, span_id, **more)


def test_backend_that_is_away_does_not_hold_up_the_service(collect, tmp_path):
    """Its queue is full: it loses spans, which is counted; the service has every run."""
    base = tmp_path / "service"
    where = {"COLLECTOR_BACKEND": "otlp_http/backend", "COLLECTOR_BACKEND_URL": "http://127.0.0.1:9"}
    small = {"COLLECTOR_QUEUE_BYTES": "20000", "COLLECTOR_BATCH_BYTES": "1000"}
    with serve_process(base, {"TELEMETRY_DB_SYNCHRONOUS": "OFF"}) as service:
        gateway = collect("gateway.yaml", TELEMETRY_API_URL=service.url, **where, **small)
        with client_of(gateway) as client:
            kept = {sent(client) for _ in range(150)}
        eventually(lambda: kept <= stored_runs(base).keys())
        lost = "otelcol_exporter_enqueue_failed_spans_total"
        eventually(lambda: any(name.startswith(lost) for name in gateway.series(gateway.own_metrics_url)))


def stands_still(stream):
    """Whether nothing was answered for a second."""
    before = len(stream.kept)
    threading.Event().wait(1)
    return len(stream.kept) == before


def test_full_disk_refuses(collect, small_disk, tmp_path):
    """No room for the queue: senders are told, the collector goes on, and runs arrive again when the service takes them."""
    base = tmp_path / "service"
    with serve_process(base) as first:
        port = httpx.URL(first.url).port
    collector = collect("local.yaml", TELEMETRY_API_URL=first.url, COLLECTOR_STATE_DIR=str(small_disk / "state"))
    with streaming(collector) as stream:
        eventually(lambda: "no space left" in collector.log)
        full = set(stream.sent)
        with serve_process(base, port=port):
            eventually(lambda: stored_runs(base).keys() - full)
