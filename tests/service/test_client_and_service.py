"""From the agent's call to the row of a real service that is up, down, killed, slow, rate-limited or faulty."""

from __future__ import annotations

import statistics
import threading
import time

import pytest
from faults import Fault, Proxy, slow
from on_disk import buffer_lines, eventually
from running import running, serve_process
from writing_agents import expected, quiet_port, record_runs, record_spans, served

from otel_agent_telemetry import TelemetryClient
from otel_agent_telemetry.buffer.health import read_health
from otel_agent_telemetry.delivery.rejected import count_rejected
from otel_agent_telemetry.operations.verify import verify
from otel_agent_telemetry.testing import isolated_config

PATIENCE_S = 30
TOKEN = "the-service's-own"


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """One service process for all tests that do not end it; each test has an agent name of its own."""
    with serve_process(tmp_path_factory.mktemp("service") / "base") as serving:
        yield serving


@pytest.fixture
def proxy(service):
    standing = Proxy(service.url)
    yield standing
    standing.stop()


@pytest.fixture
def agent(request):
    return request.node.name.replace("/", " ")


@pytest.fixture
def config(proxy, tmp_path):
    """An agent on another host: it has a base directory of its own, and the service's address."""
    return isolated_config(tmp_path / "agent", api_url=proxy.url, api_timeout_s=5.0, exit_timeout_s=1.0)


@pytest.fixture
def client(config):
    return TelemetryClient(config)


def test_runs_of_a_client_arrive_once(client, config, service, agent):
    """Up: after a flush each run is a row, and nothing waits or is set aside."""
    record_runs(client, agent, 50)

    assert client.flush(PATIENCE_S)

    assert served(service, agent) == expected(agent, 50)
    assert count_rejected(config.buffer_dir) == 0
    assert verify(config).ok


def test_runs_of_a_tracer_arrive_once(config, service, agent):
    """The same for an application that has our processor on its own tracer provider."""
    provider = record_spans(config, agent, 50)

    assert provider.force_flush(PATIENCE_S * 1000)

    assert served(service, agent) == expected(agent, 50)
    provider.shutdown()


FAULTS = {
    "429 with Retry-After": Fault(429, headers={"Retry-After": "1"}),
    "503 with Retry-After": Fault(503, headers={"Retry-After": "1"}),
    "503 after it was kept": Fault(503, forward=True),
    "500": Fault(500, b"<html>gateway</html>"),
    "200 with rubbish": Fault(200, b"<html>welcome to this hotel</html>"),
    "200 with rubbish after it was kept": Fault(200, b"", forward=True),
    "200 with another's answer": Fault(
        200, b'{"inserted": 1, "updated": 0, "duplicates": 0, "errors": [], "total": 1}', forward=True
    ),
    "cut before the service saw it": Fault(cut=True),
    "cut after it was kept": Fault(cut=True, forward=True),
    "cut in the middle of the answer": Fault(status=None, cut=True, forward=True, cut_after=9),
    "slow": slow(0.3),
}


@pytest.mark.parametrize("name", FAULTS)
def test_nothing_is_lost_and_nothing_twice_behind_a_fault(client, config, proxy, service, agent, name):
    """Whatever the first answers are: each run is one row, in its last state, and none was set aside."""
    proxy.script(FAULTS[name], FAULTS[name])
    record_runs(client, agent, 10)
    client.flush(0.2)
    record_runs(client, agent, 20, first=10)

    assert client.flush(PATIENCE_S)
    eventually(lambda: proxy.is_done or record_more(client, agent))

    assert [row for row in served(service, agent) if "-more-" not in row[0]] == expected(agent, 30)
    assert count_rejected(config.buffer_dir) == 0


def record_more(client, agent):
    """One more run, for a fault that is still to come."""
    client.end_run(client.start_run(agent, "job", run_id=f"{agent}-more-{time.monotonic_ns()}"))
    client.flush(PATIENCE_S)
    return False


def test_service_that_is_down_at_start_gets_everything_later(tmp_path):
    """No service listens when the agent begins: calls succeed, a flush returns False, and the first service gets everything."""
    port = quiet_port()
    config = isolated_config(tmp_path / "agent", api_url=f"http://127.0.0.1:{port}", exit_timeout_s=1.0)
    client = TelemetryClient(config)
    record_runs(client, "early", 40)

    assert not client.flush(0.3)
    assert len(buffer_lines(config, "run")) == 80

    with serve_process(tmp_path / "service", port=port) as service:
        assert client.flush(PATIENCE_S)
        assert served(service, "early") == expected("early", 40)


def test_service_killed_and_back_on_its_port_has_every_run_once(tmp_path):
    """Killed twice while an agent goes on: all of its runs are there in the end, each once."""
    port, enough, made = quiet_port(), threading.Event(), []
    config = isolated_config(tmp_path / "agent", api_url=f"http://127.0.0.1:{port}", exit_timeout_s=1.0)
    client = TelemetryClient(config)

    def work():
        while not enough.wait(0.02):
            record_runs(client, "agent", 1, first=len(made))
            made.append(1)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for _ in range(2):
            with serve_process(tmp_path / "service", port=port) as service:
                before = len(made)
                eventually(lambda before=before: len(made) > before + 20)
                eventually(lambda: client.flush(0.1) or served(service, "agent"))
                service.kill()
    finally:
        enough.set()
        worker.join()
    with serve_process(tmp_path / "service", port=port) as service:
        assert client.flush(PATIENCE_S)
        assert served(service, "agent") == expected("agent", len(made))


