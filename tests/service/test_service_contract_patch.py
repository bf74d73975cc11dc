"""The promises about setting fields of a run, over real HTTP, on both kinds of database."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from service_cases import COMMIT, associate, at, commit_of, ended, event_id, post_states, problem, shown, state

from otel_agent_telemetry.columns import PATCHABLE_COLUMNS

PATCHES = {
    "status": ("cancelled", "cancelled"),
    "end_time": ("2026-01-31T14:00:00+02:00", "2026-01-31T12:00:00.000000+00:00"),
    "duration_ms": (17, 17),
    "error_summary": ("why", "why"),
    "error_details": ("stack", "stack"),
    "input_summary": ("in", "in"),
    "output_summary": ("out", "out"),
    "items_discovered": (4, 4),
    "items_succeeded": (3, 3),
    "items_failed": (2, 2),
    "items_skipped": (1, 1),
    "metrics_json": ({"a": [1]}, {"a": [1]}),
    "context_json": ({"b": None}, {"b": None}),
    "git_commit_hash": ("abcdef1", "abcdef1"),
    "git_commit_source": ("llm", "llm"),
    "git_commit_author": ("somebody", "somebody"),
    "git_commit_timestamp": ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00.000000+00:00"),
}


def patch(service, **fields):
    return service.client.patch(f"/api/v1/runs/{event_id(1)}", json=fields)


def test_the_table_of_patches_is_complete():
    """Each field that PATCH takes is tried below."""
    assert PATCHES.keys() == PATCHABLE_COLUMNS


@pytest.mark.parametrize("field", sorted(PATCHES))
def test_patch_sets_a_field_and_updated_at(service, clock, field):
    """200 with what was set; nothing else of the run changes."""
    post_states(service, state())
    before = shown(service)
    clock.advance(60)
    sent, stored = PATCHES[field]
    answer = patch(service, **{field: sent})
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"event_id": event_id(1), "updated": True, "fields_updated": [field], "ignored": []}
    after = shown(service)
    assert after.pop(field) == stored
    before.pop(field)
    if field == "end_time":  # which gives the run a duration, as none was given
        assert after.pop("duration_ms") > before.pop("duration_ms") == 0
    if field == "git_commit_hash":  # an association has a source
        assert (before.pop("git_commit_source"), after.pop("git_commit_source")) == (None, "manual")
    else:
        assert (before.pop("updated_at"), after.pop("updated_at")) == (at(1), at(60))
    assert after | {"updated_at": ""} == before | {"updated_at": ""}


def test_the_same_patch_again_changes_nothing(service, clock):
    """200 with `updated` false, and `updated_at` stays."""
    post_states(service, state())
    fields = {name: sent for name, (sent, _) in PATCHES.items()}
    assert patch(service, **fields).json()["updated"] is True
    before = shown(service)
    clock.advance(60)
    answer = patch(service, **fields)
    assert answer.json() == {"event_id": event_id(1), "updated": False, "fields_updated": sorted(fields), "ignored": []}
    assert shown(service) == before


def test_patch_takes_null_for_not_known(service):
    """Texts become null, numbers 0."""
    post_states(service, ended(error_summary="why", duration_ms=5, items_failed=3, metrics_json={"a": 1}))
    fields = dict.fromkeys(("error_summary", "duration_ms", "items_failed", "metrics_json", "end_time"))
    assert patch(service, **fields).status_code == 200
    assert [shown(service)[name] for name in fields] == [None, 0, 0, None, None]


def test_a_patched_run_stands_against_late_states(service, clock):
    """A state observed before the PATCH does not undo it, although it arrives after."""
    post_states(service, state())
    clock.advance(60)
    patch(service, status="cancelled", error_summary="by hand")
    assert post_states(service, ended(updated=30)) == ["duplicate"]
    assert shown(service)["error_summary"] == "by hand"


def test_patch_is_later_than_the_run_whatever_the_clocks_say(service):
    """The agent's clock is an hour ahead of the service's."""
    post_states(service, state(updated=3600))
    patch(service, status="cancelled")
    assert shown(service)["updated_at"] > at(3601)


def test_patch_of_no_field_is_400(service):
    """There is nothing to do."""
    post_states(service, state())
    problem(patch(service), 400)


def test_patch_of_a_run_that_is_not_here_is_404(service):
    """For an unknown id, and for what is no id."""
    for unknown in (event_id(9), "nonsense"):
        assert "not found" in problem(service.client.patch(f"/api/v1/runs/{unknown}", json={"items_failed": 1}), 404)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("status", "odd"),
        ("status", None),
        ("items_failed", -1),
        ("duration_ms", "7"),
        ("metrics_json", [1]),
        ("end_time", "2026-01-31T12:00:00"),
        ("git_commit_hash", "xyz"),
        ("git_commit_hash", "abcdef"),
        ("git_commit_source", "robot"),
    ],
)
def test_a_patch_that_breaks_a_rule_is_422(service, field, value):
    """And nothing of the run changes, good neighbours included."""
    post_states(service, state())
    before = shown(service)
    assert field.removeprefix("git_") in problem(patch(service, output_summary="good", **{field: value}), 422)
    assert shown(service) == before


def test_what_cannot_be_changed_is_ignored_and_named(service, clock):
    """The whole state that a client has: the run ends, and keeps its identity; alone such fields are 400."""
    post_states(service, state())
    clock.advance(60)
    whole = {
        "run_id": "other", "agent_name": "other", "strange": 1, "record_type": "run", "updated_at": at(9),
        "status": "success", "end_time": at(31), "duration_ms": 30_000,
    }  # fmt: skip
    answer = patch(service, **whole)
    assert answer.status_code == 200, answer.text
    assert answer.json()["fields_updated"] == ["duration_ms", "end_time", "status"]
    assert answer.json()["ignored"] == ["agent_name", "record_type", "run_id", "strange", "updated_at"]
    run = shown(service)
    assert (run["run_id"], run["agent_name"], run["status"], run["duration_ms"]) == (
        "run-1",
        "agent",
        "success",
        30_000,
    )
    assert "can be changed" in problem(patch(service, run_id="other", updated_at=at(9)), 400)


@pytest.mark.parametrize("number", [1, 2])
def test_a_duration_that_is_not_given_is_from_start_to_end(service, clock, number):
    """By POST and by PATCH; one that is given stays."""
    post_states(service, ended(1, updated=3600), state(2))
    clock.advance(60)
    service.client.patch(f"/api/v1/runs/{event_id(2)}", json={"end_time": at(3602), "status": "success"})
    assert service.client.get(f"/api/v1/runs/{event_id(number)}").json()["duration_ms"] == 3_600_000
    given = {"end_time": at(3602), "duration_ms": 7}
    service.client.patch(f"/api/v1/runs/{event_id(2)}", json=given)
    assert service.client.get(f"/api/v1/runs/{event_id(2)}").json()["duration_ms"] == 7


def test_a_record_type_in_a_body_leaves_no_trace(service):
    """Lines of the journal may be posted as they are."""
    post_states(service, {**state(), "record_type": "run"})
    assert shown(service)["context_json"] is None


def test_a_commit_cannot_be_patched_away(service, clock):
    """422: an association is kept apart and would show again."""
    post_states(service, state())
    associate(service)
    clock.advance(60)
    assert "git_commit_hash" in problem(patch(service, git_commit_hash=None), 422)
    assert commit_of(service) == tuple(COMMIT.values())


def test_an_ended_run_cannot_be_patched_to_run(service):
    """422: an end is never undone."""
    post_states(service, ended())
    assert "success" in problem(patch(service, status="running"), 422)
    assert shown(service)["status"] == "success"


def test_a_commit_that_was_patched_survives_a_late_state(service, clock):
    """Commit fields are kept apart from states."""
    post_states(service, state())
    clock.advance(60)
    patch(service, git_commit_hash="abcdef1", git_commit_author="somebody")
    assert post_states(service, ended(updated=3600, git_commit_hash=None)) == ["updated"]
    run = shown(service)
    assert (run["status"], run["git_commit_hash"], run["git_commit_author"]) == ("success", "abcdef1", "somebody")


def test_patches_through_two_services_at_once_are_all_kept(postgresql_settings, serving):
    """Each sets a field of its own in the same run: both fields are there, in whatever order."""
    one, other = serving(postgresql_settings), serving(postgresql_settings)
    post_states(one, state())
    clients = {"items_failed": one.new_client(), "items_skipped": other.new_client()}
    with ThreadPoolExecutor(2) as pool, clients["items_failed"], clients["items_skipped"]:
        for number in range(1, 31):
            sent = [
                pool.submit(client.patch, f"/api/v1/runs/{event_id(1)}", json={field: number})
                for field, client in clients.items()
            ]
            assert [answer.result().json()["updated"] for answer in sent] == [True, True]
            assert (shown(one)["items_failed"], shown(one)["items_skipped"]) == (number, number)


def test_patch_that_cannot_outlast_what_is_stored_does_not_say_it_did(service):
    """A state from the end of time stands; the response has `updated` false."""
    post_states(service, state(updated_at="9999-12-31T23:59:59.999999Z", items_failed=7))
    assert patch(service, items_failed=3).json()["updated"] is False
    assert shown(service)["items_failed"] == 7


def test_nul_in_a_patched_text_is_replaced_once(service):
    """The same again changes nothing."""
    post_states(service, state())
    assert patch(service, error_summary="a\0b").json()["updated"] is True
    assert patch(service, error_summary="a\0b").json()["updated"] is False
    assert shown(service)["error_summary"] == "a\ufffdb"
