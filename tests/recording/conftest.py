from __future__ import annotations

import pytest

from tests.delivery.service import TestService


@pytest.fixture
def service():
    """A running service that knows no run yet."""
    running = TestService()
    yield running
    running.kill()


@pytest.fixture
def other_service():
    """Another host, which nothing of ours may reach."""
    running = TestService()
    yield running
    running.kill()
