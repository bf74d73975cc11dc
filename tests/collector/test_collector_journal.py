"""The offline path: what the journal holds reaches a backend, whenever the collector comes and however it dies.

A line is known by its writer and its number: a backend that has one twice can tell.
"""

from __future__ import annotations

import json
from collections import defaultdict

import pytest
from on_disk import eventually, journal_lines
from opentelemetry.proto.logs.v1.logs_pb2 import SEVERITY_NUMBER_ERROR
from otlp_backend import attributes_of, plain

from otel_agent_telemetry import TelemetryClient
from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.journal import journal_files
from otel_agent_telemetry.testing import isolated_config

WRITER, SEQ = "agent.telemetry.writer", "agent.telemetry.seq"


@pytest.fixture
def base(tmp_path):
    return isolated_config(tmp_path / "base", db_synchronous="OFF")


def record(config, *, runs, events):
    """Runs with events, written while no collector is there."""
    client = TelemetryClient(config)
    for number in range(runs):
        run_id = client.start_run("walker", "walk", run_id=f"run-{number}")
        for event in range(events):
            client.log_event(run_id, "stepped", {"n": event, "where": {"x": 1.5, "y": [1, 2]}})
        client.end_run(run_id, "failed" if number == 0 else "success", error_summary="lost" if number == 0 else None)
    client.close()


def identities(config):
    """Of every line of the journal."""
    return {(line["writer"], line["seq"]) for line in journal_lines(config)}


def arrived(backend):
    """Identity → its log records, of all that has arrived and is a line of a journal."""
    found = defaultdict(list)
    for record in list(backend.logs):
        told = attributes_of(record)
        if WRITER in told:
            found[told[WRITER], told[SEQ]].append(record)
    return found


def reading(collect, config, backend, **env):
    return collect("agent.yaml", TELEMETRY_BASE_DIR=str(config.base_dir), COLLECTOR_GATEWAY_URL=backend.url, **env)


def test_journal_written_offline_reaches_the_backend_of_a_gateway(collect, base, backend):
    """All lines, once, over agent and gateway; events look as OpenTelemetry's do."""
    record(base, runs=3, events=4)
    gateway = collect(
        "gateway.yaml",
        COLLECTOR_BACKEND="otlp_http/backend",
        COLLECTOR_BACKEND_URL=backend.url,
        COLLECTOR_BACKEND_TOKEN="of-the-backend",
    )

    reading(collect, base, gateway)
    eventually(lambda: arrived(backend).keys() >= identities(base))

    found = arrived(backend)
    assert found.keys() == identities(base)
    assert {len(records) for records in found.values()} == {1}
    assert backend.tokens == {"Bearer of-the-backend"}
    assert backend.resources[0] == {"service.name": "agent-telemetry-journal"}
    for line in journal_lines(base):
        assert_same(found[line["writer"], line["seq"]][0], line)


def assert_same(record, line):
    """A log record tells what its line of the journal does."""
    told = attributes_of(record)
    assert told["agent.run.event_id"] == line["event_id"]
    assert told["agent.run.id"] == line["run_id"]
    if line["record_type"] == "event":
        assert record.event_name == line["event_type"] == "stepped"
        assert (told["n"], told["where"]) == (line["payload"]["n"], line["payload"]["where"])
        assert (record.trace_id.hex(), record.span_id.hex()) == (line["trace_id"], line["span_id"])
        assert plain(record.body) == "stepped"
        assert iso_utc(record.time_unix_nano) == line["timestamp"]
    else:
        assert record.event_name == "agent.run.state"
        assert told["agent.run.status"] == line.get("status", "running")
        assert plain(record.body).items() >= {"run_id": line["run_id"], "agent_name": "walker"}.items()
        assert iso_utc(record.time_unix_nano) == line["updated_at"]
        assert (record.severity_number == SEVERITY_NUMBER_ERROR) == (line.get("status") == "failed")


def test_collector_killed_while_it_reads_loses_no_line(collect, base, backend):
    """Killed again and again in the middle of a long journal: every line arrives; one that comes twice is the same."""
    record(base, runs=20, events=500)
    wanted = identities(base)
    collector = reading(collect, base, backend)
    for share in (0.1, 0.3, 0.5, 0.7):
        eventually(lambda share=share: len(arrived(backend)) >= share * len(wanted))
        collector.kill()
        collector.start()
    eventually(lambda: arrived(backend).keys() >= wanted, within_s=60)

    found = arrived(backend)
    assert found.keys() == wanted
    for first, *again in found.values():
        assert all(content_of(record) == content_of(first) for record in again)
    print(f"\n{sum(map(len, found.values()))} records of {len(wanted)} lines")


def content_of(record):
    return record.event_name, record.time_unix_nano, attributes_of(record), plain(record.body)


def test_backend_away_while_the_journal_is_read(collect, base, backend):
    """It refuses, the collector is killed meanwhile; when it takes again, everything arrives."""
    record(base, runs=5, events=50)
    backend.refuses.set()
    collector = reading(collect, base, backend)
    eventually(lambda: backend.tokens)
    collector.kill()
    collector.start()
    backend.refuses.clear()
    eventually(lambda: arrived(backend).keys() >= identities(base))


def test_journal_goes_on_while_it_is_read(collect, base, backend):
    """Lines that are written later arrive too, and after a restart nothing is read from the beginning again."""
    record(base, runs=1, events=3)
    collector = reading(collect, base, backend)
    eventually(lambda: arrived(backend).keys() >= identities(base))
    assert collector.terminate() == 0, collector.log

    record(base, runs=1, events=2)
    collector.start()
    eventually(lambda: arrived(backend).keys() >= identities(base))

    assert {len(records) for records in arrived(backend).values()} == {1}


def test_line_behind_a_torn_one_arrives(collect, base, backend):
    """A full disk cut a line: what follows it on the same line is read, the cut one goes on as text."""
    record(base, runs=1, events=1)
    (journal,) = journal_files(base.ndjson_dir)
    head = b'{"record_type":"event","writer":"w-cut","seq":1,"event_ty'
    whole = {"record_type": "event", "writer": "w-next", "seq": 1, "event_type": "after", "payload": {"é": "\n"}}
    with journal.open("ab") as file:
        file.write(head + json.dumps(whole, separators=(",", ":")).encode() + b"\n")

    reading(collect, base, backend)
    eventually(lambda: ("w-next", 1) in arrived(backend))

    assert attributes_of(arrived(backend)["w-next", 1][0])["é"] == "\n"
    eventually(lambda: head.decode() in {plain(record.body) for record in backend.logs if not is_object(record.body)})
    assert arrived(backend).keys() >= identities(base) - {("w-cut", 1)}


def is_object(value):
    return value.WhichOneof("value") == "kvlist_value"
