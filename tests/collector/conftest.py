"""Collectors, services and programs of the tests of collector-config/."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from collectors import collecting
from components import require
from otlp_backend import receiving

from tests.service.running import serve_process


@pytest.fixture(scope="session")
def collector_binary():
    """The collector that `make collector` built."""
    return require("collector")


@pytest.fixture
def collect(collector_binary, tmp_path):
    """Start collectors that end with the test: `collect("gateway.yaml", TELEMETRY_API_URL=…)`."""
    with ExitStack() as stack:
        yield lambda *names, **env: stack.enter_context(
            collecting(collector_binary, tmp_path / names[0].removesuffix(".yaml"), *names, env=env)
        )


@pytest.fixture
def service(tmp_path):
    """A real `agent-telemetry serve` over SQLite, as a process."""
    with serve_process(tmp_path / "service", {"TELEMETRY_DB_SYNCHRONOUS": "OFF"}) as started:
        yield started


@pytest.fixture
def backend():
    """An OTLP backend of somebody else's."""
    with receiving() as started:
        yield started


@pytest.fixture(scope="module")
def shared_base(tmp_path_factory):
    """The base directory of `shared_service`."""
    return tmp_path_factory.mktemp("shared") / "service"


@pytest.fixture(scope="module")
def shared_service(shared_base):
    """One real service for a whole file; every run has ids of its own, so tests see theirs."""
    with serve_process(shared_base, {"TELEMETRY_DB_SYNCHRONOUS": "OFF"}) as started:
        yield started
