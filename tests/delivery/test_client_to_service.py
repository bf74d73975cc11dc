"""From the client's call to the service's row, with the service up, away, killed and lying."""

from __future__ import annotations

import json
import threading

import pytest
from on_disk import PATIENCE_S, Process, buffer_lines, eventually, journal_lines, nobody_delivers, run_python
from service import Fault

from otel_agent_telemetry import TelemetryClient
from otel_agent_telemetry.buffer.health import read_health
from otel_agent_telemetry.delivery.rejected import count_rejected
from otel_agent_telemetry.storage.writer_lock import WriterLock
from otel_agent_telemetry.testing import isolated_config

TOKEN = "only-for-the-service"


@pytest.fixture
def config(service, tmp_path):
    return isolated_config(
        tmp_path / "base", api_url=service.url, api_auth_token=TOKEN, api_timeout_s=5.0, exit_timeout_s=5.0
    )


@pytest.fixture
def client(config):
    return TelemetryClient(config)


def record_runs(client, count, *, prefix="run", status="success"):
    for number in range(count):
        run_id = client.start_run("agent", "job", run_id=f"{prefix}-{number}")
        client.log_event(run_id, "checkpoint", {"n": number})
        client.end_run(run_id, status)


def expect(service, count, *, prefix="run", status="success"):
    """Each run there, ended, and once."""
    assert {run.run_id: run.status for run in service.rows} == {f"{prefix}-{n}": status for n in range(count)}
    assert len(service.rows) == count


def test_runs_arrive_at_the_service(client, service, config):
    """Up: everything is there after a flush, with the token, in batches, and no database is made."""
    record_runs(client, 20)

    assert client.flush(10)

    expect(service, 20)
    assert {request.headers.get("Authorization") for request in service.requests} == {f"Bearer {TOKEN}"}
    assert len(service.batches()) < 20
    assert not config.db_path.exists()


def test_events_stay_in_the_journal(client, service, config):
    """The service gets run states only."""
    record_runs(client, 2)
    client.flush(10)

    assert {item["run_id"] for batch in service.batches() for item in batch} == {"run-0", "run-1"}
    assert len(journal_lines(config, "event")) == 2


def test_runs_wait_while_another_server_answers(client, service, config):
    """A web server on the service's port refuses everything with a page of its own: nothing is set aside."""
    service.script(*[Fault(400, b"<html>The plain HTTP request was sent to HTTPS port</html>")] * 3)
    record_runs(client, 5)

    assert client.flush(20)

    assert count_rejected(config.buffer_dir) == 0
    assert len(service.batches()) > 3
    expect(service, 5)


def test_runs_wait_for_a_service_that_is_down(client, service, config):
    """Down: calls succeed, a flush returns False before it is up again; when it is up everything arrives."""
    service.kill()
    record_runs(client, 5)

    assert not client.flush(0.3)
    assert len(buffer_lines(config, "run")) == 10

    service.start()
    assert client.flush(10)
    expect(service, 5)


def test_service_killed_in_the_middle_and_back(client, service):
    """Killed between batches and back, three times, while runs go on: nothing lost, nothing twice."""
    enough, made = threading.Event(), []

    def work():
        while not enough.wait(0.001):
            made.append(client.start_run("agent", "job", run_id=f"run-{len(made)}"))
            client.end_run(made[-1])

    worker = threading.Thread(target=work)
    worker.start()
    for _ in range(3):
        service.arrived.clear()
        assert service.arrived.wait(PATIENCE_S)
        service.kill()
        client.flush(0.1)
        service.start()
    enough.set()
    worker.join()

    assert client.flush(20)
    expect(service, len(made))


