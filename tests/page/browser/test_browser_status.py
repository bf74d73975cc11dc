"""The page of the service's state in a real browser."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.service.service_cases import ended, post_states, state


def test_the_status_can_be_used_by_everybody(sqlite_service, assert_usable_by_all) -> None:
    """At both widths and in both schemes; what is in order is one click away, with the keyboard too."""
    page = assert_usable_by_all(f"{sqlite_service.url}/status")
    page.get_by_text("checks are in order").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("in order: settings")).to_be_visible()


def test_alerts_can_be_read_by_everybody(sqlite_service, assert_usable_by_all) -> None:
    """Open and past alerts, and the banner that leads there from another page."""
    backend = sqlite_service.app.state.backend
    backend.settings.alerts.write_text('[stuck]\nmeasure = "duration"\nover = "run"\nlimit = "1s"\n')
    post_states(sqlite_service, state(), ended(2))
    for after_s in (60, 30):
        backend.clock.advance(after_s)
        backend.alerts.evaluate()
    assert_usable_by_all(f"{sqlite_service.url}/alerts")
    page = assert_usable_by_all(f"{sqlite_service.url}/cost")
    page.get_by_text("Show alerts").click()
    expect(page.get_by_text("resolved", exact=True)).to_be_visible()
    backend.settings.alerts.unlink()
    backend.alerts.evaluate()
