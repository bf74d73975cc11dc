"""A client that keeps its runs in memory."""

from __future__ import annotations

import pytest

from otel_agent_telemetry.testing import capture_runs


@pytest.fixture
def captured():
    with capture_runs() as opened:
        yield opened


@pytest.fixture
def client(captured):
    return captured.client
