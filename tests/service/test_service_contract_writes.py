"""The promises about writing runs, over real HTTP, on both kinds of database."""

from __future__ import annotations

from itertools import permutations

import pytest
from service_cases import at, ended, event_id, post_batch, post_states, problem, shown, state

from otel_agent_telemetry.columns import COLUMNS
from otel_agent_telemetry.status import SPELLINGS, canonical_status

ANSWER_ONLY = {"id", "commit_url", "repo_url"}
FULL = {
    "agent_owner": "owner",
    "trigger_type": "cron",
    "product": "product",
    "product_family": "family",
    "platform": "platform",
    "subdomain": "sub",
    "website": "example.org",
    "website_section": "section",
    "item_name": "item",
    "items_discovered": 4,
    "items_succeeded": 2,
    "items_failed": 1,
    "items_skipped": 1,
    "duration_ms": 5000,
    "input_summary": "in",
    "output_summary": "out",
    "source_ref": "from",
    "target_ref": "to",
    "error_summary": "why",
    "error_details": "stack",
    "git_repo": "https://github.com/owner/repo",
    "git_branch": "main",
    "git_commit_hash": "0123456789abcdef0123456789abcdef01234567",
    "git_run_tag": "tag",
    "git_commit_source": "ci",
    "git_commit_author": "Somebody <some@body.org>",
    "git_commit_timestamp": at(3),
    "host": "host",
    "environment": "test",
    "metrics_json": {"files": 10, "nested": {"list": [1, 2.5, None, True]}},
    "context_json": {"why": "because"},
    "api_posted": True,
    "api_posted_at": at(9),
    "api_retry_count": 2,
    "insight_id": "insight",
    "parent_run_id": "parent",
    "trace_id": "0af7651916cd43dd8448eb211c80319c",
    "span_id": "b7ad6b7169203331",
    "service_name": "service",
}


# POST /api/v1/runs


def test_a_new_run_is_created(service):
    """201 with the ids."""
    answer = service.client.post("/api/v1/runs", json=state())
    assert answer.status_code == 201
    assert answer.json() == {"status": "created", "event_id": event_id(1), "run_id": "run-1"}


def test_the_same_state_again_is_a_duplicate(service):
    """201 with a message, and the row stays as it is."""
    post_states(service, state())
    before = shown(service)
    answer = service.client.post("/api/v1/runs", json=state())
    assert answer.status_code == 201
    assert answer.json().keys() == {"status", "event_id", "message"}
    assert answer.json() | {"message": ""} == {"status": "duplicate", "event_id": event_id(1), "message": ""}
    assert shown(service) == before


def test_a_later_state_updates_the_run(service):
    """201 with the ids."""
    post_states(service, state())
    answer = service.client.post("/api/v1/runs", json=ended())
    assert answer.status_code == 201
    assert answer.json() == {"status": "updated", "event_id": event_id(1), "run_id": "run-1"}
    assert shown(service)["status"] == "success"


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_states_in_any_order_end_in_the_same_run(service, order):
    """Start, a later running state, the end: the end stands whatever came last."""
    states = [state(), state(updated=2, items_discovered=7), ended(items_discovered=9)]
    outcomes = post_states(service, *(states[at] for at in order))
    assert outcomes[0] == "created"
    assert set(outcomes[1:]) <= {"updated", "duplicate"}
    run = shown(service)
    assert (run["status"], run["items_discovered"], run["updated_at"]) == ("success", 9, at(6))
    assert post_states(service, *states) == ["duplicate"] * 3


def test_an_ended_run_never_runs_again(service):
    """Not even by a running state that was observed later."""
    assert post_states(service, ended(), state(updated=3600)) == ["created", "duplicate"]
    assert shown(service)["status"] == "success"


def test_of_two_ends_the_later_stands(service):
    """By `updated_at`, not by arrival."""
    assert post_states(service, ended(updated=9, status="failed"), ended(updated=5)) == ["created", "duplicate"]
    assert shown(service)["status"] == "failed"


def test_every_column_is_kept_and_read_back(service):
    """What was sent, plus `id` and the two addresses; JSON columns as objects, `api_posted` a boolean."""
    sent = ended(**FULL)
    post_states(service, sent)
    run = shown(service)
    assert run.keys() == {*COLUMNS} | ANSWER_ONLY
    assert {name: run[name] for name in sent} == sent
    assert type(run["id"]) is int
    assert run["repo_url"] == "https://github.com/owner/repo"
    assert run["commit_url"] == f"https://github.com/owner/repo/commit/{FULL['git_commit_hash']}"


def test_a_sparse_state_has_the_defaults(service):
    """Five fields are enough: created and updated follow the start, numbers are 0, texts null."""
    sparse = {name: state()[name] for name in ("event_id", "run_id", "start_time", "agent_name", "job_type")}
    post_states(service, sparse)
    run = shown(service)
    assert run["created_at"] == run["updated_at"] == run["start_time"] == at(1)
    assert run["status"] == "running"
    assert {run[name] for name in ("items_discovered", "items_failed", "duration_ms", "api_retry_count")} == {0}
    assert run["api_posted"] is False
    assert run["end_time"] is run["metrics_json"] is run["commit_url"] is run["repo_url"] is None


def test_a_duration_of_null_is_zero(service):
    """Contract: `duration_ms: null` is 0."""
    post_states(service, {**state(), "duration_ms": None})
    assert shown(service)["duration_ms"] == 0


