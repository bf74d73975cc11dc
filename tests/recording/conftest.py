"""A recorder of one test; the service of `tests/delivery/service.py` for the tests of this folder."""

from __future__ import annotations

import pytest

from otel_agent_telemetry.recording.recorder import Recorder
from tests.delivery.service import other_service, service

__all__ = ["other_service", "service"]


@pytest.fixture
def recorder(config):
    opened = Recorder(config)
    yield opened
    opened.close(5.0)
