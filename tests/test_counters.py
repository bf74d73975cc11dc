from __future__ import annotations

import logging

from otel_agent_telemetry.counters import Counters


def test_only_what_happened_is_told():
    """Zeros and empty texts are left out; the log's memory is no counter."""
    counters = Counters()
    counters.events += 2
    counters.warn("topic", "said once")

    assert counters.as_dict() == {"events": 2}


def test_a_failure_is_logged_once_a_minute_per_topic(caplog):
    """A disk that stays full does not fill the log; another failure is heard all the same."""
    counters = Counters()

    for number in range(100):
        counters.failed("journal write", OSError(28, f"full {number}"))
    counters.failed("buffer write", OSError(5, "broken"))

    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "journal write failed: OSError: [Errno 28] full 0" in caplog.text
    assert "buffer write" in caplog.text


def test_the_last_error_is_kept_short():
    """It stands in a lock file of 4 KiB."""
    counters = Counters()

    counters.failed("x", ValueError("y" * 10_000))

    assert len(counters.last_error) <= 300
    assert counters.last_error.startswith("x: ValueError: yyy")


def test_an_internal_error_is_counted_and_its_traceback_is_for_debugging(caplog):
    """`internal` counts each; the traceback goes to DEBUG only."""
    caplog.set_level(logging.DEBUG, "otel_agent_telemetry")
    counters = Counters()

    try:
        raise RuntimeError("ours")
    except RuntimeError as problem:
        counters.internal("span start", problem)
        counters.internal("span start", problem)

    assert counters.as_dict()["internal_errors"] == 2
    assert [record.levelname for record in caplog.records if record.exc_info] == ["DEBUG", "DEBUG"]
