"""A buffer, its writers and what drains it; the service of `tests/delivery/service.py` for the tests of this folder."""

from __future__ import annotations

import pytest
from buffers import Drained, Writer

from otel_agent_telemetry.testing import InMemoryTarget
from tests.delivery.service import other_service, service

__all__ = ["other_service", "service"]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "buffer"


@pytest.fixture
def target():
    return InMemoryTarget()


@pytest.fixture
def writers(folder, clock):
    """Makes writers and lets go of those that a test left."""
    made = []

    def make(**more):
        clock.advance(1)
        made.append(Writer(folder, now_ns=clock.now_ns(), **more))
        return made[-1]

    yield make
    for writer in made:
        writer.die()


@pytest.fixture
def drained(folder, clock):
    opened = Drained(folder, clock=clock)
    yield opened
    opened.drain.release()


@pytest.fixture
def writer(writers):
    return writers()
