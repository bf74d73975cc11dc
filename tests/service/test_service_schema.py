"""The service against its own description: generated requests, good ones and bad ones, and what is answered.

`SCHEMA_EXAMPLES=1000` looks longer, `SCHEMA_SEED=7` elsewhere; the seed is printed with a failure.
"""

from __future__ import annotations

import os

import pytest
import schemathesis
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as some
from otlp_requests import PROTOBUF, request, span
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    negative_data_rejection,
    positive_data_acceptance,
)
from service_cases import ended, event_id, post_batch

from otel_agent_telemetry.service.app import openapi_document
from otel_agent_telemetry.service.routes_records import NDJSON
from otel_agent_telemetry.wire import encode_line

EXAMPLES = int(os.environ.get("SCHEMA_EXAMPLES", "25"))
SEED = int(os.environ.get("SCHEMA_SEED", "20260131"))
KNOWN = 3
TOO_LARGE = ("413", "431")

spans = some.builds(span, some.integers(1, 9), some.none() | some.integers(1, 9))
requests = some.lists(spans, max_size=3).map(lambda found: request(*found).SerializeToString())
schemathesis.openapi.media_type(PROTOBUF, requests)
lines = some.lists(some.builds(ended, some.integers(1, 9)), max_size=3)
journals = lines.map(lambda found: b"".join(encode_line("run", one) for one in found))
schemathesis.openapi.media_type(NDJSON, journals)


@schemathesis.serializer(PROTOBUF, NDJSON)
def as_it_is(_context, value):
    """Bytes are sent as bytes; whatever else is made up, as its text."""
    return value if isinstance(value, bytes) else str(value).encode()


def described():
    """The document as it is served, with the few rules that a schema cannot express."""
    found = schemathesis.openapi.from_dict(openapi_document(with_auth=False))
    found.config.checks.negative_data_rejection.expected_statuses += TOO_LARGE
    return found


schema = described()


@pytest.fixture
def known_service(sqlite_service):
    """A service with a few runs, so that not every id is unknown."""
    post_batch(sqlite_service, [ended(n) for n in range(1, KNOWN + 1)])
    return sqlite_service


@seed(SEED)
@schema.parametrize()
@settings(max_examples=EXAMPLES, database=None, suppress_health_check=list(HealthCheck))
def test_the_service_conforms_to_its_openapi_document(case, known_service):
    """No 5xx, and each answer has a status, a type, headers and a shape that are described."""
    print(f"SCHEMA_SEED={SEED}")
    case.call_and_validate(base_url=known_service.url, excluded_checks=unanswerable(case))


@seed(SEED)
@schema.include(path_regex="event_id").parametrize()
@settings(max_examples=EXAMPLES, database=None, suppress_health_check=list(HealthCheck))
def test_runs_that_are_here_are_answered_as_described(case, known_service):
    """The same where the id is that of a run."""
    print(f"SCHEMA_SEED={SEED}")
    case.path_parameters = {"event_id": event_id(len(str(case.body)) % KNOWN + 1)}
    case.call_and_validate(base_url=known_service.url, excluded_checks=unanswerable(case))


def unanswerable(case):
    """Return the checks that a schema cannot decide for this request."""
    excluded = []
    if case.method == "PATCH" or {"cursor", "ranges"} & set(case.query or {}):
        # The run, the page before, or the numbers of a range decide what is good.
        excluded.append(positive_data_acceptance)
    if case.path.endswith(("/batch", "/commits", "/records")):
        excluded.append(negative_data_rejection)  # a bad item is listed in `errors` or `refused`
        excluded.append(allow_header_conformance)  # `batch` is an event id to the router as well
    return excluded
