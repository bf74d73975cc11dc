from __future__ import annotations

import email.utils
import time

import orjson
import pytest
from on_disk import record
from service import Fault

from otel_agent_telemetry.delivery.http_target import HttpTarget, is_our_service, retry_after_s
from otel_agent_telemetry.delivery.outcome import Batch, Delivered, Rejected, RetryLater
from otel_agent_telemetry.model import CommitLink
from otel_agent_telemetry.testing import isolated_config

TOKEN = "s3cr3t-service-token"
STRANGERS_WORDS = [
    b"",
    b"Invalid HTTP request received.",
    b"<html><title>400 The plain HTTP request was sent to HTTPS port</title></html>",
    b"null",
    b"[]",
    b"{}",
    b'{"error": "bad"}',
    b'{"detail": null}',
    b'{"detail": {}}',
    b'{"detail": []}',
    b'{"detail": ["x"]}',
    b'["detail"]',
]
"""What a proxy, another server or a web server on another port may answer a refusal with."""


@pytest.fixture
def target(service, tmp_path):
    opened = HttpTarget(service.url, isolated_config(tmp_path, api_auth_token=TOKEN, api_timeout_s=5.0))
    yield opened
    opened.close()


def three(**more):
    return Batch.of(tuple(record(number, status="success", updated=1, **more) for number in (1, 2, 3)))


def link(run_id="run-1", commit="abcdef1", **more):
    return CommitLink(run_id=run_id, commit_hash=commit, commit_source="ci", associated_at="2026-01-01", **more)


def test_batch_is_delivered_whole(service, target):
    """One request; every record is in the service as it was."""
    assert target.deliver(three(items_failed=4)) == Delivered()

    assert sorted(service.runs) == ["run-1", "run-2", "run-3"]
    assert service.runs["run-2"] == three(items_failed=4).records[1]
    assert len(service.batches()) == 1


def test_json_columns_travel_as_objects(service, target):
    """Text that is JSON becomes an object; text that is not is wrapped, not refused."""
    target.deliver(Batch.of((record(1, metrics_json='{"a":{"b":[1,2]}}', context_json="not json"),)))

    ((body,),) = service.batches()
    assert body["metrics_json"] == {"a": {"b": [1, 2]}}
    assert body["context_json"] == {"text": "not json"}


def test_the_same_again_changes_nothing(service, target):
    """Redelivery is confirmed as duplicates, and there is one row a run."""
    target.deliver(three())

    assert target.deliver(three()) == Delivered()
    assert len(service.rows) == 3


def test_refused_items_are_named_and_neighbours_kept(service, target):
    """A bad item is in `errors`; its position and reason come back."""
    service.refuses = lambda run: "no such agent" if run.run_id == "run-2" else None

    outcome = target.deliver(three())

    assert outcome == Delivered((Rejected(1, "run: no such agent"),))
    assert sorted(service.runs) == ["run-1", "run-3"]


@pytest.mark.parametrize("status", [400, 413, 415, 422])
def test_refused_request_is_halved_until_the_cause_is_found(service, target, status):
    """A batch that is refused as a whole is delivered in halves; the poison alone is rejected."""
    poison = Fault(status, b'{"detail": "too large"}')
    service.script(poison)  # the batch of three
    service.script(poison)  # its first half: run-1 alone

    outcome = target.deliver(three())

    assert outcome == Delivered((Rejected(0, f"{status} too large"),))
    assert sorted(service.runs) == ["run-2", "run-3"]


@pytest.mark.parametrize("body", STRANGERS_WORDS)
@pytest.mark.parametrize("status", [400, 415, 422])
def test_refusal_in_a_strangers_words_means_later(service, target, status, body):
    """What is not `{"detail": text}` is not the service's: no record is set aside for it."""
    service.script(Fault(status, body))

    outcome = target.deliver(three())

    assert isinstance(outcome, RetryLater)
    assert f"answered {status}, but not in the words of this service" in outcome.reason
    assert len(service.batches()) == 1
    assert target.deliver(three()) == Delivered()


@pytest.mark.parametrize("body", STRANGERS_WORDS)
def test_batch_too_large_for_a_proxy_goes_through_in_halves(service, target, body):
    """A proxy's 413 concerns the size of the request: smaller ones are tried at once."""
    service.script(Fault(413, body))

    assert target.deliver(three()) == Delivered()
    assert [len(batch) for batch in service.batches()] == [3, 1, 2]
    assert len(service.rows) == 3


