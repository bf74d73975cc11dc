from __future__ import annotations

import asyncio
import json
import logging
import re
import threading
import time
from collections import OrderedDict
from decimal import Decimal
from enum import Enum
from uuid import UUID

import pytest
from on_disk import Process, journal_lines, nobody_delivers, rows_of, run_python
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Decision, Sampler, SamplingResult

from otel_agent_telemetry import TelemetryClient, TelemetryConfig
from otel_agent_telemetry.delivery.suppress_instrumentation import suppress_instrumentation
from otel_agent_telemetry.status import STATUSES
from otel_agent_telemetry.testing import ManualClock, capture_runs, isolated_config


@pytest.fixture
def captured():
    with capture_runs() as opened:
        yield opened


@pytest.fixture
def client(captured):
    return captured.client


def metrics_of(client):
    return client.get_run_id_metrics()["run_id_metrics"]


# --- the examples of seed 001


def test_example_1_custom_run_id(client, captured):
    """A custom id is kept as it is."""
    run_id = client.start_run(agent_name="my-agent", job_type="process-files", run_id="project-alpha-run-001")
    client.end_run(run_id, status="success", items_succeeded=10)

    assert run_id == "project-alpha-run-001"
    run = captured.run(run_id)
    assert (run.agent_name, run.job_type, run.trigger_type) == ("my-agent", "process-files", "cli")
    assert (run.status, run.items_succeeded) == ("success", 10)


def test_example_2_custom_run_id_too_long(client, captured):
    """A generated id takes its place."""
    run_id = client.start_run(agent_name="my-agent", job_type="test", run_id="a" * 300)
    client.end_run(run_id, status="success")

    assert re.fullmatch(r"\d{8}T\d{6}Z-my-agent-[0-9a-f]{8}", run_id)
    assert metrics_of(client)["rejected"]["too_long"] == 1
    assert captured.run(run_id).status == "success"


def test_example_3_valid_special_characters(client):
    """Hyphens, underscores and dots."""
    ids = ["test-run-with-hyphens", "test_run_with_underscores", "test.run.with.dots", "test-run_mixed.123"]

    for custom_id in ids:
        assert client.start_run(agent_name="my-agent", job_type="test", run_id=custom_id) == custom_id
        client.end_run(custom_id, status="success")


def test_example_4_run_id_metrics(client, caplog):
    """One custom, one generated, one rejected as empty and replaced."""
    client.start_run("agent1", "job1", run_id="custom-001")
    client.start_run("agent2", "job2")
    client.start_run("agent3", "job3", run_id="")

    snapshot = client.get_run_id_metrics()
    metrics = snapshot["run_id_metrics"]
    assert (metrics["custom_accepted"], metrics["generated"], metrics["total_runs"]) == (1, 2, 3)
    assert metrics["rejected"] == {"empty": 1, "too_long": 0, "invalid_chars": 0, "total": 1}
    assert metrics["custom_percentage"] == pytest.approx(100 / 3)
    assert snapshot["timestamp"].endswith("+00:00")
    caplog.set_level(logging.INFO, "otel_agent_telemetry")
    client.log_run_id_metrics()
    assert '"custom_accepted": 1' in caplog.text


def test_example_5_concurrent_runs(client, captured):
    """Several open runs at once, each with its own id."""
    run_ids = [client.start_run("worker", "concurrent", run_id=f"batch-2024-{i:03d}") for i in range(3)]

    assert run_ids == ["batch-2024-000", "batch-2024-001", "batch-2024-002"]
    for run_id in run_ids:
        client.end_run(run_id, status="success")
    assert {run.status for run in captured.runs} == {"success"}
    assert {run.parent_run_id for run in captured.runs} == {None}


# --- run ids


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [("", "empty"), (" \t\n", "empty"), ("x" * 256, "too_long"), ("a/b", "invalid_chars"), ("a\\b", "invalid_chars"),
     ("a\x00b", "invalid_chars"), (7, "invalid_chars"), (b"id", "invalid_chars"), (["id"], "invalid_chars"),
     (False, "invalid_chars"), ("\ud800", "invalid_chars")],
)  # fmt: skip
def test_unusable_run_id_is_replaced(client, captured, wanted, reason):
    """Whatever is given; the reason is counted and the run recorded."""
    run_id = client.start_run("agent", "job", run_id=wanted)

    assert re.fullmatch(r"\d{8}T\d{6}Z-agent-[0-9a-f]{8}", run_id)
    assert metrics_of(client)["rejected"] == {"empty": 0, "too_long": 0, "invalid_chars": 0, "total": 1, reason: 1}
    assert captured.run(run_id).status == "running"


def test_run_id_none_is_not_given(client):
    """Decision 3."""
    client.start_run("agent", "job", run_id=None)

    assert metrics_of(client)["rejected"]["total"] == 0


def test_duplicate_custom_run_id_gets_a_suffix(client, captured, caplog):
    """Both runs are recorded and can be ended apart."""
    first = client.start_run("agent", "job", run_id="same")
    second = client.start_run("agent", "job", run_id="same")

    assert first == "same"
    assert re.fullmatch(r"same-duplicate-[0-9a-f]{8}", second)
    assert "Custom run_id 'same' is already active" in caplog.text
    client.end_run(second, "partial")
    client.end_run(first, "success")
    assert {run.run_id: run.status for run in captured.runs} == {"same": "success", second: "partial"}


