"""Signing in and out in a real browser."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.service.service_cases import post_states, state

TOKEN = "a-token-of-32-characters-or-more"


@pytest.fixture
def protected(serving, sqlite_settings):
    """A service that needs a token and has a run."""
    service = serving(sqlite_settings.with_(api_auth_enabled=True, api_auth_token=TOKEN))
    post_states(service, state())
    return service


@pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])
def test_a_reader_signs_in_and_out(protected, new_page, script: bool) -> None:
    """With the keyboard alone; a wrong token first."""
    page = new_page(script=script, allowed_errors=("401",))
    page.goto(protected.url)
    expect(page).to_have_title(re.compile("Sign in"))
    page.get_by_label("Token").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("no such token")
    page.get_by_label("Token").fill(TOKEN)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Runs")
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_title(re.compile("Sign in"))
    page.goto(protected.url)
    expect(page).to_have_title(re.compile("Sign in"))


def test_the_form_can_be_used_by_everybody(protected, assert_usable_by_all) -> None:
    """Labels, contrast and size in both schemes, on a phone and a desk."""
    assert_usable_by_all(protected.url)
