"""`agent-telemetry stats` and `TelemetryClient.get_stats()` give the same figures, wherever the runs are."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from otel_agent_telemetry import TelemetryClient
from otel_agent_telemetry.buffer.health import Health
from otel_agent_telemetry.delivery import local_service
from otel_agent_telemetry.delivery.stats import service_with_runs
from otel_agent_telemetry.operations.run_reader import open_reader
from otel_agent_telemetry.storage.writer_lock import WriterLock
from tests.delivery.service import Fault

sys.path.append(str(Path(__file__).parents[1] / "cli"))

from command import agent_telemetry, record_runs

FIGURES = ("total_runs", "agents", "recent_24h", "statuses")
AWAY = "http://127.0.0.1:9"


def figures_of_both(config):
    """The figures of the command and of the client, which are the same, and the command's exit status."""
    env = {"TELEMETRY_API_URL": config.api_url} if config.api_url else None
    command = agent_telemetry(config, "stats", "--json", "--no-sync", env=env)
    client = TelemetryClient(config)
    stats = client.get_stats()
    client.close()
    shown = {name: stats.get(name) for name in FIGURES}
    if command.out:
        assert {name: command.json.get(name) for name in FIGURES} == shown
    else:
        assert set(shown.values()) == {None}
    return shown, command.code


def test_with_a_configured_service_its_figures_are_given(config, service):
    """The runs of the local database are not counted."""
    record_runs(config, 2)
    sender = config.with_(api_url=service.url)
    record_runs(sender, 3)

    figures, code = figures_of_both(sender)

    assert (figures["total_runs"], code) == (3, 0)


def test_without_a_service_the_local_database_is_counted(config):
    """No service is configured or running."""
    record_runs(config, 3)

    figures, code = figures_of_both(config)

    assert (figures["total_runs"], figures["agents"], code) == (3, {"agent-0": 2, "agent-1": 1}, 0)


@pytest.mark.parametrize("delivered_there", [False, True])
def test_with_a_service_that_is_away_the_local_database_is_counted(config, delivered_there):
    """Configured, or the one that took the last delivery; the command reports it with exit status 4."""
    record_runs(config, 2)
    if delivered_there:
        Health(target=AWAY).write(config.buffer_dir)
    else:
        config = config.with_(api_url=AWAY)

    figures, code = figures_of_both(config)

    assert (figures["total_runs"], code) == (2, 4)


def test_with_a_service_that_is_away_and_no_database_there_are_no_figures(config):
    """The client gives its error object, the command exit status 4."""
    figures, code = figures_of_both(config.with_(api_url=AWAY))

    assert (set(figures.values()), code) == ({None}, 4)


def test_a_service_over_the_local_database_is_not_another_place(config, service):
    """Its figures and those of the database are the same, so neither its failure nor its token matters."""
    record_runs(config, 2)
    lock = WriterLock(config.db_path)
    assert lock.try_acquire(service.url)
    service.script(Fault(503), Fault(503))
    try:
        figures, code = figures_of_both(config)
        assert service_with_runs(config) is None
        assert open_reader(config).service == ""
    finally:
        lock.release()

    assert (figures["total_runs"], code) == (2, 0)


def test_runs_that_a_service_took_are_read_from_its_database_when_it_has_ended(config):
    """The last delivery went to a service over the local database: it is away, but the runs are here."""
    record_runs(config, 2)
    health = config.buffer_dir / "health.json"
    health.write_text(json.dumps({**json.loads(health.read_text()), "target": AWAY}))
    assert service_with_runs(config) == AWAY

    lock = WriterLock(config.db_path)
    assert lock.try_acquire(AWAY)
    lock.release()

    assert service_with_runs(config) is None
    figures, code = figures_of_both(config)
    assert (figures["total_runs"], code) == (2, 0)


def test_a_service_that_was_found_here_has_the_runs_before_any_was_delivered(config, service, monkeypatch):
    """`runs` and `show` read it, as the client does."""
    monkeypatch.setattr(local_service, "DEFAULT_API_URL", service.url)

    assert service_with_runs(config.with_(discover_service=True)) == service.url
    assert service_with_runs(config.with_(discover_service=False)) is None