def test_agent_names_with_separators_make_safe_ids(client, captured):
    """They are replaced inside the id and kept in the column; length stays within 255."""
    name = "team/agent\\x\x00" + "y" * 400
    run_id = client.start_run(name, "job")

    assert len(run_id) <= 255
    assert not set("/\\\x00") & set(run_id)
    assert captured.runs[0].run_id == run_id


# --- statuses


@pytest.mark.parametrize(
    ("said", "stored"),
    [("success", "success"), ("SUCCESS", "success"), ("Completed", "success"), ("succeeded", "success"), ("ok", "success"),
     ("failed", "failed"), ("failure", "failed"), ("ERROR", "failed"), ("partial", "partial"), ("timeout", "timeout"),
     ("cancelled", "cancelled"), ("canceled", "cancelled"), (" success ", "success")],
)  # fmt: skip
def test_every_spelling_of_a_status(client, captured, said, stored):
    """Decision 2: stored as the canonical word."""
    run_id = client.start_run("agent", "job")
    client.end_run(run_id, status=said)

    assert captured.run(run_id).status == stored
    assert stored in STATUSES


@pytest.mark.parametrize("said", ["excellent", "", None, 5, ["success"], "running"])
def test_unknown_status_is_failed_with_a_warning(client, captured, caplog, said):
    """Also `running`: a run that was ended runs no longer."""
    run_id = client.start_run("agent", "job")
    client.end_run(run_id, status=said)

    run = captured.run(run_id)
    assert (run.status, run.end_time is not None) == ("failed", True)
    assert "status" in caplog.text


def test_status_set_inside_a_block_is_what_the_run_ends_as(client, captured):
    """`set_metrics(status=…)` counts when the block ends normally."""
    with client.track_run("agent", "job") as run:
        run.set_metrics(status="partial")
        assert captured.run(run.run_id).status == "running"

    assert captured.run(run.run_id).status == "partial"


# --- columns, clamping, unknown names


def test_columns_by_name_at_start_and_end(client, captured):
    """What is told at the end is added to what was told at the start."""
    run_id = client.start_run(
        "agent", "job", "scheduler", product="p", platform="web", agent_owner="me", insight_id="i-1", parent_run_id="up"
    )
    client.end_run(run_id, items_discovered=3, output_summary="done", product="q")

    run = captured.run(run_id)
    assert (run.trigger_type, run.platform, run.agent_owner, run.insight_id, run.parent_run_id) == (
        "scheduler", "web", "me", "i-1", "up",
    )  # fmt: skip
    assert (run.items_discovered, run.output_summary, run.product) == (3, "done", "q")


def test_unknown_names_are_kept_in_context(client, captured):
    """From start, set_metrics and end; nothing is an error."""
    with client.track_run("agent", "job", region="eu", nested={"a": [1, {"b": 2}]}) as run:
        run.set_metrics(attempts=2, items_failed=1)
    run_id = client.start_run("agent", "job")
    client.end_run(run_id, verdict="fine")

    assert json.loads(captured.run(run.run_id).context_json) == {
        "region": "eu", "nested": {"a": [1, {"b": 2}]}, "attempts": 2,
    }  # fmt: skip
    assert json.loads(captured.run(run_id).context_json) == {"verdict": "fine"}


def test_names_that_are_not_the_callers_to_set_are_context_too(client, captured):
    """`event_id`, `created_at`, `api_posted` and the like do not overwrite what we observe."""
    run_id = client.start_run("agent", "job", event_id="mine", created_at="never", trace_id="t", schema_version=1)

    run = captured.run(run_id)
    assert run.event_id != "mine"
    assert run.schema_version == 9
    assert json.loads(run.context_json) == {
        "event_id": "mine", "created_at": "never", "trace_id": "t", "schema_version": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("column", "bad", "left"),
    [("items_discovered", -1, 0), ("items_failed", "many", 0), ("items_skipped", 1.5, 0), ("items_succeeded", True, 0),
     ("items_discovered", 2**80, 0), ("items_discovered", None, 0), ("product", 5, None), ("git_branch", ["x"], None),
     ("git_commit_timestamp", "yesterday", None), ("items_discovered", float("nan"), 0), ("duration_ms", -7, None)],
)  # fmt: skip
def test_value_of_a_wrong_type_is_left_at_the_default(client, captured, column, bad, left):
    """Clamped, and the run goes on; an honest neighbour is kept."""
    run_id = client.start_run("agent", "job", website="kept", **{column: bad})
    client.end_run(run_id, **{column: bad})

    run = captured.run(run_id)
    assert run.website == "kept"
    if left is not None or column != "duration_ms":
        assert getattr(run, column) == left
    assert run.status == "success"