def test_calls_return_while_the_service_hangs(client, proxy, service, agent):
    """The proxy holds a request and lets none go: 200 whole runs return meanwhile, and arrive afterwards."""
    hold = threading.Event()
    proxy.always(Fault(status=None, forward=True, hold=hold))
    try:
        record_runs(client, agent, 1)
        assert proxy.arrived.wait(PATIENCE_S)

        record_runs(client, agent, 200, first=1)

        assert not client.flush(0.2)
        assert served(service, agent) == []
    finally:
        proxy.always(None)
        hold.set()
    assert client.flush(PATIENCE_S)
    assert served(service, agent) == expected(agent, 201)


OUTAGES = {
    "refused": Fault(cut=True),
    "503": Fault(503, headers={"Retry-After": "1"}),
    "slow": slow(0.5),
}


@pytest.mark.parametrize("name", OUTAGES)
def test_caller_pays_no_more_in_an_outage(client, proxy, agent, name):
    """What a run costs its thread with the service away, against the same with the service up."""
    record_runs(client, f"warm {agent}", 50)
    up = median_cost_s(client, f"up {agent}")
    assert client.flush(PATIENCE_S)
    proxy.always(OUTAGES[name])

    down = median_cost_s(client, f"down {agent}")

    proxy.always(None)
    print(f"\n{name}: {down / up:.2f} of the cost with the service up")
    assert down < 5 * up
    assert client.flush(PATIENCE_S)


def median_cost_s(client, agent):
    costs = []
    for number in range(300):
        began = time.perf_counter()
        record_runs(client, agent, 1, first=number)
        costs.append(time.perf_counter() - began)
    return statistics.median(costs)


def waits_because_of(config, word):
    """Once a delivery was put off, whether that was for this reason."""
    return eventually(lambda: word in read_health(config.buffer_dir).last_problem)


def test_rate_limit_of_the_service_delays_and_loses_nothing(tmp_path, agent):
    """Requests over the limit get 429 and wait; once it is lifted, the agent's next process delivers the same runs."""
    limited = isolated_config(tmp_path / "service", rate_limit_enabled=True, rate_limit_rpm=2)
    with running(limited) as service:
        for _ in range(2):
            service.client.get("/api/v1/runs")
        refusal = service.client.get("/api/v1/runs")
        assert (refusal.status_code, int(refusal.headers["Retry-After"]) > 0) == (429, True)
        proxy = Proxy(service.url)
        config = isolated_config(tmp_path / "agent", api_url=proxy.url, exit_timeout_s=1.0)
        client = TelemetryClient(config)
        record_runs(client, agent, 5)
        assert waits_because_of(config, "429")
        assert not client.flush(0.1)
        client.close()
    with running(limited.with_(rate_limit_enabled=False)) as service:
        proxy.target = service.url
        again = TelemetryClient(config)  # the first one would wait for as long as it was asked to, a minute at most
        assert again.flush(PATIENCE_S)
        assert served(service, agent) == expected(agent, 5)
    assert count_rejected(config.buffer_dir) == 0
    proxy.stop()


def test_token_is_asked_for_wrong_and_changed_without_loss(tmp_path, agent):
    """Right: delivered. Changed at the service: what comes waits. An agent with the new one delivers for both."""
    guarded = isolated_config(tmp_path / "service", api_auth_enabled=True, api_auth_token=TOKEN)
    proxy = Proxy()
    base = isolated_config(tmp_path / "agent", api_url=proxy.url, api_auth_token=TOKEN, exit_timeout_s=1.0)
    client = TelemetryClient(base)
    with running(guarded) as service:
        proxy.target = service.url
        record_runs(client, agent, 5)
        assert client.flush(PATIENCE_S)
    with running(guarded.with_(api_auth_token="another")) as service:
        proxy.target = service.url
        record_runs(client, agent, 5, first=5)
        assert waits_because_of(base, "401")
        assert not client.flush(0.1)
        assert served(service, agent) == expected(agent, 5)
        client.close()
        newer = TelemetryClient(base.with_(api_auth_token="another"))
        record_runs(newer, agent, 5, first=10)
        assert newer.flush(PATIENCE_S)
        assert eventually(lambda: len(served(service, agent)) == 15)
        assert served(service, agent) == expected(agent, 15)
    assert count_rejected(base.buffer_dir) == 0
    assert proxy.tokens == {f"Bearer {TOKEN}", "Bearer another"}
    proxy.stop()


def test_agents_without_an_address_follow_the_writer_lock(tmp_path):
    """No URL: into the database; to the service that comes to hold it; into the database again when it is killed."""
    config = isolated_config(tmp_path / "base", exit_timeout_s=1.0)
    client = TelemetryClient(config)
    record_runs(client, "agent", 10)
    assert client.flush(PATIENCE_S)
    eventually(lambda: read_health(config.buffer_dir).target == str(config.db_path))

    with serve_process(config.base_dir) as service:
        record_runs(client, "agent", 10, first=10)
        assert client.flush(PATIENCE_S)
        eventually(lambda: read_health(config.buffer_dir).target == service.url)
        assert served(service, "agent") == expected("agent", 20)
        service.kill()

    record_runs(client, "agent", 10, first=20)
    assert client.flush(PATIENCE_S)
    eventually(lambda: read_health(config.buffer_dir).target == str(config.db_path))
    report = verify(config)
    assert report.ok, report
    assert (report.stored, report.journalled) == (30, 30)
