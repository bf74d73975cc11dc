"""The page of a run in a real browser: live without a jump, folded and unfolded, by keyboard, small and dark."""

from __future__ import annotations

import pytest
from on_disk import eventually
from playwright.sync_api import expect

from tests.page.run_lines import PATH, chain, ended_run, event, open_run, step, store
from tests.service.service_cases import event_id, post_states, state

PATIENCE_MS = 60_000
EVIL = "<script>document.title='broken'</script><img src=x onerror=alert(1)> javascript:alert(1) " + "long" * 60


@pytest.fixture
def quick(sqlite_service):
    """The service with a poll ten times a second."""
    sqlite_service.app.state.live_runs.poll_s = 0.1
    return sqlite_service


def test_an_open_run_grows_and_nothing_that_is_read_moves(quick, new_page) -> None:
    """Steps, events and the head change below and above what is read; selection and scroll stay.

    Users of Dagster are scrolled back at each update (10864), and see a status change without its log (8937).
    """
    store(quick, open_run(), step(2, name="agent", ends=None), step(3, parent=2, name="first", ends=4.0))
    store(quick, *[event(300 + at, payload={"text": f"event {at}"}) for at in range(60)])
    page = new_page()
    page.goto(f"{quick.url}{PATH}")
    expect(page.locator("#live-words")).to_have_text("live", timeout=PATIENCE_MS)
    page.evaluate("""() => {
      const item = document.querySelectorAll("#event-list li")[40];
      item.scrollIntoView({block: "start"});
      getSelection().selectAllChildren(item.querySelector("code"));
    }""")
    before = page.evaluate("document.querySelectorAll('#event-list li')[40].getBoundingClientRect().top")
    new_steps = [step(10 + at, parent=2, name=f"new {at}", begins=5 + at, ends=6 + at) for at in range(20)]
    store(quick, *new_steps, event(500, payload={"text": "the newest"}), open_run(seq=600, updated=9, model="m-1"))
    expect(page.locator("#event-list li", has_text="the newest")).to_have_count(1, timeout=PATIENCE_MS)
    expect(page.locator(".steps tbody tr")).to_have_count(22, timeout=PATIENCE_MS)
    expect(page.locator("#run-facts", has_text="m-1")).to_have_count(1, timeout=PATIENCE_MS)
    after = page.evaluate("document.querySelectorAll('#event-list li')[40].getBoundingClientRect().top")
    assert abs(after - before) <= 1
    assert "event 40" in page.evaluate("getSelection().toString()")
    ends = page.locator(".steps rect").evaluate_all(
        "bars => bars.map(bar => bar.x.baseVal.value + bar.width.baseVal.value)"
    )
    assert max(ends) <= 1002
    levels = page.locator(".steps tbody tr").evaluate_all("rows => rows.map(row => row.getAttribute('aria-level'))")
    assert levels == ["1", *["2"] * 21]


def test_a_run_that_is_killed_shows_its_cause(quick, new_page) -> None:
    """The step that was open ends with it, the page says that the run has ended, and asks no more."""
    store(quick, open_run(), step(2, name="working", ends=None))
    page = new_page()
    page.goto(f"{quick.url}{PATH}")
    expect(page.locator("#live-words")).to_have_text("live", timeout=PATIENCE_MS)
    store(quick, step(2, name="working", ends=30.0, status="error", status_message="killed", seq=100))
    store(quick, ended_run(seq=101, status="failed", error_summary="process 7 on host-1 is gone"))
    expect(page.locator(".cause")).to_contain_text("process 7 on host-1 is gone", timeout=PATIENCE_MS)
    expect(page.locator("#live-words")).to_have_text("the run has ended", timeout=PATIENCE_MS)
    expect(page.locator(".steps tbody tr")).to_contain_text("failed killed")
    expect(page.locator("#live-pause")).to_be_hidden()


