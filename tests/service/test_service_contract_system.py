"""The service's own endpoints: health, version, metrics, the OpenAPI document, and the shape of errors."""

from __future__ import annotations

import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from service_cases import at, ended, event_id, post_batch, post_states, problem, state

from otel_agent_telemetry.buffer.health import Health
from otel_agent_telemetry.clock import parse_iso

DAY = 86_400


def figures_of(text):
    """Sample name → {label values in order of label: number}."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = tuple(value for _, value in sorted(sample.labels.items()))
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


# Health


def test_a_service_that_can_write_is_healthy(service):
    """200 with the database's name and sync settings."""
    answer = service.client.get("/health")
    settings = service.settings
    sqlite = settings.database_url is None
    assert answer.status_code == 200
    body = answer.json()
    assert body.pop("db_path") == (str(settings.db_path) if sqlite else body_path(settings))
    assert body == {
        "status": "ok",
        "version": "3.0.0",
        "journal_mode": "DELETE" if sqlite else None,
        "synchronous": "OFF" if sqlite else None,
    }


def body_path(settings):
    """A URL without its password."""
    return settings.database_url.replace("not-to-be-shown", "***")


def test_a_locked_database_is_not_healthy(sqlite_settings, serving):
    """503 with the reason and `Retry-After`; healthy once the lock is released."""
    service = serving(sqlite_settings.with_(db_busy_timeout_ms=100, db_max_retries=0))
    with closing(sqlite3.connect(sqlite_settings.db_path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        answer = service.client.get("/health")
        assert "locked" in problem(answer, 503)
        assert int(answer.headers["Retry-After"]) > 0
        other.execute("ROLLBACK")
    probe_again(service)
    assert service.client.get("/health").status_code == 200


def probe_again(service):
    """What was found a moment ago is forgotten."""
    service.app.state.backend._last_probe = (float("-inf"), "")


def test_a_database_whose_folder_takes_no_files_is_not_healthy(sqlite_settings, serving):
    """No journal can be made beside it, as on a read-only disk; healthy once it can."""
    service = serving(sqlite_settings.with_(db_max_retries=0))
    in_the_way = sqlite_settings.db_path.with_name(f"{sqlite_settings.db_path.name}-journal")
    in_the_way.mkdir()
    assert "cannot be written" in problem(service.client.get("/health"), 503)
    problem(service.client.post("/api/v1/runs", json=state()), 503)
    in_the_way.rmdir()
    probe_again(service)
    assert service.client.get("/health").status_code == 200
    assert post_states(service, state()) == ["created"]


def test_health_of_a_server_that_is_away_is_503(postgresql_settings, postgres, serving):
    """And 200 again when it is back, without a restart of the service."""
    service = serving(postgresql_settings.with_(db_max_retries=0))
    assert post_states(service, state()) == ["created"]
    postgres.server.stop()
    try:
        detail = problem(service.client.get("/health"), 503)
        assert "not-to-be-shown" not in detail
        assert problem(service.client.get("/api/v1/runs"), 503)
    finally:
        postgres.server.start()
    probe_again(service)
    assert service.client.get("/health").status_code == 200
    assert post_states(service, state()) == ["duplicate"]


# Version


def test_the_version_names_the_api_and_the_schema(sqlite_service):
    """Clients use it to recognise the service."""
    body = sqlite_service.client.get("/version").json()
    assert (body["version"], body["schema_version"]) == ("3.0.0", 9)


# Metrics


def test_without_runs_the_figures_are_zero(service):
    """200 with every member present."""
    body = service.client.get("/metrics").json()
    assert set(body.pop("deliverers").values()) == {0}
    assert body.keys() >= {"performance", "refused"}
    figures = {name: body[name] for name in ("total_runs", "agents", "recent_24h", "statuses")}
    assert figures == {"total_runs": 0, "agents": {}, "recent_24h": 0, "statuses": {}}


def test_figures_are_exact_after_upserts(service, clock):
    """Runs that move from one agent and status to another, duplicates and batches count once."""
    post_batch(service, [state(n, agent_name=f"agent {n % 2}") for n in range(1, 8)])
    post_states(service, ended(1), ended(1), ended(2, status="failed", agent_name="agent 1"), state(2))
    service.client.patch(f"/api/v1/runs/{event_id(3)}", json={"status": "cancelled"})
    body = service.client.get("/metrics").json()
    performance = body["performance"]
    assert {name: body[name] for name in ("total_runs", "agents", "recent_24h", "statuses")} == {
        "total_runs": 7,
        "agents": {"agent": 1, "agent 0": 2, "agent 1": 4},
        "recent_24h": 7,
        "statuses": {"cancelled": 1, "failed": 1, "running": 4, "success": 1},
    }
    assert all(isinstance(number, (int, float)) for number in performance.values())
    assert performance["records_waiting"] == 0


def test_recent_runs_are_those_of_the_last_24_hours(service, clock):
    """To the microsecond, by `created_at`."""
    now = parse_iso(at(0)) / 1e9
    ages = [0, 3600, DAY - 0.001, DAY, DAY + 0.001, 3 * DAY]
    post_batch(service, [state(n, created_at=at(-age)) for n, age in enumerate(ages)])
    assert clock.now_ns() == round(now * 1e9)
    assert service.client.get("/metrics").json()["recent_24h"] == 3


@pytest.mark.parametrize("path", ["/metrics", "/metrics/prometheus"])
def test_figures_in_prometheus_text_are_exact(service, path):
    """Both ways give what its own parser reads, with the same numbers as JSON."""
    names = ["agent", 'odd "name"\n\\', "ägent"]
    post_batch(service, [state(n, agent_name=names[n % 3]) for n in range(6)])
    post_states(service, ended(0, agent_name=names[0]))
    answer = service.client.get(path, headers={"Accept": "text/plain"})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    figures = figures_of(answer.text)
    assert figures["agent_telemetry_runs"] == {
        (names[0], "running"): 1,
        (names[0], "success"): 1,
        (names[1], "running"): 2,
        (names[2], "running"): 2,
    }
    assert figures["agent_telemetry_runs_last_24h"] == {(): 6}
    assert figures["agent_telemetry_buffer_bytes"] == figures["agent_telemetry_buffer_rejected"] == {(): 0}
    assert figures["agent_telemetry_commit_duration_seconds_count"][()] >= 2


def test_the_oldest_open_run_is_exported_as_a_time(service):
    """For alerts on runs that never end; the metric is absent when none is open."""
    post_batch(service, [state(n, created_at=at(-60 * n)) for n in range(1, 4)])
    post_states(service, ended(3, created_at=at(-180)))
    assert _oldest_open(service) == {(): pytest.approx(parse_iso(at(-120)) / 1e9)}
    post_states(service, ended(1, created_at=at(-60)), ended(2, created_at=at(-120)))
    assert _oldest_open(service) is None


def _oldest_open(service):
    figures = figures_of(service.client.get("/metrics/prometheus").text)
    return figures.get("agent_telemetry_oldest_open_run_timestamp_seconds")


def test_metrics_of_the_process_are_exported_while_the_database_cannot_be_read(sqlite_settings, serving):
    """An outage is when they are needed; that it is one is a figure too."""
    service = serving(sqlite_settings.with_(db_max_retries=0))
    post_states(service, state(1))
    assert figures_of(service.client.get("/metrics/prometheus").text)["agent_telemetry_database_up"] == {(): 1}
    sqlite_settings.db_path.write_bytes(b"rubbish " * 4096)
    problem(service.client.post("/api/v1/runs", json=state(2)), 503)
    answer = service.client.get("/metrics/prometheus")
    assert answer.status_code == 200
    figures = figures_of(answer.text)
    assert figures["agent_telemetry_database_up"] == {(): 0}
    assert figures["agent_telemetry_failed_writes_total"][()] >= 1
    assert "agent_telemetry_runs" not in figures


def test_runs_of_killed_processes_that_were_closed_are_counted(sqlite_settings, serving):
    """From the buffer's own count, which outlives the service."""
    service = serving(sqlite_settings)
    sqlite_settings.buffer_dir.mkdir(parents=True, exist_ok=True)
    Health(closed_runs=3).write(sqlite_settings.buffer_dir)
    figures = figures_of(service.client.get("/metrics/prometheus").text)
    assert figures["agent_telemetry_closed_runs_total"] == {(): 3}


def test_figures_come_in_openmetrics_when_asked(sqlite_service):
    """As Prometheus itself asks."""
    accept = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"
    answer = sqlite_service.client.get("/metrics", headers={"Accept": accept})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


@pytest.mark.parametrize("accept", ["application/json, text/plain, */*", "application/json", "*/*", ""])
def test_who_takes_json_gets_json(sqlite_service, accept):
    """Prometheus' format is for who asks for nothing else that we have."""
    answer = sqlite_service.client.get("/metrics", headers={"Accept": accept})
    assert answer.headers["content-type"] == "application/json"


def test_many_health_checks_at_once_write_once(sqlite_settings, serving):
    """The database is probed at most once a second, since any client may call it."""
    service = serving(sqlite_settings)
    time.sleep(1.1)  # past what is remembered of an earlier probe
    before = service.app.state.backend.writer.stats.commits
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: service.client.get("/health").status_code, range(20)))
    assert answers == [200] * 20
    assert service.app.state.backend.writer.stats.commits - before <= 2


