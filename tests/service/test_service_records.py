"""`POST /api/v1/records`: lines of a journal become all of a run, once, whatever is sent again or is broken."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import asdict
from functools import partial

import orjson
import pytest
from on_disk import Case, nobody_delivers
from otlp_requests import request, rows_of, run_of, send, span, span_id
from service_cases import SECOND, T0, at, ended, event_id, state

from otel_agent_telemetry.journal import journal_files
from otel_agent_telemetry.operations.check_deliverers import check_deliverers
from otel_agent_telemetry.operations.run_tree import read_tree
from otel_agent_telemetry.storage.deliverers import list_deliverers
from otel_agent_telemetry.storage.queries import find_run
from otel_agent_telemetry.storage.silence import close_silent
from otel_agent_telemetry.storage.store import Store
from otel_agent_telemetry.testing import isolated_config
from otel_agent_telemetry.wire import encode_line

NDJSON = {"Content-Type": "application/x-ndjson"}
WRITER = "20260131T120000-1-0000abcd"
TRACE = "0af7651916cd43dd8448eb211c80319c"
NOTHING = {"lines": 0, "runs": 0, "events": 0, "spans": 0, "commits": 0, "torn": 0, "refused": []}


def line(kind, seq, members, writer=WRITER):
    return encode_line(kind, {"writer": writer, "seq": seq, **members})


def a_run(seq=1, number=1, **more):
    return line("run", seq, state(number, **more))


def an_event(seq, name="step done", number=1, **more):
    members = {"event_id": event_id(number), "run_id": f"run-{number}", "trace_id": TRACE, "span_id": "00" * 7 + "01"}
    return line("event", seq, {**members, "event_type": name, "timestamp": at(seq), "payload": {"n": seq}, **more})


def a_step(seq, span_number=5, number=1, *, ends=None, parent=1, **more):
    members = {
        "event_id": event_id(number),
        "run_id": f"run-{number}",
        "trace_id": TRACE,
        "span_id": span_id(span_number).hex(),
        "parent_span_id": span_id(parent).hex(),
        "name": f"s{span_number}",
        "kind": "internal",
        "start_time": at(span_number),
        "status": "running",
        "attributes": {"a": 1},
    }
    if ends is not None:
        members |= {"status": "ok", "end_time": at(ends), "duration_ms": (ends - span_number) * 1000}
    return line("span", seq, {**members, **more})


def post(service, *lines, **headers):
    body = b"".join(lines)
    return service.client.post("/api/v1/records", content=body, headers={**NDJSON, **headers})


def stored(service, *lines, **headers):
    answer = post(service, *lines, **headers)
    assert answer.status_code == 200, answer.text
    account = answer.json()
    assert account.pop("store") == service.app.state.backend.store_id
    return account


def listing(service, what, number=1):
    return service.client.get(f"/api/v1/runs/{event_id(number)}/{what}").json()


def everything(service):
    return {name: rows for name, rows in rows_of(service).items() if name not in ("store_facts", "deliverers")}


def test_lines_of_every_type_are_stored_in_one_call(service):
    """The counts are of records; an event or a step may stand before the state of its run."""
    answer = stored(service, an_event(3), a_step(2), a_run(1), a_step(4, ends=9), line("run", 5, ended()))
    assert answer == {**NOTHING, "lines": 5, "runs": 2, "events": 1, "spans": 2}
    assert [event["payload"] for event in listing(service, "events")] == [{"n": 3}]
    (step,) = listing(service, "spans")
    assert (step["status"], step["end_time"], step["duration_ms"], step["attributes"]) == ("ok", at(9), 4000, {"a": 1})
    assert service.client.get(f"/api/v1/runs/{event_id(1)}").json()["status"] == "success"


def test_the_same_lines_again_change_nothing(service):
    """In any order and partition."""
    lines = [a_run(1), a_step(2), an_event(3), an_event(4), a_step(5, ends=9)]
    stored(service, *lines)
    before = everything(service)
    for part in (lines, lines[::-1], lines[:2], lines[3:], lines[:1]):
        stored(service, *part)
    assert everything(service) == before


def test_equal_events_of_different_lines_are_different_events(service):
    """A loop may write the same event twice within a microsecond; a forked child begins with number 1 again."""
    same = {"timestamp": at(1), "payload": None}
    stored(service, a_run(), an_event(2, **same), an_event(3, **same))
    stored(service, line("event", 2, orjson.loads(an_event(2, **same)) | {"writer": "child"}))
    assert len(listing(service, "events")) == 3


def test_lines_without_a_writer_are_known_by_their_content(service):
    """A journal that an old version or another tool wrote may be sent twice, too."""
    plain = encode_line(
        "event", {name: v for name, v in orjson.loads(an_event(1)).items() if name not in ("writer", "seq")}
    )
    stored(service, plain, plain)
    stored(service, plain)
    assert len(listing(service, "events")) == 1


ODD_TEXTS = ("tab\there", "line\nend\r\n", "back\\slash \\n \\N", r"\N", r"\.", "NUL\x00", "é中𝄞", '"quoted"', "", " ")


def test_many_events_at_once_are_stored_as_they_are_also_where_some_are_stored_already(service):
    """Whatever their texts hold that a database takes for its own."""
    named = [an_event(seq, f"of {text} {seq}", payload={"t": text}) for seq, text in enumerate(ODD_TEXTS * 5, 1)]
    answer = stored(service, a_run(100), *named[:30])
    assert (answer["events"], answer["refused"]) == (30, [])
    assert stored(service, *named)["events"] == len(named)
    assert stored(service, *named[::-1])["events"] == len(named)
    found = {event["event_type"]: event["payload"] for event in listing(service, "events")}
    assert list(found.values()) == [{"t": text} for text in ODD_TEXTS * 5]
    assert len(listing(service, "events")) == len(named)


def test_an_event_may_name_its_run_by_the_run_id_alone(service):
    """As `log_event` writes it for a run that has ended, or is another process's."""
    members = {"run_id": "run-1", "event_type": "seen later", "timestamp": at(9), "payload": None}
    assert stored(service, a_run(1), line("event", 2, members))["refused"] == []
    assert [event["event_type"] for event in listing(service, "events")] == ["seen later"]


