"""A real browser for the tests: one Chromium for a module, a context of its own for each test.

Every test fails that leaves an error in the browser's console, breaks the content security
policy, or asks another host for anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest
from components import require
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

_SERIOUS = ("serious", "critical")
_OF_SCHEME_AND_WIDTH = "{runOnly: ['color-contrast', 'scrollable-region-focusable']}"
"""axe-core's rules whose verdict the scheme or the width may change."""
_TOO_WIDE = """() => document.documentElement.scrollWidth <= innerWidth ? [] : [...document.querySelectorAll("body *")]
  .filter(element => !element.closest(".scroll") && element.getBoundingClientRect().right > innerWidth + 1)
  .map(element => element.outerHTML.slice(0, 200)).slice(0, 5)"""
"""What is wider than the window, outside of tables that scroll by themselves; nothing while the page does not scroll."""
NewPage = Callable[..., Page]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Chromium; it keeps nothing between two contexts.

    Not beyond the module: while it is driven an event loop runs in this thread, and no other test could start one.
    A fixture of the package would live as long as the session, because this folder is no package.
    """
    executable = require("Chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(executable), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def new_page(chromium: Browser) -> Iterator[NewPage]:
    """Open pages, each like a browser of another reader: `new_page(width=380, color_scheme="dark", script=False)`.

    `allowed_errors`: texts of console errors that the test provokes, such as the status of a refusal.
    """
    problems: list[str] = []
    with ExitStack() as contexts:

        def opened(
            *, width: int = 1400, color_scheme: str = "light", script: bool = True, allowed_errors: tuple[str, ...] = ()
        ) -> Page:
            context: BrowserContext = chromium.new_context(
                viewport={"width": width, "height": 900},
                color_scheme=color_scheme,  # type: ignore[arg-type]  # one of Playwright's words
                java_script_enabled=script,
                reduced_motion="reduce",
            )
            contexts.callback(context.close)
            page = context.new_page()

            def on_console(message) -> None:
                if message.type == "error" and not any(text in message.text for text in allowed_errors):
                    problems.append(f"{page.url}: {message.text}")

            page.on("console", on_console)
            page.on("pageerror", lambda error: problems.append(f"{page.url}: {error}"))
            page.on("request", lambda request: _note_foreign(request.url, page.url, problems))
            return page

        yield opened
    assert problems == []


def _note_foreign(asked: str, page: str, problems: list[str]) -> None:
    """Note a request that goes to another host than the page's."""
    own = urlsplit(page).netloc
    if own and urlsplit(asked).netloc not in (own, ""):
        problems.append(f"{page} asks for {asked}")


@pytest.fixture(scope="session")
def axe_script() -> str:
    """The program of axe-core, which finds what readers with other senses or hands cannot use."""
    return require("axe-core").read_text("utf-8")


@pytest.fixture
def assert_accessible(axe_script: str) -> Callable[[Page], None]:
    """Fail on what axe-core calls serious or critical."""
    return lambda page: _check(page, axe_script, "{}")


@pytest.fixture
def assert_usable_by_all(new_page: NewPage, axe_script: str) -> Callable[..., Page]:
    """Show an address on a desk in light and on a phone in dark; fail on findings of axe-core and on sideways scroll.

    Loaded once: the second time only what the scheme and the width decide is looked at. Returns the page, still small
    and dark.
    """

    def check(address: str, *, allowed_errors: tuple[str, ...] = ()) -> Page:
        page = new_page(allowed_errors=allowed_errors)
        page.goto(address)
        _check(page, axe_script, "{}")
        assert page.evaluate(_TOO_WIDE) == []
        page.emulate_media(color_scheme="dark")
        page.set_viewport_size({"width": 380, "height": 900})
        _check(page, "", _OF_SCHEME_AND_WIDTH)
        assert page.evaluate(_TOO_WIDE) == []
        return page

    return check


def _check(page: Page, axe_script: str, options: str) -> None:
    """Run axe-core in a page; fail on what it calls serious or critical."""
    # Through the debugger's protocol, which the page's own policy does not bind.
    found = page.evaluate(f"async () => {{ {axe_script}\n return (await axe.run(document, {options})).violations }}")
    serious = [
        f"{page.url}: {one['id']}: {one['help']}: {[node['html'][:200] for node in one['nodes'][:5]]}"
        for one in found
        if one["impact"] in _SERIOUS
    ]
    assert serious == []