@pytest.mark.parametrize("body", STRANGERS_WORDS)
def test_record_too_large_for_a_proxy_waits(service, target, body):
    """A proxy's limit can be raised: its 413 gives no record up, however small the batch."""
    service.script(*[Fault(413, body)] * 2)

    assert isinstance(target.deliver(three()), RetryLater)
    assert [len(batch) for batch in service.batches()] == [3, 1]
    assert target.deliver(three()) == Delivered()


def test_refusal_as_an_older_service_words_it_is_one(service, target):
    """Its framework tells a body that it cannot read as a list of findings."""
    words = b'{"detail": [{"loc": ["body", 0, "job_type"], "msg": "field required", "type": "missing"}]}'
    service.script(*[Fault(422, words)] * 2)

    (refused,) = target.deliver(three()).rejected

    assert refused.position == 0
    assert "field required" in refused.reason
    assert sorted(service.runs) == ["run-2", "run-3"]


@pytest.mark.parametrize("status", [401, 403, 404, 408, 429, 500, 502, 503, 504])
def test_passing_faults_mean_later(service, target, status):
    """Nothing is confirmed and nothing rejected: a misconfigured token must not lose runs."""
    service.script(Fault(status))

    outcome = target.deliver(three())

    assert isinstance(outcome, RetryLater)
    assert str(status) in outcome.reason
    assert target.deliver(three()) == Delivered()


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), ("0", 0.0), ("-3", 0.0), ("soon", None), ("", None)])
def test_retry_after_is_passed_on(service, target, header, seconds):
    """Seconds as the service asks; rubbish means the usual wait."""
    service.script(Fault(429, headers={"Retry-After": header}))

    assert target.deliver(three()).after_s == seconds


def test_retry_after_as_a_date():
    """An HTTP date is the time until then; a past one is now."""
    soon = email.utils.formatdate(time.time() + 30, usegmt=True)
    assert 25 < retry_after_s(soon) <= 30
    assert retry_after_s("Mon, 01 Jan 2001 00:00:00 GMT") == 0.0
    assert retry_after_s(None) is None


@pytest.mark.parametrize("header", ["inf", "nan", "1e999", "Mon, 99 Jan 2001 00:00:00 GMT", "\x00", "9" * 400])
def test_retry_after_rubbish_never_raises_nor_waits_for_ever(header):
    """Whatever a header holds: no time at all, or a number that a wait can be made of."""
    assert retry_after_s(header) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>login</html>",
        b"null",
        b"[]",
        b"{}",
        b'{"inserted": 3}',
        b'{"inserted": "x", "updated": 0, "duplicates": 0, "errors": [], "total": 3}',
        b'{"inserted": 2, "updated": 0, "duplicates": 0, "errors": [], "total": 3}',
        b'{"inserted": 3, "updated": 1, "duplicates": 0, "errors": [], "total": 3}',
        b'{"inserted": 2, "updated": 0, "duplicates": 0, "errors": [{}], "total": 3}',
        b'{"inserted": 2, "updated": 0, "duplicates": 0, "errors": ["bad"], "total": 3}',
        b'{"inserted": 2, "updated": 0, "duplicates": 0, "errors": [{"index": 7}], "total": 3}',
        b'{"inserted": 2, "updated": 0, "duplicates": 0, "errors": [{"index": -1}], "total": 3}',
        b'{"inserted": 1, "updated": 0, "duplicates": 0, "errors": [{"index": 1}, {"index": 1}], "total": 3}',
        b'{"inserted": 4, "updated": -1, "duplicates": 0, "errors": [], "total": 3}',
        b'{"inserted": 3, "updated": 0, "duplicates": 0, "errors": 5, "total": 3}',
    ],
)
def test_answer_that_does_not_account_for_everything_confirms_nothing(service, target, body):
    """A proxy's login page or numbers that do not add up: the batch is kept and sent again."""
    service.script(Fault(200, body))

    assert isinstance(target.deliver(three()), RetryLater)
    assert target.deliver(three()) == Delivered()
    assert len(service.rows) == 3


