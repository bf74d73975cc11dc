"""The page of the service's own state."""

from __future__ import annotations

from otel_agent_telemetry.deliverer_report import DelivererReport
from otel_agent_telemetry.delivery.rejected import store_rejected
from otel_agent_telemetry.storage.deliverers import note_deliverers
from tests.service.service_cases import T0, post_states, state

HTML = {"Accept": "text/html"}


def status_page(service) -> str:
    """Return the page's text."""
    answer = service.client.get("/status", headers=HTML)
    assert answer.status_code == 200, answer.text
    return answer.text


def note(service, **changes) -> None:
    """Have a host describe itself as its deliverer does."""
    report = DelivererReport(
        **{
            "host": "worker-7",
            "base_dir": "/srv/telemetry",
            "version": "0.1.0",
            "oldest_unsent": None,
            "backlog_records": 0,
            "backlog_bytes": 0,
            "open_runs": 0,
            "rejected": 0,
            "lost": 0,
            **changes,
        }
    )
    backend = service.app.state.backend
    backend._store.transact(
        lambda connection: note_deliverers(connection, [report], now="2026-01-31T12:00:00.000000+00:00")
    )


def test_a_quiet_service_says_so(service) -> None:
    """Nobody delivers, nothing was refused, nothing waits."""
    post_states(service, state())
    text = status_page(service)
    assert "No host has delivered" in text
    assert "<p>None.</p>" in text
    assert "0 records here" in text


def test_a_host_with_a_backlog_is_delivering_and_one_without_is_up_to_date(service) -> None:
    """Its records and bytes, what waits longest, its refused and lost records."""
    note(service, backlog_records=1200, backlog_bytes=3 << 20, oldest_unsent="2026-01-31T11:59:00.000000+00:00")
    note(service, host="worker-8", rejected=4, lost=1)
    text = status_page(service)
    assert "1,200 (3 MiB)" in text
    assert ">delivering<" in text
    assert ">up to date<" in text


def test_a_host_that_went_silent_with_work_left_is_named(service, clock) -> None:
    """After ten minutes without a word."""
    note(service, backlog_records=1)
    clock.jump(T0 + 3600 * 10**9 * 24 * 365)
    assert ">silent<" in status_page(service)


def test_refused_records_are_shown_with_who_and_why_and_as_text(serving, sqlite_settings) -> None:
    """The newest first; what a record holds becomes no markup."""
    service = serving(sqlite_settings)
    for number, reason in enumerate(("status: not a word of the contract", "<script>alert(1)</script>")):
        record = {"record_type": "run", "run_id": f"run-{number}<b>"}
        store_rejected(sqlite_settings.buffer_dir, record, target="http://service", reason=reason, now_ns=T0)
    text = status_page(service)
    assert "2 records were refused" in text
    assert "&lt;script&gt;alert(1)" in text
    assert "<script>alert" not in text
    assert text.index("run-1&lt;b&gt;") < text.index("run-0&lt;b&gt;")


def test_what_doctor_finds_is_shown_with_how_to_fix_it(serving, sqlite_settings, monkeypatch) -> None:
    """A misspelt variable of the service's own environment."""
    monkeypatch.setenv("TELEMETRY_BASEDIR", "/somewhere")
    text = status_page(serving(sqlite_settings))
    assert "look at it:" in text
    assert "TELEMETRY_BASE_DIR" in text


def test_a_folder_that_cannot_be_read_is_a_line_and_no_error(serving, sqlite_settings) -> None:
    """The rest of the page is what its reader needs then."""
    service = serving(sqlite_settings)
    path = sqlite_settings.buffer_dir / "rejected"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(exist_ok=True)
    (path / "20260131.jsonl").mkdir()
    assert "Status" in status_page(service)
