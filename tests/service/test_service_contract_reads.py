"""The promises about reading runs, over real HTTP, on both kinds of database."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from otlp_requests import request, run_of, send, span
from service_cases import at, ended, event_id, listed, post_batch, post_states, problem, shown, state

from otel_agent_telemetry.service.routes_read import COUNTED_FIELDS, FIELDS

TRACE = "0af7651916cd43dd8448eb211c80319c"
_NEXT = re.compile(r'<([^>]+)>; rel="next"')


def next_page(answer):
    """The address in a `Link` header, None at the end."""
    found = _NEXT.fullmatch(answer.headers.get("Link", ""))
    return found[1] if found else None


def walk(service, path, between=lambda _pages: None):
    """The run ids of every page from the first to the last."""
    pages = []
    while path is not None:
        answer = service.client.get(path)
        assert answer.status_code == 200, answer.text
        pages.append([run["run_id"] for run in answer.json()])
        path = next_page(answer)
        between(len(pages))
    return pages


# GET /api/v1/runs


def test_without_runs_the_list_is_empty(service):
    """200 and no link."""
    answer = service.client.get("/api/v1/runs")
    assert (answer.status_code, answer.json()) == (200, [])
    assert "Link" not in answer.headers


def test_runs_are_listed_newest_first(service):
    """By `created_at`, whatever the order of arrival and of start."""
    post_batch(service, [state(n, start_time=at(100 - n)) for n in (2, 5, 1, 4, 3)])
    assert listed(service) == ["run-5", "run-4", "run-3", "run-2", "run-1"]


def test_of_runs_created_at_one_instant_the_last_kept_is_first(service):
    """So the order is total, and pages do not overlap."""
    post_states(service, *(state(n, created_at=at(0)) for n in (2, 3, 1)))
    assert listed(service) == ["run-1", "run-3", "run-2"]


def test_a_listed_run_is_the_same_as_the_run_alone(service):
    """Every column in both."""
    post_states(service, ended(git_repo="https://github.com/owner/repo", metrics_json={"a": 1}))
    assert service.client.get("/api/v1/runs").json() == [shown(service)]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("agent_name", "Ägent & Söhne"),
        ("job_type", "job=1"),
        ("run_id", "run 7%20"),
        ("trace_id", TRACE),
        ("parent_run_id", "parent+1"),
    ],
)
def test_a_text_filter_takes_exactly_equal_values(service, field, value):
    """Case counts, and no character means something else."""
    others = [value[:-1] + "%", "other"] if field == "trace_id" else [value.upper() + "_", value[:-1] + "%", "other"]
    post_batch(service, [state(n, **{field: text}) for n, text in enumerate([value, *others])])
    found = service.client.get("/api/v1/runs", params={field: value}).json()
    assert [run["event_id"] for run in found] == [event_id(0)]
    assert listed(service, **{field: "nobody"}) == []


def test_a_trace_is_found_in_either_case(service):
    """Ids are hex, returned in lower case."""
    post_states(service, state(trace_id=TRACE))
    assert listed(service, trace_id=TRACE.upper()) == ["run-1"]


def test_the_status_filter_takes_every_spelling(service):
    """And 400 for what is no status (contract, decision 2)."""
    post_batch(service, [state(1), ended(2), ended(3, status="failed")])
    assert listed(service, status="running") == ["run-1"]
    assert listed(service, status="Completed") == listed(service, status="ok") == ["run-2"]
    assert listed(service, status="error") == ["run-3"]
    assert "unheard-of" in problem(service.client.get("/api/v1/runs?status=unheard-of"), 400)


def test_created_bounds_are_exclusive(service):
    """Neither end belongs to it."""
    post_batch(service, [state(n) for n in range(1, 6)])
    assert listed(service, created_after=at(2), created_before=at(5)) == ["run-4", "run-3"]
    assert listed(service, created_after=at(5)) == listed(service, created_before=at(1)) == []


def test_start_bounds_are_inclusive(service):
    """Both ends belong to it."""
    post_batch(service, [state(n) for n in range(1, 6)])
    assert listed(service, start_time_from=at(2), start_time_to=at(4)) == ["run-4", "run-3", "run-2"]
    assert listed(service, start_time_from=at(3), start_time_to=at(3)) == ["run-3"]


@pytest.mark.parametrize(
    "text",
    [
        "2025-10-09T08:53:23Z",
        "2025-10-09T10:53:23+02:00",
        "2025-10-09T08:53:23.000000+00:00",
        "2025-10-09t08:53:23z",
        "2025-10-09 08:53:23+00:00",
    ],
)
def test_a_bound_may_be_any_iso_time_with_a_zone(sqlite_service, text):
    """The instant counts, not the text."""
    post_batch(sqlite_service, [state(n) for n in range(1, 6)])
    assert listed(sqlite_service, start_time_from=text, start_time_to=text) == ["run-3"]


def test_a_plus_that_was_not_escaped_is_understood(service):
    """In a query it arrives as a blank; nothing else can be meant."""
    post_states(service, state(3))
    answer = service.client.get("/api/v1/runs?start_time_from=2025-10-09T08:53:23+00:00")
    assert [run["run_id"] for run in answer.json()] == ["run-3"]


def test_filters_are_joined_by_and(service):
    """A run must pass all of them."""
    post_batch(service, [state(1, agent_name="a"), ended(2, agent_name="a"), ended(3, agent_name="b")])
    assert listed(service, agent_name="a", status="success", created_after=at(0)) == ["run-2"]


def test_limit_and_offset_cut_a_window(service):
    """Newest first; past the end there is nothing."""
    post_batch(service, [state(n) for n in range(1, 6)])
    assert listed(service, limit=2) == ["run-5", "run-4"]
    assert listed(service, limit=2, offset=3) == ["run-2", "run-1"]
    assert listed(service, offset=5) == []


def test_a_page_has_100_runs_unless_asked_and_1000_at_most(service):
    """The default, the least and the greatest."""
    post_batch(service, [state(n) for n in range(1, 1003)])
    assert [len(listed(service, **query)) for query in ({}, {"limit": 1}, {"limit": 1000})] == [100, 1, 1000]


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "limit=-1",
        "limit=x",
        "limit=1.5",
        "limit=",
        "offset=-1",
        "offset=9223372036854775808",
        "cursor=nonsense",
        "cursor=",
        "created_after=2026-01-31T12:00:00",
        "created_before=yesterday",
        "start_time_from=",
        "start_time_to=2026-13-31T12:00:00Z",
        "strange=1",
    ],
)
def test_a_query_that_breaks_a_rule_is_422(sqlite_service, query):
    """The detail names the parameter; one that is not known is refused, not ignored."""
    assert query.partition("=")[0] in problem(sqlite_service.client.get(f"/api/v1/runs?{query}"), 422)


def test_a_query_with_many_unknown_names_gets_a_short_answer(sqlite_service):
    query = {f"unknown_{number}": "x" for number in range(300)}
    detail = problem(sqlite_service.client.get("/api/v1/runs", params=query), 422)
    assert "unknown_9:" in detail
    assert detail.endswith("and 290 more")


def test_pages_follow_the_link_and_keep_the_filters(service):
    """Every run once, in order, and no link on the last page."""
    post_batch(service, [state(n, agent_name="a&b" if n % 2 else "other") for n in range(1, 12)])
    pages = walk(service, "/api/v1/runs?limit=2&agent_name=a%26b")
    assert pages == [["run-11", "run-9"], ["run-7", "run-5"], ["run-3", "run-1"]]


def test_a_walk_sees_each_run_once_while_others_arrive(service):
    """1200 runs created at one instant; new ones come between the pages, newer, older and at the same instant."""
    post_batch(service, [state(n, created_at=at(1000)) for n in range(1200)])

    def insert(pages):
        base = 10_000 + 10 * pages
        post_batch(service, [state(base + n, created_at=at(when)) for n, when in enumerate((2000, 1000))])

    pages = walk(service, "/api/v1/runs?limit=100", between=insert)
    assert [len(page) for page in pages] == [100] * 12
    assert [name for page in pages for name in page] == [f"run-{n}" for n in reversed(range(1200))]


def test_a_walk_goes_on_behind_a_run_that_has_changed(service):
    """A cursor is a place, not a row."""
    post_batch(service, [state(n) for n in range(1, 7)])
    pages = walk(service, "/api/v1/runs?limit=2", between=lambda n: post_states(service, ended(7 - 2 * n, updated=500)))
    assert pages == [["run-6", "run-5"], ["run-4", "run-3"], ["run-2", "run-1"]]


# One run, and what is below it


@pytest.mark.parametrize("below", ["", "/commit-url", "/repo-url", "/events", "/spans"])
def test_a_run_that_is_not_here_is_404(service, below):
    """For an unknown id, and for what is no id."""
    for unknown in (event_id(9), "nonsense", "0"):
        assert unknown in problem(service.client.get(f"/api/v1/runs/{unknown}{below}"), 404)


def test_a_run_is_found_by_its_id_in_either_case(service):
    """UUIDs are hex."""
    letters = "abcdefab-cdef-4abc-8def-abcdefabcdef"
    post_states(service, state(event_id=letters))
    assert service.client.get(f"/api/v1/runs/{letters.upper()}").json()["event_id"] == letters


def test_a_run_without_spans_has_no_events_and_no_spans(service):
    """200 and empty arrays."""
    post_states(service, state())
    for below in ("events", "spans"):
        answer = service.client.get(f"/api/v1/runs/{event_id(1)}/{below}")
        assert (answer.status_code, answer.json()) == (200, [])


SHA = "0123456789abcdef"
ADDRESSES = [
    ("https://github.com/o/r.git", "https://github.com/o/r", "/commit/"),
    ("git@github.com:o/r.git", "https://github.com/o/r", "/commit/"),
    ("ssh://git@gitlab.com:22/g/s/r.git", "https://gitlab.com/g/s/r", "/-/commit/"),
    ("https://bitbucket.org/o/r", "https://bitbucket.org/o/r", "/commits/"),
    ("https://user:hunter2@github.com/o/r", "https://github.com/o/r", "/commit/"),
    ("git@git.example.com:o/r.git", "https://git.example.com/o/r", "/-/commit/"),
    ("https://code.example.org:8443/o/r", "https://code.example.org:8443/o/r", "/commit/"),
    ("https://github.com.evil.org/o/r", None, None),
    ("https://evilgithub.com/o/r", None, None),
    ("/srv/git/r.git", None, None),
    ("javascript:alert(1)", None, None),
]


@pytest.fixture
def with_git_hosts(sqlite_settings, serving):
    """A service that knows two platforms of one's own."""
    hosts = (("git.example.com", "gitlab"), ("code.example.org", "github"))
    return serving(sqlite_settings.with_(git_hosts=hosts))


