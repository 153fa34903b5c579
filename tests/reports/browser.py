"""A headless Chromium for the tests of pages: the one of the system, or the one that playwright installs; no test without one."""

import contextlib
import os
import shutil

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_browser(playwright) -> str:
    """Where a Chromium lies; the test is skipped where there is none."""
    given = os.environ.get("CAMEL_JAX_BROWSER")
    found = given or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None and os.path.exists(playwright.chromium.executable_path):
        found = playwright.chromium.executable_path
    if found is None:
        pytest.skip("no Chromium: `make browser` installs one")
    return found


@contextlib.contextmanager
def chromium():
    """A browser that is closed at the end."""
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(playwright), args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


class Visit:
    """One page opened from its file: what the console said, and what was asked for over the network."""

    def __init__(self, browser, path, *, width=1280, scheme="light", scripts=True):
        self.context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,
            java_script_enabled=scripts,
            accept_downloads=True,
        )
        self.page = self.context.new_page()
        self.said, self.asked = [], []
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        self.page.on("dialog", lambda dialog: (self.said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())
        if scripts:
            self.page.wait_for_function("window.decisionPage !== undefined")
            self.settle()

    def settle(self):
        """Two frames, in which everything that was moved is drawn."""
        self.page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def text(self, selector):
        return self.page.inner_text(selector)

    def close(self):
        self.context.close()
