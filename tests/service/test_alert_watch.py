"""The service evaluates the rules of alerts: notices to the webhook, the API, the page and the command."""

from __future__ import annotations

import pytest

from otel_agent_telemetry.operations.check_alerts import check_alerts
from otel_agent_telemetry.testing import ManualClock
from tests.cli.command import agent_telemetry
from tests.delivery.service import Fault, TestService
from tests.on_disk import eventually
from tests.page.reading import PageReader
from tests.service.service_cases import T0, ended, event_id, post_states, state

RULES = '[budget]\nmeasure = "cost"\nover = "1h"\nlimit = 10\n\n[each]\nmeasure = "tokens"\nover = "run"\nlimit = 500\n'
OK = Fault(200, b"{}")
HTML = {"Accept": "text/html"}


@pytest.fixture
def webhook():
    started = TestService(token="hook-token")
    yield started
    started.kill()


@pytest.fixture
def watched(serving, sqlite_settings, webhook):
    """A service with rules and a webhook; `watched(rules)` starts it, its clock at T0."""

    def start(rules=RULES):
        settings = sqlite_settings.with_(alerts_url=f"{webhook.url}/hook?key=1", alerts_token="hook-token")
        settings.alerts.write_text(rules)
        service = serving(settings, clock=ManualClock(T0))
        service.client.headers["Accept"] = "application/json"
        return service

    return start


def spent(dollars, tokens=1):
    used = {"model_calls": 1, "input_tokens": tokens, "cost_usd": dollars}
    return {"gen_ai": {**used, "by_model": {"m": {"model_calls": 1, "input_tokens": tokens}}}}


def evaluate(service, *, after_s=30):
    service.app.state.backend.clock.advance(after_s)
    return service.app.state.backend.alerts.evaluate()


def notices(webhook, many):
    """The notices that have come, in their order, when there are so many."""
    found = eventually(
        lambda: found if len(found := [one for one in webhook.requests if one.path != "/version"]) >= many else None
    )
    return [one.json for one in found]


def test_one_notice_when_it_opens_and_one_when_it_is_resolved(watched, webhook):
    """With rule, value, limit, links and state; the run's notice names the run."""
    webhook.script(OK, OK, OK)
    service = watched()
    post_states(service, ended(metrics_json=spent(12.5, 600)))
    evaluate(service)
    budget, run = sorted(notices(webhook, 2), key=lambda one: one["rule"])
    assert budget == {
        "id": "1-opened",
        "alert": 1,
        "state": "opened",
        "rule": "budget",
        "subject": "",
        "about": "cost over 1h of all runs above $10.00",
        "measure": "cost",
        "unit": "USD",
        "value": 12.5,
        "limit": 10.0,
        "is_lower_bound": False,
        "reason": "",
        "resolved_at": None,
        "opened_at": budget["opened_at"],
        "links": {"alerts": f"{service.url}/alerts"},
    }
    assert (run["subject"], run["run_id"], run["agent_name"]) == (event_id(1), "run-1", "agent")
    assert run["links"]["run"] == f"{service.url}/runs/{event_id(1)}"
    evaluate(service)
    (resolved,) = notices(webhook, 3)[2:]
    assert (resolved["id"], resolved["reason"]) == ("2-resolved", "its run has ended")
    assert all(one.headers["Authorization"] == "Bearer hook-token" for one in webhook.requests)


def test_notices_survive_a_restart_and_are_not_repeated(watched, webhook, serving):
    """Langfuse and Helicone users miss alerts whose delivery failed, or get them twice: each waits in a table."""
    webhook.script(Fault(503), Fault(503), Fault(503), Fault(503))
    first = watched()
    post_states(first, ended(metrics_json=spent(12)))
    evaluate(first)
    eventually(lambda: webhook.requests)
    first.app.state.backend.close()
    webhook._faults.clear()
    webhook.script(*[OK] * 8)
    before = len(webhook.requests)
    second = serving(first.settings, clock=ManualClock(T0 + 600 * 1_000_000_000))
    found = eventually(lambda: webhook.requests[before:])
    evaluate(second)
    assert {one.json["id"] for one in found} == {"1-opened"}
    assert eventually(lambda: _waiting(second) == 0 or None)
    assert len([one for one in webhook.requests[before:] if one.json["id"] == "1-opened"]) == 1


def _waiting(service):
    with service.app.state.backend._store.reading() as connection:
        return connection.exec_driver_sql("SELECT count(*) FROM alert_notices WHERE done_at IS NULL").scalar()


