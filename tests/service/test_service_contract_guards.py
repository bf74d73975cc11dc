"""The guards: bearer token, rate limit, access log, loopback host check."""

from __future__ import annotations

import logging
import socket
import time
from contextlib import ExitStack

import httpx
import pytest
from on_disk import eventually
from service_cases import event_id, listed, post_states, problem, state

TOKEN = "a-token-that-nobody-guesses"
OPEN = ("/health", "/version")
GUARDED = [
    ("GET", "/api/v1/runs"),
    ("POST", "/api/v1/runs"),
    ("POST", "/api/v1/runs/batch"),
    ("GET", f"/api/v1/runs/{event_id(1)}"),
    ("PATCH", f"/api/v1/runs/{event_id(1)}"),
    ("POST", f"/api/v1/runs/{event_id(1)}/associate-commit"),
    ("GET", f"/api/v1/runs/{event_id(1)}/commit-url"),
    ("GET", f"/api/v1/runs/{event_id(1)}/repo-url"),
    ("GET", f"/api/v1/runs/{event_id(1)}/events"),
    ("GET", f"/api/v1/runs/{event_id(1)}/spans"),
    ("DELETE", f"/api/v1/runs/{event_id(1)}"),
    ("POST", "/api/v1/records"),
    ("GET", "/api/v1/audit"),
    ("GET", "/api/v1/alerts"),
    ("GET", "/api/v1/alerts/test"),
    ("GET", "/api/v1/stats"),
    ("GET", "/api/v1/digests"),
    ("GET", "/api/v1/digests/runs"),
    ("GET", "/api/v1/digests/lines"),
    ("GET", "/api/v1/deletions"),
    ("POST", "/api/v1/commits"),
    ("GET", "/api/v1/commits"),
    ("GET", "/api/v1/metadata"),
    ("GET", "/api/v1/metadata/status"),
    ("GET", "/metrics"),
    ("GET", "/metrics/prometheus"),
    ("GET", "/openapi.json"),
    ("POST", "/v1/traces"),
    ("POST", "/v1/logs"),
    ("POST", "/v1/metrics"),
    ("GET", "/nonsense"),
]


@pytest.fixture
def guarded(sqlite_settings, serving):
    """A service that requires the token."""
    return serving(sqlite_settings.with_(api_auth_enabled=True, api_auth_token=TOKEN))


@pytest.fixture
def stranger(guarded):
    """A client without the token."""
    with guarded.new_client(headers={}) as client:
        yield client


# The token


def test_every_call_needs_the_token(guarded, stranger):
    """Reads, unknown paths and the description included: 401 with `WWW-Authenticate`."""
    for method, path in GUARDED:
        answer = stranger.request(method, path)
        problem(answer, 401)
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert guarded.client.request(method, path).status_code != 401


def test_the_list_of_guarded_calls_is_complete(guarded):
    """All that is described, but for the open paths."""
    described = guarded.client.get("/openapi.json").json()["paths"]
    actual = {(method.upper(), path) for path, methods in described.items() for method in methods}
    tried = {
        (method, path.replace(event_id(1), "{event_id}").replace("/status", "/{field}")) for method, path in GUARDED
    }
    assert {call for call in actual if call[1] not in OPEN} <= tried


def test_health_and_version_are_open(stranger):
    """Load balancers and clients use them before they have a token."""
    for path in OPEN:
        assert stranger.get(path).status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN.upper()}",
        f"Basic {TOKEN}",
        TOKEN,
        f"Bearer{TOKEN}",
        f"Token {TOKEN}",
    ],
)
def test_anything_but_the_token_is_401(stranger, header):
    """Another scheme, another token, a part of the token."""
    problem(stranger.get("/api/v1/runs", headers={"Authorization": header}), 401)


def test_the_scheme_may_be_spelled_in_any_case(stranger):
    """Schemes are case-insensitive (RFC 9110)."""
    assert stranger.get("/api/v1/runs", headers={"Authorization": f"bEARER {TOKEN}"}).status_code == 200


def test_two_authorization_headers_are_401(stranger):
    """It is ambiguous which of them counts."""
    both = [("Authorization", f"Bearer {TOKEN}"), ("Authorization", "Bearer other")]
    problem(stranger.get("/api/v1/runs", headers=both), 401)


def test_a_token_that_is_not_ascii_works(sqlite_settings, serving):
    """Its bytes are UTF-8; others are refused, not an error."""
    token = "tökén-☂"
    settings = sqlite_settings.with_(api_auth_enabled=True, api_auth_token=token)
    with serving(settings).new_client(headers={}) as client:
        known = {b"Authorization": b"Bearer " + token.encode()}
        assert client.get("/api/v1/runs", headers=known).status_code == 200
        problem(client.get("/api/v1/runs", headers={b"Authorization": b"Bearer \xff\xfe"}), 401)


