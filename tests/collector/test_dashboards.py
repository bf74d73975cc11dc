"""The Grafana dashboards: their form, and that every query of every panel gives data from the real thing."""

from __future__ import annotations

import itertools
import json
import re
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import yaml
from collectors import collecting
from on_disk import Process, eventually
from prometheus_server import CONFIG, promtool, running_prometheus

from tests.service.running import serve_process
from tests.service.writing_agents import quiet_port

FILES = sorted((CONFIG / "dashboards").glob("*.json"))
AGENT = Path(__file__).with_name("monitored_agent.py").read_text()
DATA_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WINDOWS = {
    "$__rate_interval_ms": "10000",
    "$__rate_interval": "10s",
    "$__range": "30s",
}  # they fit a scrape every second
HOUR_BY_MINUTES = {"$__rate_interval_ms": "60000", "$__rate_interval": "1m", "$__range": "1h"}
CHOICES = {"$agent": "indexer", "$service": ".*"}
WITHIN_S = 60.0
WIDTH = 24


def dashboards():
    """Name of the file → dashboard."""
    return {path.stem: json.loads(path.read_text()) for path in FILES}


def panels(dashboard):
    """The panels that show something; rows are headings."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def variables(dashboard):
    """The template variables by name."""
    return {variable["name"]: variable for variable in dashboard["templating"]["list"]}


@pytest.fixture(params=[path.stem for path in FILES])
def dashboard(request):
    return dashboards()[request.param]


# Their form


def test_there_are_dashboards_for_runs_for_one_agent_and_for_the_pipeline():
    """Each with an id and a title of its own, the same on every Grafana."""
    found = dashboards()
    assert set(found) == {"agent", "pipeline", "runs"}
    assert {board["uid"] for board in found.values()} == {f"agent-telemetry-{name}" for name in found}
    assert len({board["title"] for board in found.values()}) == len(found)
    assert all("id" not in board for board in found.values())


def test_every_panel_says_what_it_shows(dashboard):
    """A title, a sentence, a unit, the data source that the reader has chosen."""
    assert variables(dashboard)["datasource"]["query"] == "prometheus"
    for panel in panels(dashboard):
        assert panel["title"], panel["id"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"] == DATA_SOURCE, panel["title"]
        assert panel["targets"], panel["title"]
        assert all(target["datasource"] == DATA_SOURCE for target in panel["targets"]), panel["title"]


def test_nothing_names_a_data_source_of_somebody_elses_grafana():
    """So that importing asks one question and no more."""
    for path in FILES:
        assert set(re.findall(r'"uid": "([^"]*)"', path.read_text())) - {"${datasource}"} == {
            f"agent-telemetry-{path.stem}"
        }


def test_panels_lie_beside_each_other(dashboard):
    """None over another, none outside, each with a number of its own."""
    places = [panel["gridPos"] for panel in dashboard["panels"]]
    assert all(place["x"] + place["w"] <= WIDTH and place["w"] > 0 and place["h"] > 0 for place in places)
    assert not [pair for pair in itertools.combinations(places, 2) if overlap(*pair)]
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(places)


def overlap(one, other):
    beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
    above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
    return not (beside or above)


def test_queries_use_only_variables_that_there_are(dashboard):
    """Those of the dashboard and those of Grafana."""
    used = {name for query in queries(dashboard) for name in re.findall(r"\$(\w+)", query)}
    assert used - {"__rate_interval", "__rate_interval_ms", "__range"} <= set(variables(dashboard))


def queries(board):
    return [target["expr"] for panel in panels(board) for target in panel["targets"]]


def query_of(name, title):
    """The one query of a panel."""
    (found,) = (panel for panel in panels(dashboards()[name]) if panel["title"] == title)
    (target,) = found["targets"]
    return target["expr"]


# What they reckon, by promtool: a sample a minute, a window of an hour in steps of a minute. Asked half a minute after
# one, because versions of Prometheus differ in whether a step at the window's very beginning counts.


def runs(agent, status, values, instance="a"):
    """A series of stored runs in promtool's notation."""
    series = f'agent_telemetry_runs{{agent_name="{agent}",status="{status}",instance="{instance}"}}'
    return {"series": series, "values": values}


def asked(name, title, expected, *, agent=".*", at="90m30s"):
    """What a panel is expected to show, labels → value, with an agent chosen."""
    samples = [{"labels": labels, "value": value} for labels, value in expected.items()]
    query = chosen(query_of(name, title), HOUR_BY_MINUTES | {"$agent": agent})
    return {"expr": query, "eval_time": at, "exp_samples": samples}


