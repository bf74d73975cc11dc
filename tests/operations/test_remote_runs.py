"""Answers of a service are checked: addresses of pages, members of records, and figures."""

from __future__ import annotations

import sys
from pathlib import Path

import orjson
import pytest
from on_disk import record

from otel_agent_telemetry.delivery.stats import Statistics, read_stats
from otel_agent_telemetry.errors import ConfigurationError, StoreUnavailableError
from otel_agent_telemetry.model import RunEvent, RunSpan
from otel_agent_telemetry.operations.remote_runs import RemoteRuns
from otel_agent_telemetry.storage.run_filters import RunQuery
from otel_agent_telemetry.testing import isolated_config
from tests.delivery.service import Fault

sys.path.append(str(Path(__file__).parents[1] / "cli"))

from command import agent_telemetry

TOKEN = "only-for-the-service"
TIME = "2026-01-31T12:00:00.000000+00:00"
EVENT = RunEvent(event_id="e", run_id="r", event_type="step", timestamp=TIME, payload={"n": [1, None]})
SPAN = RunSpan(
    event_id="e",
    run_id="r",
    trace_id="t",
    span_id="s",
    parent_span_id=None,
    name="tool",
    start_time=TIME,
    duration_ms=5,
    attributes={"a": 1},
)
OLDER_METRICS = {"total_runs": 3, "agents": {"a": 3}, "recent_24h": 1, "performance": {}}


@pytest.fixture
def remote(service, tmp_path):
    opened = RemoteRuns(service.url, isolated_config(tmp_path, api_auth_token=TOKEN))
    yield opened
    opened.close()


def answers(value, **headers):
    """One request is answered with this."""
    return Fault(200, orjson.dumps(value), headers=headers)


def page(*numbers, following):
    """A page of runs and what its `Link` header names."""
    return answers([record(number).to_fields() for number in numbers], Link=f'<{following}>; rel="next"')


def asking(service, folder):
    """A configuration whose runs go to the service."""
    return isolated_config(folder, api_url=service.url, api_auth_token=TOKEN)


def runs(remote, limit=10):
    return [run.run_id for run in remote.runs(RunQuery(limit=limit))]


def test_pages_are_followed_by_path(service, tmp_path):
    """Below the path that a proxy gives the service, with the token, up to the limit."""
    remote = RemoteRuns(service.url + "/telemetry", isolated_config(tmp_path, api_auth_token=TOKEN))
    service.script(page(1, 2, following="/api/v1/runs?cursor=x"), page(3, 4, following="/api/v1/runs?cursor=y"))

    assert runs(remote, limit=3) == ["run-1", "run-2", "run-3"]
    remote.close()

    paths = [request.path for request in service.requests]
    assert paths == ["/telemetry/api/v1/runs?limit=3", "/telemetry/api/v1/runs?cursor=x"]
    assert {request.headers["Authorization"] for request in service.requests} == {f"Bearer {TOKEN}"}


@pytest.mark.parametrize(
    "address", ["{other}/steal", "//{other_host}/steal", "steal", "?cursor=x", "", "ftp://h/x", "http://[bad"]
)
def test_no_page_is_fetched_from_elsewhere(service, other_service, remote, address):
    """A `Link` that is not a path is an unexpected answer: the token goes to no other host."""
    host = other_service.url.removeprefix("http://")
    service.script(page(1, following=address.format(other=other_service.url, other_host=host)))

    with pytest.raises(StoreUnavailableError, match="not one of this service"):
        runs(remote)

    assert other_service.requests == []
    assert len(service.requests) == 1


def test_link_that_is_no_url_is_an_error_of_the_service(service, remote):
    """It is an error of reading the service, not of the HTTP client."""
    service.script(page(1, following="/" + "x" * 66_000))

    with pytest.raises(StoreUnavailableError, match="InvalidURL"):
        runs(remote)


def test_an_empty_page_is_the_last(service, remote):
    """Whatever its `Link` header holds: a service cannot make a reader loop for ever."""
    service.script(page(1, following="/api/v1/runs?x"), page(following="/api/v1/runs?x"))

    assert runs(remote) == ["run-1"]
    assert len(service.requests) == 2


@pytest.mark.parametrize(("known", "read"), [(EVENT, "events"), (SPAN, "spans")])
def test_events_and_steps_are_read_as_they_are(service, remote, known, read):
    """Every member comes back; members that are not known here are ignored."""
    service.script(answers([orjson.loads(orjson.dumps(known)) | {"newer": 1}]))

    assert getattr(remote, read)("e") == [known]


