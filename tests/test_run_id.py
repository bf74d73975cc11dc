"""Run ids and their counters (seed 001)."""

import json
import logging
import random
import re
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_agent_telemetry.clock import parse_iso
from otel_agent_telemetry.run_id import (
    MAX_RUN_ID_LENGTH,
    RunIDMetrics,
    check_custom_run_id,
    duplicate_run_id,
    generate_run_id,
)

ANY_TEXT = st.text(st.characters(), max_size=600)
"""Lone surrogates included."""


@pytest.mark.parametrize(
    "run_id",
    [
        "a",
        "test-run-with-hyphens",
        "test_run",
        "test.run.with.dots",
        "batch 7",
        "läuft",
        "😀",
        "x" * 255,
        "a:b?c*d",
    ],
)
def test_custom_ids_within_the_rules_are_taken(run_id: str) -> None:
    """1 to 255 characters without separators and NUL pass."""
    assert check_custom_run_id(run_id) is None


@pytest.mark.parametrize(
    ("run_id", "reason"),
    [
        ("", "empty"),
        (" ", "empty"),
        ("\t\n ", "empty"),
        (" " * 300, "empty"),
        ("x" * 256, "too_long"),
        ("/" * 256, "too_long"),
        ("a/b", "invalid_chars"),
        ("..\\up", "invalid_chars"),
        ("nul\x00", "invalid_chars"),
        ("\ud800", "invalid_chars"),
        (7, "invalid_chars"),
        (b"bytes", "invalid_chars"),
        (["a"], "invalid_chars"),
        (None, "invalid_chars"),
    ],
)
def test_rejections_carry_the_reason_of_the_contract(run_id: object, reason: str) -> None:
    """Blank before length before characters, as in seed 001; a non-string is invalid_chars."""
    assert check_custom_run_id(run_id) == reason


@given(ANY_TEXT)
def test_a_generated_id_passes_the_rules_for_any_agent_name(agent_name: str) -> None:
    """Whatever an agent is called, its run ids are usable and within 255 characters."""
    run_id = generate_run_id(agent_name)
    assert check_custom_run_id(run_id) is None
    assert len(run_id) <= MAX_RUN_ID_LENGTH
    assert re.match(r"\d{8}T\d{6}Z-", run_id)
    assert re.search(r"-[0-9a-f]{8}$", run_id)


@given(ANY_TEXT.filter(lambda text: check_custom_run_id(text) is None))
def test_a_duplicate_of_a_custom_id_passes_the_rules(run_id: str) -> None:
    """The suffix fits within 255 characters, and a duplicate of a duplicate is still an id."""
    once = duplicate_run_id(run_id)
    for made in (once, duplicate_run_id(once)):
        assert check_custom_run_id(made) is None
        assert re.search(r"-duplicate-[0-9a-f]{8}$", made)
    assert once.startswith(run_id[:236])


def test_a_generated_id_has_the_form_of_the_seed() -> None:
    """`{YYYYMMDD}T{HHMMSS}Z-{agent_name}-{8 hex}`, from a given instant and token."""
    at_ns = parse_iso("2025-12-10T12:05:30.9Z")
    assert generate_run_id("hugo-translator", at_ns=at_ns, token="a1b2c3d4") == (
        "20251210T120530Z-hugo-translator-a1b2c3d4"
    )


def test_separators_in_an_agent_name_become_hyphens() -> None:
    """Separators of paths and NUL are replaced inside the id."""
    run_id = generate_run_id("team/agent\\v1\x00", at_ns=0, token="00000000")
    assert run_id == "19700101T000000Z-team-agent-v1--00000000"


def test_a_seeded_application_neither_repeats_ids_nor_loses_its_sequence() -> None:
    """Ids do not come from the application's `random`, which it may have seeded."""
    random.seed(42)
    expected = random.random()
    random.seed(42)
    first, custom = generate_run_id("agent", at_ns=0), duplicate_run_id("x")
    assert random.random() == expected
    random.seed(42)
    assert generate_run_id("agent", at_ns=0) != first
    assert duplicate_run_id("x") != custom


def test_snapshot_has_exactly_the_shape_of_the_seed() -> None:
    """Counters, totals and percentage, and a timestamp that is a time."""
    metrics = RunIDMetrics()
    metrics.count_custom()
    for _ in range(3):
        metrics.count_generated()
    metrics.count_rejected("empty")
    metrics.count_rejected("too_long")
    metrics.count_rejected("invalid_chars")
    metrics.count_rejected("invalid_chars")
    metrics.count_duplicate()
    snapshot = metrics.get_snapshot()
    parse_iso(snapshot.pop("timestamp"))
    assert snapshot == {
        "run_id_metrics": {
            "custom_accepted": 1,
            "generated": 3,
            "rejected": {"empty": 1, "too_long": 1, "invalid_chars": 2, "total": 4},
            "duplicates_detected": 1,
            "total_runs": 4,
            "custom_percentage": 25.0,
        }
    }


def test_percentage_of_no_runs_is_zero() -> None:
    """Nothing counted is 0.0, not a division."""
    percentage = RunIDMetrics().get_snapshot()["run_id_metrics"]["custom_percentage"]
    assert percentage == 0.0
    assert isinstance(percentage, float)


def test_counters_carry_the_names_of_the_seed() -> None:
    """The counters are readable attributes under the seed's names."""
    metrics = RunIDMetrics()
    metrics.count_rejected("too_long")
    assert metrics.rejected_too_long == 1
    assert metrics.custom_accepted == metrics.generated == metrics.rejected_empty == 0
    assert metrics.rejected_invalid_chars == metrics.duplicates_detected == 0


def test_json_is_the_snapshot_indented() -> None:
    """to_json is formatted JSON of the same shape."""
    text = RunIDMetrics().to_json()
    assert text.startswith('{\n  "run_id_metrics": {')
    assert set(json.loads(text)) == {"run_id_metrics", "timestamp"}


def test_log_metrics_logs_the_json_at_info(caplog: pytest.LogCaptureFixture) -> None:
    """The log line is the seed's title and the JSON below it."""
    with caplog.at_level(logging.INFO, logger="otel_agent_telemetry.run_id"):
        RunIDMetrics().log_metrics()
    assert [record.levelname for record in caplog.records] == ["INFO"]
    title, _, body = caplog.records[0].getMessage().partition("\n")
    assert title == "Run ID Metrics:"
    assert json.loads(body)["run_id_metrics"]["total_runs"] == 0


def test_counting_from_many_threads_loses_nothing() -> None:
    """Eight threads counting everything at once add up, and no snapshot is inconsistent."""
    metrics = RunIDMetrics()
    start = threading.Barrier(8)

    def count() -> None:
        start.wait()
        for _ in range(2000):
            metrics.count_custom()
            metrics.count_generated()
            metrics.count_rejected("empty")
            metrics.count_duplicate()
            seen = metrics.get_snapshot()["run_id_metrics"]
            assert seen["total_runs"] == seen["custom_accepted"] + seen["generated"]

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    totals = metrics.get_snapshot()["run_id_metrics"]
    assert (totals["custom_accepted"], totals["generated"]) == (16_000, 16_000)
    assert (totals["rejected"]["total"], totals["duplicates_detected"]) == (16_000, 16_000)
