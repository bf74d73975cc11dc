"""The list of runs: filters in the address, pages, counts, and what an empty one says."""

from __future__ import annotations

import csv
import io
import json
import re
from urllib.parse import parse_qs, urlsplit

import pytest

from otel_agent_telemetry.page import list_address, live, runs_export
from otel_agent_telemetry.storage import run_list
from tests.page.reading import PageReader
from tests.service.service_cases import at, ended, event_id, post_batch, state

HOSTILE = '"><script>alert(1)</script>'


def show(service, path="/", code=200, **query) -> PageReader:
    """Return a page as its reader has it."""
    response = service.client.get(path, params=query or None)
    assert response.status_code == code, response.text[:500]
    return PageReader(response.text)


@pytest.fixture
def filled(service):
    """A service with four runs."""
    post_batch(
        service,
        [
            ended(1, agent_name="writer", error_summary="TimeoutError: no answer\nsecond line", status="failed"),
            ended(2, agent_name="writer", metrics_json={"gen_ai": {"input_tokens": 1200, "model_calls": 2}}),
            ended(3, agent_name="reader", session_id="a/b c", host="h1", job_type="check"),
            state(4, agent_name="reader"),
        ],
    )
    return service


def test_the_newest_run_comes_first_and_columns_without_a_value_are_left_out(filled) -> None:
    """MLflow's users ask for the columns that have values (its issue 7420); and nothing unknown is shown as 0."""
    page = show(filled)
    assert page.column("Agent") == ["reader", "reader", "writer", "writer"]
    assert page.column("Status") == ["running", "success", "success", "failed"]
    assert page.column("Duration") == ["not ended", "5 s", "5 s", "5 s"]
    assert page.column("Tokens") == ["", "", "1.2 k", ""]
    assert page.column("Error") == ["", "", "", "TimeoutError: no answer"]
    assert {"Items", "Commit"}.isdisjoint(page.rows[0])
    assert "4 runs" in page.text


@pytest.mark.parametrize(
    ("query", "statuses"),
    [
        ({"agent": "writer"}, ["success", "failed"]),
        ({"status": "Failure"}, ["failed"]),
        ({"session": "a/b c"}, ["success"]),
        ({"text": "no answer"}, ["failed"]),
        ({"from": at(3)}, ["running", "success"]),
        ({"from": "2025-10-09", "to": "2025-10-09"}, ["running", "success", "success", "failed"]),
        ({"to": "2025-10-08"}, []),
        ({"when": "today"}, ["running", "success", "success", "failed"]),
        ({"when": "yesterday"}, []),
        ({"when": "last 7 days", "job": "check"}, ["success"]),
        ({"duration_from": "5", "duration_to": "0.1 min", "host": "h1"}, ["success"]),
        ({"sort": "duration", "order": "asc", "agent": "writer"}, ["failed", "success"]),
    ],
    ids=str,
)
def test_the_address_filters(filled, query, statuses) -> None:
    """Every filter is in the address, which is all that a saved view is."""
    page = show(filled, **query)
    assert [row[1] for row in page.rows[1:]] == statuses


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"status": "lost"}, "must be one of: running, success"),
        ({"agnet": "x"}, "is no filter of this page"),
        ({"from": "soon"}, "must be a day, 2026-01-31"),
        ({"from": "2026-02-31"}, "day is out of range"),
        ({"from": "9999-12-31", "to": "9999-12-31"}, "out of range"),
        ({"duration_from": "long"}, "must be a duration: 90 s"),
        ({"cost_from": "nan"}, "must be an amount of US dollars"),
        ({"commit": "xyz"}, "hex digits of a commit"),
        ({"sort": "age"}, "must be one of: started, duration, tokens, cost"),
        ({"errors": "yes"}, "must be 1"),
        ({"text": "x" * 401}, "at most 400 characters"),
        ({"after": "nonsense"}, "is not one that a listing returned"),
        ({"sort": "cost", "after": "MTox"[:3]}, "is not"),
    ],
    ids=str,
)
def test_what_cannot_be_read_is_said_and_nothing_is_listed(filled, query, sentence) -> None:
    """A list without a filter that was asked for would look like one with it."""
    page = show(filled, code=422, **query)
    assert sentence in page.text
    assert "tbody" not in dict(page.tags)


