"""Which run is found for a commit, and why: the order of the signs, and several candidates."""

from __future__ import annotations

import pytest
from on_disk import record

from otel_agent_telemetry.commits.find_run import Circumstances, find_run

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
COMMITTED = "2026-11-28T12:00:00.000000+00:00"
NO_VARIABLES: dict[str, str] = {}


class Store:
    """The runs of a store, found by the filters that a search for a commit uses."""

    def __init__(self, *runs):
        self._runs = [record(number, **{"agent_name": "claude-code", **run}) for number, run in enumerate(runs)]

    def runs(self, query):
        asked = {name: getattr(query, name) for name in ("trace_id", "session_id", "status", "agent_name")}
        return [run for run in self._runs if all(value in (None, getattr(run, name)) for name, value in asked.items())]


def look(config, store, *, environ=NO_VARIABLES, open_runs=(), **settings):
    return find_run(config.with_(**settings), Circumstances(environ, open_runs, COMMITTED), store)


def test_the_order_of_the_signs(config):
    """The environment of `run`, baggage, a trace, what is open in the directory, the one open agent."""
    store = Store({"run_id": "traced", "trace_id": TRACE}, {"run_id": "of another", "agent_name": "other"})
    signs = {"command_run_id": "commanded", "parent_run_id": "in baggage", "trace_parent": PARENT}
    everything = {"environ": {}, "open_runs": ["nearby"]}
    assert look(config, store, **everything, **signs).run_id == "commanded"
    del signs["command_run_id"]
    assert look(config, store, **everything, **signs).run_id == "in baggage"
    del signs["parent_run_id"]
    assert look(config, store, **everything, **signs).run_id == "traced"
    assert look(config, store, **everything).run_id == "nearby"
    assert look(config, store).run_id == "traced"
    assert look(config, Store()).run_id is None


def test_of_the_runs_of_a_trace_the_outermost_made_the_commit(config):
    """A turn's agents within it are parts of it; two that are in no other are two candidates."""
    outer, inner = (
        {"run_id": "turn", "trace_id": TRACE},
        {"run_id": "inner", "trace_id": TRACE, "parent_run_id": "turn"},
    )
    assert look(config, Store(outer, inner), trace_parent=PARENT).run_id == "turn"
    found = look(config, Store(outer, {"run_id": "other", "trace_id": TRACE}), trace_parent=PARENT)
    assert found.run_id is None
    assert "2 runs were of the trace" in found.why
    assert not found.is_early


def test_of_a_session_the_last_turn_begun_before_the_commit(config):
    """A session has many; the one after the commit had not begun."""
    turns = [
        {"run_id": f"turn-{hour}", "session_id": "s", "created_at": f"2026-11-28T{hour}:00:00.000000+00:00"}
        for hour in (10, 11, 13)
    ]
    assert look(config, Store(*turns), environ={"CODEX_THREAD_ID": "s"}).run_id == "turn-11"


def test_a_trace_of_no_run_leaves_the_word_to_the_session(config):
    """Codex and others hand on the TRACEPARENT that they were started with, of a pipeline perhaps."""
    found = look(
        config, Store({"run_id": "turn", "session_id": "s"}), environ={"CODEX_THREAD_ID": "s"}, trace_parent=PARENT
    )
    assert found.run_id == "turn"


@pytest.mark.parametrize("sign", [{"trace_parent": PARENT}, {"environ": {"CLAUDE_CODE_SESSION_ID": "not sent yet"}}])
def test_a_run_that_was_named_and_has_not_arrived_is_waited_for(config, sign):
    """And no other one is guessed meanwhile, not even the only one that is open."""
    found = look(config, Store({"run_id": "another"}), **sign)
    assert (found.run_id, found.is_early) == (None, True)
    assert "the store has no run" in found.why
    assert look(config, Store({"run_id": "another"}), open_runs=["nearby"], **sign).run_id == "nearby"


def test_the_turn_before_is_not_the_one_that_the_commit_was_made_in(config):
    """Copilot sends a turn when it ends: until then the store has those before it alone."""
    before = {
        "run_id": "before",
        "session_id": "s",
        "status": "success",
        "end_time": "2026-11-28T11:59:00.000000+00:00",
    }
    now = {**before, "run_id": "now", "created_at": "2026-11-28T11:59:30.000000+00:00"}
    environ = {"COPILOT_AGENT_SESSION_ID": "s"}
    assert look(config, Store(before), environ=environ).is_early
    later = {**now, "start_time": now["created_at"], "end_time": "2026-11-28T12:05:00.000000+00:00"}
    assert look(config, Store(before, later), environ=environ).run_id == "now"


def test_what_an_agent_named_is_kept_for_later_as_one_line_of_plain_words():
    """The environment is anyone's: what could be more than a name is left out."""
    variables = {"TRACEPARENT": PARENT, "CODEX_THREAD_ID": "s-1", "OPENCODE": "1\nwhy", "HOME": "/root"}
    signs = Circumstances(variables, (), COMMITTED).signs
    assert signs == f"TRACEPARENT={PARENT} CODEX_THREAD_ID=s-1"
    again = Circumstances.of_signs(signs, COMMITTED)
    assert (again.signs, again.is_past) == (signs, True)


def test_of_a_past_commit_the_run_of_that_time_is_found_though_it_has_ended(config):
    """Opencode names no session, and sends a run when it ends."""
    ended = {
        "run_id": "then",
        "agent_name": "opencode",
        "status": "success",
        "end_time": "2026-11-28T12:05:00.000000+00:00",
    }
    past = Circumstances.of_signs("OPENCODE=1", COMMITTED)
    assert find_run(config, past, Store(ended)).run_id == "then"
    over = {**ended, "end_time": "2026-11-28T11:05:00.000000+00:00"}
    assert find_run(config, past, Store(over, {"run_id": "another"})).run_id is None


@pytest.mark.parametrize(
    ("runs", "environ", "expected"),
    [
        ([{"run_id": "a"}, {"run_id": "b"}], {}, None),
        ([{"run_id": "a"}, {"run_id": "b", "agent_name": "codex"}], {"CODEX_SANDBOX": "1"}, "b"),
        ([{"run_id": "a"}, {"run_id": "b", "host": "another-host"}], {}, "a"),
        ([{"run_id": "a", "agent_name": "nightly-report"}], {}, None),
    ],
    ids=["two open", "the agent that the environment names", "another host", "no coding agent"],
)
def test_the_one_open_run_of_a_coding_agent_here(config, runs, environ, expected):
    """Of this host, and of the agent that the commit was made by where that is known."""
    found = look(config, Store(*runs), environ=environ)
    assert found.run_id == expected
    assert found.why


def test_several_candidates_are_named(config):
    """What `git log --why` shows."""
    assert look(config, Store(), open_runs=["a", "b", "c", "d"]).why == "4 runs were open in this directory: a, b, c, …"
