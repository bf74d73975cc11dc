"""The service as a process: how it begins, refuses to begin, and ends."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest
from on_disk import PATIENCE_S, ROOT, child_environment, eventually, record
from running import COMMAND, serve_process
from service_cases import JSON, ended, event_id, post_states, shown, state

from otel_agent_telemetry.buffer.layout import list_writers
from otel_agent_telemetry.storage.writer_lock import WriterLock
from otel_agent_telemetry.testing import isolated_config
from tests.delivery.buffers import Writer
from tests.durability.service_ledger import assert_all_kept
from tests.durability.service_writers import Crowd
from tests.service.warm_command import WarmCommand

SEED = int(os.environ.get("DURABILITY_SEED", "0")) or random.SystemRandom().randrange(1 << 30)
IN_FLIGHT = 8


@pytest.fixture
def config(tmp_path):
    return isolated_config(tmp_path / "base")


def serve(config, *arguments, env=None):
    """Run a service that is expected to exit by itself; return its exit code and its log."""
    with tempfile.TemporaryFile("w+") as log:
        begun = begin(config, *arguments, env=env, output=log)
        code = begun.wait(3 * PATIENCE_S)
        log.seek(0)
        return code, log.read()


def begin(config, *arguments, env=None, output):
    """Start a service; whether it serves is the test's business."""
    words = ("--base-dir", config.base_dir, "serve", "--port", 0, *arguments)
    return WarmCommand(words, env=child_environment(env), output=output)