def test_names_of_agents_in_labels_are_bounded(sqlite_service):
    """Long ones are cut, and summed where they begin alike."""
    post_states(sqlite_service, state(1, agent_name="x" * 5000), state(2, agent_name="x" * 6000))
    text = sqlite_service.client.get("/metrics/prometheus").text
    assert f'agent_telemetry_runs{{agent_name="{"x" * 200}",status="running"}} 2.0' in text


def test_requests_are_counted_by_route_not_by_path(sqlite_settings, serving):
    """A path that a client invents is not a label."""
    service = serving(sqlite_settings)
    for number in (1, 2):
        service.client.get(f"/api/v1/runs/{event_id(number)}")
        service.client.get(f"/made-up/{number}")
    counted = figures_of(service.client.get("/metrics/prometheus").text)[
        "agent_telemetry_http_request_duration_seconds_count"
    ]
    assert counted == {
        ("GET", "/api/v1/runs/{event_id}", "404"): 2,
        ("GET", "unknown", "404"): 2,
    }


def test_many_agents_share_one_label(sqlite_service):
    """The hundred with the most runs by name, the rest as one."""
    runs = [state(n, agent_name=f"agent {n % 110:03}") for n in range(210)]
    post_batch(sqlite_service, runs)
    actual = figures_of(sqlite_service.client.get("/metrics/prometheus").text)["agent_telemetry_runs"]
    assert len(actual) == 101
    assert actual["(others)", "running"] == 10
    assert sum(actual.values()) == 210


