"""Odd values, over real HTTP: never a 500, always `{"detail": text}`, and what is taken comes back as it was."""

from __future__ import annotations

import json
import random
from contextlib import contextmanager
from urllib.parse import quote

import orjson
import pytest
from otlp_requests import PROTOBUF, request, response_of, send_body, span
from service_cases import COMMIT, at, event_id, listed, post_batch, post_states, problem, put, shown, state

from otel_agent_telemetry.columns import (
    AMOUNT_COLUMNS,
    COLUMNS,
    COUNT_COLUMNS,
    FLAG_COLUMNS,
    JSON_COLUMNS,
    TIME_COLUMNS,
)
from otel_agent_telemetry.storage.engine import make_engine, writing
from otel_agent_telemetry.wire import encode_line

# Ids


ODD_IDS = ["a/b", "a%2Fb", "a\0b", "..", "%2e%2e", "x" * 10_000, "é", "a b", "'; DROP TABLE agent_runs; --", "<b>"]


@pytest.mark.parametrize("odd", ODD_IDS, ids=lambda odd: ascii(odd[:12]))
def test_odd_ids_in_a_path_are_404(sqlite_service, odd):
    """Whatever they hold, escaped once or twice; nothing else is reached."""
    for text in (quote(odd, safe=""), quote(quote(odd, safe=""), safe="")):
        for below in ("", "/events", "/commit-url"):
            problem(sqlite_service.client.get(f"/api/v1/runs/{text}{below}"), 404)
        answer = sqlite_service.client.patch(f"/api/v1/runs/{text}", json={"items_failed": 1})
        problem(answer, 404)


@pytest.mark.parametrize("odd", ODD_IDS, ids=lambda odd: ascii(odd[:12]))
def test_odd_ids_in_a_query_find_nothing(service, odd):
    """200 and no run, on both databases."""
    post_states(service, state())
    for name in ("run_id", "agent_name", "job_type", "trace_id", "parent_run_id"):
        assert listed(service, **{name: odd}) == []


@pytest.mark.parametrize("odd", ["a/b", "a\\b", "a\0b", "x" * 10_000, " "], ids=lambda odd: ascii(odd[:12]))
def test_odd_run_ids_in_a_body_are_422(service, odd):
    """The rules of run ids, on both databases."""
    body = orjson.dumps(state()).replace(b"run-1", escaped(odd))
    problem(put(service, body), 422)
    problem(put(service, orjson.dumps(state(event_id=odd))), 422)
    assert listed(service) == []


def escaped(text):
    return json.dumps(text)[1:-1].encode()


# Values


TEXTS = [name for name in COLUMNS if name not in {"event_id", "run_id", "status", "schema_version"}
         | {"git_commit_hash", "git_commit_source", "git_repo", "trace_id", "span_id", "parent_run_id"}
         | TIME_COLUMNS | COUNT_COLUMNS | JSON_COLUMNS | AMOUNT_COLUMNS | FLAG_COLUMNS]  # fmt: skip
HOSTILE = [
    "'; DROP TABLE agent_runs; --",
    "<script>alert(1)</script>&amp;\"'`",
    "%s %(x)s {0} ${x} :name ?",
    "\u202e\u200b\ufeff\u2028\u0085 combining e\u0301 \U0001f600",
    "line\nline\r\n\ttab\x01\x1b[31m\x7f",
    " leading and trailing ",
    "\\\\server\\share\\u0041",
    "NULL",
    "x" * 100_000,
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:12]))
def test_hostile_text_comes_back_verbatim(service, text):
    """In every text column, in JSON columns and in field names; alone and in a list."""
    values = dict.fromkeys(TEXTS, text)
    nested = {text[:200]: [text, {text[:200]: text}]}
    sent = state(**values, metrics_json=nested, context_json={"a": text})
    post_states(service, sent)
    run = shown(service)
    assert {name: run[name] for name in TEXTS} == values
    assert run["metrics_json"] == {**nested, "gen_ai": {"model": text}}
    assert run["context_json"] == {"a": text}
    if len(text) < 1000:
        found = service.client.get("/api/v1/runs", params={"agent_name": text, "job_type": text}).json()
        assert found == [run]


