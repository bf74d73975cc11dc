"""Whatever is sent: never a 500, always `{"detail": text}`, and what is taken comes back as it was."""

from __future__ import annotations

import gzip
import socket
import sqlite3
import subprocess
import threading
import time
import zlib
from contextlib import closing
from urllib.parse import quote, urlsplit

import orjson
import pytest
from otlp_requests import JSON, PROTOBUF, request, send_body, span
from running import serve_process
from service_cases import at, ended, event_id, listed, problem, shown, state, tell, tell_batch

from otel_agent_telemetry.columns import COLUMNS, COUNT_COLUMNS, JSON_COLUMNS, TIME_COLUMNS
from otel_agent_telemetry.service import bodies

MIB = 1 << 20


def gzipped(body):
    return gzip.compress(body, mtime=0)


WRITES = [
    ("POST", "/api/v1/runs"),
    ("POST", "/api/v1/runs/batch"),
    ("PATCH", f"/api/v1/runs/{event_id(1)}"),
    ("POST", f"/api/v1/runs/{event_id(1)}/associate-commit"),
    ("POST", "/api/v1/commits"),
]


def put(service, body, path="/api/v1/runs", *, method="POST", **headers):
    """Send a body as it is."""
    return service.client.request(method, path, content=body, headers={"Content-Type": JSON, **headers})


# Bodies that are no JSON, no gzip, no protobuf


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b'{"event_id": ',
        b"not json",
        b"{'single': 1}",
        b'{"a": 1} trailing',
        b"\xff\xfe",
        b'{"a": "\xff"}',
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": 01}',
        b'{"a": "\\ud800"}',
        b"\x00",
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        gzipped(b"{}"),
    ],
    ids=lambda body: repr(body[:12]),
)
def test_a_body_that_is_no_json_is_400(sqlite_service, body):
    """At every endpoint that takes one."""
    for method, path in WRITES:
        problem(put(sqlite_service, body, path, method=method), 400)
    problem(send_body(sqlite_service, body, JSON), 400)


@pytest.mark.parametrize("body", [b"null", b"true", b"7", b'"text"', b"[]", b"{}"])
def test_json_of_another_shape_is_refused(sqlite_service, body):
    """An array for an object, an object for an array, a bare value; an empty batch is one of nothing."""
    for method, path in WRITES:
        wants_array = path.endswith(("/batch", "/commits"))
        answer = put(sqlite_service, body, path, method=method)
        if wants_array and body == b"[]":
            assert answer.json()["total"] == 0
        else:
            problem(answer, 400 if method == "PATCH" and body == b"{}" else 422)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "x"])
def test_another_content_type_is_415(sqlite_service, kind):
    """JSON is what it says."""
    for method, path in WRITES:
        body = b"[]" if path.endswith(("/batch", "/commits")) else b"{}"
        problem(put(sqlite_service, body, path, method=method, **{"Content-Type": kind}), 415)


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", b"no gzip at all"),
        ("gzip", gzipped(b"{}")[:-1]),
        ("gzip", gzipped(b'{"a": 1}')[:12]),
        ("gzip", b""),
        ("gzip", gzipped(b"{}") + b"rubbish"),
        ("gzip", zlib.compress(b"{}")),
        ("deflate", b"no deflate"),
        ("deflate", zlib.compress(b"{}" * 1000)[:-3]),
    ],
)
def test_a_body_that_is_not_what_its_encoding_says_is_400(sqlite_service, encoding, body):
    """Torn, foreign, followed by rubbish; at the runs and at OTLP."""
    problem(put(sqlite_service, body, **{"Content-Encoding": encoding}), 400)
    answer = sqlite_service.client.post(
        "/v1/traces", content=body, headers={"Content-Type": PROTOBUF, "Content-Encoding": encoding}
    )
    problem(answer, 400)


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, gzip", "x"])
def test_an_unknown_encoding_is_415(sqlite_service, encoding):
    """With those that are known."""
    answer = put(sqlite_service, b"{}", **{"Content-Encoding": encoding})
    problem(answer, 415)
    assert "gzip" in answer.headers["Accept-Encoding"]


def test_a_truncated_protobuf_is_400_at_every_length(sqlite_service):
    """Wherever it was cut, unless what is left is a smaller request in itself."""
    whole = request(span(1, attributes={"a": "b"})).SerializeToString()
    codes = [send_body(sqlite_service, whole[:cut], PROTOBUF).status_code for cut in range(1, len(whole))]
    assert set(codes) == {400}


# Sizes, slowness


@pytest.fixture
def small_service(sqlite_settings, serving):
    """A service that takes bodies of at most 64 KiB."""
    return serving(sqlite_settings.with_(api_max_body_bytes=64 << 10))


