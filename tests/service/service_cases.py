"""Request bodies and response checks of the service's tests."""

from __future__ import annotations

import uuid

from google.rpc.status_pb2 import Status

from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.service.responses import OTLP_PATHS

SECOND = 1_000_000_000
T0 = 1_760_000_000 * SECOND
JSON = {"Content-Type": "application/json"}
OTLP_CODES = {400: 3, 401: 16, 403: 7, 405: 12, 408: 4, 413: 8, 415: 3, 422: 3, 429: 8, 500: 13, 503: 14}


def at(seconds):
    """Return the stored text of the time `seconds` after the start of the tests' clock."""
    return iso_utc(T0 + round(seconds * SECOND))


def event_id(number):
    return str(uuid.UUID(int=(4 << 76) | (8 << 60) | number))


def state(number=1, *, updated=0, **more):
    """Return a state of the run `run-{number}`, observed `updated` seconds after its start. None omits a field."""
    values = {
        "event_id": event_id(number),
        "run_id": f"run-{number}",
        "created_at": at(number),
        "updated_at": at(number + updated),
        "start_time": at(number),
        "agent_name": "agent",
        "job_type": "job",
        "status": "running",
        **more,
    }
    return {name: value for name, value in values.items() if value is not None}


def ended(number=1, *, updated=5, status="success", **more):
    return state(number, updated=updated, status=status, end_time=at(number + updated), **more)


def post_states(service, *states):
    """Post states, one request each; return their outcomes."""
    return [kept(service.client.post("/api/v1/runs", json=one)) for one in states]


def post_batch(service, states):
    """Post states in one batch; return the response."""
    answer = service.client.post("/api/v1/runs/batch", json=states)
    assert answer.status_code == 200, answer.text
    return answer.json()


def kept(answer):
    assert answer.status_code == 201, answer.text
    return answer.json()["status"]


def shown(service, number=1):
    """Return the run as the API shows it."""
    answer = service.client.get(f"/api/v1/runs/{event_id(number)}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def listed(service, **query):
    """Return the run ids of one page."""
    answer = service.client.get("/api/v1/runs", params=query)
    assert answer.status_code == 200, answer.text
    return [run["run_id"] for run in answer.json()]


def problem(answer, status):
    """Check the shape of an error response and return its `detail`."""
    assert answer.status_code == status, (answer.status_code, answer.text[:500])
    if answer.request.url.path in OTLP_PATHS:
        return _otlp_problem(answer)
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert list(body) == ["detail"], body
    assert isinstance(body["detail"], str)
    assert body["detail"]
    return body["detail"]


def _otlp_problem(answer):
    """Check a google.rpc.Status in the encoding of the request and return its message."""
    if answer.request.headers.get("content-type", "").startswith("application/x-protobuf"):
        assert answer.headers["content-type"] == "application/x-protobuf"
        actual = Status.FromString(answer.content)
        code, message = actual.code, actual.message
    else:
        body = answer.json()
        code, message = body["code"], body["message"]
        assert body == {"code": code, "message": message, "detail": message}
    assert code == OTLP_CODES[answer.status_code]
    assert message
    return message


COMMIT = {
    "commit_hash": "abcdef1234567890",
    "commit_source": "llm",
    "commit_author": "Somebody",
    "commit_timestamp": at(2),
}


def associate(service, number=1, **changes):
    return service.client.post(f"/api/v1/runs/{event_id(number)}/associate-commit", json={**COMMIT, **changes})


def commit_of(service, number=1):
    run = shown(service, number)
    names = ("git_commit_hash", "git_commit_source", "git_commit_author", "git_commit_timestamp")
    return tuple(run[name] for name in names)


def put(service, body, path="/api/v1/runs", *, method="POST", **headers):
    """Send a body unchanged."""
    return service.client.request(method, path, content=body, headers={**JSON, **headers})
