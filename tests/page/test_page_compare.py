"""Two runs side by side: what differs is marked by a word, and a missing run is said."""

from __future__ import annotations

import pytest

from otel_agent_telemetry.page import compare_view
from otel_agent_telemetry.page.formats import NOTHING
from otel_agent_telemetry.page.run_comparison import Step, difference, first_difference, steps_by_name, steps_in_order
from otel_agent_telemetry.storage import run_outline
from tests.page.reading import PageReader
from tests.service.service_cases import ended, event_id, post_batch


def compare(service, *numbers, status=200, **query) -> PageReader:
    """Return the comparison of the runs with these numbers."""
    response = service.client.get("/compare", params={"run": [event_id(number) for number in numbers], **query})
    assert response.status_code == status, response.text[:500]
    return PageReader(response.text)


@pytest.fixture
def two(service):
    """Two runs of one agent that differ in status, time, error and metrics."""
    common = {"agent_name": "writer", "context_json": {"shard": "a"}}
    post_batch(
        service,
        [
            ended(1, metrics_json={"pages": 3, "gen_ai": {"input_tokens": 100}}, **common),
            ended(2, updated=9, status="failed", error_summary="<b>no</b>", metrics_json={"pages": 4}, **common),
        ],
    )
    return service


def lines(page: PageReader) -> dict[str, list[str]]:
    """Return the rows of all tables by their first cell."""
    return {row[0]: row[1:] for row in page.rows}


def test_what_differs_has_a_word_beside_it(two) -> None:
    """MLflow's users had to look through all parameters to find those that differ (its issues 1653 and 5896)."""
    page = compare(two, 1, 2)
    found = lines(page)
    assert found["status"] == ["success", "failed", "≠ differs"]
    assert found["agent"] == ["writer", "writer", "="]
    assert found["duration"] == ["5 s", "9 s", "≠ +80 %"]
    assert found["tokens read"] == ["100", NOTHING, "≠ only left"]
    assert found["error"] == [NOTHING, "<b>no</b>", "≠ only right"]
    assert found["metrics.pages"] == ["3", "4", "≠ +33 %"]
    assert "context.shard" not in found
    assert lines(compare(two, 1, 2, same="1"))["context.shard"] == ["a", "a", "="]
    assert "b" not in dict(page.tags)


@pytest.mark.parametrize(
    ("numbers", "status", "sentence"),
    [
        ((), 200, "Select two runs"),
        ((1,), 200, "Select two runs"),
        ((1, 7), 404, f"There is no run {event_id(7)}"),
        ((7, 8), 404, f"There is no run {event_id(8)}"),
        ((1, 2, 1), 200, "the first two of the 3 that were selected"),
        ((1, 1), 200, "Neither run has steps"),
    ],
    ids=str,
)
def test_two_runs_are_asked_for_and_a_missing_one_is_named(two, numbers, status, sentence) -> None:
    """With a form to name another one."""
    assert sentence in compare(two, *numbers, status=status).text


def test_a_run_is_found_by_its_run_id_too(two) -> None:
    """As people copy it from a log."""
    page = PageReader(two.client.get("/compare", params={"run": ["run-1", "run-2"]}).text)
    assert lines(page)["run id"][:2] == ["run-1", "run-2"]


def steps(*names, ms=10) -> list[Step]:
    return [Step(name, "ok", ms) for name in names]


def test_steps_are_matched_by_name_and_number() -> None:
    """One that only the right run has stands where it happened."""
    found = steps_in_order(steps("plan", "search", "search", "end"), steps("plan", "ask", "search", "end", "late"))
    assert [(line.name, line.difference) for line in found] == [
        ("plan", ""),
        ("ask", "only right"),
        ("search", ""),
        ("search", "only left"),
        ("end", ""),
        ("late", "only right"),
    ]


def test_steps_of_a_name_are_summed() -> None:
    """The name that took longest comes first."""
    left = [*steps("a", "b"), Step("b", "error", 100)]
    (first, second) = steps_by_name(left, steps("a", "b", "b", ms=55))
    assert first == ("b", "2 in 110 ms, 1 failed", "2 in 110 ms", "other number")
    assert second == ("a", "1 in 10 ms", "1 in 55 ms", "+450 %")


def test_ten_thousand_steps_of_one_name_are_matched_at_once() -> None:
    """Each step is looked at once: the time grows with their number alone."""
    many = steps(*["call"] * 10_000)
    assert len(steps_in_order(many, many)) == 10_000


@pytest.mark.parametrize(
    ("left", "right", "word"),
    [
        (1, 1, ""),
        (100, 105, ""),
        (100, 150, "+50 %"),
        (2.0, 1.0, "-50 %"),
        (22_500, 88, "-99.6 %"),
        (0, 5, "more"),
        (None, 0, "only right"),
    ],
)
def test_a_figure_differs_from_a_tenth_on(left, right, word) -> None:
    """Two runs never take the same time to the millisecond."""
    assert difference(left, right, is_figure=True) == word


def test_the_first_event_that_differs_is_named() -> None:
    """By its place in the order of the run."""
    assert first_difference(["a", "b"], ["a", "c"]) == 1
    assert first_difference(["a"], ["a", "b"]) == 1
    assert first_difference(["a"], ["a"]) is None


def test_long_runs_are_cut_visibly(two, monkeypatch) -> None:
    """At 10,000 steps and events; the list of steps is shown in parts that follow each other."""
    monkeypatch.setattr(compare_view, "MAX_COMPARED", 3)
    monkeypatch.setattr(run_outline, "MAX_COMPARED", 3)
    monkeypatch.setattr(compare_view, "_STEPS", 2)
    monkeypatch.setattr(compare_view, "step_outline", lambda _connection, _id: [("call", "ok", 1)] * 4)
    page = compare(two, 1, 2)
    assert "has more than 3 steps or events" in page.text
    assert "shown are 1 to 2" in page.text
    later = PageReader(two.client.get(page.named_links["later steps →"]).text)
    assert "shown are 3 to 3" in later.text
    assert "← earlier steps" in later.named_links