@contextmanager
def locked_database(config):
    """Another program is in a transaction of its own."""
    with closing(sqlite3.connect(config.db_path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


class InFlight:
    """Requests that the service has in hand when this is made, and that wait there."""

    def __init__(self, service, count):
        self._connections = [http.client.HTTPConnection(httpx.URL(service.url).netloc.decode()) for _ in range(count)]
        for number, connection in enumerate(self._connections, start=1):
            connection.request("POST", "/api/v1/runs", json.dumps(state(number)), JSON)
        with service.new_client() as later:  # what came before it has been read when it is answered
            assert later.get("/version").status_code == 200

    def answers(self):
        """`(status, has Retry-After)` of each, once all are here."""
        found = [connection.getresponse() for connection in self._connections]
        for connection in self._connections:
            connection.close()
        return [(answer.status, "retry-after" in answer.headers) for answer in found]


def refuses_connections(service):
    """Return whether the port no longer accepts connections."""
    try:
        socket.create_connection((httpx.URL(service.url).host, httpx.URL(service.url).port), timeout=1).close()
    except OSError:
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_under_load_loses_nothing_and_it_begins_again_at_once(config, number):
    """Ended by a signal under 16 writers: exit 0, the lock is free, the next one serves, all 2xx are stored."""
    print(f"\nDURABILITY_SEED={SEED}")
    crowd = Crowd(16, seed=SEED)
    with serve_process(config.base_dir) as first:
        crowd.go_to(first.url)
        crowd.start()
        assert crowd.answered.wait(PATIENCE_S)
        first.popen.send_signal(number)
        assert first.popen.wait(2 * PATIENCE_S) == 0, first.log
        assert WriterLock(config.db_path).holder() is None
        assert "Traceback" not in first.log, first.log
        with serve_process(config.base_dir, port=httpx.URL(first.url).port) as second:
            crowd.go_to(second.url)
            assert crowd.answered.wait(PATIENCE_S)
            book = crowd.stop()
            assert second.terminate() == 0, second.log
    assert assert_all_kept(book, config) >= len(book.kept) > 0


def test_requests_in_flight_are_answered_after_a_signal(config):
    """SIGTERM, and again, while requests wait for a locked database: each is stored and gets its response, then it exits with 0."""
    with serve_process(config.base_dir, {"TELEMETRY_API_WRITE_TIMEOUT_S": "60"}) as service:
        with locked_database(config):
            waiting = InFlight(service, IN_FLIGHT)
            service.popen.send_signal(signal.SIGTERM)
            eventually(lambda: refuses_connections(service))
            service.popen.send_signal(signal.SIGTERM)
            assert service.popen.poll() is None
        assert waiting.answers() == [(201, False)] * IN_FLIGHT
        assert service.popen.wait(2 * PATIENCE_S) == 0, service.log
    with serve_process(config.base_dir) as again:
        assert [shown(again, number)["status"] for number in range(1, IN_FLIGHT + 1)] == ["running"] * IN_FLIGHT


def test_signal_while_the_database_stays_locked_ends_it_all_the_same(config):
    """Nothing can be written: waiting requests get 503, and it exits with 0 within bounded time."""
    with serve_process(config.base_dir, {"TELEMETRY_API_WRITE_TIMEOUT_S": "2"}) as service:
        post_states(service, state(100))
        with locked_database(config):
            waiting = InFlight(service, IN_FLIGHT)
            service.popen.send_signal(signal.SIGTERM)
            assert waiting.answers() == [(503, True)] * IN_FLIGHT
            assert service.popen.wait(PATIENCE_S) == 0, service.log
            assert WriterLock(config.db_path).holder() is None
    with serve_process(config.base_dir) as again:
        assert post_states(again, state(100), ended(100)) == ["duplicate", "updated"]


def test_second_service_on_a_database_names_the_holder(config):
    """Exit code 4 and one line: process, host and address of the first, which goes on."""
    with serve_process(config.base_dir) as first:
        code, result = serve(config)

        assert code == 4, result
        assert len(result.splitlines()) == 1, result
        for part in (f"process {first.pid} on {socket.gethostname()}", first.url, str(config.db_path)):
            assert part in result
        assert post_states(first, state(1)) == ["created"]


def test_service_that_only_begins_is_named_too(config):
    """A second one waits a few seconds for a holder without a URL, then names it."""
    lock = WriterLock(config.db_path)
    assert lock.try_acquire()
    try:
        code, result = serve(config)
    finally:
        lock.release()

    assert (code, len(result.splitlines())) == (4, 1), result
    assert f"process {os.getpid()} on" in result


def test_port_in_use_is_one_clear_line(config):
    """Exit code 2, from an interpreter of its own; the database is free again afterwards."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [*COMMAND, "--base-dir", str(config.base_dir), "serve", "--port", str(port)]
        done = subprocess.run(command, cwd=ROOT, env=child_environment(), capture_output=True, text=True, check=False)

    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert f"127.0.0.1:{port}" in done.stderr
    assert WriterLock(config.db_path).holder() is None


def test_grpc_port_in_use_is_one_clear_line(config):
    """The setting is named."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, result = serve(config, env={"TELEMETRY_OTLP_GRPC_PORT": str(port)})

    assert (code, len(result.splitlines())) == (2, 1), result
    assert f"127.0.0.1:{port}" in result
    assert "TELEMETRY_OTLP_GRPC_PORT" in result


@pytest.mark.parametrize("host", ["x" * 70, "exa..mple", "256.1.1.1"])
def test_host_that_cannot_be_is_one_clear_line(config, host):
    """Exit code 2."""
    code, result = serve(config, "--host", host)
    assert (code, len(result.splitlines())) == (2, 1), result
    assert host in result


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_at_any_moment_after_its_address_is_logged_ends_it(config, number):
    """From the line that names its address on no signal is lost: exit 0."""
    for delay_s in (0, 0.002, 0.005, 0.01, 0.02):
        reading, writing = os.pipe()
        with os.fdopen(reading) as log, os.fdopen(writing, "w") as output:
            begun = begin(config, output=output)
            assert "serving" in log.readline()
            time.sleep(delay_s)  # the moment at which it is hit, not a synchronisation
            begun.send_signal(number)
            assert begun.wait(PATIENCE_S) == 0


REFUSALS = {
    "auth without a token": ({"TELEMETRY_API_AUTH_ENABLED": "true"}, "TELEMETRY_API_AUTH_TOKEN"),
    "a public address without a token": ({"TELEMETRY_API_HOST": "0.0.0.0"}, "TELEMETRY_API_AUTH_TOKEN"),
    "a certificate without its key": ({"TELEMETRY_TLS_CERTIFICATE": "/missing/cert.pem"}, "TELEMETRY_TLS_KEY"),
    "a certificate that is not there": (
        {"TELEMETRY_TLS_CERTIFICATE": "/missing/cert.pem", "TELEMETRY_TLS_KEY": "/missing/key.pem"},
        "TELEMETRY_TLS_CERTIFICATE",
    ),
    "workers on SQLite": ({"TELEMETRY_API_WORKERS": "2"}, "TELEMETRY_API_WORKERS"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_settings_that_would_not_protect_are_refused(config, name):
    """Exit code 2, one line naming the variable, and nothing was made."""
    env, variable = REFUSALS[name]

    code, result = serve(config, env=env)

    assert (code, len(result.splitlines())) == (2, 1), result
    assert variable in result
    assert not config.db_path.exists()


def test_stop_by_signal_before_it_serves_leaves_no_lock(config):
    """Ended while it waits for a locked database at its start: the next one begins as if nothing had been."""
    with serve_process(config.base_dir) as service:
        post_states(service, state(1))
        service.terminate()
    with locked_database(config), Path(os.devnull).open("w") as nowhere:
        beginning = begin(config, output=nowhere)
        try:
            eventually(lambda: WriterLock(config.db_path).holder())
            beginning.send_signal(signal.SIGTERM)
            assert beginning.wait(PATIENCE_S) in (0, -signal.SIGTERM)
        finally:
            beginning.kill()
    with serve_process(config.base_dir) as service:
        assert shown(service)["event_id"] == event_id(1)


WORKERS = {"TELEMETRY_API_WORKERS": "2"}


def test_workers_on_postgresql_share_a_port_and_the_base_directory(config, postgres_url):
    """Two workers store what is sent, drain the folder of `--base-dir`, end with 0 on SIGTERM and begin again."""
    left = Writer(config.buffer_dir, now_ns=1_760_000_000_000_000_000)
    left.write(record(7, status="success", updated=3))
    left.leave()
    env = {**WORKERS, "TELEMETRY_DATABASE_URL": postgres_url}
    with serve_process(config.base_dir, env) as service:
        assert post_states(service, state(1), ended(1)) == ["created", "updated"]
        eventually(lambda: list_writers(config.buffer_dir) == [])
        assert service.terminate() == 0, service.log
        assert "Traceback" not in service.log, service.log
    with serve_process(config.base_dir, env) as again:
        rows = again.client.get("/api/v1/runs").json()
        assert {row["run_id"]: row["status"] for row in rows} == {"run-1": "success", "run-7": "success"}
        assert again.terminate() == 0


def test_workers_refuse_in_one_line_what_one_process_refuses(config, postgres_url):
    """A token that is missing, a port in use, a database that is away: the same codes, no traceback."""
    env = {**WORKERS, "TELEMETRY_DATABASE_URL": postgres_url}
    nowhere = postgres_url.replace(postgres_url.rpartition("/")[2], "no_such_database")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused = [
            serve(config, env={**env, "TELEMETRY_API_AUTH_ENABLED": "true"}),
            serve(config, "--port", taken.getsockname()[1], env=env),
            serve(config, env={**env, "TELEMETRY_DATABASE_URL": nowhere, "TELEMETRY_DB_MAX_RETRIES": "0"}),
        ]

    assert [(code, len(result.splitlines())) for code, result in refused] == [(2, 1), (2, 1), (4, 1)], refused
    assert "not-to-be-shown" not in str(refused)
