from __future__ import annotations

import logging

import pytest


@pytest.fixture(autouse=True)
def _log_of_the_command_ends_with_the_test():
    logger = logging.getLogger("otel_agent_telemetry")
    before = list(logger.handlers)
    yield
    logger.handlers[:] = before
