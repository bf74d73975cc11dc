"""What happens in an open run shows at once, whichever service stored it, and a stream ends when there is no more."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from on_disk import PATIENCE_S, Process, eventually

from otel_agent_telemetry.page import live
from otel_agent_telemetry.page.run_changes import Seen
from tests.page.run_lines import PATH, ended_run, event, open_run, step, store
from tests.service.running import serve_process
from tests.service.service_cases import event_id

LIVE = f"{PATH}/live"
WORDS = st.one_of(st.text(max_size=30), st.from_regex(r"[0-9.\-]{0,40}"))


@pytest.fixture
def quick(service):
    """The service with a poll twenty times a second."""
    service.app.state.live_runs.poll_s = 0.05
    return service


class Stream:
    """The messages of a stream as a browser gets them."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self.place = ""

    def next(self) -> SimpleNamespace:
        """Return the next message: its event, its data, its id. `event` is None at the end of the response."""
        found = SimpleNamespace(event=None, data="", id="")
        for line in self._lines:
            name, _, value = line.partition(": ")
            if name in ("event", "id"):
                setattr(found, name, value)
            elif name == "data":
                found.data += value + "\n"
            elif not line and found.event:
                break
        self.place = found.id or self.place
        return found

    def until(self, text: str) -> str:
        """Return the data of the first message that has a text; fail when the stream ends before."""
        while (message := self.next()).event == "change":
            if text in message.data:
                return message.data
        raise AssertionError(f"the stream has ended without {text!r}")

    def rest(self) -> list[str | None]:
        """Return the events of the messages up to the end of the response."""
        events = []
        while (message := self.next()).event is not None:
            events.append(message.event)
        return events


@contextmanager
def followed(service, *, after: str = "", path: str = LIVE, **headers: str) -> Iterator[Stream]:
    with service.new_client(timeout=PATIENCE_S) as client:
        with client.stream("GET", path, params={"after": after}, headers=headers) as answer:
            assert answer.status_code == 200, answer.read()
            assert answer.headers["content-type"].startswith("text/event-stream")
            yield Stream(answer.iter_lines())


def after_now(service) -> str:
    """Return the place that the page of the run holds."""
    page = service.client.get(PATH).text
    return page.partition('data-after="')[2].partition('"')[0]


def repeats_rows(service) -> bool:
    """Return whether rows may come twice: on PostgreSQL one may become visible after one with a higher number."""
    return service.settings.database_url is not None


def test_new_steps_and_events_come_and_the_head_changes(quick) -> None:
    """What is there already does not come again; a step that ends comes again with its time."""
    store(quick, open_run(), step(2, name="early", ends=None), event(90, payload={"text": "known"}))
    with followed(quick, after=after_now(quick)) as stream:
        first = stream.next().data
        assert repeats_rows(quick) or ("known" not in first and "early" not in first)
        store(quick, step(3, parent=2, name="inner", ends=None, seq=200), event(201, payload={"text": "fresh"}))
        data = stream.until("fresh")
        data = data if "inner" in data else stream.until("inner")
        assert "data-parent=" in data
        store(quick, step(2, name="early", ends=9.0, seq=202))
        assert "7 s" in stream.until("early")
        store(quick, open_run(seq=203, updated=5, model="new-model"))
        assert "new-model" in stream.until("new-model")


def test_a_stream_ends_with_its_run(quick) -> None:
    """A killed run shows its cause, and its page need not ask any more."""
    store(quick, open_run())
    with followed(quick) as stream:
        stream.next()
        store(quick, ended_run(seq=100, status="failed", error_summary="process 7 on host-1 is gone"))
        assert "process 7 on host-1 is gone" in stream.until("host-1 is gone")
        store(quick, event(101, payload={"text": "late"}))
        assert "late" in stream.until("late")
        assert stream.rest()[-1] == "end"
    eventually(lambda: quick.app.state.live_runs.streams == 0)


def test_a_browser_that_was_away_goes_on_where_it_was(quick) -> None:
    """The id of the last message is enough: nothing is missing, and on SQLite nothing comes twice."""
    store(quick, open_run(), step(2, name="open one", ends=None), event(90, payload={"text": "first"}))
    with followed(quick) as stream:
        assert "open one" in stream.until("first")
        place = stream.place
    store(quick, step(2, name="open one", ends=9.0, seq=200), event(201, payload={"text": "second"}))
    with followed(quick, **{"Last-Event-ID": place}) as stream:
        data = stream.until("second")
        assert "7 s" in data
        assert "first" not in data or repeats_rows(quick)


def test_a_stream_of_a_deleted_run_ends(quick) -> None:
    """There is nothing left to follow."""
    store(quick, open_run())
    with followed(quick) as stream:
        stream.next()
        quick.client.delete(f"/api/v1/runs/{event_id(1)}")
        assert stream.rest()[-1] == "end"


def test_all_streams_of_a_run_share_one_poll(quick) -> None:
    """A hundred readers of one run ask the database once a second, and nobody asks when nobody reads."""
    store(quick, open_run())
    feeds = quick.app.state.live_runs._feeds
    with followed(quick) as one, followed(quick) as other:
        one.next()
        other.next()
        assert len(feeds) == 1
        assert quick.app.state.live_runs.streams == 2
        store(quick, event(90, payload={"text": "for both"}))
        assert "for both" in one.until("for both")
        assert "for both" in other.until("for both")
    eventually(lambda: not feeds)


