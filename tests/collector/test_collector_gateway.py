"""gateway.yaml: what it takes out, whom it lets pass, and whom it keeps for a backend."""

from __future__ import annotations

import re
from contextlib import ExitStack

import pytest
from collectors import FILES
from on_disk import eventually
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from otlp_backend import attributes_of
from stored_runs import stored_runs
from streaming import client_of, new_ids, one_run, send, text

from otel_agent_telemetry.event_id import span_event_id
from otel_agent_telemetry.otel import attributes as names
from otel_agent_telemetry.otel.usage import TOKEN_SPELLINGS
from otel_agent_telemetry.redaction import REDACTED, is_secret_key

GATEWAY = FILES / "gateway.yaml"
BACKEND = "otlp_http/backend"
ERROR = Status(code=Status.STATUS_CODE_ERROR, message="it failed")
SECRET_KEYS = [
    *("password", "db.password", "dbPassword", "passphrase", "client_secret", "secrets", "api_key", "x-api-key"),
    *("openai.apikey", "aws_access_key", "private_key", "session_key", "authorization", "Authorization"),
    *("http.request.header.authorization", "credentials", "cookie", "Set-Cookie", "jwt", "token", "X-Auth-Token"),
    *("access_token", "refresh_token", "apiTokens", "bearer"),
]
HARMLESS_KEYS = [
    *("token_count", "gen_ai.usage.input_tokens", "llm.token_count.prompt", "max_tokens", "stop_token"),
    *("time_to_first_token", "secretary", "key", "keyboard", "monkey", "author", "url.full", "basket"),
]
SECRET_TEXTS = {
    "go on with Bearer abcdefghijk.lmn": "go on with ***REDACTED***",
    "Basic dXNlcjpwYXNzd29yZA==": REDACTED,
    "postgresql://shop:s3cret@db:5432/shop": f"postgresql://{REDACTED}@db:5432/shop",
    "https://h/x?page=2&access_token=abc&n=1": f"https://h/x?page=2&access_token={REDACTED}&n=1",
    "with sk-abcdefghijklmnopqrst": f"with {REDACTED}",
    "ghp_abcdefghijklmnopqrstuvwxyz": REDACTED,
    "AKIAABCDEFGHIJKLMNOP": REDACTED,
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl": REDACTED,
    "Basic understanding of a token=1 and nothing else": "Basic understanding of a token=1 and nothing else",
    "https://h/x?page=2&keys=abc": "https://h/x?page=2&keys=abc",
}


@pytest.fixture
def sender(collect, shared_service, backend):
    """`sender(**env)`: a function that sends a run through a gateway with a backend, and gives its event id."""
    clients = ExitStack()

    def start(**env):
        where = {
            "TELEMETRY_API_URL": shared_service.url,
            "COLLECTOR_BACKEND": BACKEND,
            "COLLECTOR_BACKEND_URL": backend.url,
        }
        client = clients.enter_context(client_of(collect("gateway.yaml", **where, **env)))

        def send_one(**more):
            trace_id, span_id = new_ids()
            assert send(client, one_run(trace_id, span_id, **more))
            return span_event_id(trace_id.hex(), span_id.hex())

        return send_one

    with clients:
        yield start


def runs_at(backend):
    """Event ids of the roots that a backend has."""
    roots = [span for span in list(backend.spans) if not span.parent_span_id]
    return {span_event_id(span.trace_id.hex(), span.span_id.hex()) for span in roots}


def test_secrets_do_not_reach_a_backend(sender, backend):
    """Keys that name one are gone, texts that hold one are masked: in spans, events, status and resources."""
    send_one = sender()
    told = [text(f"said.{number}", said) for number, said in enumerate(SECRET_TEXTS)]
    keys = [text(key, "of no form") for key in (*SECRET_KEYS, *HARMLESS_KEYS)]
    (secret_url,) = (said for said in SECRET_TEXTS if said.startswith("postgresql"))

    send_one(
        attributes=[*told, *keys],
        events=[Span.Event(name="planned", attributes=[*keys, text("said", secret_url)])],
        status=Status(code=Status.STATUS_CODE_ERROR, message=f"cannot reach {secret_url}"),
    )
    (root,) = eventually(lambda: [span for span in list(backend.spans) if not span.parent_span_id])

    kept = attributes_of(root)
    assert [kept[f"said.{number}"] for number in range(len(SECRET_TEXTS))] == list(SECRET_TEXTS.values())
    assert kept.keys() >= set(HARMLESS_KEYS)
    assert not kept.keys() & set(SECRET_KEYS)
    assert set(attributes_of(root.events[0])) == {*HARMLESS_KEYS, "said"}
    assert "s3cret" not in f"{root.events[0]}{root.status}"


