"""gateway.yaml: the secrets that it takes out of spans and log records before anybody gets them."""

from __future__ import annotations

import math
import re

import httpx
import pytest
import yaml
from collectors import FILES
from on_disk import eventually
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from otlp_backend import attributes_of, plain
from streaming import client_of, new_ids, one_run, send, text

from otel_agent_telemetry.otel import conventions as names
from otel_agent_telemetry.redaction import REDACTED, is_secret_key
from otel_agent_telemetry.secret_patterns import mask_text

SECRET_KEYS = [
    *("password", "db.password", "dbPassword", "passphrase", "client_secret", "secrets", "api_key", "x-api-key"),
    *("openai.apikey", "aws_access_key", "private_key", "session_key", "authorization", "Authorization"),
    *("http.request.header.authorization", "credentials", "cookie", "Set-Cookie", "jwt", "token", "X-Auth-Token"),
    *("access_token", "refresh_token", "apiTokens", "bearer", "auth_key", "proxy_auth_key", "cookie.sid"),
    *("github_token", "GITHUB_TOKEN", "hf_token", "bot_token", "slack.token", "x-amz-security-token", "npm_token"),
    *("user_token", "githubToken", "idToken", "access_token_value", "session.tokens", "password2", "api_key_id"),
    *("ssh_key", "signing_key", "webhook_signing_key", "encryption_key", "Ocp-Apim-Subscription-Key"),
    *("apiKeyValue", "authorizationHeader", "dbPasswordHash", "clientSecretValue"),
]
HARMLESS_KEYS = [
    *("token_count", "gen_ai.usage.input_tokens", "llm.token_count.prompt", "gen_ai.token.type", "max_tokens"),
    *("time_to_first_token", "cost_per_token", "stop_token", "eos.token", "stopToken", "tokenizer", "key", "keyboard"),
    *("tokens", "paid_tokens", "valid.tokens", "bid_tokens", "secret_count", "password_length", "cookie.size"),
    *("authorization.type", "credential_id", "oauth_key", "sort_key", "passwordless", "secretary", "monkey"),
    *("author", "url.full", "basket", "secretCount"),
]
SECRET_TEXTS = {
    "go on with Bearer abcdefghijk.lmn": f"go on with {REDACTED}",
    "Basic dXNlcjpwYXNzd29yZA==": REDACTED,
    "with sk-abcdefghijklmnopqrst": f"with {REDACTED}",
    "ghp_abcdefghijklmnopqrstuvwxyz": REDACTED,
    "github_pat_abcdefghijklmnopqrstuvwxyz": REDACTED,
    "glpat-abcdefghijklmnopqrst": REDACTED,
    "xoxb-abcdefghijkl": REDACTED,
    "AKIAABCDEFGHIJKLMNOP": REDACTED,
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl": REDACTED,
    "postgresql://shop:s3cret@db:5432/shop": f"postgresql://{REDACTED}@db:5432/shop",
    "https://abcdefghij0123456789@host/r": f"https://{REDACTED}@host/r",
    "https://h/x?page=2&access_token=abc&n=1": f"https://h/x?page=2&access_token={REDACTED}&n=1",
    "https://h/x?client_secret=abc": f"https://h/x?client_secret={REDACTED}",
    "https://h/x?X-Amz-Signature=abc&n=1": f"https://h/x?X-Amz-Signature={REDACTED}&n=1",
    "https://h/x#refresh_token=abc": f"https://h/x#refresh_token={REDACTED}",
    "run --password=hunter22 --n=1": f"run --password={REDACTED} --n=1",
    "User(pwd='abc')": f"User(pwd={REDACTED})",
    "--api-key=abcd": f"--api-key={REDACTED}",
    "https://h/x?sig=abc": f"https://h/x?sig={REDACTED}",
    "https://h/x?credential=abc": f"https://h/x?credential={REDACTED}",
    "passphrase=abcd": f"passphrase={REDACTED}",
    "User(id=1, token='abc', n=2)": f"User(id=1, token={REDACTED}, n=2)",
    '{"api_key":"a\\"b c","n":1}': f'{{"api_key":"{REDACTED}","n":1}}',
    '{"jwt": "abc", "secretKeys": 1}': f'{{"jwt": "{REDACTED}", "secretKeys": 1}}',
    "{'credentials':'abc'}": f"{{'credentials':'{REDACTED}'}}",
    '{"authorization" : "abc"}': f'{{"authorization" : "{REDACTED}"}}',
    '{"session_keys": "abc"}': f'{{"session_keys": "{REDACTED}"}}',
    "{'tokens': 'abc'}": f"{{'tokens': '{REDACTED}'}}",
    "{'password': 'x', 'n': 2}": f"{{'password': '{REDACTED}', 'n': 2}}",
    r'"{\"secret\": \"abc\", \"n\": 1}"': rf'"{{\"secret\": \"{REDACTED}\", \"n\": 1}}"',
    "X-Api-Key: abc def\r\nCookie: sid=1\r\nHost: h": f"X-Api-Key: {REDACTED}\r\nCookie: {REDACTED}\r\nHost: h",
    "curl -H 'Authorization: token abc' h": f"curl -H 'Authorization: {REDACTED}' h",
    'curl -H "x-goog-api-key: abc" h': f'curl -H "x-goog-api-key: {REDACTED}" h',
}
HARMLESS_TEXTS = [
    *("Basic understanding of a token=1 and nothing else", "https://h/x?page=2&keys=abc&monkey=1"),
    *("https://host:8080/@scope/pkg", "git@github.com:o/r.git", '{"max_tokens": 5, "key": "value"}'),
    *("the keyboard: one", "mask-rcnn-resnet50-fpn-v2-large", "secretary='no'", "password: ask the owner"),
]
KEYS = [text(key, "of no form") for key in (*SECRET_KEYS, *HARMLESS_KEYS)]
URL, MASKED_URL = "postgresql://shop:s3cret@db/shop", f"postgresql://{REDACTED}@db/shop"