def test_a_refused_notice_is_shown_and_not_posted_again(watched, webhook):
    """A webhook that answers 404 will not take it later either: the page and the API say so."""
    webhook.script(Fault(404))
    service = watched('[budget]\nmeasure = "cost"\nover = "1h"\nlimit = 10\n')
    post_states(service, ended(metrics_json=spent(12)))
    evaluate(service)
    report = eventually(
        lambda: found if (found := service.client.get("/api/v1/alerts").json())["open"][0]["notice_problem"] else None
    )
    assert report["open"][0]["notice_problem"] == "answer 404"
    assert "not posted answer 404" in PageReader(service.client.get("/alerts", headers=HTML).text).text


def test_a_bad_file_keeps_the_old_rules_and_everybody_names_its_line(watched, webhook, caplog):
    """The log of the service, `doctor`, the page, the API and `alerts check`."""
    webhook.script(OK, OK)
    service = watched()
    settings = service.settings
    settings.alerts.write_text(RULES + '[broken]\nmeasure = "money"\n')
    post_states(service, ended(metrics_json=spent(12)))
    assert [one.rule.name for one in evaluate(service).opened] == ["budget"]
    assert "line 11: [broken] measure is 'money'" in caplog.text
    (finding,) = (one for one in check_alerts(settings) if one.level == "error")
    assert "alerts.toml line 11: [broken]" in finding.text
    assert "line 11: [broken]" in PageReader(service.client.get("/alerts", headers=HTML).text).text
    report = service.client.get("/api/v1/alerts").json()
    assert report["problems"][0]["line"] == 11
    assert [rule["name"] for rule in report["rules"]] == ["budget", "each"]
    checked = agent_telemetry(settings, "alerts", "check")
    assert checked.code == 1
    assert "line 11: [broken]" in checked.err


def test_the_page_shows_open_and_past_alerts_and_every_page_a_banner(watched, webhook):
    """With a link; names of rules and subjects are text of strangers."""
    webhook.script(*[OK] * 4)
    hostile = "<script>alert(1)</script>"
    service = watched(f'["{hostile}"]\nmeasure = "tokens"\nover = "run"\nlimit = 5\n')
    empty = PageReader(service.client.get("/alerts", headers=HTML).text)
    assert "No alert is open" in empty.text
    post_states(service, state(metrics_json=spent(1, 9)), ended(2, metrics_json=spent(1, 7)))
    evaluate(service)
    evaluate(service)
    page = PageReader(service.client.get("/alerts", headers=HTML).text)
    assert [row[0] for row in page.rows] == ["State", "open", "State", "resolved"]
    assert page.rows[1][3:5] == ["9 tokens", "5 tokens"]
    assert f"/runs/{event_id(1)}" in page.links
    assert hostile in page.text
    for path in ("/", "/status", "/cost", "/agents"):
        banner = PageReader(service.client.get(path, headers=HTML).text)
        assert "1 alert is open" in banner.text, path
        assert "/alerts" in banner.links


def test_the_dry_run_over_the_api_and_the_command_says_what_happened(watched, webhook):
    """On the service's own host, from another one, and as JSON."""
    webhook.script(*[OK] * 4)
    service = watched()
    post_states(service, ended(metrics_json=spent(12, 600)))
    evaluate(service)
    evaluate(service)
    answer = service.client.get("/api/v1/alerts/test", params={"since": "2025-01-01T00:00:00Z"}).json()
    assert [(one["rule"], one["run_id"], one["resolved_at"] is None) for one in answer["alerts"]] == [
        ("budget", None, True),
        ("each", "run-1", False),
    ]
    assert answer["alerts"][0]["opened_at"] == service.client.get("/api/v1/alerts").json()["open"][0]["opened_at"]
    for environment in ({}, {"TELEMETRY_API_URL": service.url}):
        tried = agent_telemetry(service.settings, "alerts", "test", "--since", "2025-01-01", "--json", env=environment)
        assert tried.code == 0
        assert [one["opened_at"] for one in tried.json["alerts"]] == [one["opened_at"] for one in answer["alerts"]]
        listed = agent_telemetry(service.settings, "alerts", "list", env=environment)
        assert "resolved  20" in listed.out
    text = agent_telemetry(service.settings, "alerts", "test", "--since", "2025-01-01").out
    assert "budget: 1 alert since" in text


def test_without_rules_the_service_reads_and_writes_nothing(serving, sqlite_settings):
    """No rule, no cost: one look for a file."""
    service = serving(sqlite_settings, clock=ManualClock(T0))
    commits = service.app.state.backend.writer.stats.commits
    assert evaluate(service) is None
    assert service.app.state.backend.writer.stats.commits == commits
    assert service.client.get("/api/v1/alerts").json()["rules"] == []
