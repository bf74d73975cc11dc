"""What a run and the runs inside it used together, in trees of any shape."""

from __future__ import annotations

import json

import pytest
from storage_cases import event_id, run
from trace_cases import deliver, ident, step
from trace_cases import run as run_span

from otel_agent_telemetry.storage import tree_totals as module
from otel_agent_telemetry.storage.queries import get_run
from otel_agent_telemetry.storage.runs import upsert_runs
from otel_agent_telemetry.storage.tree_totals import tree_totals, trees_of


def used(number, parent=None, *, tokens=0, calls=0, cost=None, run_id=None):
    figures = {"input_tokens": tokens, "output_tokens": tokens, "model_calls": calls, "tool_calls": 1}
    metrics = json.dumps({"gen_ai": figures if cost is None else {**figures, "cost_usd": cost}})
    more = {} if run_id is None else {"run_id": run_id}
    return run(number, metrics_json=metrics, parent_run_id=None if parent is None else f"run-{parent}", **more)


def whole(database, *runs, root=1, **limits):
    with database.writing() as connection:
        upsert_runs(connection, runs)
    with database.reading() as connection:
        return tree_totals(connection, get_run(connection, event_id=event_id(root)), **limits)


def test_a_tree_is_the_sum_of_its_runs(database):
    """All levels; a cost that is not known is not zero."""
    runs = [
        used(1, tokens=1, calls=1, cost=0.1),
        used(2, 1, tokens=10, calls=2, cost=0.2),
        used(3, 2, tokens=100, calls=1),
        used(4, tokens=1000, calls=1, cost=9.0),
    ]
    tree = whole(database, *runs)
    assert (tree.runs, tree.input_tokens, tree.output_tokens, tree.model_calls, tree.tool_calls) == (3, 111, 111, 4, 3)
    assert (tree.cost_usd, tree.unpriced_runs, tree.complete) == (0.3, 1, True)


def test_a_run_alone_is_its_own_tree(database):
    """Also one that used nothing."""
    tree = whole(database, run(1))
    assert (tree.runs, tree.input_tokens, tree.cost_usd, tree.complete) == (1, 0, None, True)


@pytest.mark.parametrize("own", [100, 60])
def test_what_the_outermost_run_repeats_counts_once(database, own):
    """One without model calls of its own reports what is below; the greater of the two figures counts."""
    runs = [used(1, tokens=own, cost=0.5), used(2, 1, tokens=60, calls=1, cost=0.3), used(3, 1, tokens=30, calls=1)]
    tree = whole(database, *runs)
    assert (tree.input_tokens, tree.cost_usd) == (max(own, 90), 0.5)


@pytest.mark.parametrize("parents", [{1: 1}, {1: 2, 2: 1}, {1: 3, 2: 1, 3: 2, 4: 1}])
def test_runs_that_are_their_own_ancestors_count_once(database, parents):
    """Whatever wrote them, the search ends."""
    tree = whole(database, *(used(number, parent, tokens=1, calls=1) for number, parent in parents.items()))
    assert (tree.runs, tree.input_tokens, tree.complete) == (len(parents), len(parents), True)


def test_two_runs_of_one_id_do_not_both_own_the_runs_inside(database):
    """Runs inside are added to the first of them."""
    runs = [used(1), used(2, 1, run_id="twice"), used(3, 1, run_id="twice")]
    inside = run(4, parent_run_id="twice", metrics_json='{"gen_ai":{"input_tokens":5,"model_calls":1}}')
    tree = whole(database, *runs, inside)
    assert (tree.runs, tree.input_tokens) == (4, 5)


def test_parents_that_are_known_from_spans_count(database):
    """Over OTLP a run inside another is found by its span."""
    deliver(database, run_span(1), run_span(2, 1), step(3, 2, tokens=7))
    with database.reading() as connection:
        assert tree_totals(connection, get_run(connection, event_id=ident(1))).input_tokens == 7


def test_a_tree_that_is_too_large_says_so(sqlite_database, monkeypatch):
    """By its number of runs, over all trees of a page, and by its depth."""
    wide = [used(1), *(used(number, 1, tokens=1, calls=1) for number in range(2, 12))]
    tree = whole(sqlite_database, *wide, max_runs=6)
    assert (tree.runs, tree.input_tokens, tree.complete) == (6, 5, False)
    monkeypatch.setattr(module, "MAX_RUNS", 12)
    with sqlite_database.reading() as connection:
        root = get_run(connection, event_id=event_id(1))
        assert [(one.runs, one.complete) for one in trees_of(connection, [root, root])] == [(11, True), (3, False)]
    monkeypatch.setattr(module, "MAX_LEVELS", 3)
    deep = [used(number, number - 1, tokens=1, calls=1) for number in range(12, 20)]
    tree = whole(sqlite_database, *deep, root=12)
    assert (tree.runs, tree.complete) == (4, False)
