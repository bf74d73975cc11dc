"""Fixtures of every test: configurations, recorders and clients that leave nothing behind."""

from __future__ import annotations

import logging
import os
import subprocess

import pytest
from hypothesis import HealthCheck, settings
from on_disk import Case

from otel_agent_telemetry.otel.provider import close_providers
from otel_agent_telemetry.testing import ManualClock, isolated_config

pytest_plugins = ["otel_agent_telemetry.testing", "postgres"]

# A busy machine is no finding: neither a deadline for an example nor for making one up.
settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")


@pytest.fixture
def config(tmp_path):
    """A configuration of this test alone: its runs go to a database under its folder."""
    return isolated_config(tmp_path / "base", db_synchronous="OFF", exit_timeout_s=5.0)


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def case(config):
    """Clients and recorders of one configuration, closed afterwards."""
    opened = Case(config)
    yield opened
    opened.close()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KiB. Needs the right to mount one; run the tests as root or in a user namespace."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        if os.environ.get("CI"):
            pytest.fail(f"no small disk can be mounted: {done.stderr}")
        pytest.skip(f"no small disk can be mounted here ({done.stderr.strip()}); the size-limit test stands for it")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@pytest.fixture(autouse=True)
def _nothing_stays_open(tmp_path):
    """Whatever a test opened under its folder is closed after it; no test logs into another."""
    logger = logging.getLogger("otel_agent_telemetry")
    handlers = list(logger.handlers)
    yield
    close_providers(lambda used: used.base_dir.is_relative_to(tmp_path))
    logger.setLevel(logging.NOTSET)
    logger.handlers[:] = handlers  # the command's
