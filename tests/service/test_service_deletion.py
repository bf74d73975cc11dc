"""`DELETE /api/v1/runs/{event_id}`: the run is gone when it answers, and stays gone."""

from __future__ import annotations

from hashlib import sha256

from running import running
from service_cases import ended, event_id, kept, listed, post_batch, post_states, problem, state

from otel_agent_telemetry.deletion import read_marks


def delete(service, number=1, **more):
    return service.client.delete(f"/api/v1/runs/{event_id(number)}", **more)


def test_a_deleted_run_leaves_its_receipt(service):
    """With the runs inside it; a repeated call returns the same; readers and PATCH find no such run."""
    post_batch(service, [state(1), state(2, parent_run_id="run-1"), state(3)])
    answer = delete(service)
    assert answer.status_code == 200
    receipt = answer.json()
    assert {name: receipt[name] for name in ("status", "event_id", "run_id", "deleted_by")} == {
        "status": "deleted",
        "event_id": event_id(1),
        "run_id": "run-1",
        "deleted_by": "no token",
    }
    assert [run["run_id"] for run in receipt["runs_inside"]] == ["run-2"]
    assert listed(service) == ["run-3"]
    assert delete(service).json()["deleted_at"] == receipt["deleted_at"]
    path = f"/api/v1/runs/{event_id(1)}"
    assert "not found" in problem(service.client.get(path), 404)
    assert "not found" in problem(service.client.patch(path, json={"status": "failed"}), 404)
    assert "not found" in problem(delete(service, 9), 404)


def test_a_late_state_of_a_deleted_run_is_answered_and_not_stored(service):
    """Alone and in a batch, where clients that know of no deletions count it as settled."""
    post_states(service, state(1))
    delete(service)
    answer = service.client.post("/api/v1/runs", json=ended(1))
    assert kept(answer) == "deleted"
    batch = post_batch(service, [ended(1), state(2)])
    assert (batch["inserted"], batch["duplicates"], batch["deleted"], batch["total"]) == (1, 1, 1, 2)
    assert listed(service) == ["run-2"]


def test_a_deletion_needs_the_permission_and_names_the_token(sqlite_settings):
    """A token that may write only is refused; the receipt in database and journal has the other's name."""
    tokens = {"ci": ["write"], "ops": ["admin", "read"]}
    path = sqlite_settings.base_dir.parent / "tokens.toml"
    path.write_text(
        "".join(
            f'[{name}]\nsha256 = "{sha256(name.encode()).hexdigest()}"\nmay = {may}\n' for name, may in tokens.items()
        )
    )
    path.chmod(0o600)
    with running(sqlite_settings.with_(api_tokens_file=path)) as service:
        bearer = {name: {"Authorization": f"Bearer {name}"} for name in tokens}
        service.client.post("/api/v1/runs", json=state(1), headers=bearer["ci"])
        assert delete(service, headers=bearer["ci"]).status_code == 403
        assert delete(service, headers=bearer["ops"]).json()["deleted_by"] == "ops"
    assert read_marks(sqlite_settings.ndjson_dir).deleted[event_id(1)].deleted_by == "ops"