def test_addresses_of_commits_and_repositories(with_git_hosts):
    """The three platforms, one's own, and null where none can be built; alone and in the run."""
    client = with_git_hosts.client
    for number, (repo, page, path) in enumerate(ADDRESSES, start=1):
        post_states(with_git_hosts, state(number, git_repo=repo, git_commit_hash=SHA))
        commit_page = f"{page}{path}{SHA}" if page else None
        at_run = f"/api/v1/runs/{event_id(number)}"
        assert client.get(f"{at_run}/repo-url").json() == {"repo_url": page}
        assert client.get(f"{at_run}/commit-url").json() == {"commit_url": commit_page}
        run = shown(with_git_hosts, number)
        assert (run["repo_url"], run["commit_url"]) == (page, commit_page)


def test_there_is_no_address_without_repository_or_commit(service):
    """200 with null."""
    post_states(service, state(1), state(2, git_repo="git@github.com:o/r.git"), state(3, git_commit_hash=SHA))
    actual = [service.client.get(f"/api/v1/runs/{event_id(n)}/commit-url").json()["commit_url"] for n in (1, 2, 3)]
    assert actual == [None, None, None]
    assert service.client.get(f"/api/v1/runs/{event_id(2)}/repo-url").json()["repo_url"] == "https://github.com/o/r"