REFUSED = [
    (b"not a line\n", "begins with its record_type"),
    (b'{"event_id": "x"}\n', "begins with its record_type"),
    (line("segment", 1, {}), "record_type: must be run, event or span"),
    (line("run", 1, {"event_id": event_id(9)}), "run_id: is required"),
    (an_event(1, event_id="no uuid"), "event_id: must be a UUID"),
    (an_event(1, run_id=None), "run_id: is required"),
    (an_event(1, "", payload=1), "event_type: must be text"),
    (an_event(1, timestamp="yesterday"), "timestamp: must be an ISO 8601 time"),
    (an_event(0), "seq: must be an integer from 1"),
    (an_event(1 << 63), "seq: must be an integer from 1"),
    (line("event", 1, orjson.loads(an_event(1)) | {"writer": "a b"}), "writer: must be"),
    (a_step(1, trace_id="short"), "trace_id: must be 32 hex digits"),
    (a_step(1, kind=["list"]), "kind: must be one of"),
    (a_step(1, status="odd"), "status: must be one of"),
    (a_step(1, duration_ms=-1), "duration_ms: must be an integer"),
    (line("event", 1, {"run_id": "r", "event_type": "agent.run.commit", "timestamp": at(1), "payload": 1}), "payload"),
]


def test_a_line_that_breaks_a_rule_is_refused_by_its_number_and_spares_its_neighbours(sqlite_service):
    """Blank lines are none, but count as lines of the file."""
    bad = [bad for bad, _ in REFUSED]
    answer = stored(sqlite_service, a_run(1), b"\n", *bad, an_event(2))
    assert (answer["runs"], answer["events"], answer["lines"]) == (1, 1, 2 + len(bad))
    assert [one["line"] for one in answer["refused"]] == list(range(3, 3 + len(bad)))
    for one, (_, reason) in zip(answer["refused"], REFUSED, strict=True):
        assert reason in one["reason"], one
    assert len(listing(sqlite_service, "events")) == 1


