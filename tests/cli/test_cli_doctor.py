"""`doctor`: each thing that can be wrong is found, with how to fix it."""

from __future__ import annotations

import importlib
import logging

import pytest
from command import OPEN_A_RUN, agent_telemetry, record_runs
from on_disk import Process, nobody_delivers
from opentelemetry.sdk.trace import TracerProvider

from otel_agent_telemetry import TelemetryClient
from otel_agent_telemetry.buffer.health import read_health
from otel_agent_telemetry.buffer.layout import lock_path
from otel_agent_telemetry.delivery.drain_lock import DrainLock
from otel_agent_telemetry.delivery.rejected import store_rejected
from otel_agent_telemetry.operations import check_buffer, check_variables
from otel_agent_telemetry.operations.check_environment import error, ok, warn
from otel_agent_telemetry.otel.processor import AgentRunSpanProcessor
from otel_agent_telemetry.recording.recorder import Recorder
from tests.storage.version_7_database import make_version_7, row_7

doctor_command = importlib.import_module("otel_agent_telemetry.cli.doctor")


def findings(config, *, level=None, about=None, env=None):
    result = agent_telemetry(config, "doctor", "--json", env=env)
    found = [
        finding
        for finding in result.json["findings"]
        if level in (None, finding["level"]) and about in (None, finding["about"])
    ]
    return result.code, found


def record_waiting(config):
    """Record a run that stays in the buffer, because another process delivers."""
    client = TelemetryClient(config)
    client.end_run(client.start_run("agent", "job", run_id="waits"))
    client.close()


def test_doctor_of_an_empty_base_folder_finds_nothing_wrong_and_makes_nothing(config):
    """Before the first run all is well."""
    code, found = findings(config)
    assert code == 0
    assert {finding["level"] for finding in found} == {"ok"}
    assert not config.base_dir.exists()


def test_doctor_of_a_used_base_folder_finds_nothing_wrong(config):
    """After runs all is well, and the versions and numbers are named."""
    record_runs(config)
    result = agent_telemetry(config, "doctor")
    assert result.code == 0
    assert "3 runs" in result.out
    assert "opentelemetry-sdk" in result.out
    assert "error" not in result.out


def test_doctor_masks_secrets(config):
    """Tokens and passwords are not printed, in either form."""
    env = {"TELEMETRY_API_AUTH_TOKEN": "s3cret", "METRICS_API_TOKEN": "s3cret"}
    env["GOOGLE_SHEETS_API_URL"] = "https://hooks.example.com/services/s3cret"
    for options in ([], ["--settings"], ["--json"]):
        result = agent_telemetry(config, "doctor", *options, env=env)
        assert "s3cret" not in result.out + result.err
        assert "***" in result.out
        assert "hooks.example.com" in result.out


@pytest.mark.parametrize(
    ("env", "about", "level", "words"),
    [
        ({"TELEMETRY_API_PORT": "many"}, "settings", "warn", "TELEMETRY_API_PORT"),
        ({"OTEL_SDK_DISABLED": "true"}, "settings", "warn", "OTEL_SDK_DISABLED"),
        ({"GOOGLE_SHEETS_API_ENABLED": "true"}, "settings", "warn", "GOOGLE_SHEETS_API_URL"),
        ({"TELEMETRY_API_URL": "http://127.0.0.1:9"}, "service", "error", "no agent-telemetry service"),
        ({"TELEMETRY_DATABASE_URL": "nonsense"}, "database", "error", "TELEMETRY_DATABASE_URL"),
        ({"TELEMETRY_NDJSON_DIR": "/dev/null/x"}, "folders", "error", "/dev/null"),
        ({"TELEMETRY_BASEDIR": "/srv"}, "settings", "warn", "TELEMETRY_BASEDIR"),
        ({"OTEL_TRACES_EXPORTER": "agent_runs,nowhere"}, "exporter", "error", "nowhere"),
        ({"TELEMETRY_API_AUTH_ENABLED": "false", "TELEMETRY_API_HOST": "0.0.0.0"}, "settings", "warn", "0.0.0.0"),
    ],
)
def test_doctor_finds_what_is_wrong_with_settings(config, env, about, level, words):
    """Named, with how to fix it; only errors make the status 1."""
    code, found = findings(config, level=level, about=about, env=env)
    assert code == (1 if level == "error" else 0)
    assert any(words in finding["text"] and finding["fix"] for finding in found)


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({}, "are left out - TELEMETRY_CAPTURE_CONTENT=true stores them"),
        ({"TELEMETRY_CONTENT_ALLOW": "db.query.text"}, "TELEMETRY_CONTENT_ALLOW keeps db.query.text"),
        ({"TELEMETRY_CAPTURE_CONTENT": "true"}, "are stored: TELEMETRY_CAPTURE_CONTENT is true"),
    ],
)
def test_doctor_says_whether_message_content_is_stored(config, env, words):
    """With the settings that decide it."""
    _, (finding,) = findings(config, about="content", env=env)
    assert finding["level"] == "ok"
    assert words in finding["text"]


def test_doctor_finds_spans_whose_start_fails(config):
    """Runs are missing then, and nothing else says so."""
    record_runs(config, 1)
    health = read_health(config.buffer_dir)
    health.counters = {"internal_errors": 3}
    health.write(config.buffer_dir)
    code, (found,) = findings(config, level="error", about="counters")
    assert code == 1
    assert "3 starts or ends of spans" in found["text"]


class Misfit(AgentRunSpanProcessor):
    """A processor that does not fit the SDK: no span can be begun."""

    def _begin_plain(self, span, context, parameters):
        raise TypeError("start() got an unexpected argument")


