from __future__ import annotations

import threading

import pytest
from on_disk import eventually, record, rows_of
from service import Fault

from otel_agent_telemetry import TelemetryClient
from otel_agent_telemetry.counters import Counters
from otel_agent_telemetry.delivery.webhook import Webhook, summary_of
from otel_agent_telemetry.model import RunRecord
from otel_agent_telemetry.testing import isolated_config

TOKEN = "only-for-the-webhook"
OK = Fault(200, b"{}")


class Posting:
    """A webhook under test; `posted` are the states it tells of, `waited` its waits, without waiting."""

    def __init__(self, service, clock, tmp_path, **settings):
        self.posted = []
        self.waited = []
        self.counters = Counters()
        config = isolated_config(
            tmp_path, **{"sheets_enabled": True, "sheets_url": service.url + "/hook", "sheets_token": TOKEN, **settings}
        )
        self.webhook = Webhook(
            config, clock=clock, counters=self.counters, on_posted=self.posted.append, sleep=self.waited.append
        )

    def __call__(self, *records):
        """Post and wait until it is done with them."""
        self.webhook.post([run.to_fields() for run in records])
        self.webhook.close(10)
        return [RunRecord.from_fields(state) for state in self.posted]


@pytest.fixture
def posting(service, clock, tmp_path):
    return Posting(service, clock, tmp_path)


def ended(number=1, **more):
    return record(number, status="success", updated=2, **more)


def test_summary_is_posted_without_nulls_and_with_the_token(posting, service, clock):
    """One JSON object of the summary fields; no null, no large column, no posting columns."""
    service.script(OK)
    run = ended(items_succeeded=3, error_details="long", context_json="{}", metrics_json="{}", product="p")

    (state,) = posting(run)

    (request,) = service.requests
    assert (request.method, request.path) == ("POST", "/hook")
    assert request.headers["Authorization"] == f"Bearer {TOKEN}"
    assert request.headers["Content-Type"] == "application/json"
    assert request.json == summary_of(run.to_fields())
    assert request.json["items_succeeded"] == 3
    assert None not in request.json.values()
    assert not {"error_details", "context_json", "metrics_json", "api_posted"} & request.json.keys()
    assert (state.api_posted, state.api_posted_at, state.api_retry_count) == (1, "2025-10-09T08:53:20.000000+00:00", 0)


def test_without_a_token_no_header_is_sent(service, clock, tmp_path):
    """An open webhook gets no empty header."""
    service.script(OK)

    Posting(service, clock, tmp_path, sheets_token=None)(ended())

    assert "Authorization" not in service.requests[0].headers


def test_token_in_any_script_is_sent_as_utf8(service, clock, tmp_path):
    """A token is bytes to the webhook, whatever its letters."""
    service.script(OK)

    (state,) = Posting(service, clock, tmp_path, sheets_token="pässwörd")(ended())

    assert state.api_posted == 1
    assert service.requests[0].headers["Authorization"].encode("latin-1") == "Bearer pässwörd".encode()


@pytest.mark.parametrize("sign", ["\n", "\r\nX-Other: 1", "\x00"])
def test_token_that_no_header_can_carry_is_told_without_it(service, clock, tmp_path, caplog, sign):
    """The run is not posted, and the warning quotes no header."""
    (state,) = Posting(service, clock, tmp_path, sheets_token=f"hunter2{sign}hunter3")(ended())

    assert (state.api_posted, service.requests) == (0, [])
    assert "run run-1 was not posted: a token holds a control character" in caplog.text
    assert "hunter" not in caplog.text


@pytest.mark.parametrize("host", ["1.2.3.400", "a\u200bb", "a..b"])
def test_url_that_cannot_be_asked_is_a_run_not_posted(service, clock, tmp_path, host):
    """Told as such, not as a fault of ours, and the thread goes on with the next run."""
    states = Posting(service, clock, tmp_path, sheets_url=f"http://{host}:1")(ended(1), ended(2))

    assert [(state.run_id, state.api_posted) for state in states] == [("run-1", 0), ("run-2", 0)]


@pytest.mark.parametrize(
    "fault", [Fault(500), Fault(503), Fault(429), Fault(reset=True)], ids=["500", "503", "429", "reset"]
)
def test_passing_faults_are_retried_after_1_2_and_4_s(posting, service, fault):
    """Three failures, then success: posted, with three retries told."""
    service.script(fault, fault, fault, OK)

    (state,) = posting(ended())

    assert posting.waited == [1, 2, 4]
    assert (state.api_posted, state.api_retry_count) == (1, 3)
    assert len({request.body for request in service.requests}) == 1