def test_clamping_is_one_logged_warning(client, caplog):
    """However many values of a run are wrong and however often its state is written."""
    run_id = client.start_run("agent", "job", items_failed=-1, product=5)
    client.end_run(run_id, items_failed="x")

    warnings = [record for record in caplog.records if "items_failed" in record.getMessage()]
    assert len(warnings) == 1
    assert "product" in warnings[0].getMessage()


def test_whole_floats_and_number_types_count(client, captured):
    """3.0 and numpy-like integers are numbers."""

    class Index:
        def __index__(self):
            return 9

    run_id = client.start_run("agent", "job", items_discovered=3.0, items_failed=Index())

    assert (captured.run(run_id).items_discovered, captured.run(run_id).items_failed) == (3, 9)


@pytest.mark.parametrize("given", [{"a": 1}, '{"a":1}', OrderedDict(a=1)])
def test_metrics_as_object_or_json_text(client, captured, given):
    """Contract, "Run record": a JSON string is accepted from the client."""
    run_id = client.start_run("agent", "job")
    client.end_run(run_id, metrics_json=given)

    assert json.loads(captured.run(run_id).metrics_json) == {"a": 1}


@pytest.mark.parametrize(
    ("given", "kept"), [("no json", {"text": "no json"}), ([1, 2], {"value": [1, 2]}), (7, {"value": 7})]
)
def test_metrics_that_are_no_object_are_wrapped(client, captured, given, kept):
    """Nothing is lost and the column holds an object."""
    run_id = client.start_run("agent", "job", metrics_json=given)

    assert json.loads(captured.run(run_id).metrics_json) == kept


def test_secrets_are_masked_wherever_they_are_told(client, captured):
    """Unknown names, metrics, payloads, error texts."""
    with (
        pytest.raises(ValueError),
        client.track_run("agent", "job", api_key="abc", metrics_json={"token": "abc"}) as run,
    ):
        run.log_event("call", {"headers": {"Authorization": "Bearer abcdefghijkl"}})
        raise ValueError("got Bearer abcdefghijkl")

    everything = repr(captured.states) + repr(captured.events)
    assert "abcdefghijkl" not in everything
    assert '"abc"' not in everything
    assert "***REDACTED***" in everything


# --- events


class Colour(Enum):
    RED = "red"


class Hostile:
    def __repr__(self):
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "payload",
    [
        None, {}, {"a": 1}, {1: 2, None: 3}, {"s": {1, 2}}, {"o": object()}, {"h": Hostile()}, {"n": float("nan")},
        {"big": 10**400}, {"d": Decimal("1.5")}, {"e": Colour.RED}, {"b": b"\xff\x00"}, {"u": "\ud800"}, {"f": lambda: 1},
        [1, 2], "text", 5, object(), {"t": time.gmtime(0)}, {"x": {"y": {"z": [{"deep": (1, 2)}]}}},
    ],
)  # fmt: skip
def test_payloads_that_json_cannot_take(client, captured, payload):
    """Every payload is kept in some form; the span gets it too; nothing raises."""
    run_id = client.start_run("agent", "job")
    client.log_event(run_id, "odd", payload)
    client.log_event(run_id, "next", {"fine": True})
    client.end_run(run_id)

    assert [event.event_type for event in captured.events] == ["odd", "next"]
    assert captured.run(run_id).status == "success"


def test_payload_that_contains_itself(client, captured):
    """A cycle is cut."""
    cycle = {}
    cycle["again"] = [cycle]
    run_id = client.start_run("agent", "job", loop=cycle)
    client.log_event(run_id, "cycle", cycle)

    assert len(captured.events) == 1
    assert captured.run(run_id).status == "running"


def test_payload_that_changes_while_it_is_read(client, captured):
    """Another thread writes the dict: the event is kept, whatever is seen of it."""
    shared, stop = {}, threading.Event()

    def change():
        number = 0
        while not stop.is_set():
            shared[number % 500] = number
            shared.pop((number * 7) % 500, None)
            number += 1

    thread = threading.Thread(target=change)
    thread.start()
    run_id = client.start_run("agent", "job")
    for _ in range(100):
        client.log_event(run_id, "moving", {"shared": shared})
    stop.set()
    thread.join()

    assert len(captured.events) + captured.recorder.counters.internal_errors >= 100


def test_huge_payload_is_cut(client, captured):
    """100 MB of text cost a bounded line, and the rest of the payload says what is missing."""
    run_id = client.start_run("agent", "job")

    client.log_event(run_id, "huge", {"small": 1, "text": "x" * (100 << 20)})

    (event,) = captured.events
    assert event.payload["small"] == 1
    assert len(event.payload["text"]) < 2 << 20
    assert "more characters" in event.payload["text"]


@pytest.mark.parametrize("event_type", ["", None, 5, "x" * 5000, "\ud800", object()])
def test_event_types_of_any_kind(client, captured, event_type):
    """Kept under some text."""
    run_id = client.start_run("agent", "job")

    client.log_event(run_id, event_type, {"a": 1})

    (event,) = captured.events
    assert isinstance(event.event_type, str)


