"""Whatever fails, calls of a client return."""

from __future__ import annotations

import io
import logging
import re
import sys

import pytest
from on_disk import journal_lines, nobody_delivers, rows_of

from otel_agent_telemetry import TelemetryClient, TelemetryConfig
from otel_agent_telemetry.testing import isolated_config


def test_disk_that_cannot_be_written_is_never_the_callers_problem(tmp_path, caplog):
    """A file stands where the base folder should be: everything returns, failures are counted and logged."""
    (tmp_path / "base").write_bytes(b"")
    client = TelemetryClient(isolated_config(tmp_path / "base", exit_timeout_s=0.5))

    with client.track_run("agent", "job") as run:
        run.log_event("e")
    assert client.flush(0.2) is False
    assert client.get_stats()["error"] == "Statistics unavailable"

    counters = client._recorder.counters
    assert counters.lost >= 2
    assert counters.journal_failed >= 3
    assert "journal write failed" in caplog.text
    client.close()


def test_journal_failure_alone_loses_no_run(tmp_path):
    """Seed 001, "NDJSON Write Failure": the run reaches its target all the same."""
    config = isolated_config(tmp_path / "b", db_synchronous="OFF")
    config.base_dir.mkdir()
    config.ndjson_dir.write_bytes(b"")
    client = TelemetryClient(config)
    client.end_run(client.start_run("agent", "job", run_id="mine"))

    assert client.flush(10)
    assert rows_of(config)["mine"]["status"] == "success"
    assert client._recorder.counters.lost == 0


def test_buffer_failure_alone_keeps_the_journal(tmp_path):
    """The run is in the journal, is not lost, and flush says that it was not delivered."""
    config = isolated_config(tmp_path / "b", exit_timeout_s=0.5)
    config.base_dir.mkdir()
    config.buffer_dir.write_bytes(b"")
    client = TelemetryClient(config)
    client.end_run(client.start_run("agent", "job", run_id="mine"))

    assert [line["status"] for line in journal_lines(config, "run")] == ["running", "success"]
    assert client._recorder.counters.lost == 0
    assert client._recorder.counters.buffer_failed == 2
    assert not client.flush(0.2)
    client.close()


@pytest.mark.parametrize("config", [None, "rubbish", 5, {}])
def test_configuration_of_a_wrong_type_means_the_environment(agent_telemetry_base, config):
    """The constructor does not raise either."""
    client = TelemetryClient(config)

    assert client.config.base_dir == agent_telemetry_base


def test_what_is_odd_about_the_configuration_is_logged(tmp_path, caplog):
    """Seed 001: validation failures are warnings."""
    TelemetryClient(TelemetryConfig(base_dir=tmp_path, sheets_enabled=True, discover_service=False))

    assert "GOOGLE_SHEETS_API_URL is not set" in caplog.text


class Hateful:
    """Raises from everything."""

    def __getattribute__(self, name):
        raise RuntimeError(name)

    def __repr__(self):
        raise RuntimeError("repr")

    def __str__(self):
        raise RuntimeError("str")

    def __bool__(self):
        raise RuntimeError("bool")

    def __eq__(self, other):
        raise RuntimeError("eq")

    __hash__ = None


@pytest.mark.parametrize("make", [Hateful, type(None), int, str, bytes, list, dict, object, lambda: float("nan")])
def test_no_argument_makes_a_method_raise(client, captured, make):
    """Anything anywhere: a run id comes back, and an honest run beside it is recorded."""
    value = make()
    run_id = client.start_run(value, value, value, run_id=value, product=value, metrics_json=value, other=value)
    assert isinstance(run_id, str)
    client.log_event(value, value, value)
    client.log_event(run_id, value, {"v": value})
    client.end_run(run_id, value, items_failed=value, error_summary=value, other=value)
    client.end_run(value, value)
    client.associate_commit(value, value, value, value, value)
    client.flush(value)
    with client.track_run(value, value, value) as run:
        run.log_event(value, value)
        run.set_metrics(items_failed=value, context_json=value)

    honest = client.start_run("agent", "job", run_id="honest")
    client.end_run(honest)
    assert captured.run("honest").status == "success"
    assert all(state.ended for state in captured.runs if state.run_id != run_id)


@pytest.mark.parametrize("stderr", [None, "closed"])
def test_messages_survive_a_missing_stderr(client, monkeypatch, stderr):
    """A daemon without stderr."""
    stream = None
    if stderr == "closed":
        stream = io.StringIO()
        stream.close()
    monkeypatch.setattr(sys, "stderr", stream)

    client.end_run("unknown")


def test_a_log_handler_with_a_closed_stream_costs_the_application_nothing(client, monkeypatch):
    """As a daemon has that configured logging before it closed its stderr."""
    stream = io.StringIO()
    stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    handler = logging.StreamHandler(stream)
    log = logging.getLogger("otel_agent_telemetry")
    log.addHandler(handler)
    try:
        client.end_run("unknown")
    finally:
        log.removeHandler(handler)


def test_failure_inside_start_run_gives_an_error_id(client, captured, capsys, monkeypatch):
    """Seed 001: `"error-"` and an id, and a sentence on stderr."""

    def broken(*args, **kwargs):
        raise RuntimeError("tracer is broken")

    monkeypatch.setattr(client._tracer, "start_span", broken)

    run_id = client.start_run("agent", "job")
    with client.track_run("agent", "job") as run:
        run.log_event("e")
        run.set_metrics(items_failed=1)
    client.end_run(run_id)

    assert re.fullmatch(r"error-\d{8}T\d{6}Z-agent-[0-9a-f]{8}", run_id)
    assert run.run_id.startswith("error-")
    assert "[ERROR] Telemetry start_run failed: " in capsys.readouterr().err


def test_associate_commit_checks_its_arguments(client, captured):
    """`(False, sentence)` for what no service would take; nothing is recorded."""
    for bad in (("r", "xyz", "ci"), ("r", "abcdef1", "robot"), ("", "abcdef1", "ci"), ("r", "abc", "ci"),
                ("r", "abcdef1", "ci", None, "yesterday"), ("r", "abcdef1", "ci", 5)):  # fmt: skip
        done, message = client.associate_commit(*bad)
        assert not done
        assert message.startswith("[ERROR] associate_commit failed: ")
    assert client.associate_commit("r", "abcdef1", "ci") == (True, "Commit abcdef1 associated with run r")
    assert len(captured.commits) == 1


def test_closing_twice_and_recording_afterwards(tmp_path):
    """`close` is idempotent; a later run is kept and delivered."""
    config = isolated_config(tmp_path / "b", db_synchronous="OFF")
    client = TelemetryClient(config)
    client.end_run(client.start_run("agent", "job", run_id="one"))
    client.close()
    client.close()
    client.end_run(client.start_run("agent", "job", run_id="two"))
    client.close()

    assert {name: row["status"] for name, row in rows_of(config).items()} == {"one": "success", "two": "success"}


def test_flush_returns_in_time_when_nobody_delivers(tmp_path):
    """Another process holds the drain lock and does nothing: False, after the timeout."""
    config = isolated_config(tmp_path / "b", exit_timeout_s=0.2)
    client = TelemetryClient(config)
    with nobody_delivers(config):
        client.end_run(client.start_run("agent", "job"))
        assert client.flush(0.3) is False
        assert client.flush(0) is False


def test_flush_of_nothing_is_true(tmp_path):
    """A client that recorded nothing has nothing to wait for, and opens nothing."""
    client = TelemetryClient(isolated_config(tmp_path / "b"))

    assert client.flush(0)
    client.close()
    assert not (tmp_path / "b").exists()