def test_a_body_may_have_exactly_the_most_bytes(small_service):
    """One more is 413."""
    body = orjson.dumps(state()).ljust(64 << 10)
    assert put(small_service, body).status_code == 201
    problem(put(small_service, body + b" "), 413)
    problem(put(small_service, gzipped(body + b" "), **{"Content-Encoding": "gzip"}), 413)


def raw_request(service, head, pieces=(), *, timeout=20):
    """Send a request piece by piece until it is answered; the status, and how many bytes of body were sent."""
    where = urlsplit(service.url)
    sent = 0
    with socket.create_connection((where.hostname, where.port), timeout=timeout) as connection:
        connection.sendall(head)
        try:
            for piece in pieces:
                connection.sendall(piece)
                sent += len(piece)
        except OSError:  # it was answered and closed in the middle
            pass
        try:
            answer = connection.recv(65_536)
        except ConnectionError:
            answer = b""
    return int(answer.split()[1]) if answer else None, sent


HEAD = b"POST /api/v1/runs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


def test_a_gigabyte_that_is_announced_is_refused_before_it_is_read(small_service):
    """413 at once: nothing of the body is needed for that."""
    status, _ = raw_request(small_service, HEAD + b"Content-Length: 1073741824\r\n\r\n")
    assert status == 413


def test_a_gigabyte_in_chunks_is_refused_where_the_limit_is(small_service):
    """The sender learns it long before the end."""
    chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    status, sent = raw_request(
        small_service, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", (chunk for _ in range(16_384))
    )
    assert status in (413, None)  # None: the connection was reset under the flood
    assert sent < 64 * MIB


@pytest.mark.parametrize("length", [b"-1", b"x", b"1e9", b"99999999999999999999999"])
def test_a_content_length_that_is_no_number_is_refused(small_service, length):
    """By the server, before the app: 4xx."""
    status, _ = raw_request(small_service, HEAD + b"Content-Length: " + length + b"\r\n\r\n")
    assert status is None or 400 <= status < 500


def test_a_body_that_stops_arriving_is_408(sqlite_settings, serving, monkeypatch):
    """And whoever comes meanwhile is served."""
    monkeypatch.setattr(bodies, "_READ_S", 1.0)
    service = serving(sqlite_settings)
    found = []
    slow = threading.Thread(
        target=lambda: found.append(raw_request(service, HEAD + b"Content-Length: 100\r\n\r\n", [b"{"]))
    )
    slow.start()
    assert tell(service, state()) == ["created"]
    slow.join(20)
    assert found == [(408, 1)]


def test_a_sender_that_goes_away_in_the_middle_leaves_nothing(sqlite_service):
    """Half a body is no run, and the service goes on."""
    where = urlsplit(sqlite_service.url)
    for _ in range(5):
        with socket.create_connection((where.hostname, where.port), timeout=10) as connection:
            connection.sendall(HEAD + b"Content-Length: 1000\r\n\r\n" + orjson.dumps(state()))
    assert tell(sqlite_service, state(2)) == ["created"]
    assert listed(sqlite_service) == ["run-2"]
    assert sqlite_service.app.state.backend.held.now == 0


