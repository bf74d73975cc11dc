"""An agent program, OTLP, a real collector, the real service, SQLite: the same row as without them."""

from __future__ import annotations

import pytest
from on_disk import eventually
from stored_runs import run_program, stored_runs, stored_steps
from streaming import client_of, event_id_of, new_ids, one_run, send

from otel_agent_telemetry.testing import isolated_config
from tests.service.running import running, serve_process
from tests.service.slow_service import slow_down

OF_THE_ROUTE = {"received_at"}
"""When a service got the run, if one did."""
RUNS = 5
STEPS_AND_EVENTS = [(0, 1), (0, 1), (0, 1), (1, 0), (3, 2)]
ROUTES = [["local.yaml"], ["gateway.yaml"], ["agent.yaml", "gateway.yaml"]]


@pytest.fixture
def route(collect, service):
    """Start collectors, each sending to the next and the last one to the service; the first one."""

    def start(names, **env):
        first = collect(names[-1], TELEMETRY_API_URL=service.url, **env)
        for name in reversed(names[:-1]):
            first = collect(name, COLLECTOR_GATEWAY_URL=first.url)
        return first

    return start


def without(row, columns):
    return {name: value for name, value in row.items() if name not in columns}


@pytest.mark.parametrize("names", ROUTES, ids="-".join)
def test_row_that_comes_through_collectors_is_the_one_written_locally(names, route, tmp_path):
    """Column for column, and under the same event id; git columns are the host's own, there is none here."""
    first = route(names)

    run_program(
        "exporting_agent.py",
        tmp_path,
        TELEMETRY_BASE_DIR=str(tmp_path / "local"),
        OTEL_EXPORTER_OTLP_ENDPOINT=first.url,
    )
    local = stored_runs(tmp_path / "local")
    eventually(lambda: len(stored_runs(tmp_path / "service")) == RUNS)

    sent = stored_runs(tmp_path / "service")
    assert len(local) == RUNS
    assert sent.keys() == local.keys()
    for event_id, row in local.items():
        assert without(sent[event_id], OF_THE_ROUTE) == without(row, OF_THE_ROUTE)


def test_a_request_that_the_service_takes_in_parts_arrives_whole(collect, tmp_path):
    """The collector's exporter repeats what was answered with 503, after `Retry-After`, until all of it is stored."""
    with running(isolated_config(tmp_path / "service", db_synchronous="OFF")) as service:
        slow = slow_down(service, 3, items_a_part=10)
        collector = collect("gateway.yaml", TELEMETRY_API_URL=service.url)
        trace_id, span_id = new_ids()
        request = one_run(trace_id, span_id)
        spans = request.resource_spans[0].scope_spans[0].spans
        for number in range(1, 24):
            spans.add().CopyFrom(spans[0])
            spans[-1].span_id = number.to_bytes(8, "big")
        with client_of(collector) as client:
            assert send(client, request)
        eventually(lambda: sum(slow.written) == len(spans))
        assert slow.written == [10, 10, 5]
        assert stored_steps(tmp_path / "service") == {event_id_of(request): (24, 1)}


def test_both_ways_to_one_service_are_one_row(route, service, tmp_path):
    """Our own delivery tells the runs, the collector their steps as well: five rows, each ended, nothing twice."""
    first = route(["agent.yaml", "gateway.yaml"])

    run_program(
        "exporting_agent.py",
        tmp_path,
        TELEMETRY_BASE_DIR=str(tmp_path / "agent"),
        TELEMETRY_API_URL=service.url,
        OTEL_EXPORTER_OTLP_ENDPOINT=first.url,
    )
    eventually(lambda: sorted(stored_steps(tmp_path / "service").values()) == STEPS_AND_EVENTS)

    rows = stored_runs(tmp_path / "service").values()
    assert sorted((row["job_type"], row["status"]) for row in rows) == [
        ("invoke_agent buyer", "success"),
        ("invoke_agent checker", "success"),
        ("invoke_agent sums", "failed"),
        ("nightly import", "partial"),
        ("wait", "timeout"),
    ]
    buyer, checker = (next(row for row in rows if row["agent_name"] == name) for name in ("buyer", "checker"))
    assert checker["parent_run_id"] == buyer["run_id"]


def test_collector_gets_through_to_a_service_that_asks_for_its_token(collect, tmp_path):
    """The token comes from the environment, and stands in no log."""
    token = {"TELEMETRY_API_AUTH_TOKEN": "only-from-the-environment"}
    with serve_process(tmp_path / "service", {"TELEMETRY_API_AUTH_ENABLED": "true", **token}) as guarded:
        first = collect("local.yaml", TELEMETRY_API_URL=guarded.url, **token)
        run_program(
            "exporting_agent.py",
            tmp_path,
            TELEMETRY_BASE_DIR=str(tmp_path / "local"),
            OTEL_EXPORTER_OTLP_ENDPOINT=first.url,
        )
        eventually(lambda: len(stored_runs(tmp_path / "service")) == RUNS)
        assert token["TELEMETRY_API_AUTH_TOKEN"] not in first.log


def test_wrong_token_is_told_and_counted(collect, tmp_path):
    """The service refuses for good, so nothing is repeated: the collector's own metrics and its log say so."""
    asking = {"TELEMETRY_API_AUTH_ENABLED": "true", "TELEMETRY_API_AUTH_TOKEN": "right"}
    with serve_process(tmp_path / "service", asking) as guarded:
        collector = collect("local.yaml", TELEMETRY_API_URL=guarded.url, TELEMETRY_API_AUTH_TOKEN="wrong")
        with client_of(collector) as client:
            assert send(client, one_run(b"t" * 16, b"s" * 8))
        refused = "otelcol_exporter_send_failed_spans_total"
        eventually(lambda: any(name.startswith(refused) for name in collector.series(collector.own_metrics_url)))
    assert "401" in collector.log