@pytest.mark.parametrize("spelling", [*SPELLINGS, "SUCCESS", "Failure", " ok "])
def test_every_spelling_of_a_status_is_kept_as_its_word(service, spelling):
    """Contract, decision 2."""
    post_states(service, state(status=spelling))
    assert shown(service)["status"] == canonical_status(spelling)


def test_fields_that_are_no_columns_are_kept_in_context_json(service):
    """Unknown fields are kept, what is there already wins, and what answers add means nothing."""
    post_states(service, state(colour="red", why="x", id=7, commit_url="javascript:1", context_json={"why": "because"}))
    run = shown(service)
    assert run["context_json"] == {"colour": "red", "why": "because"}
    assert run["id"] != 7
    assert run["commit_url"] is None


def test_json_columns_may_be_the_text_of_an_object(service):
    """As older clients send them."""
    post_states(service, state(metrics_json='{"a": 1}', context_json=""))
    run = shown(service)
    assert (run["metrics_json"], run["context_json"]) == ({"a": 1}, None)


def test_a_run_that_is_read_can_be_sent_back(service):
    """What GET answers is a body that POST takes, and it changes nothing."""
    post_states(service, ended(**FULL))
    assert post_states(service, shown(service)) == ["duplicate"]


def test_times_are_kept_in_utc(service):
    """Another zone is the same instant; an event id is kept in lower case."""
    post_states(service, state(start_time="2025-10-09T10:53:21+02:00", event_id=event_id(1).upper()))
    assert shown(service)["start_time"] == at(1)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((name, None) for name in ("event_id", "run_id", "start_time", "agent_name", "job_type")),
        ("event_id", "not-a-uuid"),
        *(("run_id", bad) for bad in ("", "   ", "a/b", "a\\b", "a\0b", "x" * 256, 7)),
        ("status", "unheard-of"),
        ("status", 1),
        ("items_failed", -1),
        ("duration_ms", 1.5),
        ("duration_ms", True),
        ("items_discovered", "7"),
        ("items_discovered", 2**63),
        ("git_commit_source", "robot"),
        ("start_time", "2026-01-31T12:00:00"),
        ("end_time", "yesterday"),
        ("metrics_json", [1]),
        ("context_json", "text"),
        ("agent_name", {"first": "x"}),
    ],
)
def test_a_value_that_breaks_a_rule_is_422(service, field, value):
    """The detail names the field, and nothing is kept."""
    answer = service.client.post("/api/v1/runs", json={**state(), field: value})
    assert problem(answer, 422).startswith(f"{field}:")
    assert service.client.get("/api/v1/runs").json() == []


def test_credentials_in_a_repository_are_dropped(service):
    """They are not stored, so no answer shows them."""
    post_states(service, state(git_repo="https://user:hunter2@github.com/owner/repo.git"))
    run = shown(service)
    assert run["git_repo"] == "https://github.com/owner/repo.git"
    assert run["repo_url"] == "https://github.com/owner/repo"


# POST /api/v1/runs/batch


def test_a_batch_counts_what_became_of_each(service):
    """New ones, a later state, the same again, bad ones: the numbers add up to the total."""
    post_states(service, state(1), state(2))
    answer = post_batch(service, [ended(1), state(2), state(3), {**state(4), "status": "odd"}, "text", None])
    errors = answer.pop("errors")
    assert answer == {"inserted": 1, "updated": 1, "duplicates": 1, "total": 6}
    assert [error["index"] for error in errors] == [3, 4, 5]
    assert [error["event_id"] for error in errors] == [event_id(4), None, None]
    assert all(error.keys() == {"index", "event_id", "reason"} for error in errors)
    assert errors[0]["reason"].startswith("status: ")
    assert shown(service, 3)["run_id"] == "run-3"
    problem(service.client.get(f"/api/v1/runs/{event_id(4)}"), 404)


@pytest.mark.parametrize("backwards", [False, True])
def test_start_and_end_of_a_run_in_one_batch_are_one_row(service, backwards):
    """The first one there inserts; the other updates it, or adds nothing."""
    states = [ended(), state()] if backwards else [state(), ended()]
    other = {"updated": 0, "duplicates": 1} if backwards else {"updated": 1, "duplicates": 0}
    assert post_batch(service, states) == {"inserted": 1, **other, "errors": [], "total": 2}
    assert [run["status"] for run in service.client.get("/api/v1/runs").json()] == ["success"]


def test_the_same_state_twice_in_one_batch_is_a_duplicate(service):
    """As it would be in two requests."""
    counts = {"inserted": 1, "updated": 0, "duplicates": 2, "errors": [], "total": 3}
    assert post_batch(service, [state()] * 3) == counts


def test_an_empty_batch_is_counted_as_nothing(service):
    """200: nothing to do is no error."""
    assert post_batch(service, []) == {"inserted": 0, "updated": 0, "duplicates": 0, "errors": [], "total": 0}


def test_a_batch_of_bad_items_keeps_nothing(service):
    """200 with all of them in `errors`."""
    answer = post_batch(service, [{}, [], 7])
    assert (answer["inserted"], answer["total"], len(answer["errors"])) == (0, 3, 3)


@pytest.mark.parametrize("given", [{"plumbing": 5}, {"plumbing": "yes"}, {"model": ["m"]}, {"labels": "l"}])
def test_what_a_later_column_cannot_hold_is_kept_in_the_context(sqlite_service, given):
    """Clients may have had fields of their own under these names."""
    post_states(sqlite_service, state(**given))
    run = shown(sqlite_service)
    assert run["context_json"] == given
    assert (run["plumbing"], run["model"], run["labels"]) == (False, None, None)
