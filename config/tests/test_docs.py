"""The documents for people at /docs, in a real browser and under our Content-Security-Policy."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from django.test import Client

CHROMIUM = Path("/usr/bin/chromium")
PICTURES = os.environ.get("DOCS_PICTURES")


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    if not CHROMIUM.exists():
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail(f"REQUIRE_BROWSER=1, and there is no {CHROMIUM}: apt-get install chromium")
        pytest.skip(f"there is no {CHROMIUM}: apt-get install chromium")
    sync_api = pytest.importorskip("playwright.sync_api")
    # Playwright runs an event loop in this thread; the test itself stays synchronous.
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    # Let no thread of the live server keep the test database open.
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 0)
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=str(CHROMIUM),
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"],
        )
        yield chromium
        chromium.close()


@pytest.mark.django_db
class TestPage:
    def test_is_where_the_root_leads(self):
        answer = Client().get("/")

        assert answer.status_code == 302
        assert answer["Location"] == "/docs"

    @pytest.mark.parametrize("path", ["/docs", "/docs?script="])
    def test_goes_out_under_a_policy_without_inline_code(self, path):
        answer = Client().get(path)

        assert answer.status_code == 200
        assert "unsafe-inline" not in answer["Content-Security-Policy"]
        assert "script-src 'self'" in answer["Content-Security-Policy"]

    def test_has_neither_inline_script_nor_style(self):
        page = Client().get("/docs").content.decode()

        assert page.count("<script") == page.count("<script src=") == 3
        assert "<style" not in page
        assert " style=" not in page


@pytest.mark.browser
@pytest.mark.django_db(transaction=True)
class TestBrowser:
    def test_shows_the_operations_and_breaks_no_policy(self, browser, live_server):
        page = browser.new_page(viewport={"width": 1280, "height": 1600})
        said, refused, failed = [], [], []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("response", lambda response: refused.append(response.url) if response.status >= 400 else None)
        page.on("requestfailed", lambda request: failed.append(request.url))
        page.add_init_script(
            "document.addEventListener('securitypolicyviolation',"
            " event => console.log('violated ' + event.violatedDirective + ' ' + event.blockedURI))"
        )

        page.goto(f"{live_server.url}/docs")
        page.wait_for_selector("#operations-jobs-post_jobs")
        page.click("#operations-jobs-post_jobs button.opblock-summary-control")
        page.wait_for_selector("#operations-jobs-post_jobs .opblock-body")
        shown = page.inner_text("#operations-jobs-post_jobs .opblock-body")
        count = page.locator(".opblock").count()
        if PICTURES:
            page.screenshot(path=f"{PICTURES}/docs.png")

        assert (said, refused, failed) == ([], [], [])
        assert count > 40
        assert "Propose a job" in shown
        assert "Idempotency-Key" in shown
