"""What a caller tells of a run: statuses, columns by name, metrics, and values of any kind."""

from __future__ import annotations

import json
from collections import OrderedDict
from decimal import Decimal
from enum import Enum
from uuid import UUID

import pytest

from otel_agent_telemetry.status import STATUSES

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


def test_secrets_are_masked_wherever_a_caller_gives_them(client, captured):
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