def reckoned(folder, series, *questions):
    """What promtool finds wrong with the answers; nothing if they are as expected."""
    served = {"series": 'agent_telemetry_runs_last_24h{instance="a"}', "values": "100x120"}
    case = {"interval": "1m", "input_series": [served, *series], "promql_expr_test": list(questions)}
    file = folder / "panels_test.yaml"
    file.write_text(yaml.safe_dump({"evaluation_interval": "1m", "tests": [case]}))
    said, content = promtool("test", "rules", file, cwd=folder)
    return "" if content else said


def test_panels_count_what_came_although_retention_deletes(tmp_path):
    """20 runs a minute end, one of them failed; half of the successes are deleted in minute 61, which counts for nothing."""
    series = (
        runs("indexer", "success", "100000+19x60 50000+19x60"),
        runs("indexer", "failed", "10+1x120"),
        runs("indexer", "running", "3x120"),
    )
    ended = 59 * 20
    assert not reckoned(
        tmp_path,
        series,
        asked("runs", "Failed", {"{}": 60 / ended}),
        asked("agent", "Failed", {"{}": 60 / ended}, agent="indexer"),
        asked("runs", "Top agents", {'{agent_name="indexer"}': ended}),
        asked("runs", "Most failures", {'{agent_name="indexer"}': 60}),
        asked("runs", "Runs ended", {'{status="success"}': 19 / 60, '{status="failed"}': 1 / 60}),
        asked("runs", "Runs ended", {'{status="success"}': 0, '{status="failed"}': 1 / 60}, at="61m30s"),
        asked("agent", "Runs ended", {'{status="success"}': 19 / 60, '{status="failed"}': 1 / 60}, agent="indexer"),
        asked("runs", "Failure share by agent", {'{agent_name="indexer"}': 1 / 20}),
        asked("runs", "Failure share by agent", {}, at="61m30s"),
        asked("agent", "Failure share", {"{}": 1 / 20}, agent="indexer"),
        asked("agent", "Failure share", {}, agent="indexer", at="61m30s"),
    )


def test_panels_count_the_first_runs_of_an_agent(tmp_path):
    """A series that was not there began at zero: a new agent's 40 failures, and the first two of a known one."""
    series = (
        runs("new", "failed", "_x40 40x80"),
        runs("known", "success", "100x49 106x70"),
        runs("known", "failed", "_x50 2x70"),
    )
    assert not reckoned(
        tmp_path,
        series,
        asked("runs", "Failed", {"{}": 42 / 48}),
        asked("agent", "Failed", {"{}": 2 / 8}, agent="known"),
        asked("agent", "Failed", {"{}": 1}, agent="new"),
        asked("runs", "Most failures", {'{agent_name="new"}': 40, '{agent_name="known"}': 2}),
        asked("agent", "Failure share", {"{}": 2 / 8}, agent="known", at="50m30s"),
    )


def test_an_agent_that_moves_to_the_others_and_back_is_no_thousand_runs(tmp_path):
    """Beyond a hundred agents the one with the fewest is told with the others; another takes its place."""
    series = (
        runs("goes", "success", "500x49 stale"),
        runs("comes", "success", "_x50 503x70"),
        runs("(others)", "success", "9000x49 8999x70"),
    )
    assert not reckoned(
        tmp_path,
        series,
        asked("runs", "Runs ended", {'{status="success"}': 2 / 60}, at="50m30s"),
        asked("runs", "Top agents", {'{agent_name="goes"}': 0, '{agent_name="comes"}': 0}),
    )


def test_replicas_count_once(tmp_path):
    """Two services on one database, of which one is gone for a while and one was told late."""
    series = (
        runs("indexer", "success", "100+2x120"),
        runs("indexer", "success", "100+2x40 stale _x9 202+2x69", instance="b"),
        runs("indexer", "failed", "100+2x120"),
        runs("indexer", "failed", "98+2x120", instance="b"),
    )
    assert not reckoned(
        tmp_path,
        series,
        asked("runs", "Failed", {"{}": 1 / 2}),
        asked("runs", "Top agents", {'{agent_name="indexer"}': 60 * 4}),
        asked("runs", "Runs ended", {'{status="success"}': 2 / 60, '{status="failed"}': 2 / 60}),
    )


# What they show


