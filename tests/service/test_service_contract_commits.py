"""The promises about commits of runs, over real HTTP, on both kinds of database."""

from __future__ import annotations

import pytest
from service_cases import COMMIT, SECOND, associate, at, commit_of, ended, event_id, post_states, problem, shown, state


def test_a_commit_is_associated_with_a_run(service):
    """200 with the ids, and all four fields show."""
    post_states(service, state())
    answer = associate(service)
    assert answer.status_code == 200
    ids = {"event_id": event_id(1), "run_id": "run-1"}
    assert answer.json() == {"status": "success", **ids, "commit_hash": COMMIT["commit_hash"]}
    assert commit_of(service) == tuple(COMMIT.values())


def test_a_late_state_does_not_erase_an_association(service):
    """Neither one without a commit nor one with another."""
    post_states(service, state())
    associate(service)
    post_states(service, state(updated=2), ended(updated=3600, git_commit_hash="fedcba9", git_commit_source="ci"))
    assert shown(service)["status"] == "success"
    assert commit_of(service) == tuple(COMMIT.values())


def test_the_later_association_shows(service, clock):
    """Author and time of the earlier one go with it."""
    post_states(service, state())
    associate(service)
    clock.advance(1)
    answer = associate(service, commit_hash="1234567", commit_source="ci", commit_author=None, commit_timestamp=None)
    assert answer.status_code == 200
    assert commit_of(service) == ("1234567", "ci", None, None)


def test_the_same_association_again_changes_nothing(service):
    """It may be repeated after an answer that was lost."""
    post_states(service, state())
    associate(service)
    before = shown(service)
    assert associate(service).status_code == 200
    assert shown(service) == before


def test_a_commit_for_a_run_that_is_not_here_is_404(service):
    """By event id the run must be known."""
    problem(associate(service, 9), 404)
    problem(service.client.post("/api/v1/runs/nonsense/associate-commit", json=COMMIT), 404)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("commit_hash", "abcdef"),
        ("commit_hash", "g" * 7),
        ("commit_hash", "a" * 65),
        ("commit_hash", None),
        ("commit_source", "robot"),
        ("commit_source", None),
        ("commit_author", 7),
        ("commit_timestamp", "2026-01-31T12:00:00"),
        ("commit_timestamp", 7),
        ("commit_timestamp", {}),
        ("commit_timestamp", False),
    ],
)
def test_a_commit_that_breaks_a_rule_is_422(service, field, value):
    """The detail names the field, and the run stays as it is."""
    post_states(service, state())
    assert problem(associate(service, **{field: value}), 422).startswith(f"{field}:")
    assert commit_of(service) == (None, None, None, None)


def test_a_commit_associated_before_its_run_shows_when_the_run_arrives(service):
    """`POST /api/v1/commits` goes by run_id and waits."""
    answer = service.client.post("/api/v1/commits", json=[{"run_id": "run-1", **COMMIT}])
    assert answer.status_code == 200
    assert answer.json() == {"linked": 0, "pending": 1, "errors": [], "total": 1}
    post_states(service, state(), ended())
    assert commit_of(service) == tuple(COMMIT.values())


def test_commits_by_run_id_are_counted_and_bad_ones_listed(service):
    """`linked`, `pending` and `errors` add up to the total."""
    post_states(service, state())
    actual = [{"run_id": name, **COMMIT} for name in ("run-1", "later", "a/b")]
    answer = service.client.post("/api/v1/commits", json=[*actual, {"run_id": "run-1", "commit_hash": "x"}, 7])
    assert answer.status_code == 200
    body = answer.json()
    assert (body["linked"], body["pending"], body["total"]) == (1, 1, 5)
    assert [error["index"] for error in body["errors"]] == [2, 3, 4]
    assert commit_of(service) == tuple(COMMIT.values())


def test_of_two_commits_the_one_associated_later_shows_whatever_came_first(service):
    """`associated_at` decides, as of states `updated_at` does."""
    post_states(service, state())
    later = {"run_id": "run-1", **COMMIT, "associated_at": at(100)}
    earlier = {"run_id": "run-1", **COMMIT, "commit_hash": "1234567", "associated_at": at(50)}
    for actual in (later, earlier):
        assert service.client.post("/api/v1/commits", json=[actual]).json()["linked"] == 1
    assert commit_of(service)[0] == COMMIT["commit_hash"]