def test_a_torn_line_gives_what_can_be_believed_of_it(sqlite_service):
    """As every reader of a journal takes it: the head is nothing, the line behind it is whole."""
    answer = stored(sqlite_service, an_event(1)[:40] + an_event(2), an_event(3).rstrip(b"\n"))
    assert answer == {**NOTHING, "lines": 2, "events": 2, "torn": 1}


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_compressed_body_is_taken(sqlite_service, encoding):
    """Lines of a journal become a tenth."""
    body = b"".join([a_run(1), an_event(2)])
    packed = gzip.compress(body) if encoding == "gzip" else zlib.compress(body)
    assert stored(sqlite_service, packed, **{"Content-Encoding": encoding})["lines"] == 2


def test_the_guards_of_a_body_hold(sqlite_service):
    """Content type, number of lines, and what gzip is not."""
    assert post(sqlite_service, a_run(), **{"Content-Type": "application/json"}).status_code == 415
    assert post(sqlite_service, b"x", **{"Content-Encoding": "gzip"}).status_code == 400
    for blank in (b"x\n", b"\n"):
        assert post(sqlite_service, blank * 10_001).status_code == 413


def test_secrets_in_events_and_steps_are_masked(sqlite_service):
    """Also those that a sender of another make has not masked."""
    token = "ghp_" + "a1B2" * 9
    stored(
        sqlite_service,
        an_event(1, f"used {token}", payload={"password": "p", "text": f"with {token}"}),
        a_step(2, name=f"call {token}", attributes={"api_key": "k"}, status_message=f"{token} expired"),
        line("run", 3, state(1, input_summary=token, metrics_json=orjson.dumps({"token": "t"}).decode())),
    )
    text = orjson.dumps([listing(sqlite_service, "events"), listing(sqlite_service, "spans")]).decode()
    run = sqlite_service.client.get(f"/api/v1/runs/{event_id(1)}").text
    assert token not in text + run
    assert text.count("***REDACTED***") == 6
    assert run.count("***REDACTED***") == 2


def test_a_commit_is_associated_and_stands_among_the_events(service):
    """The line names its run by the run id alone."""
    payload = {"commit_hash": "0123456789abcdef", "commit_source": "ci", "associated_at": at(5)}
    members = {"run_id": "run-1", "event_type": "agent.run.commit", "timestamp": at(5), "payload": payload}
    answer = stored(service, a_run(1), line("event", 2, members))
    assert (answer["events"], answer["commits"]) == (1, 1)
    assert service.client.get(f"/api/v1/runs/{event_id(1)}").json()["git_commit_hash"] == "0123456789abcdef"
    assert [event["event_type"] for event in listing(service, "events")] == ["agent.run.commit"]


def test_all_of_a_run_reads_as_on_its_host(tmp_path, service):
    """Event by event and step by step, an inner run and a step that turned into a run included."""
    case = Case(isolated_config(tmp_path / "host"))
    with nobody_delivers(case.config):
        tracer = case.tracer()
        with tracer.start_as_current_span("root") as root:
            root.add_event("began", {"n": 1, "nested": ["a", "b"]})
            for number in range(20):
                with tracer.start_as_current_span(f"step {number}", attributes={"k": number}) as step:
                    step.add_event(f"event {number}")
            with tracer.start_as_current_span("late") as late:
                with tracer.start_as_current_span("inside") as inside:
                    inside.add_event("before it turned")
                    late.set_attribute("agent.run.agent_name", "late agent")
                    inside.add_event("after it turned")
        case.close()
        lines = b"".join(path.read_bytes() for path in journal_files(case.config.ndjson_dir))
    for _ in range(2):
        answer = stored(service, lines)
        assert answer["refused"] == []
    ids = {one["event_id"] for one in map(orjson.loads, lines.splitlines()) if one["record_type"] == "run"}
    assert len(ids) == 2
    for of_run in ids:
        record = service.app.state.backend._read(partial(find_run, event_id=of_run)).record
        tree = read_tree(case.config, record, limit=1000)
        assert tree.events
        events, spans = (service.client.get(f"/api/v1/runs/{of_run}/{what}").json() for what in ("events", "spans"))
        assert events == [{"event_id": of_run} | _as_json(event) for event in tree.events]
        key = lambda step: (step["start_time"], step["span_id"])  # noqa: E731
        assert sorted(spans, key=key) == [_as_json(step) for step in tree.steps]