@pytest.fixture(scope="module")
def monitored(collector_binary, tmp_path_factory):
    """A Prometheus that scrapes a service and a gateway, with agents that run, fail and call models and tools."""
    folder = tmp_path_factory.mktemp("monitored")
    with ExitStack() as stack:
        service = stack.enter_context(serve_process(folder / "service", {"TELEMETRY_DB_SYNCHRONOUS": "OFF"}))
        given = {"TELEMETRY_API_URL": service.url}
        collector = stack.enter_context(collecting(collector_binary, folder / "gateway", "gateway.yaml", env=given))
        stack.enter_context(agents(folder / "agents", {**given, "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}))
        targets = {
            "127.0.0.1:8765": address(service.url),
            "127.0.0.1:8888": address(collector.own_metrics_url),
            "127.0.0.1:8889": address(collector.prometheus_url),
        }
        yield stack.enter_context(running_prometheus(folder, targets, port=quiet_port()))


@contextmanager
def agents(base_dir, env):
    """The program of monitored_agent.py, until the block is left."""
    given = {"TELEMETRY_BASE_DIR": str(base_dir), "OTEL_SERVICE_NAME": "indexing", **env}
    with Process(AGENT, env=given) as process:
        assert process.line() == "ready"
        yield
        status, _, errors = process.end(within_s=WITHIN_S)
        assert status == 0, errors


def address(url):
    return url.removeprefix("http://").removesuffix("/metrics")


def test_every_query_of_every_panel_gives_data(monitored):
    """From a real Prometheus, for windows that fit how often it scrapes. One test: they share what runs behind them."""
    asked = {
        (name, panel["title"], target["refId"]): chosen(target["expr"])
        for name, board in dashboards().items()
        for panel in panels(board)
        for target in panel["targets"]
    }
    empty = dict(asked)

    def all_give_data():
        for place, query in list(empty.items()):
            if monitored.has_data(query):
                del empty[place]
        return not empty

    try:
        eventually(all_give_data, within_s=WITHIN_S)
    except AssertionError:
        pytest.fail(f"no data within {WITHIN_S:g} s: {json.dumps([*map(str, empty.items())], indent=2)}")
    assert {job: reason for job, (up, reason) in monitored.healthy().items() if not up} == {}
    assert len(asked) > 50
    _choices_can_be_made(monitored)
    _figures_are_those_of_the_agents(monitored)
    _alerts_can_be_asked(monitored)


def chosen(query, choices=WINDOWS | CHOICES):
    """A query as Grafana sends it, with one agent chosen and all services, or with other choices."""
    for name, value in choices.items():
        query = query.replace(name, value)
    return query


def _choices_can_be_made(monitored):
    """The variables' lists hold what runs."""
    lists = {}
    for board in dashboards().values():
        for name, variable in variables(board).items():
            if variable["type"] == "query":
                series, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"]).groups()
                lists[name] = monitored.get(f"/api/v1/label/{label}/values", **{"match[]": chosen(series)})
    assert lists == {"agent": ["indexer", "plain", "reader"], "service": ["indexing"]}


def _figures_are_those_of_the_agents(monitored):
    """Span metrics of our runs have the names and labels that anybody's dashboards ask for; failures are failures."""
    calls = 'traces_span_metrics_calls_total{service_name="indexing",span_name="invoke_agent indexer"}'
    by_status = {labels["status_code"] for labels, _ in monitored.query(calls)}
    assert by_status == {"STATUS_CODE_ERROR", "STATUS_CODE_UNSET"}
    durations = (
        'traces_span_metrics_duration_milliseconds_bucket{service_name="indexing",status_code="STATUS_CODE_ERROR"}'
    )
    assert monitored.has_data(durations)
    ((_, share),) = monitored.query(chosen(query_of("agent", "Failed")))
    assert 0.1 < share < 0.6  # every third run fails
    ((_, open_runs),) = monitored.query('sum(agent_telemetry_runs{status="running",agent_name="indexer"})')
    assert open_runs >= 1


def _alerts_can_be_asked(monitored):
    """Prometheus has evaluated each rule, and none went wrong."""
    groups = eventually(lambda: _evaluated(monitored), within_s=WITHIN_S)
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) >= 10
    assert {rule["name"]: rule.get("lastError") for rule in rules if rule["health"] != "ok"} == {}


def _evaluated(monitored):
    groups = monitored.get("/api/v1/rules")["groups"]
    return groups if all(rule["health"] != "unknown" for group in groups for rule in group["rules"]) else None
