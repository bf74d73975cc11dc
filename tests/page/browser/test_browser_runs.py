"""The list of runs and the comparison in a real browser: filters, back, keys, selection, live rows, no script, axe."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from otel_agent_telemetry.page import list_address
from tests.service.service_cases import ended, event_id, post_batch, post_states, state

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>'
LIVE_MS = 20_000
"""A change shows within 2 s, on a busy machine later."""


@pytest.fixture
def filled(sqlite_service):
    """A service with runs of three agents, one of which has texts that would be markup."""
    post_batch(
        sqlite_service,
        [
            ended(1, agent_name="writer", error_summary="TimeoutError: no answer", status="failed"),
            ended(2, agent_name="writer", metrics_json={"gen_ai": {"input_tokens": 1200, "model_calls": 2}}),
            ended(3, agent_name="reader", session_id="session-1", host="h1"),
            ended(4, agent_name=HOSTILE, job_type=HOSTILE, error_summary=HOSTILE, status="failed"),
        ],
    )
    return sqlite_service


def test_filters_are_kept_on_the_way_to_a_run_and_back(filled, new_page) -> None:
    """The table alone is replaced, and the address is what is shown."""
    page = new_page()
    page.goto(filled.url)
    page.locator("select[name=agent]").select_option("writer")
    expect(page).to_have_url(re.compile(r"/\?agent=writer$"))
    expect(page.locator("#rows tr")).to_have_count(2)
    page.locator("select[name=status]").select_option("failed")
    expect(page.locator("#rows tr")).to_have_count(1)
    page.locator("#rows a.run").click()
    expect(page).to_have_url(re.compile("/runs/"))
    page.go_back()
    expect(page).to_have_url(re.compile(r"agent=writer&status=failed$"))
    expect(page.locator("#rows tr")).to_have_count(1)
    page.go_back()
    expect(page.locator("#rows tr")).to_have_count(2)
    expect(page.locator("select[name=agent]")).to_have_value("writer")


def test_a_value_that_cannot_be_read_is_said_where_the_table_was(filled, new_page) -> None:
    """Also when htmx asks for the table alone."""
    page = new_page(allowed_errors=("422",))
    page.goto(filled.url)
    page.get_by_text("More filters").click()
    page.get_by_label("Lasted at least").fill("long")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("must be a duration")
    expect(page.locator("#rows")).to_have_count(0)


def test_keys_move_through_rows_and_runs_of_the_filter(filled, new_page) -> None:
    """In the list with j and k, and in a run to the next and the previous one."""
    page = new_page()
    page.goto(f"{filled.url}/?agent=writer")
    page.keyboard.press("j")
    page.keyboard.press("j")
    expect(page.locator("#rows a.run").nth(1)).to_be_focused()
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(event_id(2)))
    page.wait_for_load_state()  # its script hears no key before
    page.keyboard.press("j")
    expect(page).to_have_url(re.compile(event_id(1)))
    page.wait_for_load_state()
    page.keyboard.press("k")
    expect(page).to_have_url(re.compile(event_id(2)))


@pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])
def test_two_selected_runs_are_compared(filled, new_page, assert_accessible, script: bool) -> None:
    """A third cannot be selected where a script helps; the page works without."""
    page = new_page(script=script)
    page.goto(filled.url)
    boxes = page.locator("#rows [name=run]")
    boxes.nth(0).check()
    boxes.nth(1).check()
    if script:
        expect(boxes.nth(2)).to_be_disabled()
    page.get_by_role("button", name=re.compile("Compare")).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Compare two runs")
    expect(page.get_by_text("≠").first).to_be_visible()
    if script:
        assert_accessible(page)


def test_without_script_filters_and_pages_work(filled, new_page, monkeypatch) -> None:
    """Forms and links are enough."""
    monkeypatch.setattr(list_address, "PAGE_SIZE", 2)
    page = new_page(script=False)
    page.goto(filled.url)
    page.get_by_role("link", name="older →").click()
    expect(page.locator("#rows tr")).to_have_count(2)
    page.get_by_label("Text").fill("no answer")
    page.get_by_role("button", name="Filter").click()
    expect(page).to_have_url(re.compile(r"/\?text=no(\+|%20)answer$"))
    expect(page.locator("#rows tr")).to_have_count(1)


def test_new_runs_come_live_and_nothing_that_is_read_moves(filled, new_page) -> None:
    """A pause holds them back; a run that ends changes its row; what is selected stays selected."""
    page = new_page()
    page.goto(filled.url)
    expect(page.locator("#live-words")).to_have_text("live", timeout=LIVE_MS)
    page.locator("#rows [name=run]").nth(1).check()
    page.locator("#rows a.run").nth(1).focus()
    post_states(filled, state(5, agent_name="newcomer"))
    first = page.locator("#rows tr").first
    expect(first).to_contain_text("newcomer", timeout=LIVE_MS)
    expect(first).to_contain_text("running")
    expect(page.locator("#rows [name=run]").nth(2)).to_be_checked()
    expect(page.locator("#rows a.run").nth(2)).to_be_focused()
    post_states(filled, ended(5, agent_name="newcomer"))
    expect(first).to_contain_text("success", timeout=LIVE_MS)
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#live-words")).to_have_text("paused")
    post_states(filled, state(6, agent_name="unseen"))
    page.get_by_role("button", name="Resume").click()
    expect(first).to_contain_text("unseen", timeout=LIVE_MS)
    expect(page.locator("#rows tr")).to_have_count(6)


def test_the_first_run_appears_on_the_empty_page(sqlite_service, new_page) -> None:
    """Whoever has followed its words sees that they worked."""
    page = new_page()
    page.goto(sqlite_service.url)
    expect(page.get_by_role("heading", level=2)).to_have_count(3)
    post_states(sqlite_service, state(1, agent_name="my-agent"))
    expect(page.locator("#rows tr")).to_contain_text("my-agent", timeout=LIVE_MS)


@pytest.mark.parametrize("query", ["", "?status=failed&text=no", "?agent=nobody", "?from=soon"])
def test_the_list_can_be_used_by_everybody(filled, assert_usable_by_all, query: str) -> None:
    """With texts that would be markup, with filters, without a match, and with one that cannot be read."""
    assert_usable_by_all(f"{filled.url}/{query}", allowed_errors=("422",))
