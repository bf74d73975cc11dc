"""What agents cost and did over the API, in the command and on the page; labels over OTLP and from our client alike."""

from __future__ import annotations

import pytest

from tests.cli.command import agent_telemetry
from tests.page.reading import PageReader
from tests.service.otlp_requests import log, logs, request, send, span
from tests.service.service_cases import at, ended, post_states

HTML = {"Accept": "text/html"}
SINCE = {"since": at(-3600)}


def spent(dollars, **more):
    used = {"model_calls": 1, "input_tokens": 10, "cost_usd": dollars, **more}
    return {"gen_ai": {**used, "by_model": {"m": {"model_calls": 1, "input_tokens": 10}}}}


@pytest.fixture
def used(service, clock):
    clock.advance(60)
    labels = {"team": "search", "ticket": "T-1"}
    post_states(service, ended(labels=labels, metrics_json=spent(2)), ended(2, metrics_json=spent(1)))
    return service


def test_labels_group_cost_by_team_project_and_ticket(used):
    """The same numbers over HTTP, in the command, and on the page."""
    found = used.client.get("/api/v1/stats", params={"by": "label:team", **SINCE}).json()
    assert [(line["name"], line["cost_usd"], line["turns"]) for line in found["lines"]] == [("search", 2.0, 1)]
    assert (found["total"]["cost_usd"], found["total"]["commits"]) == (3.0, None)
    command = agent_telemetry(
        used.settings,
        "stats",
        "--by",
        "label:team",
        "--since",
        "2025-01-01",
        "--json",
        env={"TELEMETRY_API_URL": used.url},
    )
    assert command.json["lines"] == found["lines"]
    text = agent_telemetry(
        used.settings, "stats", "--by", "agent", "--since", "2025-01-01", env={"TELEMETRY_API_URL": used.url}
    ).out
    assert "agent     $3.00  20" in text
    assert "unknown" in text
    used.app.state.backend.figures.refresh_all()
    page = PageReader(used.client.get("/cost?by=label&from=2025-10-01&to=2025-10-31", headers=HTML).text)
    assert [row[0] for row in page.rows][-4:] == ["Label", "team=search", "ticket=T-1", "All runs"]


def test_the_page_says_what_came_of_costs(used):
    """Turns, tools, errors, commits and lines; unknown in words."""
    used.app.state.backend.figures.refresh_all()
    page = PageReader(used.client.get("/cost?by=agent&from=2025-10-01&to=2025-10-31", headers=HTML).text)
    assert page.rows[-1] == ["All runs", "2", "0", "0", "unknown", "0", "unknown", "unknown"]


@pytest.mark.parametrize(
    "query", [{"by": "agents"}, {"by": "label:"}, {"since": "yesterday"}, {"limit": "0"}, {"x": "1"}]
)
def test_what_is_not_understood_is_refused(sqlite_service, query):
    """A misspelt parameter is no other question."""
    assert sqlite_service.client.get("/api/v1/stats", params=query).status_code == 422


def test_labels_come_over_otlp_from_spans_and_from_coding_agents_alike(service, clock):
    """OTEL_RESOURCE_ATTRIBUTES=agent.label.team=… of any program: its traces, and the log records of a coding agent."""
    labels = {"agent.label.team": "search"}
    send(service, request(span(1), resource={"service.name": "shop", **labels}))
    of_session = {"session.id": "s", "event.sequence": 1}
    prompt = log(0, "claude_code.user_prompt", attributes={"event.name": "user_prompt", "prompt.id": "p", **of_session})
    call = {
        "event.name": "api_request",
        "prompt.id": "p",
        "model": "claude-sonnet-4-5",
        **of_session,
        "event.sequence": 2,
    }
    figures = {"input_tokens": 10, "output_tokens": 2, "cost_usd": 0.5}
    asked = log(1, "claude_code.api_request", attributes={**call, **figures})
    sent = logs(prompt, asked, resource={"service.name": "claude-code", **labels})
    send(service, sent)
    clock.advance(60)
    found = service.client.get("/api/v1/stats", params={"by": "label:team", "since": "2020-01-01T00:00:00Z"}).json()
    (line,) = found["lines"]
    assert (line["name"], line["turns"], line["cost_usd"]) == ("search", 2, 0.5)


def test_the_command_reads_a_local_database_without_a_service(config):
    """Figures that no service has added up yet are added from the runs."""
    assert agent_telemetry(config, "stats", "--by", "agent").code == 0
    assert "is none of agent" in agent_telemetry(config, "stats", "--by", "month").err
