"""`ui`: the page over a base directory, from a service that runs already or one of its own."""

from __future__ import annotations

import signal
import subprocess
from contextlib import contextmanager

import httpx
import pytest
from on_disk import PATIENCE_S, child_environment, eventually

from otel_agent_telemetry import TelemetryClient
from tests.cli.command import COMMAND, agent_telemetry


@contextmanager
def shown(config, *arguments, env=None):
    """Run `ui` until the block ends; yield the process and the address that it printed."""
    command = [*COMMAND, "--base-dir", str(config.base_dir), "ui", *arguments]
    environment = child_environment({"DISPLAY": "", "WAYLAND_DISPLAY": "", **(env or {})})
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait(PATIENCE_S)
        process.stdout.close()


@pytest.fixture
def recorded(config):
    """A base directory with an ended run and its event, recorded without a service."""
    client = TelemetryClient(config)
    with client.track_run("indexer", "crawl", run_id="the-run") as run:
        run.log_event("page.read", {"url": "https://example.org"})
    client.close()
    return config


def test_runs_that_were_recorded_without_a_service_are_shown_with_their_events(recorded) -> None:
    """The service that `ui` starts brings the journal into the database; Ctrl-C ends it in order."""
    with shown(recorded) as (process, url):
        assert "indexer" in httpx.get(url, timeout=PATIENCE_S).text
        run = httpx.get(f"{url}/api/v1/runs", params={"run_id": "the-run"}, timeout=PATIENCE_S).json()[0]
        events = f"{url}/api/v1/runs/{run['event_id']}/events"
        assert eventually(lambda: httpx.get(events, timeout=PATIENCE_S).json())[0]["event_type"] == "page.read"
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 0


def test_a_service_that_runs_already_is_shown_and_left_running(recorded) -> None:
    """A second `ui` finds the first by the lock file, prints its address and ends."""
    with shown(recorded) as (process, url):
        second = agent_telemetry(recorded, "ui", "--no-browser")
        assert (second.code, second.out.strip()) == (0, url)
        assert process.poll() is None


def test_the_address_opens_in_the_browser_of_the_reader(recorded, tmp_path) -> None:
    """Where there is a display; the browser gets the address and nothing else."""
    opened, browser = tmp_path / "opened", tmp_path / "browser.sh"
    browser.write_text(f'#!/bin/sh\necho "$@" > {opened}.new && mv {opened}.new {opened}\n')
    browser.chmod(0o755)
    with shown(recorded, env={"DISPLAY": ":9", "BROWSER": str(browser)}) as (_, url):
        eventually(opened.exists)
        assert opened.read_text().split() == [url]


def test_the_page_is_shown_even_where_the_services_settings_turn_it_off(recorded) -> None:
    """`TELEMETRY_PAGE=false` is for services; whoever calls `ui` asks for the page."""
    with shown(recorded, env={"TELEMETRY_PAGE": "false"}) as (_, url):
        assert httpx.get(url, timeout=PATIENCE_S).headers["content-type"].startswith("text/html")


def test_no_browser_opens_nothing(recorded, tmp_path) -> None:
    """The address alone."""
    opened = tmp_path / "opened"
    env = {"DISPLAY": ":9", "BROWSER": f"touch {opened}"}
    with shown(recorded, "--no-browser", env=env) as (_, url):
        assert httpx.get(f"{url}/version", timeout=PATIENCE_S).status_code == 200
    assert not opened.exists()