FAULTS = {
    "503": Fault(503),
    "503 with Retry-After": Fault(503, headers={"Retry-After": "1"}),
    "429": Fault(429, headers={"Retry-After": "1"}),
    "401": Fault(401),
    "500 after commit": Fault(500, after_keeping=True),
    "reset in mid-answer, after commit": Fault(reset=True, after_keeping=True),
    "reset before commit": Fault(reset=True),
    "rubbish": Fault(200, b"<html>hello</html>"),
    "rubbish after commit": Fault(200, b"", after_keeping=True),
    "counts that do not add up": Fault(
        200, b'{"inserted": 1, "updated": 0, "duplicates": 0, "errors": [], "total": 1}', after_keeping=True
    ),
    "redirect": Fault(302, headers={"Location": "http://127.0.0.1:9/"}),
}


@pytest.mark.parametrize("name", FAULTS)
def test_nothing_is_lost_and_nothing_twice_behind_a_fault(client, service, config, name):
    """Whatever the first answers are, each run ends up once, in its last state, and none is set aside."""
    service.script(FAULTS[name], FAULTS[name])
    record_runs(client, 30)

    assert client.flush(15)

    expect(service, 30)
    assert count_rejected(config.buffer_dir) == 0


@pytest.mark.parametrize("status", [413, 422])
def test_request_refused_as_a_whole_is_taken_apart(client, service, config, status):
    """A limit in front of the service refuses large bodies: smaller ones go through."""
    service.script(*[Fault(status)] * 2)
    with nobody_delivers(config):
        record_runs(client, 30)

    assert client.flush(15)

    expect(service, 30)
    assert count_rejected(config.buffer_dir) == 0


def test_poison_does_not_block_the_others(client, service, config):
    """One run that the service refuses is set aside with the reason; flush is true; the rest is there."""
    service.refuses = lambda run: "not this one" if run.run_id == "run-3" else None
    record_runs(client, 6)

    assert client.flush(10)

    assert sorted(service.runs) == ["run-0", "run-1", "run-2", "run-4", "run-5"]
    assert count_rejected(config.buffer_dir) >= 1
    assert eventually(lambda: read_health(config.buffer_dir).rejected) >= 1  # written when the pass ends


def test_caller_never_waits_for_a_hanging_service(client, service):
    """While the service holds a request, a hundred whole runs return; only then is it let go."""
    hold = threading.Event()
    service.script(Fault(hold=hold))
    try:
        client.end_run(client.start_run("agent", "job", run_id="first"))
        assert service.arrived.wait(PATIENCE_S)

        record_runs(client, 100)

        assert not hold.is_set()
        assert service.rows == []
        assert not client.flush(0.1)
    finally:
        hold.set()
    assert client.flush(10)
    assert len(service.rows) == 101


def test_token_reaches_no_other_host(client, service, other_service):
    """Redirected elsewhere, neither runs nor token follow."""
    service.script(*[Fault(status, headers={"Location": other_service.url + "/x"}) for status in (301, 307, 308)])
    record_runs(client, 1)

    assert client.flush(10)

    assert other_service.requests == []


def test_token_is_in_no_file_and_no_log(client, service, config, caplog):
    """Refused with 401 or delivered: nothing that is kept shows it."""
    service.script(Fault(401, b'{"detail": "bad token"}'))
    record_runs(client, 2)
    client.flush(10)

    kept = b"".join(path.read_bytes() for path in config.base_dir.rglob("*") if path.is_file())
    assert TOKEN.encode() not in kept
    assert TOKEN not in caplog.text
    assert TOKEN not in repr(config)


def test_wrong_token_loses_nothing(service, tmp_path):
    """401 for as long as it is wrong; once the service takes it the runs are there."""
    service.token = "the right one"
    client = TelemetryClient(
        isolated_config(tmp_path / "b", api_url=service.url, api_auth_token="wrong", exit_timeout_s=1.0)
    )
    record_runs(client, 3)
    assert not client.flush(0.5)

    service.token = "wrong"
    assert client.flush(10)
    expect(service, 3)


def test_service_found_through_the_database_it_holds(service, tmp_path):
    """No URL configured, but a service on this machine holds the database: it gets the runs."""
    config = isolated_config(tmp_path / "base")
    lock = WriterLock(config.db_path)
    assert lock.try_acquire(service.url)
    try:
        client = TelemetryClient(config)
        record_runs(client, 3)
        assert client.flush(10)
        expect(service, 3)
        assert client.get_stats()["total_runs"] == 3
    finally:
        lock.release()