@pytest.mark.parametrize("logs_elsewhere", [True, False])
def test_doctor_finds_that_every_span_start_fails(config, capfd, monkeypatch, logs_elsewhere):
    """It is found while the process lives and afterwards; the process prints one line, wherever its log goes."""
    logger = logging.getLogger("otel_agent_telemetry")
    monkeypatch.setattr(logger, "propagate", False)
    monkeypatch.setattr(logger, "handlers", [logging.NullHandler()] if logs_elsewhere else [])
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(Misfit(recorder=Recorder(config)))
    for _ in range(3):
        provider.get_tracer("app").start_span("invoke_agent", attributes={"gen_ai.operation.name": "invoke_agent"})
    lines = [line for line in capfd.readouterr().err.splitlines() if "span start failed" in line]
    assert len(lines) == 1
    assert "doctor" in lines[0]
    code, (found,) = findings(config, level="error", about="counters")
    assert code == 1
    assert "every span start failed" in found["text"]
    assert "unexpected argument" in found["text"]
    provider.shutdown()
    _, (found,) = findings(config, level="error", about="counters")
    assert "every span start failed" in found["text"]


def test_the_most_urgent_finding_comes_first_and_fits_the_terminal(config, monkeypatch, capsys):
    """Each fix has a line of its own; what is long goes on below, indented."""
    fix = "Do this: " + "then that, " * 20
    found = [ok("a", "fine"), warn("b", "not " * 30 + "good", fix), error("c", "/" + "p" * 90, "Run `x`.")]
    monkeypatch.setattr(doctor_command, "width_of_stdout", lambda: 80)
    for finding in sorted(found, key=doctor_command._urgency):
        doctor_command._print_finding(finding)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == ["error", "warn", "ok"]
    assert [line for line in lines if len(line) > 80] == ["error  c              /" + "p" * 90], "a path stays whole"
    assert sum(line.strip().startswith("fix: ") for line in lines) == 2


def test_doctor_finds_a_deliverer_that_makes_no_progress(config, monkeypatch):
    """It holds the lock, something waits, and what it notes does not change."""
    monkeypatch.setattr(check_buffer, "_STANDS_STILL_S", 0.01)
    lock = DrainLock(config.buffer_dir)
    with nobody_delivers(config):
        record_waiting(config)
    assert lock.try_acquire()
    try:
        code, found = findings(config, level="error", about="delivery")
    finally:
        lock.release()
    assert code == 1
    assert "made no progress" in found[0]["text"]


@pytest.mark.parametrize("installed", [True, False])
def test_doctor_finds_an_otlp_exporter_that_is_not_installed(config, monkeypatch, installed):
    """Nothing goes to the collector then."""
    monkeypatch.setattr(check_variables, "_is_installed", lambda _module: installed)
    _, found = findings(config, about="exporter", env={"TELEMETRY_OTLP_ENABLED": "true"})
    assert len(found) == (0 if installed else 1)


def test_doctor_finds_a_damaged_database(config):
    """Pages overwritten with noise are an error."""
    record_runs(config)
    raw = bytearray(config.db_path.read_bytes())
    raw[4096 : 4096 * 4] = b"\xa5" * (4096 * 3)
    config.db_path.write_bytes(raw)
    code, found = findings(config, level="error", about="database")
    assert code == 1
    assert found


def test_doctor_finds_writers_that_are_gone_and_nobody_delivers(config):
    """A killed process's segments wait for somebody: sync is named, and fixes it."""
    with nobody_delivers(config), Process(OPEN_A_RUN, config.base_dir, "left") as process:
        process.line()
        alive = findings(config, about="buffer")[1]
        process.kill()
    assert any("1 live writers" in finding["text"] for finding in alive)
    code, found = findings(config, level="warn", about="buffer")
    assert code == 0
    assert "sync" in found[0]["fix"]
    agent_telemetry(config, "sync")
    assert findings(config, level="warn")[1] == []


def test_doctor_shows_why_records_were_refused(config):
    """The number and the last reasons."""
    record_runs(config, 1)
    for number in range(5):
        store_rejected(config.buffer_dir, {"record_type": "run"}, target="t", reason=f"reason {number}", now_ns=0)
    _, (found,) = findings(config, about="rejected")
    assert found["text"].startswith("5 records")
    assert "reason 4" in found["text"]
    assert "reason 1" not in found["text"]


def test_doctor_shows_a_delivery_that_fails(config):
    """The last problem since the last delivery is an error with its words."""
    record_runs(config, 1)
    health = read_health(config.buffer_dir)
    health.last_problem, health.last_problem_at = "the dog ate it", "2999"
    health.write(config.buffer_dir)
    code, found = findings(config, level="error", about="delivery")
    assert code == 1
    assert "the dog ate it" in found[0]["text"]


def test_doctor_shows_lost_lines_of_writers(config):
    """Counters in a writer's lock file and in health.json both count."""
    record_runs(config, 1)
    health = read_health(config.buffer_dir)
    health.counters = {"lost": 2}
    health.write(config.buffer_dir)
    lock_path(config.buffer_dir, "20260101T000000-1-00000001").write_text(
        '{"counters": {"journal_failed": 3, "last_error": "disk full"}}'
    )
    code, found = findings(config, about="counters")
    assert code == 1
    assert {finding["level"] for finding in found} == {"error", "warn"}
    assert any("disk full" in finding["text"] for finding in found)


def test_doctor_reports_an_older_schema_once(config):
    """Every check that reads the database meets it; one names it, with the command that upgrades."""
    make_version_7(config.db_path, [row_7(1)])
    code, found = findings(config, level="warn", about="database")
    assert (code, ["init-db" in finding["fix"] for finding in found]) == (0, [True])
