"""A browser signs in with a token and keeps a cookie; forms of other sites do nothing."""

from __future__ import annotations

import os
import re
from hashlib import sha256

import httpx
import pytest

from otel_agent_telemetry.service import sessions as service_sessions
from otel_agent_telemetry.service.app import create_app
from otel_agent_telemetry.service.guards import API_PREFIXES, OPEN_PATHS
from tests.service.service_cases import post_states, state

TOKEN = "a-token-of-32-characters-or-more"
HTML = {"Accept": "text/html"}
_FORM_TOKEN = re.compile(r'name="form_token" value="([^"]+)"')


@pytest.fixture
def protected(serving, settings):
    """A service that needs a token, over either kind of database."""
    return serving(settings.with_(api_auth_enabled=True, api_auth_token=TOKEN))


@pytest.fixture
def browser(protected):
    """A client like a browser: no token, cookies, HTML; it does not follow redirects by itself."""
    with protected.new_client(headers=HTML) as client:
        yield client


def form_token_of(response: httpx.Response) -> str:
    """Return the hidden field of the first form."""
    return _FORM_TOKEN.search(response.text).group(1)


def sign_in(browser: httpx.Client, *, token: str = TOKEN, to: str = "/", **headers: str) -> httpx.Response:
    """Fill in the form and send it, as a browser of the page does."""
    form = browser.get("/sign-in", params={"next": to})
    fields = {"form_token": form_token_of(form), "next": to, "token": token}
    return browser.post("/sign-in", data=fields, headers={"Sec-Fetch-Site": "same-origin", **headers})


def test_a_page_leads_to_the_form_and_back_to_itself(browser) -> None:
    """A shared link opens what it names once its reader has signed in, filters included."""
    refused = browser.get("/", params={"status": "failed", "text": "a&b"})
    assert refused.status_code == 303
    assert refused.headers["location"] == "/sign-in?next=%2F%3Fstatus%3Dfailed%26text%3Da%2526b"
    answer = sign_in(browser, to="/?status=failed&text=a%26b")
    assert (answer.status_code, answer.headers["location"]) == (303, "/?status=failed&text=a%26b")
    assert browser.get("/").status_code == 200


def test_the_cookie_is_kept_from_scripts_and_holds_no_token(browser) -> None:
    """HttpOnly and SameSite; twelve hours; nothing in it could be used as a token."""
    cookie = sign_in(browser).headers["set-cookie"]
    attributes = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert {"httponly", "samesite=lax", "max-age=43200", "path=/"} <= attributes
    assert TOKEN not in cookie
    assert sha256(TOKEN.encode()).hexdigest() not in cookie


def test_a_wrong_token_is_refused_and_not_shown_again(browser) -> None:
    """The form comes again with the reason; what was typed is in no answer."""
    answer = sign_in(browser, token="wrong-<b>token")
    assert answer.status_code == 401
    assert "no such token" in answer.text
    assert "wrong-" not in answer.text
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "target", ["//evil.example/x", "/\\evil.example", "https://evil.example", "javascript:alert(1)", ""]
)
def test_signing_in_never_leads_to_another_site(browser, target: str) -> None:
    """An address that a stranger put into a link is not followed."""
    assert sign_in(browser, to=target).headers["location"] == "/"


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "", "Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "", "Origin": "null"},
    ],
)
def test_a_form_of_another_site_is_refused(browser, headers: dict[str, str]) -> None:
    """Even with a form token, which the other site could have fetched for itself."""
    assert sign_in(browser, **headers).status_code == 403


def test_a_form_without_the_proof_of_its_session_is_refused(browser) -> None:
    """A token of another session, a made-up one and none."""
    other = form_token_of(browser.get("/sign-in"))
    sign_in(browser)
    for form_token in (other, "made.up.token", ""):
        assert browser.post("/sign-out", data={"form_token": form_token}).status_code == 403
    assert browser.get("/").status_code == 200


def test_signing_out_ends_the_session(browser) -> None:
    """The page asks for a token again."""
    sign_in(browser)
    page = browser.get("/")
    answer = browser.post("/sign-out", data={"form_token": form_token_of(page)})
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
    assert browser.get("/").status_code == 303


def test_a_session_reads_the_api_and_does_not_write_to_it(browser) -> None:
    """Links of the page to JSON work; a form of another site must not be able to store, change or delete."""
    sign_in(browser)
    assert browser.get("/api/v1/runs").status_code == 200
    assert browser.post("/api/v1/runs", json=state()).status_code == 401
    assert browser.delete("/api/v1/runs/x").status_code == 401


def test_a_forged_cookie_is_no_session(browser, protected) -> None:
    """Signed with another secret, cut, or of another time."""
    sign_in(browser)
    (name, value) = next(iter(browser.cookies.items()))
    forger = service_sessions.Signer(b"\0" * 32)
    token = protected.app.state.sessions.tokens.find_text(TOKEN.encode())
    for forged in (forger.cookie_of(token), value[:-2], value + "x", "", '"', "é"):
        headers = {"Cookie": f"{name}={forged}".encode("latin-1"), **HTML}
        with protected.new_client(headers=headers) as stranger:
            assert stranger.get("/").status_code == 303, forged


