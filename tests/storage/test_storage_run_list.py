"""The list of runs of a browser: its filters, its orders, its pages and counts, at a bounded cost."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import chain

import pytest
from storage_cases import at, run, statements

from otel_agent_telemetry.errors import RecordError
from otel_agent_telemetry.storage import run_list
from otel_agent_telemetry.storage.list_query import SORTS, ListQuery
from otel_agent_telemetry.storage.rows import Cursor
from otel_agent_telemetry.storage.run_list import Count, neighbour, page_of_list
from otel_agent_telemetry.storage.store import WriteBatch
from otel_agent_telemetry.usage import USAGE_KEY
from tests.storage.trace_cases import deliver

TOKENS = {1: 10, 2: 300, 3: 20, 4: 20}
COSTS = {1: 0.5, 2: 0.25, 4: 2.0}


def figures(number: int) -> str:
    """The metrics of a run that called models."""
    used = {"input_tokens": TOKENS[number], "output_tokens": 1, "model_calls": 1, "model": f"model-{number % 2}"}
    return json.dumps({USAGE_KEY: used | ({"cost_usd": COSTS[number]} if number in COSTS else {})})


@pytest.fixture
def listed(database):
    """Return the run ids of the list that a query gives, over eight runs."""
    runs = [
        run(number, status="success", duration_ms=100 * (5 - number), metrics_json=figures(number)) for number in TOKENS
    ]
    deliver(
        database,
        WriteBatch(
            [
                *runs[:2],
                replace(runs[2], agent_name="other", host="h1", session_id="s", git_commit_hash="abcdef0123"),
                replace(runs[3], job_type="check", input_summary="Straße 100%_done"),
                run(5, status="failed", duration_ms=7, error_summary="TimeoutError: upstream", error_details="line 9"),
                run(6, status="running", output_summary="half of it"),
                run(7, status="success", duration_ms=1, plumbing=1),
                run(8, status="success", duration_ms=3, metrics_json='{"gen_ai":{"child_errors":1,"had_errors":true}}'),
            ]
        ),
    )
    database.execute("UPDATE agent_runs SET plumbing = 1 WHERE run_id = 'run-7'")

    def names(**asked) -> list[int]:
        backwards = asked.pop("backwards", False)
        with database.reading() as connection:
            page = page_of_list(connection, ListQuery(**{"plumbing": False, **asked}), backwards=backwards)
        return [int(one.record.run_id.removeprefix("run-")) for one in page.runs]

    return names


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, [8, 6, 5, 4, 3, 2, 1]),
        ({"plumbing": None}, [8, 7, 6, 5, 4, 3, 2, 1]),
        ({"agent_name": "other"}, [3]),
        ({"status": "running"}, [6]),
        ({"status": "failed", "agent_name": "agent"}, [5]),
        ({"job_type": "check"}, [4]),
        ({"host": "h1"}, [3]),
        ({"session_id": "s", "agent_name": "agent"}, []),
        ({"commit": "abcd"}, [3]),
        ({"commit": "bcde"}, []),
        ({"model": "model-1"}, [3, 1]),
        ({"text": "UPSTREAM"}, [5]),
        ({"text": "line 9"}, [5]),
        ({"text": "half of"}, [6]),
        ({"text": "run-4"}, [4]),
        ({"text": "100%_d"}, [4]),
        ({"text": "100_"}, []),
        ({"created_from": at(4), "created_before": at(6)}, [5, 4]),
        ({"duration_from_ms": 200}, [3, 2, 1]),
        ({"duration_to_ms": 3}, [8]),
        ({"with_errors": True}, [8]),
        ({"cost_from": 0.0}, [4, 2, 1]),
        ({"cost_from": 0.25, "cost_to": 0.5}, [2, 1]),
        ({"sort": "started", "ascending": True}, [1, 2, 3, 4, 5, 6, 8]),
        ({"sort": "duration"}, [1, 2, 3, 4, 5, 8]),
        ({"sort": "duration", "ascending": True}, [8, 5, 4, 3, 2, 1]),
        ({"sort": "tokens", "cost_from": 0.0}, [2, 4, 1]),
        ({"sort": "cost"}, [4, 1, 2]),
        ({"sort": "cost", "ascending": True}, [2, 1, 4]),
    ],
    ids=str,
)
def test_each_filter_and_order_lists_its_runs(listed, asked, expected):
    """On both databases; a running run has no duration, and one whose cost is not known no place among costs."""
    assert listed(**asked) == expected


@pytest.mark.parametrize("ascending", [False, True])
@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("size", [1, 2])
def test_pages_forwards_and_backwards_have_every_run_once(database, listed, sort, ascending, size):
    """Runs of equal value too: two of them have the same number of tokens."""
    query = ListQuery(plumbing=False, sort=sort, ascending=ascending, limit=size)
    whole = listed(sort=sort, ascending=ascending)
    pages = []
    with database.reading() as connection:
        page = page_of_list(connection, query)
        while page.runs:
            pages.append(page)
            page = page_of_list(connection, replace(query, cursor=page.last))
        back = page_of_list(connection, replace(query, cursor=pages[-1].first), backwards=True)
    ids = [[int(one.record.run_id[4:]) for one in page.runs] for page in pages]
    assert list(chain.from_iterable(ids)) == whole
    assert [page.has_more for page in pages] == [True] * (len(pages) - 1) + [False]
    assert [int(one.record.run_id[4:]) for one in back.runs] == ids[-2]


def test_the_neighbours_of_a_run_are_those_of_the_filtered_list(database, listed):
    """Next and previous in Langfuse leave the filter (issue 8912 there: a run that does not match is shown)."""
    query = ListQuery(plumbing=False, model="model-0")
    with database.reading() as connection:
        (newer, older) = page_of_list(connection, query).runs
        assert neighbour(connection, query, newer, backwards=False) == older.record
        assert neighbour(connection, query, newer, backwards=True) is None
        assert neighbour(connection, query, older, backwards=True) == newer.record
        costs = replace(query, sort="cost", ascending=True)
        assert neighbour(connection, costs, older, backwards=False) == newer.record


@pytest.mark.parametrize(
    ("asked", "count"),
    [
        ({}, Count(7, exact=True)),
        ({"agent_name": "agent", "status": "success"}, Count(4, exact=True)),
        ({"plumbing": None, "job_type": "job"}, Count(7, exact=True)),
        ({"text": "run-"}, Count(7, exact=True)),
        ({"duration_from_ms": 0}, Count(6, exact=True)),
    ],
    ids=str,
)
def test_the_count_is_exact_where_it_is_kept_or_small(database, listed, asked, count):
    """Plumbing is not counted where it is not listed."""
    with database.reading() as connection:
        assert page_of_list(connection, ListQuery(**{"plumbing": False, **asked})).count == count


def test_more_than_a_thousand_matches_are_counted_as_a_thousand(database, listed, monkeypatch):
    """And the search ends there."""
    monkeypatch.setattr(run_list, "COUNTED", 3)
    with database.reading() as connection:
        assert page_of_list(connection, ListQuery(text="run-", limit=2)).count == Count(3, exact=False)


@pytest.fixture
def short_search(monkeypatch):
    """Searches read two runs at a time, and four at most."""
    monkeypatch.setattr(run_list, "_FIRST_PART", 2)
    monkeypatch.setattr(run_list, "_PART", 2)
    monkeypatch.setattr(run_list, "MAX_SEARCHED", 4)


def test_a_search_that_is_cut_off_says_where_and_continues_there(database, listed, short_search):
    """Scout APM searched a thousand traces and showed the slowest of them as if of all (issue 64 of its roadmap)."""
    query = ListQuery(plumbing=None, text="run-2")
    with database.reading() as connection:
        page = page_of_list(connection, query)
        assert (page.runs, page.searched, page.stopped_at.time) == ((), 4, at(5))
        assert page.count == Count(0, exact=False, searched=4)
        rest = page_of_list(connection, replace(query, cursor=page.stopped_at))
        assert [one.record.run_id for one in rest.runs] == ["run-2"]
        assert rest.stopped_at is None
        longest = page_of_list(connection, ListQuery(sort="duration", plumbing=None))
        assert [one.record.run_id for one in longest.runs] == ["run-5", "run-8", "run-7"]
        assert longest.stopped_at.time == at(5)


def test_an_agents_runs_are_found_however_old_they_are(database, listed, short_search):
    """By an index: a search reads the runs of that agent alone."""
    assert listed(agent_name="other") == [3]


def test_no_search_reads_a_table_or_all_that_meet_a_condition(sqlite_database):
    """Whatever the filters are, and whether the table was analysed: by an index in order, then each run by its number."""
    deliver(sqlite_database, WriteBatch([run(number, session_id="s", status="failed") for number in range(60)]))
    query = ListQuery(agent_name="agent", status="failed", session_id="s", text="x", sort="duration", plumbing=False)
    for analyse in ("SELECT 1", "ANALYZE"):
        sqlite_database.execute(analyse)
        with statements() as asked, sqlite_database.reading() as connection:
            page_of_list(connection, query)
            page_of_list(connection, replace(query, sort="started", session_id=None))
        lines = [line for line in sqlite_database.plans(asked) if "agent_runs" in line]
        assert [line for line in lines if line.startswith("SCAN") or "TEMP B-TREE" in line] == []
        tested = [line for line in lines if "INTEGER PRIMARY KEY" in line]
        assert len(tested) == 1  # a list in the order of a column reads its runs once, by the index that leads to them
        assert [line for line in lines if "(session_id=?" in line]


def test_plumbing_is_counted_by_its_own_index(sqlite_database):
    """An index of the agent would lead to each of its runs in the table."""
    with statements() as asked, sqlite_database.reading() as connection:
        page_of_list(connection, ListQuery(agent_name="agent", status="failed", plumbing=False))
    assert [line for line in sqlite_database.plans(asked) if "ix_agent_runs_plumbing" in line]


def test_a_place_of_another_order_is_refused(database, listed):
    """An address that was edited by hand."""
    with database.reading() as connection, pytest.raises(RecordError, match="not of a list in this order"):
        page_of_list(connection, ListQuery(sort="tokens", cursor=Cursor(at(1), 1)))
