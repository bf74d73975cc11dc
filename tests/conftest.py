"""Fixtures of every test: configurations, recorders and clients that leave nothing behind; what skips mean."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections import Counter

import pytest
from components import in_ci, require
from hypothesis import HealthCheck, settings
from on_disk import Case

from otel_agent_telemetry.otel import provider, spans
from otel_agent_telemetry.otel.provider import close_providers
from otel_agent_telemetry.testing import ManualClock, capture_runs, isolated_config

pytest_plugins = ["otel_agent_telemetry.testing", "postgres"]

# A busy machine is no finding: neither a deadline for an example nor for making one up.
settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")

# The tests start hundreds of interpreters, each of which would compile the package anew where no bytecode may be
# written; the workers would rewrite every test.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A shell that starts a command in the background has it ignore SIGINT, and its children with it: tests that
# interrupt a child would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


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
def captured():
    """What is recorded in memory: runs of its `client`, and of code that traces with its `provider`."""
    with capture_runs() as opened:
        yield opened


@pytest.fixture
def tracer(captured):
    """A tracer whose root spans are runs of `captured`."""
    return captured.provider.get_tracer("app")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KiB. Needs the right to mount one; without it the test of the size limit stands for it."""
    require("mounts")
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@pytest.fixture(autouse=True, scope="session")
def _program_without_name():
    """Runs in this process are not called as the test runner, which may be any."""
    with pytest.MonkeyPatch.context() as patch:
        for user in (spans, provider):
            patch.setattr(user, "program_name", lambda: None)
        yield


@pytest.fixture
def tmp_path(tmp_path):
    """The folder of a test; whatever the test opened under it is closed after it."""
    yield tmp_path
    close_providers(lambda used: used.base_dir.is_relative_to(tmp_path))


@pytest.fixture(autouse=True)
def _nothing_is_logged_elsewhere():
    """No test logs into another."""
    # Without a folder: half of the tests need none, and each is made after a look at all that are there.
    logger = logging.getLogger("otel_agent_telemetry")
    handlers = list(logger.handlers)
    yield
    logger.setLevel(logging.NOTSET)
    logger.handlers[:] = handlers  # the command's


# Hooks of pytest: what was skipped, and that nothing is in CI


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Honour `@pytest.mark.requires(name, …)`."""
    for mark in item.iter_markers("requires"):
        for name in mark.args:
            require(name)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Turn a skip of a test into a failure in CI; an expected failure is none."""
    return _without_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    """Turn a skip of a whole file into a failure in CI."""
    return _without_skip((yield))


def _without_skip(report):
    if in_ci() and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, and CI skips nothing: {_reason(report)}"
    return report


def _reason(report) -> str:
    """Why a test was skipped, without pytest's own word for it."""
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """End with one line: what was skipped, and the command that installs it."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is None or hasattr(config, "workerinput"):
        return
    skipped = Counter(_reason(report) for report in terminal.stats.get("skipped", ()))
    if skipped:
        terminal.write_line(f"skipped: {', '.join(sorted(skipped))}; {skipped.total()} tests")
