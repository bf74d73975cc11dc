"""Steps that end after their run change it, wherever its spans come from."""

from __future__ import annotations

import pytest

from tests.emitters.recorded_program import RecordedProgram
from tests.emitters.ways import opened


def root(attributes=None, **more):
    return {"id": "root", "name": "turn", "start": 0, "end": 20, "attributes": attributes or {}, **more}


def call(name, end, *status):
    used = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.usage.output_tokens": 1}
    more = {"status": list(status)} if status else {}
    return {"id": name, "parent": "root", "name": name, "start": 1, "end": end, "attributes": used, **more}


FAILS = ("error", "529 overloaded")
CASES = {
    "the last fails, after its run": ([root(), call("a", 10), call("b", 30, *FAILS)], "failed", "529 overloaded"),
    "the last works, after its run": ([root(), call("a", 10, *FAILS), call("b", 30)], "success", None),
    "two after it": ([root(), call("a", 30, *FAILS), call("b", 40)], "success", None),
    "an earlier one ends the wait": ([root(), call("a", 10), call("b", 9, *FAILS)], "success", None),
    "the root says so": ([root(status=["ok"]), call("a", 30, *FAILS)], "success", None),
    "an attribute says so": ([root({"agent.run.status": "partial"}), call("a", 30, *FAILS)], "partial", None),
    "a later attribute": ([root(later={"agent.run.status": "success"}), call("a", 30, *FAILS)], "success", None),
    "the root failed": ([root(status=["error", "crash"]), call("a", 30)], "failed", "crash"),
}


@pytest.fixture(scope="module", params=["live", "exporter", "otlp"])
def way(request, tmp_path_factory):
    with opened(request.param, tmp_path_factory.mktemp(request.param)) as way:
        yield way


@pytest.mark.parametrize("case", CASES)
def test_the_last_model_call_of_a_coding_agent_decides_also_after_its_run(way, case):
    """Whether it is known when the run ends or later; what the run itself says counts before it."""
    spans, status, summary = CASES[case]
    program = RecordedProgram("late calls", case, {"service.name": "codex_exec"}, spans, [])
    way.record(program)
    (row,) = (row for row in way.rows() if row["trace_id"] in program.trace_ids(way.name))
    assert (row["status"], row["error_summary"]) == (status, summary)
    assert row["output_tokens"] == len(spans) - 1