def test_four_failures_are_the_end(posting, service, caplog):
    """Not posted, three retries; a warning that names the run and no token."""
    service.script(*[Fault(500)] * 9)

    (state,) = posting(ended())

    assert len(service.requests) == 4
    assert (state.api_posted, state.api_posted_at, state.api_retry_count) == (0, None, 3)
    assert "run-1" in caplog.text
    assert TOKEN not in caplog.text


def test_nobody_listening_is_retried_too(posting, service):
    """Network errors count as passing."""
    service.kill()

    (state,) = posting(ended())

    assert posting.waited == [1, 2, 4]
    assert (state.api_posted, state.api_retry_count) == (0, 3)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 422])
def test_another_4xx_is_never_retried(posting, service, status):
    """The webhook will not take it; asking again would not help."""
    service.script(*[Fault(status)] * 2)

    (state,) = posting(ended())

    assert len(service.requests) == 1
    assert posting.waited == []
    assert state.api_posted == 0


def test_redirect_is_success_and_is_not_followed(posting, service, other_service):
    """A script host answers 302 when it has taken the row; the token goes nowhere else."""
    service.script(Fault(302, headers={"Location": other_service.url}))

    (state,) = posting(ended())

    assert state.api_posted == 1
    assert other_service.requests == []


def test_only_runs_that_ended_and_were_not_posted(posting, service):
    """Running states, posted ones and those given up before are left alone."""
    service.script(OK)

    states = posting(record(1), ended(2), ended(3, api_posted=1), ended(4, api_retry_count=3))

    assert [state.run_id for state in states] == ["run-2"]
    assert len(service.requests) == 1


def test_one_failure_does_not_stop_the_others(posting, service):
    """Each run has its own attempts."""
    service.script(Fault(404), OK, Fault(500), OK)

    states = posting(ended(1), ended(2), ended(3))

    assert [(state.run_id, state.api_posted) for state in states] == [("run-1", 0), ("run-2", 1), ("run-3", 1)]


def test_post_never_blocks_and_close_is_bounded(posting, service):
    """While the webhook hangs, posting returns; closing gives up in time and twice is harmless."""
    hold = threading.Event()
    service.script(Fault(hold=hold))
    try:
        posting.webhook.post([ended(1).to_fields()])
        assert service.arrived.wait(10)
        posting.webhook.post([ended(2).to_fields()] * 20_000)
        assert "posting" in posting.counters.last_error  # the queue's bound is told
        posting.webhook.close(0.1)
        posting.webhook.close(0.1)
        assert posting.posted == []
    finally:
        hold.set()


def test_nothing_is_started_for_nothing(posting):
    """No ended run, no thread."""
    before = threading.active_count()

    posting.webhook.post([record(1).to_fields()])

    assert threading.active_count() == before
    posting.webhook.close(0)


def test_how_posting_went_is_written_to_the_row(service, tmp_path):
    """The whole way: a client's run ends, is delivered, posted, and its row says so."""
    service.script(OK)
    config = isolated_config(
        tmp_path / "base", sheets_enabled=True, sheets_url=service.url + "/hook", db_synchronous="OFF"
    )
    client = TelemetryClient(config)
    client.end_run(client.start_run("agent", "job", run_id="mine"), items_succeeded=2)

    row = eventually(lambda: (found := rows_of(config).get("mine")) and found["api_posted"] and found)

    assert row["api_posted_at"] is not None
    assert row["status"] == "success"
    hooks = [request for request in service.requests if request.path == "/hook"]
    assert [hook.json["run_id"] for hook in hooks] == ["mine"]


@pytest.mark.parametrize(
    "settings",
    [
        {"sheets_enabled": False},
        {"sheets_url": None},
        {"sheets_auth_required": True, "sheets_token": None},
    ],
)
def test_nothing_is_posted_unless_configured_in_full(service, tmp_path, settings):
    """Off, without a URL, or without the token that is required: delivered and not posted."""
    given = {"sheets_enabled": True, "sheets_url": service.url + "/hook", "db_synchronous": "OFF", **settings}
    client = TelemetryClient(isolated_config(tmp_path / "base", **given))
    client.end_run(client.start_run("agent", "job"))
    assert client.flush(10)
    client.close()

    assert service.requests == []