def test_connection_reset_in_mid_answer_means_later(service, target):
    """The service had committed; the second delivery finds duplicates and no row is there twice."""
    service.script(Fault(reset=True, after_keeping=True))

    assert isinstance(target.deliver(three()), RetryLater)
    assert len(service.rows) == 3
    assert target.deliver(three()) == Delivered()
    assert len(service.rows) == 3


def test_nobody_listening_means_later_and_names_no_secret(service, target):
    """Refused connections are told by URL; the token is in no sentence."""
    service.kill()

    outcome = target.deliver(three())

    assert isinstance(outcome, RetryLater)
    assert service.url in outcome.reason
    assert TOKEN not in outcome.reason


def test_slow_service_is_given_up_after_the_timeout(service, tmp_path):
    """The timeout of the configuration bounds a request."""
    import threading

    hold = threading.Event()
    service.script(Fault(hold=hold))
    target = HttpTarget(service.url, isolated_config(tmp_path, api_timeout_s=0.2))
    try:
        outcome = target.deliver(three())  # returns while the answer is still held
        assert isinstance(outcome, RetryLater)
        assert "Timeout" in outcome.reason
    finally:
        hold.set()
        target.close()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_token_goes_to_the_service_and_to_no_other_host(service, other_service, target, status):
    """A redirect elsewhere is not followed: neither token nor runs reach the other host."""
    service.script(Fault(status, headers={"Location": other_service.url + "/api/v1/runs/batch"}))

    outcome = target.deliver(three())

    assert isinstance(outcome, RetryLater)
    assert service.requests[0].headers["Authorization"] == f"Bearer {TOKEN}"
    assert other_service.requests == []


def test_without_a_token_no_header_is_sent(service, tmp_path):
    """No empty `Authorization`."""
    target = HttpTarget(service.url, isolated_config(tmp_path))
    target.deliver(three())
    target.close()

    assert "Authorization" not in service.requests[0].headers


@pytest.mark.parametrize("token", ["pässwörd", "ключ", "鍵 two"])
def test_token_in_any_script_is_sent_as_utf8(service, tmp_path, token):
    """The bytes are those that the service compares with."""
    target = HttpTarget(service.url, isolated_config(tmp_path, api_auth_token=token))
    assert target.deliver(three()) == Delivered()
    target.close()

    assert service.requests[0].headers["Authorization"].encode("latin-1") == f"Bearer {token}".encode()


@pytest.mark.parametrize("sign", ["\n", "\r\nX-Other: 1", "\x00", "\x01", "\x7f", "\ud800"])
def test_token_that_no_header_can_carry_is_told_without_it(service, tmp_path, sign):
    """Nothing is raised, nothing is lost, and no message quotes the header."""
    service.token = TOKEN
    target = HttpTarget(service.url, isolated_config(tmp_path, api_auth_token=f"hunter2{sign}hunter3"))
    outcome = target.deliver(three())
    target.close()

    assert isinstance(outcome, RetryLater)
    assert "hunter" not in outcome.reason
    assert "control character" in outcome.reason or "401" in outcome.reason
    assert "X-Other" not in {name for request in service.requests for name in request.headers}


@pytest.mark.parametrize("host", ["1.2.3.400", "a\u200bb", "a\nb", "[::1", ""])
def test_url_that_cannot_be_asked_means_later(tmp_path, host):
    """An outcome without the URL's credentials; nothing is raised."""
    target = HttpTarget(f"http://user:pass@{host}:1", isolated_config(tmp_path, api_timeout_s=1.0))
    outcome = target.deliver(three())
    target.close()

    assert isinstance(outcome, RetryLater)
    assert "cannot be reached" in outcome.reason
    assert "pass" not in outcome.reason


@pytest.mark.parametrize("host", ["a..b", "a" * 70])
def test_host_that_no_resolver_takes_means_later(tmp_path, host):
    """A name with an empty or too long label is told, not raised."""
    target = HttpTarget(f"http://{host}:1", isolated_config(tmp_path))
    outcome = target.deliver(three())
    target.close()

    assert outcome == RetryLater(f"http://{host}:1 cannot be reached: UnicodeError")


def test_url_credentials_are_not_shown():
    """The name, which is logged and stored, has none."""
    target = HttpTarget("http://user:pass@127.0.0.1:1/base", isolated_config("/nowhere", api_auth_token=TOKEN))

    assert "pass" not in target.name
    assert "pass" not in target.deliver(three()).reason
    target.close()