# Errors of HTTP


@pytest.mark.parametrize("path", ["/api", "/api/v1", "/api/v1/runs/", "/docs", "/favicon.ico", "/%2e%2e/x"])
def test_an_unknown_path_is_404(sqlite_service, path):
    """The error has the common shape."""
    problem(sqlite_service.client.get(path), 404)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/api/v1/runs"),
        ("PUT", f"/api/v1/runs/{event_id(1)}"),
        ("GET", "/api/v1/runs/batch/"),
        ("POST", "/health"),
        ("GET", "/v1/traces"),
        ("TRACE", "/api/v1/runs"),
    ],
)
def test_an_unknown_method_is_405(sqlite_service, method, path):
    """With what is allowed; 404 where nothing is."""
    answer = sqlite_service.client.request(method, path)
    if path.endswith("/"):
        problem(answer, 404)
    else:
        problem(answer, 405)
        assert answer.headers["Allow"]


def test_a_405_and_options_name_every_method_of_the_path(sqlite_service):
    """Not those of one route alone (RFC 9110, 10.2.1); OPTIONS is answered, and gives a browser no permission."""
    paths = ("/api/v1/runs", f"/api/v1/runs/{event_id(1)}")
    for method, status in (("TRACE", 405), ("OPTIONS", 204)):
        answers = [sqlite_service.client.request(method, path) for path in paths]
        assert [answer.status_code for answer in answers] == [status, status]
        assert [answer.headers["Allow"] for answer in answers] == [
            "GET, HEAD, POST, OPTIONS",
            "GET, HEAD, PATCH, DELETE, OPTIONS",
        ]
        assert not [name for answer in answers for name in answer.headers if name.startswith("access-control")]
    problem(sqlite_service.client.options("/nonsense"), 404)


