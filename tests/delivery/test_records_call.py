"""Which services are sent lines of a journal, and what of their answers confirms any."""

from __future__ import annotations

import gzip

import orjson
import pytest

from otel_agent_telemetry.deliverer_report import DelivererReport
from otel_agent_telemetry.delivery.http_connection import Answer
from otel_agent_telemetry.delivery.outcome import Delivered, Rejected, RetryLater
from otel_agent_telemetry.delivery.records_call import RecordsCall

REPORT = DelivererReport(host="h", base_dir="/b")
OURS = {"version": "3.0.0", "schema_version": 9, "records": 1, "store": "ab12"}


class Service:
    """Answers as it is told, and keeps what it was sent."""

    def __init__(self, version=OURS, *answers, limit=None):
        self.version = version
        self.answers = list(answers)
        self.limit = limit
        self.bodies = []
        self.asked = 0
        self.fails = 0

    def __call__(self, method, path, *, body=None, settles=frozenset(), headers=None):
        if path == "/version":
            self.asked += 1
            return self.version if isinstance(self.version, RetryLater) else Answer(200, orjson.dumps(self.version))
        if self.fails:
            self.fails -= 1
            return RetryLater("away")
        self.headers = headers
        lines = body.count(b"\n")
        if self.limit is not None and lines > self.limit:
            return Answer(413, b'{"detail": "too much"}')
        self.bodies.append(body)
        return self.answers.pop(0) if self.answers else account(lines)


def account(lines, *refused, **more):
    value = {"lines": lines, "refused": [{"line": number, "reason": "odd"} for number in refused], **more}
    return Answer(200, orjson.dumps(value))


def call_of(service, **more):
    return RecordsCall("http://s", service, **{"compresses": False, **more})


@pytest.mark.parametrize(
    "version",
    [
        {"version": "3.0.0", "schema_version": 8, "package": "0.1.0"},
        {**OURS, "records": 0},
        {**OURS, "records": "1"},
        {**OURS, "store": "../../etc"},
        {**OURS, "store": None},
        [],
    ],
    ids=["67df74d", "an earlier call", "text", "a path", "not opened", "no object"],
)
def test_a_service_without_the_call_is_sent_no_lines(version):
    """The first is the answer of a service of that revision. It is asked once."""
    service = Service(version)
    call = call_of(service)
    assert [call.store(), call.store()] == [None, None]
    assert service.asked == 1


def test_a_service_that_cannot_be_asked_is_asked_again():
    """Nothing is known of it then."""
    service = Service(RetryLater("away"))
    call = call_of(service)
    assert isinstance(call.store(), RetryLater)
    service.version = {**OURS, "records": 2}
    assert call.store() == "ab12"


def test_a_service_with_another_database_since_confirms_nothing_for_the_first():
    """After a restore the connection may still be open, through a proxy; a cursor that went on would miss all before."""
    service = Service(OURS, account(1, store="ab12"), account(1, store="cd34"), account(1, store="cd34"))
    call = call_of(service)
    assert call.store() == "ab12"
    assert call.deliver(b"a\n", REPORT) == Delivered(())
    service.version = {**OURS, "store": "cd34"}
    assert isinstance(call.deliver(b"b\n", REPORT), RetryLater)
    assert call.store() == "cd34"
    assert call.deliver(b"b\n", REPORT) == Delivered(())


def test_a_service_that_was_away_is_asked_which_database_it_has():
    """It may have been stopped for a restore."""
    service = Service()
    call = call_of(service)
    call.store()
    service.fails = 1
    assert isinstance(call.deliver(b"a\n", REPORT), RetryLater)
    call.store()
    assert service.asked == 2


def test_lines_are_confirmed_by_a_full_account_alone():
    """Captive portals and other services answer 200 too."""
    body = b"a\nb\nc\n"
    assert call_of(Service(OURS, account(3, 2))).deliver(body, REPORT) == Delivered((Rejected(1, "odd"),))
    odd = [b"<html>", b"{}", b'{"lines": 2, "refused": []}', b'{"lines": 3, "refused": [{"line": 4, "reason": "x"}]}']
    for content in odd:
        assert isinstance(call_of(Service(OURS, Answer(200, content))).deliver(body, REPORT), RetryLater), content


@pytest.mark.parametrize("status", [400, 404, 405, 415, 422])
def test_a_service_that_was_set_back_is_asked_anew(status):
    """No line is given up for what is not about a line."""
    service = Service(OURS, Answer(status, b'{"detail": "no"}'))
    call = call_of(service)
    call.store()
    assert isinstance(call.deliver(b"a\n", REPORT), RetryLater)
    service.version = {"version": "3.0.0", "schema_version": 8}
    assert call.store() is None


def test_halves_are_sent_where_a_body_is_too_large():
    """Down to a line, which is given up in the service's own words and not in a proxy's."""
    service = Service(OURS, limit=2)
    assert call_of(service).deliver(b"a\nb\nc\nd\ne\n", REPORT) == Delivered()
    assert b"".join(service.bodies) == b"a\nb\nc\nd\ne\n"
    assert max(body.count(b"\n") for body in service.bodies) == 2
    ours = call_of(Service(OURS, limit=0)).deliver(b"a\nb\n", REPORT)
    assert ours == Delivered((Rejected(0, "too much"), Rejected(1, "too much")))
    proxy = Service(OURS, Answer(413, b"<html>"))
    assert isinstance(call_of(proxy).deliver(b"a\n", REPORT), RetryLater)


def test_bodies_are_compressed_where_they_go_through_a_network():
    """The service's answer is about the lines all the same."""
    service = Service(OURS, account(2))
    assert call_of(service, compresses=True).deliver(b"a\nb\n", REPORT) == Delivered()
    assert gzip.decompress(service.bodies[0]) == b"a\nb\n"
    assert service.headers["Content-Encoding"] == "gzip"
    assert service.headers["Deliverer-Host"] == "h"