def test_event_of_an_ended_or_foreign_run_is_kept_by_its_id(client, captured):
    """Another process's run, or one that is over: the journal has the event under the run id."""
    run_id = client.start_run("agent", "job", run_id="over")
    client.end_run(run_id)
    client.log_event("over", "late", {"a": 1})
    client.log_event("elsewhere", "far")

    assert [(event.run_id, event.event_type) for event in captured.events] == [("over", "late"), ("elsewhere", "far")]


@pytest.mark.parametrize("run_id", [None, 5, ["x"], {}, object()])
def test_run_ids_of_any_type_raise_nothing(client, capsys, run_id):
    """Every method that takes one."""
    client.log_event(run_id, "event")
    client.end_run(run_id)
    assert client.associate_commit(run_id, "abcdef1", "ci")[0] is False

    assert capsys.readouterr().err


# --- ends


def test_ending_twice_warns_and_changes_nothing(client, captured, capsys):
    """Decision 10: on stderr."""
    run_id = client.start_run("agent", "job", run_id="once")
    client.end_run(run_id, "success")
    client.end_run(run_id, "failed")

    assert captured.run("once").status == "success"
    assert "[WARN] Run ID not found: once" in capsys.readouterr().err


def test_ending_an_unknown_run_warns(client, captured, capsys):
    """No record, one sentence."""
    client.end_run("never-started")

    assert captured.states == []
    assert capsys.readouterr().err == "[WARN] Run ID not found: never-started\n"


def test_run_may_be_ended_by_another_thread(client, captured):
    """And by another client of the same configuration; the duration is the whole."""
    run_id = client.start_run("agent", "job")
    other = TelemetryClient(captured.client.config, tracer_provider=captured.provider)
    thread = threading.Thread(target=other.end_run, args=(run_id, "partial"))
    thread.start()
    thread.join()

    assert captured.run(run_id).status == "partial"


