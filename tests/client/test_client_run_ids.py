"""Run ids that the caller chooses: the examples of seed 001, what replaces an unusable one, and the counts of both."""

from __future__ import annotations

import logging
import re

import pytest


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
