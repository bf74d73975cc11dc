"""The page of the service's state in a real browser."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [380, 1400])
def test_the_status_can_be_used_by_everybody(
    sqlite_service, new_page, assert_accessible, width: int, color_scheme: str
) -> None:
    """At both widths and in both schemes; what is in order is one click away, with the keyboard too."""
    page = new_page(width=width, color_scheme=color_scheme)
    page.goto(f"{sqlite_service.url}/status")
    assert_accessible(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_text("checks are in order").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("in order: settings")).to_be_visible()