def test_a_form_with_empty_fields_leads_to_the_short_address(filled) -> None:
    """So that what is kept and shared holds what was asked for."""
    response = filled.client.get("/", params={"agent": "writer", "status": "", "text": " "})
    assert (response.status_code, response.headers["location"]) == (303, "/?agent=writer")


def test_htmx_gets_the_table_alone_and_the_address_to_show(filled) -> None:
    """The form stays as its reader left it; going back asks for a whole page again."""
    headers = {"HX-Request": "true"}
    part = filled.client.get("/", params={"agent": "writer", "job": ""}, headers=headers)
    assert part.headers["HX-Push-Url"] == "/?agent=writer"
    assert "<html" not in part.text
    assert '<form action="/compare"' in part.text
    whole = filled.client.get("/?agent=writer", headers={**headers, "HX-History-Restore-Request": "true"})
    assert "<html" in whole.text


def test_filters_go_along_to_other_pages_and_to_a_run(filled, monkeypatch) -> None:
    """Filters lost on the way back are what users of other viewers complain of most."""
    monkeypatch.setattr(list_address, "PAGE_SIZE", 1)
    first = show(filled, agent="writer")
    older = first.named_links["older →"]
    assert parse_qs(urlsplit(older).query)["agent"] == ["writer"]
    second = PageReader(filled.client.get(older).text)
    assert second.column("Status") == ["failed"]
    assert "older →" not in second.named_links
    back = PageReader(filled.client.get(second.named_links["← newer"], follow_redirects=True).text)
    assert back.column("Status") == ["success"]
    assert parse_qs(urlsplit(first.named_links["writer"]).query) == {"list": ["agent=writer"]}


def test_no_match_names_the_filters_and_offers_to_remove_each(filled) -> None:
    """Beside a list of nothing stands why."""
    page = show(filled, agent="reader", status="failed")
    assert "No run matches" in page.text
    assert page.named_links["agent: reader ✕, remove"] == "/?status=failed"
    assert page.named_links["status: failed ✕, remove"] == "/?agent=reader"


def test_a_cut_search_says_so_and_goes_on(filled, monkeypatch) -> None:
    """What was not searched is never shown as if nothing were there."""
    for name, value in {"_FIRST_PART": 1, "_PART": 1, "MAX_SEARCHED": 2}.items():
        monkeypatch.setattr(run_list, name, value)
    page = show(filled, text="run-1")
    assert "No run matches among the 2 runs that were searched" in page.text
    assert "Runs with this id, however old" in page.text
    further = PageReader(filled.client.get(page.named_links["Search further back"]).text)
    assert further.column("Status") == ["failed"]