def test_a_session_ends_with_its_time(browser, monkeypatch) -> None:
    """Twelve hours after the sign-in the cookie is worth nothing, whatever the browser does with it."""
    sign_in(browser)
    monkeypatch.setattr(service_sessions, "SESSION_S", -1)
    assert browser.get("/").status_code == 303


def test_another_service_over_the_same_database_knows_the_session(serving, postgresql_settings) -> None:
    """Several services share a PostgreSQL database behind one address; a restarted one knows it too."""
    settings = postgresql_settings.with_(api_auth_enabled=True, api_auth_token=TOKEN)
    first, second = serving(settings), serving(settings)
    with first.new_client(headers=HTML) as browser:
        sign_in(browser)
        with second.new_client(headers=HTML, cookies=browser.cookies) as moved:
            assert moved.get("/").status_code == 200


def test_a_session_ends_when_its_token_is_removed(serving, sqlite_settings, tmp_path, monkeypatch) -> None:
    """An operator who takes a token away ends what was begun with it."""
    path = tmp_path / "tokens.toml"
    path.write_text(f'[reader]\nsha256 = "{sha256(TOKEN.encode()).hexdigest()}"\nmay = ["read"]\n')
    path.chmod(0o600)
    monkeypatch.setattr("otel_agent_telemetry.service.tokens._LOOK_EVERY_S", 0.0)
    service = serving(sqlite_settings.with_(api_tokens_file=path))
    with service.new_client(headers=HTML) as browser:
        sign_in(browser)
        assert browser.get("/").status_code == 200
        path.write_text(f'[reader]\nsha256 = "{sha256(b"another").hexdigest()}"\nmay = ["read"]\n')
        os.utime(path, ns=(1, 1))
        assert browser.get("/").status_code == 303


def test_a_token_that_may_not_read_cannot_sign_in(serving, sqlite_settings, tmp_path) -> None:
    """The page is for reading."""
    path = tmp_path / "tokens.toml"
    path.write_text(f'[ci]\nsha256 = "{sha256(TOKEN.encode()).hexdigest()}"\nmay = ["write"]\n')
    path.chmod(0o600)
    service = serving(sqlite_settings.with_(api_tokens_file=path))
    with service.new_client(headers=HTML) as browser:
        answer = sign_in(browser)
        assert (answer.status_code, "may not read" in answer.text) == (401, True)


def test_guessing_over_the_form_counts_in_the_rate_limit(serving, sqlite_settings) -> None:
    """The form is open, and limited like every other request."""
    limits = {"rate_limit_enabled": True, "rate_limit_rpm": 5}
    service = serving(sqlite_settings.with_(api_auth_enabled=True, api_auth_token=TOKEN, **limits))
    with service.new_client(headers=HTML) as browser:
        statuses = [browser.post("/sign-in", data={"token": "guess"}).status_code for _ in range(8)]
        assert statuses == [403] * 5 + [429] * 3
        assert browser.get("/static/page.css").status_code == 200


def test_programs_get_401_and_no_form(protected) -> None:
    """A client that asks for anything but HTML is no browser."""
    with protected.new_client(headers={}) as program:
        assert program.get("/api/v1/runs").status_code == 401
        assert program.get("/", headers={"Accept": "application/json"}).status_code == 401


def test_a_part_of_a_page_sends_the_whole_page_to_the_form(browser) -> None:
    """A session that ends while a page is open does not put a form into the middle of it."""
    answer = browser.get("/", headers={"HX-Request": "true"})
    assert answer.headers["hx-redirect"] == "/sign-in?next=%2F"


def test_without_a_token_the_page_needs_no_sign_in(service) -> None:
    """On this machine alone: the form leads on, and forms of the page still prove themselves."""
    post_states(service, state())
    assert service.client.get("/", headers=HTML).status_code == 200
    assert service.client.get("/sign-in").headers["location"] == "/"
    assert service.client.post("/sign-out", data={"form_token": "x"}).status_code == 403


def test_every_call_of_the_api_needs_the_token_itself(sqlite_settings) -> None:
    """The guard knows the API by how its paths begin; a call with another beginning would be open to a cookie."""
    writing = {"POST", "PATCH", "DELETE", "PUT"}
    routes = [route for route in create_app(sqlite_settings).routes if writing & set(route.methods or ())]
    api = [route.path for route in routes if route.include_in_schema]
    assert api
    assert [path for path in api if not path.startswith(API_PREFIXES) and path not in OPEN_PATHS] == []


@pytest.mark.parametrize("path", ["/", "/sign-in", "/status", "/none-such-page", "/runs/none-such-run"])
def test_every_page_has_the_headers_of_a_page(sqlite_service, path: str) -> None:
    """No inline script or style, no foreign file, no frame, no cache; also where there is no page."""
    answer = sqlite_service.client.get(path, headers=HTML, follow_redirects=True)
    assert answer.status_code == (404 if "none-such" in path else 200)
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["content-security-policy"].startswith("default-src 'self'")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.text.startswith("<!doctype html>")


def test_a_program_gets_json_where_there_is_no_page(sqlite_service) -> None:
    """The error of the API, as ever."""
    assert sqlite_service.client.get("/none-such-page").json() == {"detail": "Not Found"}
    assert sqlite_service.client.get("/api/v1/none", headers=HTML).json() == {"detail": "Not Found"}
