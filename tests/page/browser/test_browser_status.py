"""The page of the service's state in a real browser."""

from __future__ import annotations

from playwright.sync_api import expect


def test_the_status_can_be_used_by_everybody(sqlite_service, assert_usable_by_all) -> None:
    """At both widths and in both schemes; what is in order is one click away, with the keyboard too."""
    page = assert_usable_by_all(f"{sqlite_service.url}/status")
    page.get_by_text("checks are in order").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("in order: settings")).to_be_visible()