# Metadata


def test_metadata_counts_agents_and_job_types(service):
    """Exact after updates that change them, duplicates and batches."""
    assert service.client.get("/api/v1/metadata").json() == {"agent_names": {}, "job_types": {}}
    post_batch(service, [state(n, agent_name=f"agent {n % 2}", job_type="x") for n in range(5)])
    post_states(service, ended(0, agent_name="agent 2", job_type="y"), state(1, agent_name="agent 1", job_type="x"))
    assert service.client.get("/api/v1/metadata").json() == {
        "agent_names": {"agent 0": 2, "agent 1": 2, "agent 2": 1},
        "job_types": {"x": 4, "y": 1},
    }


@pytest.mark.parametrize("field", FIELDS)
def test_the_values_of_a_field_are_distinct_and_in_order(service, field):
    """Runs without one do not count."""
    values = ["failed", "running", "success"] if field == "status" else ["a", "b", "c"]
    actual = [values[2], values[0], values[1], values[0]]
    post_batch(service, [state(n, **{field: value}) for n, value in enumerate(actual)])
    if field not in COUNTED_FIELDS:
        post_states(service, state(9))
    answer = service.client.get(f"/api/v1/metadata/{field}")
    assert answer.json() == {"field": field, "values": values, "truncated": False}


def test_at_most_a_thousand_values_are_returned(service):
    """And that there are more."""
    for field in ("job_type", "host"):
        post_batch(service, [state(n, **{field: f"{n:04}"}) for n in range(1001)])
        answer = service.client.get(f"/api/v1/metadata/{field}").json()
        assert (len(answer["values"]), answer["truncated"]) == (1000, True)
        assert all(one < other for one, other in pairwise(answer["values"]))