def test_threads_ending_one_run_at_once_leave_one_end(client, captured):
    """Twenty threads: one terminal state stands and the id is free again."""
    run_id = client.start_run("agent", "job", run_id="raced")
    barrier = threading.Barrier(20)

    def end():
        barrier.wait()
        client.end_run(run_id, "success")

    threads = [threading.Thread(target=end) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [state.status for state in captured.states if state.ended] == ["success"]
    assert client.start_run("agent", "job", run_id="raced") == "raced"


def test_run_never_ended_stays_running(client, captured):
    """Nothing invents an end while the process lives."""
    run_id = client.start_run("agent", "job")

    assert (captured.run(run_id).status, captured.run(run_id).end_time) == ("running", None)


def test_success_has_no_error_even_when_ended_while_handling_one(client, captured):
    """`end_run(…, "success")` in an except block is a success without an error summary."""
    run_id = client.start_run("agent", "job")
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        client.end_run(run_id, "success")

    assert (captured.run(run_id).status, captured.run(run_id).error_summary) == ("success", None)


def test_error_fields_of_the_caller_stand(client, captured):
    """With any status; nothing of ours replaces them."""
    run_id = client.start_run("agent", "job")
    client.end_run(run_id, "partial", error_summary="two of five failed", error_details="a, b")

    run = captured.run(run_id)
    assert (run.status, run.error_summary, run.error_details) == ("partial", "two of five failed", "a, b")


def test_durations_survive_a_clock_that_goes_backwards():
    """Set back an hour in mid-run: end is not before start, the duration is what elapsed."""
    clock = ManualClock(time.time_ns() + 10**9)
    with capture_runs(clock=clock) as captured:
        run_id = captured.client.start_run("agent", "job")
        clock.jump(clock.now_ns() - 3600 * 10**9)
        captured.client.end_run(run_id)

    run = captured.run(run_id)
    assert run.status == "success"
    assert run.end_time >= run.start_time
    assert run.duration_ms < 60_000
    assert run.updated_at > captured.states[0].updated_at


# --- track_run


def test_exception_ends_the_run_and_goes_on(client, captured):
    """`failed`, with type, message and stack."""
    with pytest.raises(ValueError, match="broken") as caught, client.track_run("agent", "job") as run:
        raise ValueError("broken")

    ended = captured.run(run.run_id)
    assert (ended.status, ended.error_summary) == ("failed", "ValueError: broken")
    assert 'raise ValueError("broken")' in ended.error_details
    assert caught.value.__context__ is None


class RateLimitTimeout(Exception):
    pass


@pytest.mark.parametrize(
    ("problem", "status"),
    [(ValueError(), "failed"), (TimeoutError("slow"), "timeout"), (TimeoutError(), "timeout"),
     (RateLimitTimeout(), "timeout"), (asyncio.CancelledError(), "cancelled"), (KeyboardInterrupt(), "cancelled"),
     (GeneratorExit(), "cancelled"), (SystemExit(3), "failed"), (SystemExit(0), "success"), (SystemExit(), "success"),
     (BaseException("odd"), "failed")],
    ids=lambda value: repr(value),
)  # fmt: skip
def test_every_kind_of_exception_ends_the_run(client, captured, problem, status):
    """BaseException included; it is the very same object that goes on."""
    with pytest.raises(BaseException) as caught, client.track_run("agent", "job") as run:
        raise problem

    assert caught.value is problem
    assert captured.run(run.run_id).status == status


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


def test_exception_that_cannot_be_printed_ends_the_run_too(client, captured):
    """Whatever its `__str__` does, the run is failed and the exception goes on."""
    with pytest.raises(Unprintable), client.track_run("agent", "job") as run:
        raise Unprintable

    ended = captured.run(run.run_id)
    assert ended.status == "failed"
    assert "Unprintable" in ended.error_summary


def test_long_exceptions_are_cut(client, captured):
    """A message of ten megabytes does not become a column of ten megabytes."""
    with pytest.raises(ValueError), client.track_run("agent", "job") as run:
        raise ValueError("x" * (10 << 20))

    ended = captured.run(run.run_id)
    assert ended.status == "failed"
    assert len(ended.error_summary) <= 2000
    assert len(ended.error_details) <= 64_000


def test_error_summary_set_in_the_block_stands(client, captured):
    """The block knows better than the exception's text."""
    with pytest.raises(ValueError), client.track_run("agent", "job") as run:
        run.set_metrics(error_summary="upstream is down")
        raise ValueError("x")

    assert captured.run(run.run_id).error_summary == "upstream is down"


def test_run_ended_inside_its_block_stays_as_it_was_ended(client, captured, capsys):
    """`end_run` in the block, then the block's own end: one end, no warning."""
    with client.track_run("agent", "job") as run:
        client.end_run(run.run_id, "partial")

    assert captured.run(run.run_id).status == "partial"
    assert capsys.readouterr().err == ""


def test_set_metrics_is_kept_on_return(client, captured):
    """A state is written at once; later ones win; after the end nothing changes."""
    with client.track_run("agent", "job") as run:
        run.set_metrics(items_discovered=10)
        assert captured.run(run.run_id).items_discovered == 10
        run.set_metrics(items_discovered=12, items_succeeded=11)
    run.set_metrics(items_discovered=99)

    ended = captured.run(run.run_id)
    assert (ended.items_discovered, ended.items_succeeded, ended.status) == (12, 11, "success")
    assert repr(run) == f"RunContext(run_id={run.run_id!r})"


def test_nested_blocks_give_the_parent(client, captured):
    """`parent_run_id` of the inner run is the outer one's run id; siblings share it."""
    with client.track_run("outer", "job", run_id="outer") as outer:
        for number in range(2):
            with client.track_run("inner", "job", run_id=f"inner-{number}"):
                pass
    with client.track_run("later", "job", run_id="later"):
        pass

    assert outer.run_id == "outer"
    assert {run.run_id: run.parent_run_id for run in captured.runs} == {
        "outer": None, "inner-0": "outer", "inner-1": "outer", "later": None,
    }  # fmt: skip


def test_a_parent_that_the_caller_names_stands(client, captured):
    """Explicit beats nested."""
    with client.track_run("outer", "job"), client.track_run("inner", "job", parent_run_id="other") as run:
        pass

    assert captured.run(run.run_id).parent_run_id == "other"


def test_block_restores_the_current_span(client):
    """Inside the run's span is current, outside what was before, also after an exception."""
    before = trace.get_current_span()
    with pytest.raises(KeyError), client.track_run("agent", "job"):
        assert trace.get_current_span() is not before
        raise KeyError

    assert trace.get_current_span() is before


def test_async_with_and_tasks(client, captured):
    """`async with` works; tasks started in the block belong to it; a cancelled task's run is cancelled."""

    async def inner(name):
        async with client.track_run("inner", "job", run_id=name):
            await asyncio.sleep(0)

    async def stuck(begun):
        async with client.track_run("stuck", "job", run_id="stuck"):
            begun.set()
            await asyncio.Event().wait()

    async def main():
        async with client.track_run("outer", "job", run_id="outer") as run:
            await asyncio.gather(inner("one"), inner("two"))
            begun = asyncio.Event()
            task = asyncio.create_task(stuck(begun))
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            run.log_event("done")

    asyncio.run(main())

    assert {run.run_id: (run.status, run.parent_run_id) for run in captured.runs} == {
        "outer": ("success", None),
        "one": ("success", "outer"),
        "two": ("success", "outer"),
        "stuck": ("cancelled", "outer"),
    }


def test_generator_left_in_mid_run(client, captured):
    """Closed from outside: GeneratorExit ends the run."""

    def steps():
        with client.track_run("agent", "job", run_id="gen"):
            yield 1
            yield 2

    generator = steps()
    next(generator)
    generator.close()

    assert captured.run("gen").status == "cancelled"


# --- providers


def test_sampler_that_drops_everything_loses_no_run(tmp_path):
    """An application that samples 0 % still has its runs: our own provider records them."""
    provider = TracerProvider(sampler=ALWAYS_OFF, resource=Resource.get_empty(), shutdown_on_exit=False)
    client = TelemetryClient(isolated_config(tmp_path / "b", db_synchronous="OFF"), tracer_provider=provider)

    with client.track_run("outer", "job", run_id="outer") as run:
        run.log_event("e")
        with client.track_run("inner", "job", run_id="inner"):
            pass
    assert client.flush(10)

    rows = rows_of(client.config)
    assert {name: (row["status"], row["parent_run_id"]) for name, row in rows.items()} == {
        "outer": ("success", None), "inner": ("success", "outer"),
    }  # fmt: skip


class DropInner(Sampler):
    def should_sample(self, parent_context, trace_id, name, *args, **kwargs):
        return SamplingResult(Decision.DROP if "inner" in name else Decision.RECORD_AND_SAMPLE)

    def get_description(self):
        return "drops inner spans"


def test_parent_is_known_across_providers(tmp_path):
    """The outer run on the application's provider, the inner one dropped there and recorded on ours."""
    provider = TracerProvider(sampler=DropInner(), resource=Resource.get_empty(), shutdown_on_exit=False)
    client = TelemetryClient(isolated_config(tmp_path / "b", db_synchronous="OFF"), tracer_provider=provider)

    with client.track_run("outer", "job", run_id="outer"), client.track_run("inner", "job", run_id="inner"):
        pass
    assert client.flush(10)

    assert rows_of(client.config)["inner"]["parent_run_id"] == "outer"


class VendorProvider:
    """A vendor's own class: tracers, but no processors."""

    __slots__ = ()

    def get_tracer(self, *args, **kwargs):
        return trace.NoOpTracer()


@pytest.mark.parametrize(
    "provider", [VendorProvider(), object(), trace.NoOpTracerProvider(), 5], ids=lambda p: type(p).__name__
)
def test_provider_without_processors_leaves_us_our_own(tmp_path, provider):
    """Nothing is replaced, nothing raises, the run is recorded."""
    client = TelemetryClient(isolated_config(tmp_path / "b", db_synchronous="OFF"), tracer_provider=provider)

    with client.track_run("agent", "job", run_id="mine"):
        pass
    assert client.flush(10)


class Unhashable(TracerProvider):
    __hash__ = None


def test_provider_that_cannot_be_remembered(tmp_path):
    """An unhashable subclass of the SDK's: still a run, still once."""
    provider = Unhashable(resource=Resource.get_empty(), shutdown_on_exit=False)
    config = isolated_config(tmp_path / "b", db_synchronous="OFF")
    for number in range(2):
        client = TelemetryClient(config, tracer_provider=provider)
        client.end_run(client.start_run("agent", "job", run_id=f"r{number}"))
    assert client.flush(10)

    assert sorted(rows_of(config)) == ["r0", "r1"]


def test_two_configurations_on_one_provider_do_not_mix(tmp_path):
    """Each client's runs are in its own place, and only there."""
    provider = TracerProvider(resource=Resource.get_empty(), shutdown_on_exit=False)
    clients = [
        TelemetryClient(isolated_config(tmp_path / name, db_synchronous="OFF"), tracer_provider=provider)
        for name in "ab"
    ]
    for client, name in zip(clients, "ab", strict=True):
        client.end_run(client.start_run("agent", "job", run_id=name))
        assert client.flush(10)

    assert [sorted(rows_of(client.config)) for client in clients] == [["a"], ["b"]]


def test_clients_of_one_configuration_share_everything(tmp_path):
    """Fifty clients: one processor, one recorder, one writer; one run can be seen from all."""
    config = isolated_config(tmp_path / "b", db_synchronous="OFF")
    clients = [TelemetryClient(config) for _ in range(50)]
    run_id = clients[0].start_run("agent", "job", run_id="shared")
    clients[1].log_event(run_id, "event")
    clients[2].end_run(run_id)

    assert len({id(client._recorder) for client in clients}) == 1
    assert clients[3].get_run_id_metrics()["run_id_metrics"]["total_runs"] == 1
    assert len(list(config.buffer_dir.glob("*.lock"))) <= 2


def test_explicit_runs_are_recorded_in_a_suppressed_context(client, captured):
    """Suppressed instrumentation silences spans of libraries, not what an application asks for by name."""
    with suppress_instrumentation():
        run_id = client.start_run("agent", "job")
        client.end_run(run_id)

    assert captured.run(run_id).status == "success"


GLOBAL = """
import json, sys
from opentelemetry import trace
kind, base = sys.argv[1:]
if kind != "proxy":
    from opentelemetry.sdk.trace import TracerProvider
    if kind == "sdk":
        trace.set_tracer_provider(TracerProvider())
    else:
        class Vendor(trace.TracerProvider):
            def get_tracer(self, *args, **kwargs):
                return trace.NoOpTracer()
        trace.set_tracer_provider(Vendor())
before = trace.get_tracer_provider()
from otel_agent_telemetry import TelemetryClient
client = TelemetryClient()
with client.track_run("agent", "job", run_id="explicit"):
    with trace.get_tracer("app").start_as_current_span("step"):
        pass
with trace.get_tracer("app").start_as_current_span("plain"):
    pass
assert trace.get_tracer_provider() is before
assert client.flush(10)
client.close()
"""


@pytest.mark.parametrize(
    ("kind", "runs", "steps"),
    [("sdk", ["explicit", "plain"], 1), ("proxy", ["explicit"], 0), ("vendor", ["explicit"], 0)],
)
def test_global_provider_is_used_where_it_can_be_and_never_replaced(config, kind, runs, steps):
    """With the SDK's, plain root spans are runs and children steps; with a proxy or a vendor's only ours are."""
    run_python(GLOBAL, kind, config.base_dir, env={"TELEMETRY_BASE_DIR": str(config.base_dir)})

    rows = rows_of(config)
    assert sorted(row["job_type"] if row["run_id"] != "explicit" else "explicit" for row in rows.values()) == runs
    assert len({line["span_id"] for line in journal_lines(config, "span")}) == steps


DISABLED = """
from otel_agent_telemetry import TelemetryClient
client = TelemetryClient()
run_id = client.start_run("agent", "job", run_id="mine")
assert run_id == "mine"
with client.track_run("agent", "job") as run:
    run.log_event("e", {"a": 1})
    run.set_metrics(items_failed=1)
client.log_event(run_id, "e")
client.end_run(run_id)
client.associate_commit("mine", "abcdef1", "ci")
assert client.flush(1)
client.close()
"""


def test_otel_sdk_disabled_records_nothing(config):
    """OTEL_SDK_DISABLED=true: every call works, nothing is printed, no file appears."""
    env = {"TELEMETRY_BASE_DIR": str(config.base_dir), "OTEL_SDK_DISABLED": "true"}
    with Process(DISABLED, env=env) as process:
        status, out, err = process.end()

    assert (status, out, err) == (0, "", "")
    assert not config.base_dir.exists()


# --- never raises


def test_disk_that_cannot_be_written_is_never_the_callers_problem(tmp_path, caplog):
    """A file stands where the base folder should be: everything returns, failures are counted and logged."""
    (tmp_path / "base").write_bytes(b"")
    client = TelemetryClient(isolated_config(tmp_path / "base", exit_timeout_s=0.5))

    with client.track_run("agent", "job") as run:
        run.log_event("e")
    assert client.flush(0.2) is False
    assert client.get_stats()["error"] == "Statistics unavailable"

    counters = client._recorder.counters
    assert counters.lost >= 2
    assert counters.journal_failed >= 3
    assert "journal write failed" in caplog.text
    client.close()


def test_journal_failure_alone_loses_no_run(tmp_path):
    """Seed 001, "NDJSON Write Failure": the run reaches its target all the same."""
    config = isolated_config(tmp_path / "b", db_synchronous="OFF")
    config.base_dir.mkdir()
    config.ndjson_dir.write_bytes(b"")
    client = TelemetryClient(config)
    client.end_run(client.start_run("agent", "job", run_id="mine"))

    assert client.flush(10)
    assert rows_of(config)["mine"]["status"] == "success"
    assert client._recorder.counters.lost == 0


def test_buffer_failure_alone_keeps_the_journal(tmp_path):
    """The run is in the journal, is not lost, and flush says that it was not delivered."""
    config = isolated_config(tmp_path / "b", exit_timeout_s=0.5)
    config.base_dir.mkdir()
    config.buffer_dir.write_bytes(b"")
    client = TelemetryClient(config)
    client.end_run(client.start_run("agent", "job", run_id="mine"))

    assert [line["status"] for line in journal_lines(config, "run")] == ["running", "success"]
    assert client._recorder.counters.lost == 0
    assert client._recorder.counters.buffer_failed == 2
    assert not client.flush(0.2)
    client.close()


@pytest.mark.parametrize("config", [None, "rubbish", 5, {}])
def test_configuration_of_a_wrong_type_means_the_environment(agent_telemetry_base, config):
    """The constructor does not raise either."""
    client = TelemetryClient(config)

    assert client.config.base_dir == agent_telemetry_base


def test_what_is_odd_about_the_configuration_is_logged(tmp_path, caplog):
    """Seed 001: validation failures are warnings."""
    TelemetryClient(TelemetryConfig(base_dir=tmp_path, sheets_enabled=True, discover_service=False))

    assert "GOOGLE_SHEETS_API_URL is not set" in caplog.text


class Hateful:
    """Raises from everything."""

    def __getattribute__(self, name):
        raise RuntimeError(name)

    def __repr__(self):
        raise RuntimeError("repr")

    def __str__(self):
        raise RuntimeError("str")

    def __bool__(self):
        raise RuntimeError("bool")

    def __eq__(self, other):
        raise RuntimeError("eq")

    __hash__ = None


@pytest.mark.parametrize("make", [Hateful, type(None), int, str, bytes, list, dict, object, lambda: float("nan")])
def test_no_argument_makes_a_method_raise(client, captured, make):
    """Anything anywhere: a run id comes back, and an honest run beside it is recorded."""
    value = make()
    run_id = client.start_run(value, value, value, run_id=value, product=value, metrics_json=value, other=value)
    assert isinstance(run_id, str)
    client.log_event(value, value, value)
    client.log_event(run_id, value, {"v": value})
    client.end_run(run_id, value, items_failed=value, error_summary=value, other=value)
    client.end_run(value, value)
    client.associate_commit(value, value, value, value, value)
    client.flush(value)
    with client.track_run(value, value, value) as run:
        run.log_event(value, value)
        run.set_metrics(items_failed=value, context_json=value)

    honest = client.start_run("agent", "job", run_id="honest")
    client.end_run(honest)
    assert captured.run("honest").status == "success"
    assert all(state.ended for state in captured.runs if state.run_id != run_id)


@pytest.mark.parametrize("stderr", [None, "closed"])
def test_messages_survive_a_missing_stderr(client, monkeypatch, stderr):
    """A daemon without stderr."""
    import io
    import sys

    stream = None
    if stderr == "closed":
        stream = io.StringIO()
        stream.close()
    monkeypatch.setattr(sys, "stderr", stream)

    client.end_run("unknown")


def test_failure_inside_start_run_gives_an_error_id(client, captured, capsys, monkeypatch):
    """Seed 001: `"error-"` and an id, and a sentence on stderr."""

    def broken(*args, **kwargs):
        raise RuntimeError("tracer is broken")

    monkeypatch.setattr(client._tracer, "start_span", broken)

    run_id = client.start_run("agent", "job")
    with client.track_run("agent", "job") as run:
        run.log_event("e")
        run.set_metrics(items_failed=1)
    client.end_run(run_id)

    assert re.fullmatch(r"error-\d{8}T\d{6}Z-agent-[0-9a-f]{8}", run_id)
    assert run.run_id.startswith("error-")
    assert "[ERROR] Telemetry start_run failed: " in capsys.readouterr().err


def test_associate_commit_checks_its_arguments(client, captured):
    """`(False, sentence)` for what no service would take; nothing is recorded."""
    for bad in (("r", "xyz", "ci"), ("r", "abcdef1", "robot"), ("", "abcdef1", "ci"), ("r", "abc", "ci"),
                ("r", "abcdef1", "ci", None, "yesterday"), ("r", "abcdef1", "ci", 5)):  # fmt: skip
        done, message = client.associate_commit(*bad)
        assert not done
        assert message.startswith("[ERROR] associate_commit failed: ")
    assert client.associate_commit("r", "abcdef1", "ci") == (True, "Commit abcdef1 associated with run r")
    assert len(captured.commits) == 1


def test_closing_twice_and_recording_afterwards(tmp_path):
    """`close` is idempotent; a later run is kept and delivered."""
    config = isolated_config(tmp_path / "b", db_synchronous="OFF")
    client = TelemetryClient(config)
    client.end_run(client.start_run("agent", "job", run_id="one"))
    client.close()
    client.close()
    client.end_run(client.start_run("agent", "job", run_id="two"))
    client.close()

    assert {name: row["status"] for name, row in rows_of(config).items()} == {"one": "success", "two": "success"}


def test_flush_returns_in_time_when_nobody_delivers(tmp_path):
    """Another process holds the drain lock and does nothing: False, after the timeout."""
    config = isolated_config(tmp_path / "b", exit_timeout_s=0.2)
    client = TelemetryClient(config)
    with nobody_delivers(config):
        client.end_run(client.start_run("agent", "job"))
        assert client.flush(0.3) is False
        assert client.flush(0) is False


def test_flush_of_nothing_is_true(tmp_path):
    """A client that recorded nothing has nothing to wait for, and opens nothing."""
    client = TelemetryClient(isolated_config(tmp_path / "b"))

    assert client.flush(0)
    client.close()
    assert not (tmp_path / "b").exists()


class Shifting(dict):
    """Changes whenever it is read, as a dict does that another thread fills."""

    def items(self):
        raise RuntimeError("dictionary changed size during iteration")


def test_one_unreadable_value_spares_the_run_and_its_neighbours(client, captured):
    """A metrics object that changes while it is read neither loses the run's end nor the other values."""
    with client.track_run("agent", "job", fine=1, odd=Shifting(a=1), password="x") as run:
        run.set_metrics(metrics_json=Shifting(a=1), items_failed=2)
        run.log_event("event", Shifting(a=1))

    ended = captured.run(run.run_id)
    assert (ended.status, ended.items_failed) == ("success", 2)
    context = json.loads(ended.context_json)
    assert (context["fine"], context["password"]) == (1, "***REDACTED***")
    assert "RuntimeError" in context["odd"]
    assert "unreadable" in captured.events[0].payload


def test_enum_and_uuid_where_text_is_meant(client, captured):
    """Names, statuses, event types and run ids: an Enum's member is its value, a UUID its text."""

    class Name(Enum):
        AGENT = "agent"
        JOB = "job"
        EVENT = "checkpoint"
        PARTIAL = "partial"

    wanted = UUID(int=7)
    run_id = client.start_run(Name.AGENT, Name.JOB, run_id=wanted, items_discovered=Decimal(7), items_skipped="3")
    client.log_event(run_id, Name.EVENT, {"a": 1})
    client.end_run(run_id, Name.PARTIAL, items_failed=Decimal("2.0"))

    run = captured.run(str(wanted))
    assert (run.agent_name, run.job_type, run.status) == ("agent", "job", "partial")
    assert (run.items_discovered, run.items_skipped, run.items_failed) == (7, 3, 2)
    assert [event.event_type for event in captured.events] == ["checkpoint"]
