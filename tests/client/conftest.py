"""A client that keeps its runs in memory (`captured`)."""

from __future__ import annotations

import pytest


@pytest.fixture
def client(captured):
    return captured.client