def test_nul_in_text_is_replaced_because_no_database_holds_it(service):
    """By U+FFFD, on both databases alike; filters find it by either."""
    post_states(service, state(agent_name="a\0b", metrics_json={"k\0": "v\0"}))
    assert shown(service)["agent_name"] == "a\ufffdb"
    assert listed(service, agent_name="a\0b") == listed(service, agent_name="a\ufffdb") == ["run-1"]
    assert shown(service)["metrics_json"] == {"k\0": "v\0"}


@pytest.mark.parametrize("field", sorted(COUNT_COLUMNS))
@pytest.mark.parametrize("value", ["-1", "-9223372036854775809", "0.5", "1e400", "9223372036854775808", "1" * 400, "true",
                                   '"1"', "[]", "{}"])  # fmt: skip
def test_what_is_no_count_is_refused(sqlite_service, field, value):
    """422; 400 where it is not even a JSON number."""
    body = orjson.dumps(state())[:-1] + f', "{field}": {value}}}'.encode()
    answer = put(sqlite_service, body)
    assert answer.status_code in (400, 422), answer.text
    problem(answer, answer.status_code)


@pytest.mark.parametrize(("value", "kept"), [(0, 0), (2**63 - 1, 2**63 - 1), (7.0, 7), (-0.0, 0)])
def test_the_greatest_and_the_least_count_are_kept(service, value, kept):
    """On both databases; a float that is whole is a count."""
    post_states(service, state(items_discovered=value, duration_ms=value))
    assert (shown(service)["items_discovered"], shown(service)["duration_ms"]) == (kept, kept)


def test_figures_of_any_size_are_kept_in_metrics(service):
    """What JSON holds: huge integers as what a double makes of them, negative zero, tiny and huge floats."""
    figures = {"big": 2**64 - 1, "least": -(2**63), "float": 1.7976931348623157e308, "tiny": 5e-324, "half": 0.5}
    post_states(service, state(metrics_json=figures))
    assert shown(service)["metrics_json"] == figures


ODD_TIMES = {
    "0001-01-01T00:00:00Z": "0001-01-01T00:00:00.000000+00:00",
    "9999-12-31T23:59:59.999999Z": "9999-12-31T23:59:59.999999+00:00",
    "2024-02-29T00:00:00+14:00": "2024-02-28T10:00:00.000000+00:00",
    "2026-01-31T12:00:00.123456789Z": "2026-01-31T12:00:00.123456+00:00",
    "2026-01-31T12:00:00,5-0330": "2026-01-31T15:30:00.500000+00:00",
}
BAD_TIMES = [
    "2026-01-31T12:00:00",
    "2026-01-31",
    "2026-01-31T12:00:60Z",
    "2016-12-31T23:59:60Z",
    "2026-02-30T00:00:00Z",
    "2023-02-29T00:00:00Z",
    "2026-01-31T24:00:01Z",
    "2026-01-31T12:00:00+25:00",
    "10000-01-01T00:00:00Z",
    "0000-01-01T00:00:00Z",
    "-001-01-01T00:00:00Z",
    "1769860800",
    "now",
    "2026-01-31T12:00:00Z; DROP TABLE agent_runs",
    "2026-01-31T12:00:00\u0660Z",
    "x" * 100_000,
]


@pytest.mark.parametrize("text", ODD_TIMES)
def test_odd_times_are_kept_as_their_instant(service, text):
    """The ends of the calendar, far zones, nanoseconds."""
    post_states(service, state(start_time=text))
    assert shown(service)["start_time"] == ODD_TIMES[text]


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"])
def test_times_beyond_the_calendar_in_utc_are_its_ends(service, text):
    """They cannot be expressed in UTC; the nearest that can is stored."""
    post_states(service, state(start_time=text))
    assert shown(service)["start_time"][:4] in ("0001", "9999")


