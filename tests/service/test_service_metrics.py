"""`POST /v1/metrics`: what coding agents count of their sessions, each once, beside what their runs say."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from otlp_requests import ENCODINGS, JSON, metric, metrics, otlp_json, response_of, rows_of, send, send_body
from running import emptied
from service_cases import ended, post_states

from otel_agent_telemetry.service.otlp_signals import METRICS
from otel_agent_telemetry.storage.engine import make_engine, reading
from otel_agent_telemetry.storage.session_metrics import figures_between, figures_of_session

CAPTURES = Path(__file__).parents[1] / "emitters" / "captures"
SESSION = {"session.id": "s-1"}
TOKENS = {**SESSION, "model": "m-1", "type": "input"}


def read(service, query, *arguments, **named):
    engine = make_engine(service.settings)
    with reading(engine, "reading") as connection:
        found = query(connection, *arguments, **named)
    engine.dispose()
    return found


def accepted(service):
    """How many data points the service says that it has taken."""
    name = "agent_telemetry_otlp_data_points_total"
    return service.app.state.metrics.registry.get_sample_value(name, {"result": "accepted"}) or 0


def figures(service, session="s-1"):
    return read(service, figures_of_session, session)


@pytest.mark.parametrize("kind", ENCODINGS)
def test_the_changes_since_the_last_time_are_added_once(service, kind):
    """Whatever their order, and however often an exporter repeats them."""
    parts = [
        metrics(metric("claude_code.commit.count", (0, 60, 1, SESSION))),
        metrics(metric("claude_code.commit.count", (60, 120, 2, SESSION))),
        metrics(
            metric("claude_code.lines_of_code.count", (0, 60, 12, {**SESSION, "type": "added"})),
            metric("claude_code.lines_of_code.count", (0, 60, 3, {**SESSION, "type": "removed"})),
        ),
    ]
    for order in itertools.permutations(parts):
        emptied(service)
        for part in (*order, *order):
            assert response_of(send(service, part, kind), METRICS) == (0, "")
        assert figures(service) == {"commits": 3, "lines_added": 12, "lines_removed": 3}


def test_sums_since_a_start_count_as_their_last_value(service):
    """A restart begins anew; an older value that comes late changes nothing."""
    points = [(0, 60, 100, TOKENS), (0, 120, 250, TOKENS), (200, 260, 40, TOKENS)]
    for order in itertools.permutations(points):
        emptied(service)
        for point in (*order, order[0]):
            send(service, metrics(metric("gemini_cli.token.usage", point, delta=False)))
        assert figures(service) == {"input_tokens": 290}
    emptied(service)
    send(service, metrics(metric("gemini_cli.token.usage", *points, delta=False)))
    assert figures(service) == {"input_tokens": 290}


def test_figures_of_use_are_read_only_where_no_run_tells_them(sqlite_service):
    """Never added to those (agent-beacon #155: both channels summed counted each token twice).

    What only metrics have is read always.
    """
    both = (
        metric("claude_code.token.usage", (0, 60, 100, TOKENS)),
        metric("claude_code.cost.usage", (0, 60, 0.5, {**SESSION, "model": "m-1"})),
        metric("claude_code.commit.count", (0, 60, 1, SESSION)),
    )
    send(sqlite_service, metrics(*both))
    assert figures(sqlite_service) == {"input_tokens": 100, "cost_usd": 0.5, "commits": 1}
    post_states(
        sqlite_service, ended(1, session_id="s-1", metrics_json={"gen_ai": {"input_tokens": 100, "model_calls": 1}})
    )
    assert figures(sqlite_service) == {"commits": 1}
    (found,) = read(sqlite_service, figures_between)
    assert (found.sender, found.session_id, found.figures) == ("claude-code", "s-1", {"commits": 1})
    assert read(sqlite_service, figures_between, until="2000") == []


def test_other_metrics_are_taken_and_not_stored(sqlite_service):
    """The answer is 200 either way; nor is a gauge, which adds up to nothing, nor zero."""
    gauge = metric("claude_code.commit.count")
    gauge.gauge.data_points.add(as_int=7, time_unix_nano=5)
    idle = metric("claude_code.commit.count", (0, 60, 0, SESSION))
    unknown = metric("claude_code.token.usage", (0, 60, 7, {**SESSION, "type": "imagined"}))
    before = accepted(sqlite_service)
    for kind in ENCODINGS:
        send(sqlite_service, metrics(metric("http.server.duration", (0, 1, 7, {})), gauge, idle, unknown), kind)
    assert rows_of(sqlite_service)["session_metrics"] == []
    assert accepted(sqlite_service) == before + 8


def test_an_odd_data_point_is_counted_and_its_neighbours_are_stored(sqlite_service):
    """In `rejected_data_points`, with the reason."""
    value = json.loads(
        otlp_json(metrics(metric("claude_code.commit.count", (0, 60, 1, SESSION), (60, 120, 2, SESSION))))
    )
    points = value["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0]["sum"]["dataPoints"]
    points.insert(1, {**points[0], "timeUnixNano": "yesterday"})
    points.insert(1, {"attributes": [None], "exemplars": [{"spanId": "xyz"}], "asDouble": 1})
    answer = send_body(sqlite_service, json.dumps(value).encode(), JSON, path="/v1/metrics")
    assert (answer.status_code, response_of(answer, METRICS)) == (200, (1, "timeUnixNano is not a time"))
    assert figures(sqlite_service) == {"commits": 3}
    nan = send(sqlite_service, metrics(metric("claude_code.commit.count", (0, 60, float("nan"), SESSION))))
    assert response_of(nan, METRICS)[0] == 1


@pytest.mark.parametrize(
    ("capture", "expected"),
    [
        (
            "claude-code_metrics",
            {
                "input_tokens": 300,
                "output_tokens": 14,
                "cache_read_input_tokens": 60,
                "cache_write_input_tokens": 40,
                "cost_usd": pytest.approx(0.000978),
                "active_time_s": pytest.approx(0.806),
            },
        ),
        (
            "codex_metrics_selected",
            {
                "input_tokens": 200,
                "output_tokens": 14,
                "cache_read_input_tokens": 60,
                "reasoning_output_tokens": 4,
                "model_calls": 2,
                "tool_calls": 1,
            },
        ),
        (
            "gemini-cli_metrics_selected",
            {
                "input_tokens": 200,
                "output_tokens": 18,
                "cache_read_input_tokens": 60,
                "reasoning_output_tokens": 4,
                "model_calls": 2,
                "tool_calls": 1,
            },
        ),
        (
            "copilot-cli_metrics",
            {"input_tokens": 200, "output_tokens": 14, "cache_read_input_tokens": 60, "tool_calls": 1},
        ),
    ],
)
def test_the_metrics_of_real_agents_give_what_was_used(sqlite_service, capture, expected):
    """Of the captured runs, sent twice: the figures that the model server told."""
    body = json.dumps(json.loads((CAPTURES / f"{capture}.json").read_text("utf-8"))["body"]).encode()
    for _ in range(2):
        answer = send_body(sqlite_service, body, JSON, path="/v1/metrics")
        assert (answer.status_code, response_of(answer, METRICS)) == (200, (0, ""))
    (found,) = read(sqlite_service, figures_between)
    assert dict(found.figures) == expected