def test_commit_association_during_after_and_from_elsewhere(client, service, config):
    """Decision 7: while active, after the end, and from a process that only knows the run id."""
    run_ids = [client.start_run("agent", "job", run_id=f"run-{n}") for n in range(3)]
    assert client.associate_commit(run_ids[0], "a" * 40, "llm", "A <a@b>", "2026-01-01T00:00:00Z")[0]
    for run_id in run_ids:
        client.end_run(run_id)
    assert client.associate_commit(run_ids[1], "bbbbbbb", "ci")[0]
    assert client.flush(10)
    run_python(
        "import sys\n"
        "from otel_agent_telemetry import TelemetryClient\n"
        "client = TelemetryClient()\n"
        "print(client.associate_commit('run-2', 'ccccccc', 'manual'))\n"
        "client.close()\n",
        env={"TELEMETRY_BASE_DIR": str(config.base_dir), "TELEMETRY_API_URL": service.url},
    )

    eventually(lambda: len(service.commits) == 3)
    told = {event_id: body["commit_hash"] for event_id, body in service.commits}
    assert told == {
        service.runs[f"run-{n}"].event_id: commit for n, commit in enumerate(["a" * 40, "bbbbbbb", "ccccccc"])
    }


def test_statistics_come_from_the_service(client, service):
    """With the run-id metrics of this process merged in; away, they are still there."""
    record_runs(client, 2)
    client.flush(10)

    stats = client.get_stats()
    assert (stats["total_runs"], stats["agents"]) == (2, {"agent": 2})
    assert stats["run_id_metrics"]["custom_accepted"] == 2

    service.kill()
    stats = client.get_stats()
    assert stats["error"] == "Statistics unavailable"
    assert stats["run_id_metrics"]["custom_accepted"] == 2


ONE_RUN = """
import sys, time
from otel_agent_telemetry import TelemetryClient
client = TelemetryClient()
client.end_run(client.start_run("agent", "job", run_id=sys.argv[1]))
print("returned", flush=True)
"""


def environment(config, service, **more):
    return {"TELEMETRY_BASE_DIR": str(config.base_dir), "TELEMETRY_API_URL": service.url, **more}


def test_exit_delivers_what_it_can(service, config):
    """A script with one run: after its exit the run is with the service."""
    run_python(ONE_RUN, "run-0", env=environment(config, service, TELEMETRY_EXIT_TIMEOUT_S="60"))

    expect(service, 1)
    assert buffer_lines(config) == []


def test_exit_is_bounded_by_a_hanging_service_and_the_next_process_delivers(service, config):
    """The exit takes the exit timeout and little more; the run waits in the buffer for somebody."""
    hold = threading.Event()
    service.script(Fault(hold=hold))
    try:
        with Process(ONE_RUN, "run-0", env=environment(config, service, TELEMETRY_EXIT_TIMEOUT_S="0.5")) as process:
            assert process.line() == "returned"
            status, _, err = process.end()  # while the service still hangs
        assert status == 0, err
        assert service.rows == []
        assert len(buffer_lines(config, "run")) == 2
    finally:
        hold.set()

    run_python(ONE_RUN, "run-1", env=environment(config, service))
    expect(service, 2)


def test_commit_association_of_a_run_unknown_to_the_service_is_set_aside_with_the_reason(client, service, config):
    """The service takes associations by its own event id only: nothing is blocked, nothing is lost, the reason is kept."""
    client.associate_commit("later", "abcdef1", "ci")
    assert client.flush(10)
    client.end_run(client.start_run("agent", "job", run_id="later"))
    assert client.flush(10)

    assert service.commits == []
    (rejected,) = (config.buffer_dir / "rejected").glob("*.jsonl")
    told = json.loads(rejected.read_text())
    assert told["payload"]["commit_hash"] == "abcdef1"
    assert "no run 'later' is known" in told["rejected_because"]
