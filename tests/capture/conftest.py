"""Captures into the file of one test, and what is kept of them."""

from __future__ import annotations

import functools
import json

import pytest
from array_cases import MAX_BYTES
from on_disk import rows_of

from otel_agent_telemetry import TelemetryCapture, capture_telemetry
from otel_agent_telemetry.capture.array_file import ArrayFile


@pytest.fixture
def telemetry(config):
    return TelemetryCapture(config=config)


@pytest.fixture
def captured(telemetry):
    """The decorator, into this test's file."""
    return functools.partial(capture_telemetry, capture=telemetry)


@pytest.fixture
def entries(config):
    """What the file holds."""

    def read():
        return json.loads(config.capture_file.read_text("utf-8")) if config.capture_file.exists() else []

    return read


@pytest.fixture
def rows(telemetry, config):
    """The rows of the runs, once all of them are delivered."""

    def read():
        assert telemetry.client.flush()
        return rows_of(config)

    return read


@pytest.fixture
def path(tmp_path):
    return tmp_path / "registry" / "telemetry.json"


@pytest.fixture
def array(path):
    return ArrayFile(path, max_bytes=MAX_BYTES)