@pytest.fixture
def gateway(collect, shared_service, backend):
    """A client of a gateway with a backend that gets everything."""
    where = {"COLLECTOR_BACKEND": "otlp_http/backend", "COLLECTOR_BACKEND_URL": backend.url}
    with client_of(collect("gateway.yaml", TELEMETRY_API_URL=shared_service.url, **where)) as client:
        yield client


def root_at(backend):
    """The root span that the backend gets, and its resource's attributes."""
    (root,) = eventually(lambda: [span for span in list(backend.spans) if not span.parent_span_id])
    return root, backend.resources[-1]


def log_at(gateway, backend, group):
    """A group of log records that was sent: the only record of it that the backend gets."""
    request = ExportLogsServiceRequest(resource_logs=[group])
    headers = {"Content-Type": "application/x-protobuf"}
    assert gateway.post("/v1/logs", content=request.SerializeToString(), headers=headers).status_code == httpx.codes.OK
    (record,) = eventually(lambda: list(backend.logs))
    return record


def test_secret_keys_do_not_reach_a_backend(gateway, backend):
    """Of spans, their events and their resource: they go with their values, what only looks so stays."""
    request = one_run(*new_ids(), plain=True, attributes=KEYS, events=[Span.Event(name="planned", attributes=KEYS)])
    request.resource_spans[0].resource.attributes.extend(KEYS)
    assert send(gateway, request)

    root, resource = root_at(backend)
    assert set(attributes_of(root)) == set(HARMLESS_KEYS)
    assert set(attributes_of(root.events[0])) == set(HARMLESS_KEYS)
    assert resource.keys() >= set(HARMLESS_KEYS)
    assert not resource.keys() & set(SECRET_KEYS)


def test_keys_that_are_spared_keep_their_values(gateway, backend):
    """Numbers too, beside secrets that go."""
    counts = [text("password", "x"), text("cookie", "y")]
    request = one_run(*new_ids(), plain=True, attributes=counts)
    request.resource_spans[0].scope_spans[0].spans[1].attributes.add(key="password_length").value.int_value = 12
    assert send(gateway, request)
    assert attributes_of(root_at(backend)[0]) == {"password_length": 12}


def test_secret_texts_do_not_reach_a_backend(gateway, backend):
    """They are masked to their end and no further, each for itself: no other text on the event has a sign of one."""
    said = [*SECRET_TEXTS, *HARMLESS_TEXTS]
    events = [Span.Event(name="said", attributes=[text("words", words)]) for words in said]
    assert send(gateway, one_run(*new_ids(), plain=True, events=events))

    kept = [attributes_of(event) for event in root_at(backend)[0].events]
    assert kept == [{"words": words} for words in (*SECRET_TEXTS.values(), *HARMLESS_TEXTS)]


def test_secret_texts_among_others_are_masked(gateway, backend):
    """In attributes of one span, in lower and in upper case."""
    told = [
        text("url", URL),
        text("shell", "DB_PASSWORD=hunter22 run"),
        text("n", "one"),
        text("json", '{"TOKEN":"a"}'),
    ]
    assert send(gateway, one_run(*new_ids(), plain=True, attributes=told))
    masked = {
        "url": MASKED_URL,
        "shell": f"DB_PASSWORD={REDACTED} run",
        "n": "one",
        "json": f'{{"TOKEN":"{REDACTED}"}}',
    }
    assert attributes_of(root_at(backend)[0]) == masked