def _as_json(part):
    return orjson.loads(orjson.dumps(asdict(part)))


# --- the same spans by both routes


def both_routes():
    """A run with a step and an event each, as a host's journal and as its exporter have them."""
    run = run_of(1, bytes.fromhex(TRACE))
    ids = {"event_id": run, "run_id": "run-1"}
    own = {"trace_id": TRACE, "span_id": span_id(1).hex(), "start_time": at(1), "agent_name": "a"}
    lines = [
        line("run", 1, ended(1, **ids, **own)),
        line("event", 2, orjson.loads(an_event(2, "root event", **ids, timestamp=at(1)))),
        a_step(3, 5, **ids),
        an_event(4, "step event", **ids, timestamp=at(5), span_id=span_id(5).hex()),
        a_step(5, 5, ends=6, **ids),
    ]
    message = request(
        span(1, events=[("root event", {"n": 2})], attributes={"agent.run.id": "run-1"}),
        span(5, 1, name="s5", events=[("step event", {"n": 4})]),
    )
    return run, lines, message


@pytest.mark.parametrize("journal_first", [True, False])
def test_what_comes_by_journal_and_over_otlp_is_stored_once(service, journal_first):
    """In either order, and again."""
    run, lines, message = both_routes()
    for _ in range(2):
        if journal_first:
            stored(service, *lines)
        send(service, message)
        if not journal_first:
            stored(service, *lines)
    events, spans = (service.client.get(f"/api/v1/runs/{run}/{what}").json() for what in ("events", "spans"))
    assert [event["event_type"] for event in events] == ["root event", "step event"]
    assert [step["span_id"] for step in spans] == [span_id(5).hex()]
    assert spans[0]["attributes"] == {"a": 1}


def test_spans_of_another_service_find_the_run_through_a_step_of_the_journal(service):
    """Whichever comes first: the step, or the span below it that another program exports."""
    run, lines, _ = both_routes()
    send(service, request(span(8, 5, name="remote before")))
    stored(service, *lines)
    send(service, request(span(9, 5, name="remote after")))
    spans = service.client.get(f"/api/v1/runs/{run}/spans").json()
    assert [step["name"] for step in spans] == ["s5", "remote before", "remote after"]


def test_lines_join_a_run_that_was_made_up_for_its_missing_root(service):
    """A host that was offline for long delivers the root's states and lines under the id that they have there."""
    run, lines, _ = both_routes()
    orphan = request(span(8, 1, name="exported by another"))
    send(service, orphan)
    store = Store(service.settings)
    store.transact(lambda db: close_silent(db, now_ns=T0 + 10**15, silence_s=1.0, agent_of=lambda _: None))
    store.close()
    stored(service, *lines[1:3])
    stored(service, *lines)
    (found,) = service.client.get("/api/v1/runs?run_id=run-1").json()
    assert found["event_id"] != run
    events = service.client.get(f"/api/v1/runs/{found['event_id']}/events").json()
    spans = service.client.get(f"/api/v1/runs/{found['event_id']}/spans").json()
    assert [event["event_type"] for event in events] == ["root event", "step event"]
    assert {step["name"] for step in spans} == {"s5", "exported by another"}


# --- deliverers