@pytest.mark.parametrize(
    ("read", "known", "changes"),
    [
        *[("events", EVENT, {name: ...}) for name in ("event_id", "run_id", "event_type", "timestamp")],
        *[("events", EVENT, {name: 5}) for name in ("run_id", "timestamp", "span_id")],
        ("events", EVENT, {"timestamp": None}),
        *[("spans", SPAN, {name: ...}) for name in ("trace_id", "span_id", "parent_span_id", "name", "start_time")],
        *[("spans", SPAN, {name: [1]}) for name in ("start_time", "end_time", "duration_ms", "attributes", "status")],
        ("spans", SPAN, {"start_time": None}),
        ("spans", SPAN, {"attributes": None}),
    ],
)
def test_events_and_steps_that_are_not_ours_are_an_error(service, remote, read, known, changes):
    """A member that is missing (`...`) or of another kind: the error that any rubbish is."""
    members = orjson.loads(orjson.dumps(known)) | changes
    service.script(answers([{name: value for name, value in members.items() if value is not ...}]))

    with pytest.raises(StoreUnavailableError, match="not one of this service"):
        getattr(remote, read)("e")


@pytest.mark.parametrize("metrics", [OLDER_METRICS, OLDER_METRICS | {"statuses": {"success": 3}}])
def test_figures_are_read_of_this_and_of_an_older_service(service, tmp_path, metrics):
    """An older version does not count by status."""
    service.script(answers(metrics))

    assert read_stats(asking(service, tmp_path)) == Statistics(metrics)


@pytest.mark.parametrize(
    "metrics",
    [
        {},
        [],
        *[{name: value for name, value in OLDER_METRICS.items() if name != left_out} for left_out in OLDER_METRICS][:3],
        OLDER_METRICS | {"total_runs": "3"},
        OLDER_METRICS | {"recent_24h": None},
        OLDER_METRICS | {"agents": ["a"]},
        OLDER_METRICS | {"agents": {"a": "3"}},
        OLDER_METRICS | {"statuses": None},
        OLDER_METRICS | {"statuses": {"success": [3]}},
    ],
)
def test_figures_that_are_not_ours_are_an_error(service, tmp_path, metrics):
    """Figures that are missing or of another type are never returned."""
    service.script(answers(metrics))

    stats = read_stats(asking(service, tmp_path))

    assert stats.figures is None
    assert isinstance(stats.problem, StoreUnavailableError)
    assert "not one of this service" in str(stats.problem)


def test_the_command_reports_figures_that_are_not_ours_in_one_line(service, tmp_path):
    """Exit status STORE_UNAVAILABLE and what to check."""
    service.script(answers({}))

    result = agent_telemetry(isolated_config(tmp_path), "stats", "--no-sync", env={"TELEMETRY_API_URL": service.url})

    assert (result.code, len(result.err.splitlines())) == (4, 1)
    assert "Check TELEMETRY_API_URL" in result.err


@pytest.mark.parametrize("sign", ["\n", "\r\nX-Other: 1", "\x00"])
def test_token_that_no_header_can_carry_is_reported_without_it(service, tmp_path, sign):
    """The error names the kind of fault and quotes no header."""
    remote = RemoteRuns(service.url, isolated_config(tmp_path, api_auth_token=f"hunter2{sign}hunter3"))
    with pytest.raises(StoreUnavailableError, match=r"LocalProtocolError$") as raised:
        runs(remote)
    remote.close()

    assert "hunter" not in f"{raised.value} {raised.value.hint}"
    assert service.requests == []


def test_token_in_any_script_is_sent_as_utf8(service, tmp_path):
    """The bytes are those that the service compares with."""
    remote = RemoteRuns(service.url, isolated_config(tmp_path, api_auth_token="pässwörd"))
    assert runs(remote) == []
    remote.close()

    assert service.requests[0].headers["Authorization"].encode("latin-1") == "Bearer pässwörd".encode()


def test_id_that_no_url_can_hold_is_an_error_of_the_service(remote):
    """An event id comes from an answer; reading its events raises nothing of the HTTP client's."""
    with pytest.raises(StoreUnavailableError, match="InvalidURL"):
        remote.events("a\x00b")


def test_url_that_cannot_be_asked_is_a_configuration_error(tmp_path):
    """The hint names the variable to check."""
    with pytest.raises(ConfigurationError, match=r"1\.2\.3\.400:1 cannot be asked") as raised:
        RemoteRuns("http://1.2.3.400:1", isolated_config(tmp_path))

    assert "TELEMETRY_API_URL" in raised.value.hint
