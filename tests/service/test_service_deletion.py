"""`DELETE /api/v1/runs/{event_id}`: the run is gone when it answers, and stays gone."""

from __future__ import annotations

from hashlib import sha256

import orjson
from running import running
from service_cases import at, ended, event_id, kept, listed, post_batch, post_states, problem, state

from otel_agent_telemetry.deletion import CutOff, Deletion, read_marks


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


def test_lines_of_a_deleted_run_are_not_stored(service):
    """Events and steps of a journal that arrive later; and lines of deletions delete nothing and are not refused."""
    post_states(service, state(1), state(2))
    delete(service)
    tick = {"record_type": "event", "event_type": "tick", "timestamp": at(5), "writer": "w"}
    marks = [Deletion(event_id=event_id(2), run_id="run-2", deleted_at=at(5), deleted_by="anybody")]
    marks.append(CutOff(cutoff=at(1000), applied_at=at(1000)))
    lines = [{**tick, "seq": number, "event_id": event_id(number), "run_id": f"run-{number}"} for number in (1, 2)]
    lines += [
        {"record_type": "event", "writer": "w", "seq": 3 + at_, **mark.to_event()} for at_, mark in enumerate(marks)
    ]
    body = b"".join(orjson.dumps(line) + b"\n" for line in lines)
    answer = service.client.post("/api/v1/records", content=body, headers={"Content-Type": "application/x-ndjson"})
    assert (answer.status_code, answer.json()["refused"]) == (200, [])
    assert service.client.get(f"/api/v1/runs/{event_id(2)}/events").json()[0]["event_type"] == "tick"
    assert listed(service) == ["run-2"]
    post_states(service, state(3))
    assert listed(service) == ["run-3", "run-2"]
