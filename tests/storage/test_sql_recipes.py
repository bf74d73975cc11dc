"""docs/reference/recipes.md: each statement runs on both kinds of database, and answers its question."""

from __future__ import annotations

import json
import re

import pytest
from storage_cases import ROOT, at, link, run
from trace_cases import deliver, step
from trace_cases import run as traced_run

from otel_agent_telemetry.storage.deletions import delete_run
from otel_agent_telemetry.storage.store import WriteBatch

PAGE = (ROOT / "docs/reference/recipes.md").read_text("utf-8")
HEADING_OR_STATEMENT = re.compile(r"^## ([^\n]+)$|^```sql(?: title=\"(\w+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


def used(model, **figures):
    """The usage of one model, as a run has it."""
    return {"metrics_json": json.dumps({"gen_ai": {**figures, "models": [model], "by_model": {model: figures}}})}


@pytest.fixture
def answers(database):
    """Heading → the rows of each statement below it, of a database that holds a bit of everything."""
    figures = {"model_calls": 2, "input_tokens": 700, "output_tokens": 50}
    dear, cheap = used("small", **figures, cost_usd=0.5), used("small", **figures, cost_usd=0.25)
    failed = {"error_summary": "the disk was full"}
    runs = (
        run(1, status="success", **dear, duration_ms=10, session_id="s", labels='{"team":"search"}'),
        run(2, status="success", **cheap, duration_ms=30, parent_run_id="run-1"),
        run(3, status="failed", **failed, duration_ms=20),
        run(4, status="timeout", **failed, **used("own", model_calls=1, input_tokens=9)),
        run(5, agent_name="slow"),
        run(6, status="success"),
    )
    deliver(database, WriteBatch(runs, links=(link(1), link(2))), traced_run(20, agent_name="stepping"), step(21, 20))
    with database.writing() as connection:
        delete_run(connection, runs[-1].event_id, deleted_at=at(9), deleted_by="ops")
    return dict(_answered(database))


def _answered(database):
    """Run the statements of the page that are for this kind of database."""
    found, heading = {}, ""
    for title, kind, statement in HEADING_OR_STATEMENT.findall(PAGE):
        if title:
            heading = title
        elif kind in ("", NAMES[database.engine.dialect.name]):
            found.setdefault(heading, []).append(database.rows(statement))
    return found


def test_every_recipe_answers_its_question(answers):
    """The sums are those of the runs, and nothing is counted twice."""
    assert len(answers) == PAGE.count("\n## ")
    assert [heading for heading, found in answers.items() if not all(found)] == []
    day = at(0)[:10]
    assert ("agent", "success", 2) in answers["What ran"][0]
    assert answers["What failed, and why"][0] == [("agent", "the disk was full", 2, at(4))]
    assert answers["What has been running for long"][0][0][:2] == ("run-5", "slow")
    assert ("agent", 10, 30) in answers["Median and 95th percentile of the duration"][0]
    assert (day, "agent", 0.75, 1) in answers["Cost of each agent and day"][0]
    by_run, by_call = answers["Cost and tokens of each model"]
    assert ("small", 2, 4, 1400, 100, 0.75) in by_run
    assert by_call == [("own", 1, 9), ("small", 4, 1400)]
    assert answers["Cost of a run with all runs inside it"][0] == [(2, 0.75, 1500)]
    assert answers["Cost of a session, a user, a change"][0] == [("s", at(1), 1, 0.5)]
    assert answers["Cost of a label"][0] == [("search", 0.5)]
    assert answers["Cost of a commit"][0] == [("abcdef1", at(0), 2, 0.75)]
    assert answers["Whose cost is not known"][0] == [("own", 1, 9)]
    assert answers["What was deleted, by whom"][0] == [("run-6", at(9), "ops")]