ABOUT = {
    "Deliverer-Host": "build%2D1",
    "Deliverer-Base-Dir": "/opt/t%C3%A9l%C3%A9metry",
    "Deliverer-Version": "3.1",
    "Deliverer-Backlog-Records": "12",
    "Deliverer-Backlog-Bytes": "3456",
    "Deliverer-Oldest-Unsent": "2026-01-31T12:00:00Z",
    "Deliverer-Open-Runs": "2",
}


def test_a_deliverer_describes_itself_with_each_request(service):
    """One row a host and base directory; a request without lines is a sign of life."""
    assert stored(service, **ABOUT) == NOTHING
    stored(service, a_run(1), **{**ABOUT, "Deliverer-Backlog-Records": "0"})
    stored(service, **{**ABOUT, "Deliverer-Host": "build-2"})
    found = service.app.state.backend._read(list_deliverers)
    first, second = sorted(found, key=lambda one: one.host)
    assert (first.host, first.base_dir, first.version) == ("build-1", "/opt/télémetry", "3.1")
    assert (first.backlog_records, first.backlog_bytes, first.open_runs) == (0, 3456, 2)
    assert first.oldest_unsent == "2026-01-31T12:00:00.000000+00:00"
    assert (second.host, second.backlog_records) == ("build-2", 12)


@pytest.mark.parametrize("name", ["Deliverer-Backlog-Records", "Deliverer-Oldest-Unsent", "Deliverer-Lost"])
def test_an_odd_value_of_a_header_is_named(sqlite_service, name):
    """And nothing is stored."""
    answer = post(sqlite_service, a_run(1), **{**ABOUT, name: "many"})
    assert (answer.status_code, name in answer.text) == (422, True)
    assert rows_of(sqlite_service)["agent_runs"] == []


def test_the_version_names_the_call_and_the_database(service):
    """The id stays for as long as the database does."""
    answer = service.client.get("/version").json()
    assert answer["records"] == 1
    assert answer["store"] == service.app.state.backend.store_id


def test_metrics_know_how_far_each_host_is_behind(service, clock):
    """The lag grows with the time; a host that has nothing left has none, and its silence means nothing."""
    stored(service, **{**ABOUT, "Deliverer-Oldest-Unsent": at(0), "Deliverer-Lost": "1"})
    idle = {"Deliverer-Host": "idle", "Deliverer-Base-Dir": "/b"}
    stored(service, **idle)
    clock.advance(700)
    text = service.client.get("/metrics/prometheus").text
    labels = 'base_dir="/opt/télémetry",host="build-1"'
    for name, value in (("lag_seconds", 700.0), ("last_contact_seconds", 700.0), ("backlog_records", 12.0)):
        assert f"agent_telemetry_deliverer_{name}{{{labels}}} {value}" in text
    assert 'agent_telemetry_deliverer_lag_seconds{base_dir="/b",host="idle"} 0.0' in text
    assert service.client.get("/metrics").json()["deliverers"] == {
        "total": 2,
        "silent": 1,
        "lag_s": 700.0,
        "backlog_records": 12,
        "backlog_bytes": 3456,
        "rejected": 0,
        "lost": 1,
    }


def test_doctor_names_a_host_that_went_silent_with_something_left(service, clock):
    """After ten minutes, with what was left; not one that had finished."""
    stored(service, **ABOUT)
    stored(service, **{"Deliverer-Host": "idle", "Deliverer-Base-Dir": "/b"})
    now_ns = clock.now_ns()
    (one,) = check_deliverers(service.settings, now_ns=now_ns + 590 * SECOND)
    assert (one.level, one.text[:7]) == ("ok", "2 hosts")
    _, finding = check_deliverers(service.settings, now_ns=now_ns + 660 * SECOND)
    assert finding.level == "warn"
    assert "build-1 /opt/télémetry was last heard of 11 minutes ago" in finding.text
    assert "about 12 records (3456 bytes) and 2 open runs" in finding.text
