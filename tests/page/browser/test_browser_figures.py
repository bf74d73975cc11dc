"""Agents, costs and sessions in a real browser: plots beside their table, periods, both schemes, small and wide."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from playwright.sync_api import expect

from tests.page.test_page_figures import ended, used
from tests.service.service_cases import post_states

AGENT = "an agent/with <a> long name " + "x" * 120
VIEWS = (
    "/agents",
    f"/agents?agent={quote(AGENT)}",
    "/cost",
    "/cost?by=tree",
    "/cost?by=day",
    f"/sessions/{quote(AGENT, safe='')}",
)


@pytest.fixture
def figures(sqlite_service):
    """A service whose runs of some days are summed."""
    runs = [
        ended(n, days=n % 6, agent_name=AGENT, session_id=AGENT, host=AGENT, metrics_json=used(model=f"m{n % 2}"))
        for n in range(1, 20)
    ]
    failed = ended(20, agent_name=AGENT, status="failed", error_summary="E" * 300)
    post_states(sqlite_service, *runs, failed, ended(21, days=9, agent_name=AGENT))
    sqlite_service.app.state.backend.figures.refresh_all()
    return sqlite_service


def test_plots_stand_beside_their_table_and_follow_scheme_and_width(figures, new_page) -> None:
    """Each has a name and says where its figures are; a reader on a phone who turns it gets them in the new width."""
    page = new_page()
    page.goto(f"{figures.url}{VIEWS[1]}")
    plots = page.locator(".plots figure canvas")
    expect(plots).to_have_count(3)
    assert plots.nth(0).get_attribute("aria-label").startswith("Runs by status: success, failed.")
    expect(page.locator("#over-time-table")).to_be_hidden()
    page.get_by_text("The same as a table").click()
    expect(page.locator("#over-time-table tbody tr")).to_have_count(7)
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 380, "height": 800})
    expect(plots).to_have_count(3)
    page.wait_for_function("document.querySelector('.plots canvas').getBoundingClientRect().width < 380")
    assert page.evaluate("document.documentElement.scrollWidth") <= 380


def test_without_script_the_table_has_the_figures(figures, new_page) -> None:
    """It is open, and nothing is an empty frame."""
    page = new_page(script=False)
    page.goto(f"{figures.url}{VIEWS[1]}")
    expect(page.locator("#over-time-table")).to_be_visible()
    expect(page.locator(".plots figure")).to_have_count(0)


def test_a_period_stays_on_the_way_and_on_the_way_back(figures, new_page) -> None:
    """Answers users of Prefect and Activepieces who lost their filter on the way back: the address holds it."""
    page = new_page()
    page.goto(f"{figures.url}/agents")
    page.get_by_role("link", name="30 days").click()
    page.get_by_role("link", name=AGENT, exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(AGENT)
    expect(page.locator(".period [aria-current]")).to_have_text("30 days")
    page.get_by_label("from").fill("2025-01-01")
    page.get_by_label("to", exact=True).fill("2025-01-31")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("main")).to_contain_text("no run in the 2025-01-01 to 2025-01-31")
    page.go_back()
    page.go_back()
    expect(page.locator(".period [aria-current]")).to_have_text("30 days")
    expect(page.get_by_role("heading", level=1)).to_have_text("Agents")


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view[:12])
def test_every_view_can_be_used_by_everybody(figures, assert_usable_by_all, view) -> None:
    """Names, contrast and size; a long name or error breaks, and the page does not scroll sideways."""
    assert_usable_by_all(f"{figures.url}{view}")