def test_number_that_json_has_no_word_for_hides_no_secret(gateway, backend):
    """Neither one that is none, nor one that is infinite, nor a list of both."""
    numbers = [AnyValue(double_value=value) for value in (math.nan, math.inf)]
    odd = [*numbers, AnyValue(array_value=ArrayValue(values=numbers)), AnyValue(bytes_value=b"\xff")]
    events = [Span.Event(name=URL, attributes=[text("url", URL), KeyValue(key="odd", value=value)]) for value in odd]
    assert send(gateway, one_run(*new_ids(), plain=True, events=events))
    arrived = root_at(backend)[0].events
    assert [(event.name, attributes_of(event)["url"]) for event in arrived] == [(MASKED_URL, MASKED_URL)] * len(odd)


def test_names_and_status_of_spans_are_masked(gateway, backend):
    """Of the span and of its events, without a trace of how."""
    request = one_run(
        *new_ids(),
        plain=True,
        name=f"GET {URL}",
        events=[Span.Event(name=f"asked {URL}")],
        status=Status(code=Status.STATUS_CODE_ERROR, message=f"cannot reach {URL}"),
    )
    assert send(gateway, request)

    root, _ = root_at(backend)
    assert (root.name, root.events[0].name) == (f"GET {MASKED_URL}", f"asked {MASKED_URL}")
    assert root.status == Status(code=Status.STATUS_CODE_ERROR, message=f"cannot reach {MASKED_URL}")
    assert (attributes_of(root), attributes_of(root.events[0])) == ({}, {})


def test_secrets_in_log_records_do_not_reach_a_backend(gateway, backend):
    """The journal's lines and programs' own: attributes and a body that is a text."""
    record = LogRecord(
        body=AnyValue(string_value=f'{{"url":"{URL}","token":"abc"}}'), attributes=[*KEYS, text("u", URL)]
    )
    group = {
        "resource": {"attributes": [*KEYS, text("service.name", "logs")]},
        "scope_logs": [{"log_records": [record]}],
    }
    arrived = log_at(gateway, backend, group)

    assert plain(arrived.body) == f'{{"url":"{MASKED_URL}","token":"{REDACTED}"}}'
    assert set(attributes_of(arrived)) == {*HARMLESS_KEYS, "u"}
    assert attributes_of(arrived)["u"] == MASKED_URL
    assert set(backend.resources[-1]) == {*HARMLESS_KEYS, "service.name"}


def test_body_that_is_a_map_arrives_as_it_was(gateway, backend):
    """It is out of reach of the gateway's rules, and is not lost to them."""
    body = AnyValue(kvlist_value=KeyValueList(values=[text("step", "planned")]))
    arrived = log_at(gateway, backend, {"scope_logs": [{"log_records": [LogRecord(body=body)]}]})
    assert (plain(arrived.body), attributes_of(arrived)) == ({"step": "planned"}, {})


def test_each_rule_stands_once_and_holds_everywhere():
    """Whatever has attributes gets the same list of statements, and no pattern stands outside it."""
    redaction = yaml.safe_load((FILES / "gateway.yaml").read_text())["processors"]["transform/redaction"]
    rules = redaction["trace_statements"][0]["statements"]
    for signal, contexts in (
        ("trace_statements", ["resource", "scope", "span", "spanevent"]),
        ("log_statements", ["resource", "scope", "log"]),
    ):
        blocks = redaction[signal]
        assert [block["context"] for block in blocks if block["statements"] is rules] == contexts
        others = [line for block in blocks if block["statements"] is not rules for line in block["statements"]]
        assert not [line for line in others if re.search("pattern|match", line, re.IGNORECASE)]


@pytest.mark.parametrize("key", [*SECRET_KEYS, *HARMLESS_KEYS])
def test_key_is_judged_as_the_library_does(key):
    """The lists above, by the rule that they stand for."""
    assert is_secret_key(key) == (key in SECRET_KEYS)


@pytest.mark.parametrize("said", [*SECRET_TEXTS, *HARMLESS_TEXTS])
def test_text_is_judged_as_the_library_does(said):
    """The texts above, by the patterns that they stand for."""
    assert (mask_text(said) != said) == (said in SECRET_TEXTS)


def test_redaction_spares_what_the_conventions_say(gateway, backend):
    """Every attribute that runs are made of passes the gateway."""
    wanted = {value for value in vars(names).values() if isinstance(value, str) and "." in value and " " not in value}
    wanted |= {spelling for spellings in names.TOKEN_SPELLINGS.values() for spelling in spellings}
    wanted |= {*names.CONVENTIONAL_COLUMNS, *names.AGENT_NAMES, *names.MODELS, *names.KINDS}
    wanted = {name for name in wanted if re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", name) and not name.startswith("otel_")}
    assert len(wanted) > 20

    assert send(gateway, one_run(*new_ids(), attributes=[text(name, "1") for name in wanted]))
    assert attributes_of(root_at(backend)[0]).keys() >= wanted