def test_the_description_asks_for_the_token_where_it_is_needed(guarded):
    """Every operation except the open paths."""
    description = guarded.client.get("/openapi.json").json()
    assert description["components"]["securitySchemes"] == {"bearer": {"type": "http", "scheme": "bearer"}}
    assert description["security"] == [{"bearer": []}]
    for path, methods in description["paths"].items():
        for operation in methods.values():
            assert ("security" in operation) == (path in OPEN), path
            if path in OPEN:
                assert operation["security"] == []


# The rate limit


@pytest.fixture
def limited(sqlite_settings, serving):
    """A service that answers five requests a minute from each address."""
    return serving(sqlite_settings.with_(rate_limit_enabled=True, rate_limit_rpm=5))


def test_what_is_over_the_limit_is_429(limited):
    """Each response has the remaining requests; the refusal has `Retry-After`."""
    answers = [limited.client.get("/api/v1/runs") for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    assert {answer.headers["X-RateLimit-Limit"] for answer in answers} == {"5"}
    assert [int(answer.headers["X-RateLimit-Remaining"]) for answer in answers] == [4, 3, 2, 1, 0, 0]
    problem(answers[-1], 429)
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 61


def test_errors_and_unknown_paths_count_too(limited):
    """Invalid requests are limited like valid ones."""
    for _ in range(5):
        answer = limited.client.get("/nonsense")
        problem(answer, 404)
        assert "X-RateLimit-Remaining" in answer.headers
    problem(limited.client.get("/nonsense"), 429)


def test_health_and_version_are_never_limited(limited):
    """They are not counted either."""
    for path in OPEN:
        assert {limited.client.get(path).status_code for _ in range(10)} == {200}
    assert limited.client.get("/api/v1/runs").headers["X-RateLimit-Remaining"] == "4"


def test_each_address_has_its_own_limit(limited):
    """Requests from two loopback addresses have two limits."""
    while limited.client.get("/api/v1/runs").status_code == 200:
        pass
    with limited.new_client(transport=httpx.HTTPTransport(local_address="127.0.0.2")) as other:
        assert other.get("/api/v1/runs").headers["X-RateLimit-Remaining"] == "4"


def test_a_forwarded_address_is_not_believed(limited):
    """Unless a proxy is trusted: otherwise any client could claim any address."""
    codes = [
        limited.client.get("/api/v1/runs", headers={"X-Forwarded-For": f"192.0.2.{n}"}).status_code for n in range(6)
    ]
    assert codes == [200] * 5 + [429]


def test_a_trusted_proxy_names_the_client(sqlite_settings, serving):
    """Then each client has its own limit."""
    settings = sqlite_settings.with_(rate_limit_enabled=True, rate_limit_rpm=1, trusted_proxies="127.0.0.1")
    service = serving(settings)
    actual = [{"X-Forwarded-For": f"192.0.2.{n}"} for n in (1, 1, 2)]
    assert [service.client.get("/api/v1/runs", headers=one).status_code for one in actual] == [200, 429, 200]


def test_a_client_behind_a_proxy_has_a_number_of_requests_at_once(sqlite_settings, serving):
    """Those beyond it are 503; other clients of the same proxy are served."""
    service = serving(sqlite_settings.with_(trusted_proxies="127.0.0.1", http_max_connections=2))
    head = b"POST /api/v1/runs HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\nContent-Length: 9\r\n\r\n{"
    host, port = httpx.URL(service.url).host, httpx.URL(service.url).port
    client, other = {"X-Forwarded-For": "192.0.2.1"}, {"X-Forwarded-For": "192.0.2.2"}
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(socket.create_connection((host, port))).sendall(head)
        eventually(lambda: service.client.get("/version", headers=client).status_code == 503)
        assert service.client.get("/api/v1/runs", headers=other).status_code == 200
    eventually(lambda: service.client.get("/version", headers=client).status_code == 200)


def test_the_limit_is_over_after_a_while(limited, monkeypatch):
    """Two minutes later the address has its full rate again."""
    while limited.client.get("/api/v1/runs").status_code == 200:
        pass
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 121)  # the library's clock is the system's
    assert limited.client.get("/api/v1/runs").headers["X-RateLimit-Remaining"] == "4"


