"""The measurements of `make bench` run, and print every row of the table; no figure is asserted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.pairs import Pairs, Times, verdict_of

ROOT = Path(__file__).parents[1]
ROWS = [
    "a run, 10 attributes and 3 events / BatchSpanProcessor",
    "the same, the slowest in a burst",
    "a small run, 1 attribute and 3 events of 1",
    "a run through TelemetryClient",
    "a run with agent.run.* and attributes set before the end",
    "a run with 50 child spans",
    "a run, 100 a second",
    "the same, p99.9",
    "an event of 3 attributes / bare add_event",
    "log_event with 3 attributes / bare add_event",
    "CPU of a process per run, 500 runs",
    "CPU of a process per run after its start",
    "a run with 10 attributes",
    "a run with 1,000 attributes",
    "attributes, a run",
    "a run with 10,000 events",
    "events, an event",
    "a run beside 0 open runs",
    "a run beside 250 open runs",
    "a span of the SDK's benchmark",
    "a request of OpenTelemetry's example",
    "a run of pydantic-ai",
    "a run of LangGraph",
    "a run of OpenAI Agents",
    "import of client and processor",
    "exit of a script with one run",
    "executemany / our upsert",
    "drain of 2,000 records",
    "peak memory at the end of that drain",
]


def test_every_row_of_the_table_is_measured(tmp_path):
    """A short run of the whole bench ends well and has each row, with a target and both quantiles."""
    environment = {**os.environ, "BENCH_FAST": "1", "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "tests/bench/run.py"]
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert [row for row in ROWS if not any(line.startswith(row) for line in lines)] == []
    assert sum("HTTP service" in line for line in lines) == 3


def test_a_ratio_is_the_median_of_the_pairs():
    """One slow pair does not change a figure, and the goal is compared with the quantile that it is about."""
    ours = [Times([20, 20, 200], [10, 10, 10]), Times([20, 20, 200], [10, 10, 10]), Times([900, 900, 900], [9, 9, 9])]
    theirs = [Times([10, 10, 10], [10, 10, 10])] * 3
    pairs = Pairs(ours, theirs)
    assert pairs.median_ratio(0.5) == 2.0
    assert pairs.median_ratio(0.99) == 20.0
    assert pairs.ratio("x", goal=2.0).verdict == "met"
    assert pairs.ratio("x", goal=2.0, judged=0.99).verdict == "MISSED"
    assert pairs.cpu_ratio() == 1.0
    assert pairs.pooled_ratio(0.999) == 90.0


@pytest.mark.parametrize(
    ("figure", "goal", "at_least", "verdict"),
    [(1.0, 1.0, False, "met"), (1.1, 1.0, False, "MISSED"), (1.1, 1.0, True, "met"), (5.0, None, False, "-")],
)
def test_a_verdict_follows_the_goal(figure, goal, at_least, verdict):
    """A goal is an upper or a lower bound; without one there is no verdict."""
    assert verdict_of(figure, goal, at_least=at_least) == verdict
