"""`TelemetryContext`: a block of work as a run and an entry."""

from __future__ import annotations

import asyncio
import functools
import json

import pytest
from on_disk import eventually, rows_of
from opentelemetry import trace

from otel_agent_telemetry import TelemetryCapture, TelemetryContext
from otel_agent_telemetry.locks import FileLock


@pytest.fixture
def context(telemetry):
    """`TelemetryContext`, into this test's file."""
    return functools.partial(TelemetryContext, capture=telemetry)


def test_a_block_is_a_success_unless_something_is_said(context, config, entries):
    """Inputs given at once, the id known inside, the entry afterwards."""
    with context("plugin.build", "CLI", {"a": 1, "token": "t"}) as block:
        assert block.entry is None
        assert trace.get_current_span().attributes["agent.run.id"] == block.run_id
    assert entries() == [block.entry]
    assert block.entry["status"] == "success"
    assert block.entry["inputs"] == {"a": 1, "token": "***REDACTED***"}
    assert block.entry["run_id"] == block.run_id


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        ("failure", None, "failure"),
        ("failure", "why", "failure"),
        (None, "why", "error"),
        ("pending", None, "pending"),
        ("timeout", "late", "timeout"),
        ("success", "a remark", "success"),
        ("splendid", None, "success"),
        (7, None, "success"),
    ],
)
def test_what_is_set_is_what_the_entry_says(context, config, caplog, status, error, expected):
    """The status that was set, else `error` when an error was; what is no status is a warning."""
    with context("skill", "API") as block:
        if status is not None:
            block.set_status(status)
        if error is not None:
            block.set_error(error)
    assert (block.entry["status"], block.entry["error_message"]) == (expected, error)
    assert ("is no status" in caplog.text) == (status in ("splendid", 7))


def test_inputs_that_are_set_are_the_runs_at_once(context, telemetry, config):
    """A process that is killed after `set_inputs` has told what it was given."""
    with context("skill", "API", {"before": 1}) as block:
        block.set_inputs({"after": 2, "password": "p"})
        assert telemetry.client.flush()
        row = rows_of(config)[block.run_id]
        assert json.loads(row["context_json"])["inputs"] == {"after": 2, "password": "***REDACTED***"}
        assert row["status"] == "running"
    assert block.entry["inputs"] == {"after": 2, "password": "***REDACTED***"}


@pytest.mark.parametrize("problem", [ValueError("bad"), KeyboardInterrupt(), TimeoutError("late")], ids=repr)
def test_what_the_block_raises_goes_on(context, telemetry, config, problem):
    """The same object; the entry says `error` or `timeout`, the run's details have the stack."""
    with pytest.raises(type(problem)) as raised, context("skill", "API") as block:
        raise problem
    assert raised.value is problem
    assert block.entry["status"] == ("timeout" if isinstance(problem, TimeoutError) else "error")
    assert telemetry.client.flush()
    row = rows_of(config)[block.run_id]
    assert row["error_summary"].startswith(type(problem).__name__)


def test_async_with(context, config, entries):
    """In a coroutine."""

    async def work():
        async with context("skill", "API") as block:
            await asyncio.sleep(0)
            block.set_status("failure")

    asyncio.run(work())
    assert entries()[0]["status"] == "failure"


def test_async_with_does_not_block_the_event_loop(config, entries):
    """While another program holds the file's lock other tasks run; the entry is in the file behind the block."""
    patient = TelemetryCapture(config=config.with_(capture_lock_timeout_s=60.0))
    patient.capture("first", "success", 0, "test")
    lock = FileLock(config.capture_file)
    assert lock.try_acquire()

    async def work():
        async with TelemetryContext("second", capture=patient):
            pass

    async def main():
        task = asyncio.create_task(work())
        for _ in range(100):
            await asyncio.sleep(0.0001)
        assert not task.done()
        lock.release()
        await task

    asyncio.run(main())
    assert [entry["skill"] for entry in entries()] == ["first", "second"]


def test_wrong_arguments_never_raise(context, config):
    """Whatever is given for names, inputs and errors."""
    with context(None, 5, "no mapping") as block:
        block.set_inputs(["a", "list"])
        block.set_error(ValueError("an exception"))
    assert block.entry["skill"] == "unknown"
    assert block.entry["inputs"] == {"value": ["a", "list"]}
    assert block.entry["error_message"] == "ValueError('an exception')"


def test_a_block_that_is_used_again_is_another_run(context, config, entries):
    """One object, two blocks: two entries with an id each."""
    block = context("skill", "API")
    with block:
        first = block.run_id
    with block:
        assert block.run_id != first
    assert len(entries()) == 2


def test_a_block_of_the_environments_configuration(agent_telemetry_base):
    """Without `capture` the environment says where."""
    with TelemetryContext(skill="skill", caller="API"):
        pass
    file = agent_telemetry_base / "registry" / "telemetry.json"
    assert eventually(file.exists)
    assert json.loads(file.read_text("utf-8"))[0]["skill"] == "skill"