AGENT = """
import sys
from otel_agent_telemetry import TelemetryClient
client = TelemetryClient()
run_id = client.start_run("agent", "job")
client.log_event(run_id, "progress", {"text": "from the agent"})
print(run_id, flush=True)
sys.stdin.read()
"""


def test_an_agent_that_is_killed_is_seen_to_work_and_to_die(serving, sqlite_settings) -> None:
    """A real agent, a real SIGKILL: its events come while it works, and then why it ended."""
    service = serving(sqlite_settings)
    service.app.state.live_runs.poll_s = 0.05
    environment = {"TELEMETRY_BASE_DIR": str(sqlite_settings.base_dir), "TELEMETRY_API_URL": service.url}
    with Process(AGENT, env=environment) as agent:
        run_id = agent.line()
        (run,) = eventually(lambda: service.client.get("/api/v1/runs", params={"run_id": run_id}).json())
        with followed(service, path=f"/runs/{run['event_id']}/live") as stream:
            stream.until("from the agent")
            agent.kill()
            assert "gone" in stream.until("cause")
            assert stream.rest()[-1] == "end"


def test_more_streams_than_the_most_are_refused(sqlite_service, monkeypatch) -> None:
    """The service stays free for agents; 503 says when to come again, and an ended stream makes room."""
    monkeypatch.setattr(live, "MAX_STREAMS", 1)
    store(sqlite_service, open_run())
    with followed(sqlite_service) as stream:
        stream.next()
        refused = sqlite_service.client.get(LIVE)
        assert refused.status_code == 503
        assert refused.headers["retry-after"]
    eventually(lambda: sqlite_service.app.state.live_runs.streams == 0)
    with followed(sqlite_service) as stream:
        assert stream.next().event == "change"


def test_a_run_that_another_service_stores_is_live_here(serving, postgresql_settings) -> None:
    """Both services ask the database, so it does not matter which of them an agent sends to."""
    writes, shows = serving(postgresql_settings), serving(postgresql_settings)
    shows.app.state.live_runs.poll_s = 0.05
    store(writes, open_run())
    with followed(shows) as stream:
        stream.next()
        store(writes, event(90, payload={"text": "from the other"}))
        assert "from the other" in stream.until("from the other")


class RawStream:
    """One of many readers: a connection of its own, read line by line."""

    def __init__(self, service) -> None:
        where = urlsplit(service.url)
        self.socket = socket.create_connection((where.hostname, where.port), PATIENCE_S)
        self.socket.sendall(f"GET {LIVE} HTTP/1.1\r\nHost: {where.netloc}\r\n\r\n".encode())
        self._lines = self.socket.makefile("rb")

    def until(self, text: str) -> None:
        """Read up to the first line that has a text; fail when the stream ends before."""
        assert any(text.encode() in line for line in self._lines), f"the stream has ended without {text!r}"

    def close(self) -> None:
        """Go away as a browser does whose tab is closed."""
        self._lines.close()
        self.socket.close()


@contextmanager
def many_readers(service) -> Iterator[list[RawStream]]:
    """As many streams of one run as a service may have, each of which has had its first message."""
    with ExitStack() as opened:
        streams = [RawStream(service) for _ in range(live.MAX_STREAMS)]
        for stream in streams:
            opened.callback(stream.close)
        for stream in streams:
            stream.until("event: change")
        yield streams


def test_a_hundred_readers_see_a_change_and_one_poll_serves_them(serving, sqlite_settings, monkeypatch) -> None:
    """Each hears from an idle service from time to time; one more is refused until somebody goes away."""
    monkeypatch.setattr(live, "HEARTBEAT_S", 1)
    service = serving(sqlite_settings.with_(http_max_connections=2 * live.MAX_STREAMS))
    open_streams = service.app.state.live_runs
    open_streams.poll_s = 0.05
    store(service, open_run())
    with many_readers(service) as streams:
        assert len(open_streams._feeds) == 1
        assert service.client.get(LIVE).status_code == 503
        store(service, event(90, payload={"text": "for all"}))
        for stream in streams:
            stream.until("for all")
        for stream in streams[1:]:
            stream.close()
        streams[0].until(": ping")
        eventually(lambda: open_streams.streams == 1)
        with followed(service) as another:
            assert another.next().event == "change"


def test_streams_end_when_the_service_does(tmp_path) -> None:
    """A service that is stopped does not wait for its readers' pages, however many."""
    env = {"TELEMETRY_HTTP_MAX_CONNECTIONS": str(2 * live.MAX_STREAMS)}
    with serve_process(tmp_path / "base", env) as process:
        store(process, open_run())
        with many_readers(process) as streams:
            began = time.monotonic()
            assert process.terminate() == 0
            # Far below the 20 s that other requests are given; a busy machine may be slow.
            assert time.monotonic() - began < 15
            for stream in streams:
                with pytest.raises((OSError, AssertionError)):
                    stream.until("never")


@given(st.integers(0, 2**62), st.integers(0, 2**62), st.lists(st.integers(0, 2**62), max_size=50))
def test_a_place_survives_as_the_id_of_a_message(events, steps, open_steps) -> None:
    """It stands in a header and in addresses."""
    seen = Seen(events, steps, tuple(open_steps))
    assert Seen.from_text(seen.to_text()) == seen


@given(WORDS)
def test_any_other_word_is_no_place(word) -> None:
    """Who sends one gets the run from its beginning; nothing raises."""
    seen = Seen.from_text(word)
    assert seen is None or all(0 <= one < 2**63 for one in (seen.event, seen.step, *seen.open_steps))