@pytest.mark.parametrize("value", [*BAD_TIMES, 1769860800, 1.5, True, [], {}], ids=lambda value: ascii(value)[:30])
def test_what_is_no_time_with_a_zone_is_422(sqlite_service, value):
    """In a body, and as a filter."""
    problem(put(sqlite_service, orjson.dumps(state(start_time=value))), 422)
    problem(put(sqlite_service, orjson.dumps(state(end_time=value))), 422)
    if isinstance(value, str) and len(value) < 1000:
        problem(sqlite_service.client.get("/api/v1/runs", params={"created_after": value}), 422)


def test_of_duplicate_keys_the_last_counts(service):
    """As JSON readers do, and the same everywhere."""
    body = orjson.dumps(state())[:-1] + b', "agent_name": "first", "agent_name": "last"}'
    assert put(service, body).status_code == 201
    assert shown(service)["agent_name"] == "last"


def test_unknown_fields_are_kept_within_bounds(service):
    """A thousand of them, names of 255 characters; more is 422."""
    post_states(service, state(**{f"field {n}": n for n in range(1000)}))
    assert len(shown(service)["context_json"]) == 1000
    problem(put(service, orjson.dumps(state(2, **{f"field {n}": n for n in range(1001)}))), 422)
    problem(put(service, orjson.dumps(state(3, **{"n" * 256: 1}))), 422)


def test_a_batch_of_any_items_is_answered_item_by_item(service):
    """Bad ones of each kind spare the good one between them."""
    bad = [None, 7, "x", [], {}, state(2, run_id="a/b"), state(3, items_failed=-1), state(4, start_time="now")]
    answer = post_batch(service, [*bad[:4], state(1), *bad[4:]])
    assert (answer["inserted"], answer["total"]) == (1, 9)
    assert [error["index"] for error in answer["errors"]] == [0, 1, 2, 3, 5, 6, 7, 8]
    assert listed(service) == ["run-1"]


def test_a_batch_has_at_most_10000_items(sqlite_service):
    """One more is 413, and none of them is kept."""
    problem(sqlite_service.client.post("/api/v1/runs/batch", json=[state(n) for n in range(10_001)]), 413)
    assert listed(sqlite_service) == []
    answer = post_batch(sqlite_service, [state(n) for n in range(10_000)])
    assert (answer["inserted"], answer["total"]) == (10_000, 10_000)


def test_the_last_moment_of_times_is_readable(service):
    """A page may hold the ends of the calendar, and its cursor goes on from there."""
    post_batch(
        service, [state(1, created_at="9999-12-31T23:59:59.999999Z"), state(2, created_at="0001-01-01T00:00:00Z")]
    )
    first = service.client.get("/api/v1/runs?limit=1")
    assert [run["run_id"] for run in first.json()] == ["run-1"]
    link = first.headers["Link"].split(">")[0][1:]
    assert [run["run_id"] for run in service.client.get(link).json()] == ["run-2"]
    assert listed(service, created_before=at(0)) == ["run-2"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("trace_id", "zzz"),
        ("trace_id", "x" * 10_000),
        ("trace_id", "a" * 31),
        ("span_id", "g" * 16),
        ("parent_run_id", "a/b"),
        ("parent_run_id", "x" * 256),
        ("schema_version", 1 << 40),
        ("api_posted", 1 << 31),
    ],
)
def test_ids_and_numbers_that_no_database_must_see_are_422(service, name, value):
    """Alone; in a batch its neighbours are kept."""
    problem(service.client.post("/api/v1/runs", json=state(1, **{name: value})), 422)
    actual = post_batch(service, [state(1), state(2, **{name: value}), state(3)])
    assert (actual["inserted"], [error["index"] for error in actual["errors"]]) == (2, [1])


def test_a_trace_is_found_by_its_id_in_any_case(service):
    """Stored in lower case, asked for in either."""
    post_states(service, state(trace_id="AB" * 16, span_id="CD" * 8))
    assert shown(service)["trace_id"] == "ab" * 16
    assert listed(service, trace_id="aB" * 16) == ["run-1"]


def test_json_that_would_be_kept_in_part_is_refused(sqlite_service):
    """Levels beyond what can be written are 422; a large object comes back whole."""
    deep = {}
    for _ in range(300):
        deep = {"a": deep}
    assert "nested" in problem(sqlite_service.client.post("/api/v1/runs", json=state(context_json=deep)), 422)
    large = {"items": list(range(200_000))}
    post_states(sqlite_service, state(metrics_json=large))
    assert shown(sqlite_service)["metrics_json"] == large