def test_redaction_has_one_rule_for_keys_and_one_for_texts():
    """OTTL has no names for patterns, so each stands in several statements; all of them must be the same."""
    statements = re.findall(
        r"- (delete_matching_keys|replace_\w+)\(.*?, (\"\(\?i\).*)\)$", GATEWAY.read_text(), re.MULTILINE
    )
    patterns = {(name.split("_")[0], pattern) for name, pattern in statements}
    assert (len(statements), len(patterns)) == (8, 2)


@pytest.mark.parametrize("key", [*SECRET_KEYS, *HARMLESS_KEYS])
def test_key_is_judged_as_the_library_does(key):
    """The lists above, by the rule that they stand for."""
    assert is_secret_key(key) == (key in SECRET_KEYS)


def test_redaction_spares_what_the_conventions_say(sender, backend):
    """Every attribute that runs are made of passes the gateway."""
    wanted = {value for value in vars(names).values() if isinstance(value, str) and "." in value and " " not in value}
    wanted |= {spelling for spellings in TOKEN_SPELLINGS.values() for spelling in spellings}
    wanted |= set(names.CONVENTIONAL_COLUMNS)
    wanted = {name for name in wanted if re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", name) and not name.startswith("otel_")}
    assert len(wanted) > 20

    sender()(attributes=[text(name, "1") for name in wanted])
    (root,) = eventually(lambda: [span for span in list(backend.spans) if not span.parent_span_id])
    assert attributes_of(root).keys() >= wanted


def test_probes_are_nobodys_runs(sender, shared_base):
    """A health check's root is dropped, a request's root and another service's path are not."""
    send_one = sender()
    server = {"name": "GET", "kind": Span.SPAN_KIND_SERVER}
    probe = send_one(**server, attributes=[text("url.path", "/healthz")])
    kept = {
        send_one(**server, attributes=[text("url.path", "/metrics/7")]),
        send_one(**server),
        send_one(attributes=[text("url.path", "/healthz")]),
    }
    eventually(lambda: stored_runs(shared_base).keys() >= kept)
    assert probe not in stored_runs(shared_base)


@pytest.mark.parametrize(("which", "passing"), [("root", 4), ("agents", 3), ("marked", 1)])
def test_runs_that_pass_are_those_of_the_services_word(sender, shared_base, which, passing):
    """TELEMETRY_RUNS: a marked root always passes, an agent's by its convention, a plain one by default alone."""
    send_one = sender(TELEMETRY_RUNS=which)
    runs = [
        send_one(attributes=[text("agent.run.product", "words")]),
        send_one(attributes=[text("gen_ai.operation.name", "invoke_agent")]),
        send_one(attributes=[text("openinference.span.kind", "AGENT")], plain=True),
        send_one(plain=True),
    ]
    last = send_one(attributes=[text("agent.run.product", "words")])
    eventually(lambda: last in stored_runs(shared_base))
    assert [event_id for event_id in runs if event_id in stored_runs(shared_base)] == runs[:passing]


def test_failed_and_long_runs_are_always_kept_for_the_backend(sender, backend, shared_base):
    """Of the others nothing, when nothing is asked for; the service gets every run, and its metrics count them."""
    send_one = sender(COLLECTOR_SAMPLED_PERCENT="0", COLLECTOR_LONG_RUN_MS="5000")
    well = send_one()
    kept = {
        send_one(status=ERROR),
        send_one(attributes=[text("agent.run.status", "failed")]),
        send_one(attributes=[text("agent.run.status", "timeout")]),
        send_one(start_time_unix_nano=1, end_time_unix_nano=5_100_000_001),
    }
    eventually(lambda: runs_at(backend) >= kept)
    eventually(lambda: stored_runs(shared_base).keys() >= {*kept, well})
    assert runs_at(backend) == kept


def test_run_that_fails_after_the_wait_is_kept(collect, backend, shared_service):
    """Its steps came long before: they are forgotten, its root is not."""
    where = {
        "TELEMETRY_API_URL": shared_service.url,
        "COLLECTOR_BACKEND": BACKEND,
        "COLLECTOR_BACKEND_URL": backend.url,
    }
    gateway = collect("gateway.yaml", **where, COLLECTOR_SAMPLED_PERCENT="0", COLLECTOR_DECISION_WAIT="1s")
    with client_of(gateway) as client:
        whole = one_run(*new_ids(), status=ERROR)
        step, root = whole.resource_spans[0].scope_spans[0].spans
        step.ClearField("status")
        assert send(client, only(whole, step))
        decided = "tail_sampling_global_count_traces_sampled_total"
        eventually(lambda: any(decided in name for name in gateway.series(gateway.own_metrics_url)))
        assert send(client, only(whole, root))
        eventually(lambda: len(runs_at(backend)) == 1)


def only(whole, span):
    """The request with one of its spans."""
    part = type(whole)()
    part.CopyFrom(whole)
    spans = part.resource_spans[0].scope_spans[0].spans
    del spans[:]
    spans.append(span)
    return part