def test_nothing_there_yet_shows_three_ways_with_this_services_address(service) -> None:
    """The address is filled in."""
    page = show(service)
    assert page.text.count(service.url) == 2
    for word in ("TelemetryClient", "instrument()", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        assert word in page.text


def test_texts_of_a_run_stay_text(sqlite_service) -> None:
    """In cells, titles, links and fields; ids with odd characters are one part of an address."""
    post_batch(
        sqlite_service,
        [
            ended(
                1,
                status="failed",
                agent_name=HOSTILE,
                job_type=HOSTILE,
                error_summary=HOSTILE,
                session_id='s/"?#<b>',
                host=HOSTILE,
                git_repo="javascript:alert(1)",
                git_commit_hash="abcdef1234",
            )
        ],
    )
    page = show(sqlite_service, agent=HOSTILE)
    assert [tag for tag, _ in page.tags].count("script") == 3
    assert page.column("Agent") == [HOSTILE]
    assert page.named_links['s/"?#<b>'] == "/sessions/s%2F%22%3F%23%3Cb%3E"
    assert [link for link in page.links if link.startswith("javascript")] == []


def rows_of_export(service, form, **query):
    """Return the run ids of an exported file."""
    response = service.client.get(f"/export.{form}", params=query)
    assert response.status_code == 200
    assert response.headers["content-disposition"] == f'attachment; filename="runs.{form}"'
    if form == "csv":
        return [row["run_id"] for row in csv.DictReader(io.StringIO(response.text))]
    return [json.loads(line)["run_id"] for line in response.text.splitlines()]


@pytest.mark.parametrize("form", ["csv", "jsonl"])
@pytest.mark.parametrize(
    "query", [{}, {"agent": "writer"}, {"text": "run-1"}, {"sort": "duration", "status": "success"}], ids=str
)
def test_an_export_holds_all_that_the_list_matches(filled, monkeypatch, form, query) -> None:
    """More than a page of it, and more than one search reads: other viewers export their first page only."""
    for name, value in {"_FIRST_PART": 1, "_PART": 1, "MAX_SEARCHED": 2}.items():
        monkeypatch.setattr(run_list, name, value)
    monkeypatch.setattr(runs_export, "FIRST_PART", 1)
    listed = [int(run_id[4:]) for run_id in rows_of_export(filled, form, **query)]
    assert (
        listed
        == {"{}": [4, 3, 2, 1], "writer": [2, 1], "run-1": [1], "duration": [3, 2]}[next(iter(query.values()), "{}")]
    )


def test_a_cell_of_an_export_is_no_formula(sqlite_service) -> None:
    """A spreadsheet would run it."""
    post_batch(sqlite_service, [ended(1, agent_name="=HYPERLINK(1)")])
    assert "'=HYPERLINK(1)" in sqlite_service.client.get("/export.csv").text


@pytest.mark.parametrize(("path", "code"), [("/export.xlsx", 404), ("/export.csv?when=never", 422)])
def test_an_export_that_cannot_be_made_is_refused(sqlite_service, path, code) -> None:
    """No file with other runs than were asked for."""
    show(sqlite_service, path, code=code)


def test_next_and_previous_stay_within_the_filter(filled) -> None:
    """From the page of a run; at the end of the list its reader comes back to it."""
    newest = show(filled, agent="writer").named_links["writer"]
    run = PageReader(filled.client.get(newest).text)
    older = filled.client.get(run.named_links["next run →"])
    assert older.headers["location"] == f"/runs/{event_id(1)}?list=agent%3Dwriter"
    page = PageReader(filled.client.get(older.headers["location"]).text)
    assert page.named_links["All runs of the filter"] == "/?agent=writer"
    assert filled.client.get(page.named_links["next run →"]).headers["location"] == "/?agent=writer"
    assert filled.client.get(page.named_links["← previous run"]).headers["location"] == newest
    assert filled.client.get(f"/runs/{event_id(9)}/next").status_code == 404


@pytest.mark.parametrize(
    ("streams", "query", "status"), [(0, "when=never", 422), (live.MAX_STREAMS, "agent=writer", 503)]
)
def test_a_stream_that_cannot_be_given_is_refused(sqlite_service, monkeypatch, streams, query, status) -> None:
    """With when to come again."""
    monkeypatch.setattr(sqlite_service.app.state.live_runs, "streams", streams)
    response = sqlite_service.client.get(f"/live/runs?{query}")
    assert response.status_code == status
    assert ("retry-after" in response.headers) == (status == 503)


def test_a_stream_brings_what_is_in_the_filter_whenever_it_began(filled) -> None:
    """Also a run that another host delivers late; and the end of one that its reader sees running."""
    newest = re.search(r'data-newest="(\d+)"', filled.client.get("/").text)[1]
    asked = {"agent": "reader", "newest": newest, "open": event_id(4)}
    with filled.client.stream("GET", "/live/runs", params=asked) as stream:
        lines = stream.iter_lines()
        post_batch(filled, [ended(0, agent_name="reader", job_type="late"), ended(5, agent_name="writer"), ended(4)])
        assert "changed" in next(line for line in lines if line.startswith("event:"))
        rows = []
        for line in lines:
            rows.append(line)
            if "late" in line:
                break
    assert not [line for line in rows if "writer" in line]