def zeros(gibibytes=1):
    """A gzip body of so many GiB of zeros; about a megabyte."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = bytes(16 * MIB)
    return b"".join([*(packer.compress(block) for _ in range(64 * gibibytes)), packer.flush()])


@pytest.fixture
def process(tmp_path):
    """The real command over a folder of this test."""
    with serve_process(tmp_path / "base", {"TELEMETRY_DB_SYNCHRONOUS": "OFF"}) as started:
        yield started


def test_a_gzip_bomb_costs_bounded_memory(process):
    """1 GiB of zeros in a megabyte, at each kind of endpoint, several at once: 413, and never 1 GiB of memory."""
    bomb = zeros()
    assert len(bomb) < 2 * MIB
    before = process.rss_bytes()
    codes = []

    def throw(path, kind):
        headers = {"Content-Type": kind, "Content-Encoding": "gzip"}
        with process.new_client() as client:
            codes.append(client.post(path, content=bomb, headers=headers).status_code)

    targets = [("/api/v1/runs/batch", JSON), ("/v1/traces", PROTOBUF), ("/v1/traces", JSON)]
    threads = [threading.Thread(target=throw, args=target) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [413] * 3
    grown = process.peak_rss_bytes() - before
    print(f"three bombs at once: {grown / MIB:.0f} MiB more at the peak")
    assert grown < 3 * 64 * MIB * 1.5
    assert process.client.get("/health").status_code == 200


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
    tell(service, state())
    for name in ("run_id", "agent_name", "job_type", "trace_id", "parent_run_id"):
        assert listed(service, **{name: odd}) == []


@pytest.mark.parametrize("odd", ["a/b", "a\\b", "a\0b", "x" * 10_000, " ", "\ud800"], ids=lambda odd: ascii(odd[:12]))
def test_odd_run_ids_in_a_body_are_422(service, odd):
    """The rules of run ids, on both databases. A lone surrogate is not even JSON."""
    body = orjson.dumps(state()).replace(b"run-1", escaped(odd))
    problem(put(service, body), 400 if odd == "\ud800" else 422)
    problem(put(service, orjson.dumps(state(event_id=odd.replace("\ud800", "?")))), 422)
    assert listed(service) == []


def escaped(text):
    import json

    return json.dumps(text)[1:-1].encode()


# Values


TEXTS = [name for name in COLUMNS if name not in {"event_id", "run_id", "status", "schema_version", "api_posted"}
         | {"git_commit_hash", "git_commit_source", "git_repo", "trace_id", "span_id"}
         | TIME_COLUMNS | COUNT_COLUMNS | JSON_COLUMNS]  # fmt: skip
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
    json = {text[:200]: [text, {text[:200]: text}]}
    sent = state(**values, metrics_json=json, context_json={"a": text})
    tell(service, sent)
    run = shown(service)
    assert {name: run[name] for name in TEXTS} == values
    assert run["metrics_json"] == json
    assert run["context_json"] == {"a": text}
    if len(text) < 1000:
        found = service.client.get("/api/v1/runs", params={"agent_name": text, "job_type": text}).json()
        assert found == [run]


def test_nul_in_text_is_replaced_because_no_database_holds_it(service):
    """By U+FFFD, on both databases alike; filters find it by either."""
    tell(service, state(agent_name="a\0b", metrics_json={"k\0": "v\0"}))
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
    tell(service, state(items_discovered=value, duration_ms=value))
    assert (shown(service)["items_discovered"], shown(service)["duration_ms"]) == (kept, kept)


def test_figures_of_any_size_are_kept_in_metrics(service):
    """What JSON holds: huge integers as what a double makes of them, negative zero, tiny and huge floats."""
    figures = {"big": 2**64 - 1, "least": -(2**63), "float": 1.7976931348623157e308, "tiny": 5e-324, "half": 0.5}
    tell(service, state(metrics_json=figures))
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
    tell(service, state(start_time=text))
    assert shown(service)["start_time"] == ODD_TIMES[text]


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"])
def test_times_beyond_the_calendar_in_utc_are_its_ends(service, text):
    """They cannot be told in UTC; the nearest that can is kept."""
    tell(service, state(start_time=text))
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
    tell(service, state(**{f"field {n}": n for n in range(1000)}))
    assert len(shown(service)["context_json"]) == 1000
    problem(put(service, orjson.dumps(state(2, **{f"field {n}": n for n in range(1001)}))), 422)
    problem(put(service, orjson.dumps(state(3, **{"n" * 256: 1}))), 422)


def test_a_batch_of_any_items_is_answered_item_by_item(service):
    """Bad ones of each kind spare the good one between them."""
    bad = [None, 7, "x", [], {}, state(2, run_id="a/b"), state(3, items_failed=-1), state(4, start_time="now")]
    answer = tell_batch(service, [*bad[:4], state(1), *bad[4:]])
    assert (answer["inserted"], answer["total"]) == (1, 9)
    assert [error["index"] for error in answer["errors"]] == [0, 1, 2, 3, 5, 6, 7, 8]
    assert listed(service) == ["run-1"]


def test_a_batch_has_at_most_10000_items(sqlite_service):
    """One more is 413, and none of them is kept."""
    problem(sqlite_service.client.post("/api/v1/runs/batch", json=[state(n) for n in range(10_001)]), 413)
    assert listed(sqlite_service) == []
    answer = tell_batch(sqlite_service, [state(n) for n in range(10_000)])
    assert (answer["inserted"], answer["total"]) == (10_000, 10_000)


# The store is away


def test_a_locked_database_is_503_in_time_and_ok_afterwards(sqlite_settings, serving):
    """Another program holds it for longer than a write may wait; the answer comes within that time."""
    service = serving(sqlite_settings.with_(api_write_timeout_s=1.0))
    with closing(sqlite3.connect(sqlite_settings.db_path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        answer = service.client.post("/api/v1/runs", json=state())
        took = time.monotonic() - began
        assert "not committed within 1 s" in problem(answer, 503)
        assert int(answer.headers["Retry-After"]) > 0
        assert took < 10
        other.execute("ROLLBACK")
    assert tell(service, state())[0] in ("created", "duplicate")  # the first may have been written after all
    assert listed(service) == ["run-1"]


@pytest.fixture
def disk(small_disk):
    """A file system of 512 KiB: the tables alone take a third of it."""
    subprocess.run(["mount", "-o", "remount,size=512k", small_disk], check=True)
    return small_disk


def test_a_disk_that_is_full_is_503_and_ok_after_space_is_made(disk, sqlite_settings, serving):
    """Whatever was answered 201 is there, whole; nothing else was; no restart is needed."""
    service = serving(sqlite_settings.with_(base_dir=disk / "base", db_max_retries=0))
    ballast = disk / "ballast"
    fill(ballast)
    kept = [n for n in range(1, 40) if attempt(service, state(n, input_summary="x" * 4000))]
    assert len(kept) < 39
    problem(service.client.post("/api/v1/runs", json=state(99, input_summary="x" * 100_000)), 503)
    assert sorted(listed(service)) == sorted(f"run-{n}" for n in kept)
    problem(service.client.post("/api/v1/runs/batch", json=[state(n, input_summary="x" * 9000) for n in range(200, 250)]), 503)
    assert sorted(listed(service)) == sorted(f"run-{n}" for n in kept)
    ballast.unlink()
    assert tell(service, ended(1)) == ["updated" if 1 in kept else "created"]
    with closing(sqlite3.connect(service.settings.db_path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def fill(path):
    """Take all the room that is left."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 1024)
        except OSError:
            pass