def test_guessing_tokens_is_limited(sqlite_settings, serving):
    """The rate limit is checked before the token."""
    settings = sqlite_settings.with_(
        rate_limit_enabled=True, rate_limit_rpm=5, api_auth_enabled=True, api_auth_token=TOKEN
    )
    with serving(settings).new_client(headers={}) as client:
        assert [client.get("/api/v1/runs").status_code for _ in range(6)] == [401] * 5 + [429]


# The access log


def access_lines(caplog):
    return [record.getMessage() for record in caplog.records if record.name.endswith(".access")]


def test_the_access_log_has_each_request_but_no_secret(guarded, stranger, caplog):
    """One line each with client, method, path and status; no token, query or body."""
    caplog.set_level(logging.INFO, "otel_agent_telemetry.service.access")
    post_states(guarded, state(agent_name="agent-in-the-body"))
    guarded.client.get("/api/v1/runs", params={"agent_name": "name-in-the-query"})
    stranger.get("/api/v1/runs", headers={"Authorization": "Bearer a-wrong-token"})
    guarded.client.get("/forged%0A127.0.0.1%20GET")
    lines = eventually(lambda: found if len(found := access_lines(caplog)) == 4 else None)  # logged after the response
    assert [line.split()[1:4] for line in lines[:3]] == [
        ["POST", "'/api/v1/runs'", "201"],
        ["GET", "'/api/v1/runs'", "200"],
        ["GET", "'/api/v1/runs'", "401"],
    ]
    text = "\n".join(caplog.messages)
    assert text.count("\n") == len(caplog.messages) - 1
    for secret in (TOKEN, "a-wrong-token", "name-in-the-query", "agent-in-the-body"):
        assert secret not in text


# A service on loopback


@pytest.mark.parametrize("host", ["rebound.example", "127.0.0.1.example:80", "a@127.0.0.1", "[::2]", "10.0.0.1:8765"])
def test_a_foreign_name_for_loopback_is_refused(sqlite_service, host):
    """A web page that rebinds its DNS name to this address can neither read nor write."""
    for method, path in (("GET", "/api/v1/runs"), ("POST", "/api/v1/runs"), ("POST", "/v1/traces"), ("GET", "/health")):
        answer = sqlite_service.client.request(method, path, headers={"Host": host})
        assert answer.status_code == 421, answer.text


@pytest.mark.parametrize("host", ["[", "[::1", "a[b"])
def test_a_host_that_names_no_host_is_400(sqlite_service, guarded, host):
    """Not an internal error; with a token nobody looks at it."""
    problem(sqlite_service.client.get("/api/v1/runs", headers={"Host": host}), 400)
    assert guarded.client.get("/api/v1/runs", headers={"Host": host}).status_code in (200, 400)


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "agents.localhost:80", "127.0.0.1", "127.9.9.9:5", "[::1]:80"]
)
def test_a_local_name_is_served(sqlite_service, host):
    """With any port."""
    assert sqlite_service.client.get("/api/v1/runs", headers={"Host": host}).status_code == 200


def test_any_name_is_served_with_the_token_or_behind_a_proxy(sqlite_settings, serving, guarded):
    """The token, which no page has, or the proxy decides then."""
    named = {"Host": "telemetry.example"}
    assert guarded.client.get("/api/v1/runs", headers=named).status_code == 200
    proxied = serving(sqlite_settings.with_(base_dir=sqlite_settings.base_dir / "2", trusted_proxies="127.0.0.1"))
    assert proxied.client.get("/api/v1/runs", headers=named).status_code == 200


def test_a_write_without_a_content_type_is_refused(sqlite_service):
    """A browser sends such a request from any page without asking."""
    for path in ("/api/v1/runs", "/api/v1/runs/batch", "/api/v1/commits", "/v1/traces", "/v1/logs", "/v1/metrics"):
        problem(sqlite_service.client.post(path, content=b"{}"), 415)
    assert listed(sqlite_service) == []


def test_a_made_up_client_address_forges_no_line(sqlite_settings, serving, caplog):
    """The address that a trusted proxy forwards is still untrusted text."""
    service = serving(sqlite_settings.with_(trusted_proxies="*"))
    forged = "1.2.3.4 GET '/api/v1/runs' 200 0.1 ms\x85next"
    with caplog.at_level(logging.INFO, "otel_agent_telemetry.service.access"):
        service.client.get("/version", headers={"X-Forwarded-For": forged.encode("latin-1")})
        lines = eventually(lambda: [line.getMessage() for line in caplog.records if "/version" in line.getMessage()])
    (line,) = lines
    assert line.startswith("\"1.2.3.4 GET '/api/v1/runs' 200 0.1 ms\\x85next\" GET '/version' 200 ")
