"""Root spans of agents' programs that do no agent's work are marked, in any order of arrival."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest
from storage_cases import at_ns
from trace_cases import deliver, run, run_of, using

from otel_agent_telemetry.storage.queries import list_runs
from otel_agent_telemetry.storage.run_filters import RunQuery
from otel_agent_telemetry.storage.silence import close_silent
from otel_agent_telemetry.storage.store import WriteBatch


def idle(number, service="agents", **more):
    return _of(run(number, **more), service=service, is_idle=True)


def agents(number, service="agents"):
    return _of(run(number), service=service, is_from_agent=True)


def _of(batch, **what):
    return WriteBatch(batch.records, nodes=tuple(replace(node, **what) for node in batch.nodes))


def marked(database):
    with database.reading() as connection:
        return {found.run_id for found in list_runs(connection, RunQuery(plumbing=True))}


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_idle_roots_of_a_service_with_agents_are_plumbing(database, order):
    """Those of a service without agents are not, whatever their number."""
    batches = [idle(1), agents(2), idle(3, service="shop")]
    deliver(database, *(batches[index] for index in order), *batches)
    assert marked(database) == {"run-1"}


def recorded(number, work, service="agents", **more):
    """The last state of a run that a process recorded."""
    state = run_of(number, service_name=service, **more).to_fields()
    return WriteBatch(({**state, "span_work": work},))


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_idle_roots_that_a_process_recorded_are_plumbing(database, order):
    """Whichever state comes first; those of a service without agents, and of runs that do something, are not."""
    works = {"agent_name": "a", "metrics_json": '{"gen_ai":{"model_calls":1}}'}
    batches = [recorded(1, "none"), recorded(2, "agent"), recorded(3, "none", "shop"), recorded(4, "none", **works)]
    deliver(database, *(batches[index] for index in order), *batches)
    assert marked(database) == {"run-1"}


def test_a_run_inside_takes_the_mark_back(database):
    """It may be another process's, and come later."""
    deliver(database, recorded(9, "agent"), recorded(1, "none"), recorded(2, "none"))
    assert marked(database) == {"run-1", "run-2"}
    deliver(database, WriteBatch((run_of(3, parent_run_id="run-1"),)))
    assert marked(database) == {"run-2"}


def test_the_same_root_recorded_and_received_is_plumbing(database):
    """Whichever route is first: it is one row."""
    deliver(database, agents(9))
    for number, first, second in ((1, recorded(1, "none"), idle(1)), (2, idle(2), recorded(2, "none"))):
        deliver(database, first, second)
        assert f"run-{number}" in marked(database)


def test_a_root_in_which_something_is_done_is_no_plumbing(database):
    """A model call, a tool call or a run inside it, that comes later."""
    deliver(database, agents(9), idle(1), idle(2), idle(3), idle(4))
    assert marked(database) == {"run-1", "run-2", "run-3", "run-4"}
    deliver(database, using(11, 1, {"steps": 1, "model_calls": 1}), using(12, 2, {"steps": 1, "tool_calls": 1}))
    deliver(database, run(13, 3), using(14, 4, {"steps": 1}))
    assert marked(database) == {"run-4"}


def test_spans_without_their_root_of_a_service_with_agents_are_plumbing(database):
    """Unless a model was called; they have the service's name."""
    call = {"steps": 1, "model_calls": 1}
    lost = [using(12, 2, {"steps": 1}), using(13, 3, call), _of(using(14, 4, {"steps": 1}), service="shop")]
    deliver(database, agents(9), *(_of(batch, service="agents") for batch in lost[:2]), lost[2])
    with database.writing() as connection:
        assert close_silent(connection, now_ns=at_ns(999), silence_s=600, agent_of=lambda _given: None) == 3
    with database.reading() as connection:
        found = {run.span_id[-1]: run for run in list_runs(connection, RunQuery())}
    assert [(found[key].service_name, found[key].plumbing) for key in "234"] == [
        ("agents", 1),
        ("agents", 0),
        ("shop", 0),
    ]