def test_head_is_answered_where_get_is(sqlite_service):
    """With the headers of GET and without a body, which a client would take for the next answer."""
    for path in ("/health", "/version", "/api/v1/runs", "/metrics", "/openapi.json", "/nonsense"):
        head, get = sqlite_service.client.head(path), sqlite_service.client.get(path)
        assert head.status_code == get.status_code
        assert head.content == b""
        assert head.headers["content-type"] == get.headers["content-type"]
    assert sqlite_service.client.head("/api/v1/runs/batch").status_code in (404, 405)


# The description


def operations(description):
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path}", operation


@pytest.fixture
def description(sqlite_service):
    answer = sqlite_service.client.get("/openapi.json")
    assert answer.status_code == 200
    return answer.json()


def test_the_description_has_every_route(sqlite_service, description):
    """What is served is described, and nothing else."""
    served = {
        f"{method.lower()} {route.path}"
        for route in sqlite_service.app.routes
        if getattr(route, "include_in_schema", False)
        for method in route.methods - {"HEAD"}
    }
    assert {name for name, _ in operations(description)} == served
    assert len(served) >= 18


def test_every_operation_is_described_in_full(description):
    """A summary, a description, a schema for each answer and body, examples where one must be made up."""
    for name, operation in operations(description):
        assert operation["summary"], name
        assert operation["description"], name
        for status, answer in operation["responses"].items():
            contents = answer.get("content", {})
            assert contents, (name, status)
            assert all(content["schema"] for content in contents.values()), (name, status)
            assert answer["description"], (name, status)
        for parameter in operation.get("parameters", []):
            assert parameter["description"], (name, parameter["name"])
        if "requestBody" in operation:
            assert all(content["schema"] for content in operation["requestBody"]["content"].values()), name


def test_every_reference_of_the_description_leads_somewhere(description):
    """No schema is named that is not there; those of bodies have examples."""
    schemas = description["components"]["schemas"]
    named = set()

    def look(node):
        if isinstance(node, dict):
            if (reference := node.get("$ref")) is not None:
                named.add(reference.removeprefix("#/components/schemas/"))
            for value in node.values():
                look(value)
        elif isinstance(node, list):
            for value in node:
                look(value)

    look(description)
    assert named <= schemas.keys()
    for body in ("RunBody", "RunPatch", "CommitBody", "CommitOfRun"):
        assert body in named
        assert schemas[body].get("examples"), body


def test_errors_are_described_as_they_are(description):
    """Each status from 400 on is a `Problem`, and the transient ones have `Retry-After`."""
    for name, operation in operations(description):
        for status, answer in operation["responses"].items():
            if status >= "400":
                schema = answer["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/Problem"}, (name, status)
            if status in ("429", "503"):
                assert "Retry-After" in answer["headers"], (name, status)


def test_without_auth_the_description_asks_for_no_token(description):
    """There is none to send."""
    assert "security" not in description
    assert "securitySchemes" not in description["components"]


def test_the_service_needs_no_other_host(sqlite_service):
    """The description is complete; there are no pages that load scripts from elsewhere."""
    for path in ("/docs", "/redoc"):
        assert sqlite_service.client.get(path).status_code == httpx.codes.NOT_FOUND