def test_an_association_counts_from_when_it_is_made(service, clock):
    """Without `associated_at` it is now, so that it wins over earlier associations."""
    post_states(service, state())
    clock.advance(60)
    associate(service)
    service.client.post("/api/v1/commits", json=[{"run_id": "run-1", **COMMIT, "commit_hash": "1234567"}])
    assert commit_of(service)[0] == "abcdef1234567890"  # associated at the same instant: the greater hash shows
    clock.advance(1)
    associate(service, commit_hash="7654321")
    assert commit_of(service)[0] == "7654321"


@pytest.mark.parametrize("step_s", [0, -1, -3600])
def test_the_last_association_shows_whatever_the_clock_does(service, clock, step_s):
    """The clock stands still or is set back between two calls; the last association shows."""
    post_states(service, state())
    associate(service, commit_hash="fffffff")
    clock.jump(clock.now_ns() + step_s * SECOND)
    associate(service, commit_hash="aaaaaaa")
    assert commit_of(service)[0] == "aaaaaaa"
    clock.jump(clock.now_ns() + step_s * SECOND)
    answer = service.client.patch(f"/api/v1/runs/{event_id(1)}", json={"git_commit_hash": "0000000"})
    assert answer.json()["updated"] is True
    assert commit_of(service)[0] == "0000000"


def test_an_association_from_the_future_counts_as_one_of_now(service, clock):
    """It does not outlast every later one."""
    post_states(service, state())
    actual = {**COMMIT, "run_id": "run-1", "associated_at": "2099-01-01T00:00:00Z"}
    assert service.client.post("/api/v1/commits", json=[actual]).json()["linked"] == 1
    clock.advance(1)
    associate(service, commit_hash="1234567")
    assert commit_of(service)[0] == "1234567"


def test_the_runs_of_a_commit_and_the_commits_of_a_run_are_listed(service):
    """`GET /api/v1/commits`, the latest first; a commit may be of several runs, and a run make several commits."""
    first, second = "a" * 40, "b" * 64
    links = [("run-1", first, -3), ("run-2", first, -2), ("run-1", second, -1)]
    body = [
        {"run_id": run, "commit_hash": commit, "commit_source": "llm", "associated_at": at(seconds)}
        for run, commit, seconds in links
    ]
    assert service.client.post("/api/v1/commits", json=body).json()["pending"] == 3
    found = service.client.get("/api/v1/commits", params={"commit": f"{first},{'c' * 40}"}).json()
    assert [link["run_id"] for link in found] == ["run-2", "run-1"]
    assert found[0] == {**body[1], "commit_author": None, "commit_timestamp": None}
    of_run = service.client.get("/api/v1/commits", params={"run_id": "run-1"}).json()
    assert [link["commit_hash"] for link in of_run] == [second, first]
    both = service.client.get("/api/v1/commits", params={"commit": first, "run_id": "run-1"}).json()
    assert [link["run_id"] for link in both] == ["run-1"]
    assert len(service.client.get("/api/v1/commits", params={"limit": 2}).json()) == 2
    for wrong in ({"commit": "xyz"}, {"run_id": ""}, {"commit": ",".join([first] * 201)}):
        problem(service.client.get("/api/v1/commits", params=wrong), 422)


@pytest.mark.parametrize("asked", ["a" * 40, "a" * 7, "A" * 12, f"{'f' * 40},{'a' * 40}"])
def test_runs_are_filtered_by_a_commit(service, asked):
    """By a hash or its beginning, whether the association has the whole of it or a part, or the run brought its own."""
    post_states(service, state(1), state(2), state(3, git_commit_hash="a" * 40), state(4))
    associate(service, 1, commit_hash="a" * 40)
    associate(service, 2, commit_hash="a" * 9 if len(asked) > 12 else "a" * 30)
    associate(service, 4, commit_hash="b" * 40)
    found = service.client.get("/api/v1/runs", params={"commit": asked}).json()
    assert sorted(run["run_id"] for run in found) == ["run-1", "run-2", "run-3"]