def test_base_path_of_the_url_is_kept(service, tmp_path):
    """A service behind `/telemetry/` of a proxy."""
    target = HttpTarget(service.url + "/telemetry", isolated_config(tmp_path))
    target.deliver(three())
    target.close()

    assert service.requests[0].path == "/telemetry/api/v1/runs/batch"


def test_commit_association_reaches_the_run(service, target):
    """The run is found by its run id, and only what is known is sent."""
    outcome = target.deliver(Batch.of(three().records, (link(commit_author="A <a@b>"),)))

    assert outcome == Delivered()
    assert service.commits == [
        (record(1).event_id, {"commit_hash": "abcdef1", "commit_source": "ci", "commit_author": "A <a@b>"})
    ]


def test_refused_association_is_the_only_one_set_aside(service, target):
    """Positions of links come after those of records; the neighbour goes through."""
    service.script(None, None, Fault(422, b'{"detail": "no commit"}'))

    outcome = target.deliver(Batch.of(three().records, (link(), link("run-2", "abcdef2"))))

    assert outcome == Delivered((Rejected(3, "422 no commit"),))
    assert [body["commit_hash"] for _, body in service.commits] == ["abcdef2"]


@pytest.mark.parametrize("fault", [Fault(503), Fault(200, b"rubbish"), Fault(200, b'{"a": 1}'), Fault(200, b"[1]")])
def test_association_waits_for_a_service_that_is_away(service, target, fault):
    """Looking the run up fails: later, not never."""
    service.script(None, fault)

    assert isinstance(target.deliver(Batch.of(three().records, (link(),))), RetryLater)
    assert target.deliver(Batch.of(three().records, (link(),))) == Delivered()
    assert len(service.commits) == 1


@pytest.mark.parametrize("body", STRANGERS_WORDS)
@pytest.mark.parametrize("before", [0, 1, 2], ids=["batch", "lookup", "association"])
def test_association_refused_in_a_strangers_words_waits(service, target, before, body):
    """At each of the calls that associate a commit."""
    target.deliver(three())
    service.script(*[None] * before, Fault(400, body))

    assert isinstance(target.deliver(Batch.of((), (link(),))), RetryLater)
    assert target.deliver(Batch.of((), (link(),))) == Delivered()
    assert len(service.commits) == 1


@pytest.mark.parametrize("event_id", ["a\\u0000b", "\\n", "x" * 70_000])
def test_event_id_that_no_url_can_hold_means_later(service, target, event_id):
    """A service that tells rubbish ids is not believed; nothing is raised."""
    service.script(None, None, Fault(200, f'[{{"event_id": "{event_id}"}}]'.encode()))

    outcome = target.deliver(Batch.of(three().records, (link(),)))

    assert isinstance(outcome, RetryLater)
    assert "cannot be reached" in outcome.reason or "answered" in outcome.reason
    assert target.deliver(Batch.of(three().records, (link(),))) == Delivered()


def test_run_ids_are_quoted_in_queries(service, target):
    """An id with every kind of sign is looked up as it is."""
    strange = "a&limit=1000 #?ü%2F+=;"
    target.deliver(Batch.of((record(1, run_id=strange),)))

    assert target.deliver(Batch.of((), (link(strange),))) == Delivered()
    assert len(service.commits) == 1


def test_our_service_says_who_it_is(service, other_service):
    """`/version` with both fields; anything else at that address is a stranger. No token is sent."""
    assert is_our_service(service.url)
    assert "Authorization" not in service.requests[0].headers

    assert not is_our_service(other_service.url + "/metrics?")
    other_service.kill()
    assert not is_our_service(other_service.url)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9\x00", "http://a..b:1", "http://1.2.3.400", "http://a\u200bb"])
def test_no_service_of_ours_is_at_an_impossible_url(url):
    """Asking raises nothing."""
    assert not is_our_service(url)


def test_large_batches_are_sent_as_they_are(service, target):
    """Five hundred records with a megabyte of text arrive whole."""
    records = tuple(record(number, error_details="ü" * 1000) for number in range(500))

    assert target.deliver(Batch.of(records)) == Delivered()
    assert len(service.rows) == 500
    assert orjson.loads(service.requests[0].body)[499]["error_details"] == "ü" * 1000