def test_values_of_other_fields_are_refused(service):
    """Fields that may be long or secret have no list of values."""
    for field in ("error_details", "event_id", "nonsense", "id"):
        assert "agent_name" in problem(service.client.get(f"/api/v1/metadata/{field}"), 422)


@pytest.mark.parametrize("below", ["events", "spans"])
def test_what_happened_in_a_run_is_read_page_by_page(service, below):
    """In order, each once, with a header that leads on; the CLI's reader follows it."""
    spans = [span(1, events=[(f"event {n}", {}) for n in range(7)]), *(span(n, 1) for n in range(2, 9))]
    send(service, request(*spans))
    path = f"/api/v1/runs/{run_of(1)}/{below}"
    whole = service.client.get(path).json()
    assert len(whole) == 7
    seen, link, sizes = [], f"{path}?limit=3", []
    while link is not None:
        answer = service.client.get(link)
        seen += answer.json()
        sizes.append(len(answer.json()))
        link = answer.links.get("next", {}).get("url")
    assert (seen, sizes) == (whole, [3, 3, 1])
    for query in ("limit=0", "limit=10001", "cursor=x", "offset=1"):
        problem(service.client.get(f"{path}?{query}"), 422)


def test_listings_and_metrics_keep_plumbing_and_can_leave_it_out(service):
    """The first page without it says how many runs it leaves out."""
    post_states(service, ended(1), ended(2, plumbing=True), ended(3, plumbing=1, status="failed"))
    assert [run["plumbing"] for run in service.client.get("/api/v1/runs").json()] == [True, True, False]
    answer = service.client.get("/api/v1/runs", params={"plumbing": "false"})
    assert [run["run_id"] for run in answer.json()] == [shown(service, 1)["run_id"]]
    assert answer.headers["Agent-Telemetry-Plumbing"] == "2"
    assert len(listed(service, plumbing="true", status="failed")) == 1
    figures = {word: service.client.get("/metrics", params={"plumbing": word}).json() for word in ("true", "false")}
    assert [figures[word]["total_runs"] for word in ("true", "false")] == [2, 1]
    assert figures["false"]["statuses"] == {"success": 1}
    assert service.client.get("/metrics").json()["total_runs"] == 3


def test_runs_are_found_by_later_columns_and_labels(service):
    """An odd label is refused."""
    post_states(service, ended(1, session_id="s", labels={"team": "core"}), ended(2, labels={"team": "web"}, model="m"))
    for query in ({"session_id": "s"}, {"label": "team=core"}, {"received_after": at(-1)}):
        assert "run-1" in listed(service, **query)
    assert listed(service, model="m") == ["run-2"]
    assert service.client.get("/api/v1/runs", params={"label": "team"}).status_code == 422
    assert shown(service, 1)["received_at"] is not None


def test_totals_of_a_run_and_the_runs_inside_it_can_be_asked_for(service):
    """Of one run and of each of a page; without the question a run has no such member."""
    used = {"gen_ai": {"input_tokens": 5, "model_calls": 1}}
    inner = ended(2, parent_run_id=shown_run_id(1), metrics_json=used)
    post_states(service, ended(1, metrics_json=used), inner)
    path = f"/api/v1/runs/{event_id(1)}"
    tree = service.client.get(path, params={"tree": "true"}).json()["tree"]
    assert (tree["runs"], tree["input_tokens"], tree["complete"]) == (2, 10, True)
    page = service.client.get("/api/v1/runs", params={"tree": "true"}).json()
    assert [run["tree"]["input_tokens"] for run in page] == [5, 10]
    assert "tree" not in service.client.get(path).json()


def shown_run_id(number):
    return state(number)["run_id"]