def test_what_only_the_database_refuses_spares_its_neighbours(postgresql_service):
    """A name too long for an index of PostgreSQL: 422 alone, one of `errors` or `refused`, partial success over OTLP."""
    client = postgresql_service.client
    commits = [{**COMMIT, "run_id": f"run-{n}"} for n in (1, 2, 3)]
    with too_long_for_an_index(postgresql_service, "agent_name"):
        refused = state(2, agent_name=INCOMPRESSIBLE)
        problem(client.post("/api/v1/runs", json=refused), 422)
        actual = post_batch(postgresql_service, [state(1), refused, state(3)])
        assert (actual["inserted"], [error["index"] for error in actual["errors"]]) == (2, [1])
        assert actual["errors"][0]["event_id"] == event_id(2)
        lines = b"".join(encode_line("run", one) for one in (state(1), refused, state(3)))
        answer = client.post("/api/v1/records", content=lines, headers={"Content-Type": "application/x-ndjson"}).json()
        assert (answer["runs"], [one["line"] for one in answer["refused"]]) == (2, [2])
        sent = request(span(1), span(2, attributes={"agent.run.agent_name": INCOMPRESSIBLE}), span(3))
        assert response_of(send_body(postgresql_service, sent.SerializeToString(), PROTOBUF))[0] == 1
        assert len(listed(postgresql_service)) == 4
    assert client.post("/api/v1/commits", json=commits).json()["linked"] == 2


INCOMPRESSIBLE = random.Random(7).randbytes(10_000).hex()


@contextmanager
def too_long_for_an_index(service, column):
    """A column with an index for a while, as an administrator may add one."""
    engine = make_engine(service.settings)
    try:
        with writing(engine, "adding an index") as connection:
            connection.exec_driver_sql(f"CREATE INDEX for_a_while ON agent_runs ({column})")
        yield
        with writing(engine, "dropping an index") as connection:
            connection.exec_driver_sql("DROP INDEX for_a_while")
    finally:
        engine.dispose()


# What some senders write as JSON


ODD_JSON = {
    "a byte order mark": lambda body: b"\xef\xbb\xbf" + body,
    "a lone surrogate": lambda body: body.replace(b'"agent"', b'"a\\ud800b"', 1),
    "bytes that are no UTF-8": lambda body: body.replace(b'"agent"', b'"a\xffb"', 1),
    "NaN within an object": lambda body: body.replace(b'"job"', b'"job","metrics_json":{"x":NaN,"y":[1,Infinity]}', 1),
    "NaN within JSON text": lambda body: body.replace(b'"job"', b'"job","metrics_json":"{\\"x\\":NaN,\\"y\\":1}"', 1),
}


@pytest.mark.parametrize("name", ODD_JSON)
def test_what_one_item_of_a_batch_writes_oddly_does_not_fail_the_others(sqlite_service, name):
    """It is taken for what it means, by itself and among others."""
    answer = put(sqlite_service, ODD_JSON[name](orjson.dumps([state(1), state(2)])), "/api/v1/runs/batch")
    assert answer.status_code == 200, answer.text
    assert (answer.json()["inserted"], answer.json()["errors"]) == (2, [])
    single = put(sqlite_service, ODD_JSON[name](orjson.dumps(state(3))))
    assert single.status_code == 201, single.text
    if "NaN" in name:
        assert sqlite_service.client.get(f"/api/v1/runs/{event_id(1)}").json()["metrics_json"]["y"]


def test_an_item_with_a_number_that_is_none_is_refused_by_itself(sqlite_service):
    """NaN as a count: its neighbours are stored."""
    body = orjson.dumps([state(1), state(2, items_failed=7), state(3)]).replace(b"7}", b"NaN}")
    answer = put(sqlite_service, body, "/api/v1/runs/batch").json()
    assert answer["inserted"] == 2
    assert [error["index"] for error in answer["errors"]] == [1]