def test_a_paused_page_shows_nothing_new_until_it_goes_on(quick, new_page) -> None:
    """Then it shows all that it has missed."""
    store(quick, open_run(), step(2), event(90, payload={"text": "old"}))
    page = new_page()
    page.goto(f"{quick.url}{PATH}")
    expect(page.locator("#live-words")).to_have_text("live", timeout=PATIENCE_MS)
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#live-words")).to_have_text("paused")
    store(quick, event(91, payload={"text": "missed"}))
    assert page.locator("#event-list li").count() == 1
    page.get_by_role("button", name="Go on").click()
    expect(page.locator("#event-list li", has_text="missed")).to_have_count(1, timeout=PATIENCE_MS)


def test_a_page_that_nobody_sees_holds_no_connection(quick, new_page) -> None:
    """A browser has six to a host: seven open runs in tabs would stop every other page. Seen again, it catches up."""
    store(quick, open_run(), step(2))
    page = new_page()
    page.goto(f"{quick.url}{PATH}")
    expect(page.locator("#live-words")).to_have_text("live", timeout=PATIENCE_MS)
    hide = """hidden => {
      Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.evaluate(hide, arg=True)
    eventually(lambda: quick.app.state.live_runs.streams == 0)
    store(quick, event(91, payload={"text": "missed"}))
    page.evaluate(hide, arg=False)
    expect(page.locator("#event-list li", has_text="missed")).to_have_count(1, timeout=PATIENCE_MS)


def test_steps_fold_in_place_and_going_back_unfolds_them(sqlite_service, new_page) -> None:
    """The address holds what is folded; a step's details open below, by keyboard too."""
    store(sqlite_service, ended_run(), *chain(4), step(20, begins=55, ends=56, attributes={"color": "green"}))
    page = new_page()
    page.goto(f"{sqlite_service.url}{PATH}")
    rows = page.locator(".steps tbody tr")
    expect(rows).to_have_count(5)
    page.get_by_label("Fold step 2").press("Enter")
    expect(rows).to_have_count(2)
    assert "flip=" in page.url
    page.go_back()
    expect(rows).to_have_count(5)
    page.get_by_role("link", name="step 20", exact=True).press("Enter")
    expect(page.locator("#step")).to_contain_text("color")
    assert "/steps/" not in page.url
    page.get_by_role("link", name="critical path").click()
    expect(page.locator("[aria-current=true]", has_text="critical path")).to_have_count(1)


@pytest.fixture
def hostile(sqlite_service):
    """A service with a run whose every text is long and would be markup, with a run inside it."""
    post_states(sqlite_service, state(2, parent_run_id="run-1", agent_name=EVIL))
    store(
        sqlite_service,
        ended_run(status="failed", error_summary=EVIL, agent_name=EVIL, context_json={EVIL: [EVIL]}, host=EVIL,
                  git_commit_hash="abcdef1234567", session_id="s" * 200),
        *chain(15), step(30, name=EVIL, status="error", status_message=EVIL, attributes={EVIL: EVIL}),
        event(90, name=EVIL, payload={EVIL: EVIL}),
    )  # fmt: skip
    return sqlite_service


@pytest.mark.parametrize("path", ["", "?only=errors", "/delete"])
def test_the_page_is_accessible_and_fits(hostile, assert_usable_by_all, path) -> None:
    """Hostile and long texts too: no script of theirs runs, and the page does not scroll sideways."""
    page = assert_usable_by_all(f"{hostile.url}{PATH}{path}")
    assert page.evaluate("document.title") != "broken"
    assert page.locator("img").count() == 0


def test_everything_works_without_script(sqlite_service, new_page) -> None:
    """Links and forms do all of it: fold, find, details, delete with its receipt."""
    store(sqlite_service, ended_run(), *chain(3))
    page = new_page(script=False)
    page.goto(f"{sqlite_service.url}{PATH}")
    page.get_by_label("Fold step 2").click()
    expect(page.locator(".steps tbody tr")).to_have_count(1)
    page.get_by_label("Find").fill("step 3")
    page.get_by_role("button", name="Find").click()
    expect(page.locator(".steps tbody tr")).to_have_count(1)
    page.get_by_role("link", name="step 3", exact=True).click()
    expect(page.get_by_text("this step in the timeline")).to_be_visible()
    page.goto(f"{sqlite_service.url}{PATH}")
    page.get_by_role("link", name="Delete this run").click()
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", name="Deleted")).to_be_visible()
    expect(page.get_by_text(event_id(1))).to_be_visible()