def attempt(service, body):
    """Whether a run was kept; refused it is 503 and nothing else."""
    answer = service.client.post("/api/v1/runs", json=body)
    if answer.status_code != 201:
        problem(answer, 503)
        assert int(answer.headers["Retry-After"]) > 0
    return answer.status_code == 201


def test_a_database_file_that_is_deleted_is_never_written_to_unseen(sqlite_settings, serving):
    """A write into a file without a name would be lost: 503 until it is back, health included."""
    service = serving(sqlite_settings.with_(db_max_retries=0))
    tell(service, state(1))
    aside = sqlite_settings.db_path.with_name("aside.sqlite")
    sqlite_settings.db_path.rename(aside)
    problem(service.client.post("/api/v1/runs", json=state(2)), 503)
    problem(service.client.get("/health"), 503)
    assert not sqlite_settings.db_path.exists() or sqlite_settings.db_path.stat().st_size == 0
    sqlite_settings.db_path.unlink(missing_ok=True)
    aside.rename(sqlite_settings.db_path)
    assert tell(service, state(2)) == ["created"]
    assert sorted(listed(service)) == ["run-1", "run-2"]


def test_a_database_file_that_is_replaced_is_never_written_to_unseen(sqlite_settings, serving, tmp_path):
    """Another file under the same name: 503 or a write that the new file holds, never one that is lost."""
    service = serving(sqlite_settings.with_(db_max_retries=0))
    tell(service, state(1))
    copy = tmp_path / "copy.sqlite"
    with closing(sqlite3.connect(sqlite_settings.db_path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    copy.replace(sqlite_settings.db_path)
    answer = service.client.post("/api/v1/runs", json=state(2))
    with closing(sqlite3.connect(sqlite_settings.db_path)) as connection:
        stored = {row[0] for row in connection.execute("SELECT run_id FROM agent_runs")}
    assert answer.status_code in (201, 503)
    assert ("run-2" in stored) == (answer.status_code == 201)


@pytest.mark.parametrize("method_and_path", [("POST", "/api/v1/runs"), ("GET", "/api/v1/runs"), ("GET", "/metrics")])
def test_a_database_that_was_overwritten_is_503(sqlite_settings, serving, method_and_path):
    """Rubbish in the file is nobody's 500."""
    service = serving(sqlite_settings.with_(db_max_retries=0))
    tell(service, state(1))
    sqlite_settings.db_path.write_bytes(b"rubbish " * 4096)
    method, path = method_and_path
    answer = service.client.request(method, path, json=state(2) if method == "POST" else None)
    assert answer.status_code != 500
    if answer.status_code >= 400:
        problem(answer, 503)


def test_the_last_moment_of_times_is_readable(service):
    """A page may hold the ends of the calendar, and its cursor goes on from there."""
    tell_batch(service, [state(1, created_at="9999-12-31T23:59:59.999999Z"), state(2, created_at="0001-01-01T00:00:00Z")])
    first = service.client.get("/api/v1/runs?limit=1")
    assert [run["run_id"] for run in first.json()] == ["run-1"]
    link = first.headers["Link"].split(">")[0][1:]
    assert [run["run_id"] for run in service.client.get(link).json()] == ["run-2"]
    assert listed(service, created_before=at(0)) == ["run-2"]
