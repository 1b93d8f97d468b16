"""A real browser, and a judge of its pages: axe-core, as npm installed it."""

from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connections

from disputes.tests.test_browser import CHROMIUM, browser

__all__ = ["CHROMIUM", "axe", "browser", "judged", "watched"]

AXE = Path(settings.BASE_DIR) / "node_modules" / "axe-core" / "axe.min.js"
# What runs before anything of the page: it remembers what the page's policy refused.
_WITNESS = """
window.refused = [];
document.addEventListener("securitypolicyviolation", (event) => {
    window.refused.push(`${event.violatedDirective}: ${event.blockedURI} ${event.sample}`);
});
"""


@pytest.fixture(autouse=True)
def _connections_end_with_their_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no thread of the live server keep the test database open."""
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 0)


@pytest.fixture(scope="session")
def axe() -> str:
    if not AXE.exists():
        pytest.fail(f"there is no {AXE}: make setup")
    return AXE.read_text()


def watched(browser: Any, **options: Any) -> Any:
    """Open a page that keeps what went wrong in it (`wrong`) and every request it made (`asked`)."""
    page = browser.new_page(viewport={"width": 1280, "height": 800}, **options)
    page.wrong, page.asked = [], []
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.on("console", lambda said: page.wrong.append(said.text) if said.type in ("error", "warning") else None)
    page.on("request", lambda request: page.asked.append((request.resource_type, request.url)))
    page.add_init_script(_WITNESS)
    return page


def judged(page: Any, axe: str, *, rules: list[str] | None = None) -> list[str]:
    """
    Name what axe-core finds serious or critical on the page as it stands, by all of its rules or by these.

    The judge is put in by the debugger, which the page's policy does not bind; the policy itself stays in force.
    """
    if not page.evaluate("'axe' in window"):
        page.evaluate(axe)
    found = page.evaluate(
        """(rules) => axe.run(document, { resultTypes: ["violations"], ...(rules && { runOnly: rules }) })
            .then((said) => said.violations
            .filter((one) => ["serious", "critical"].includes(one.impact))
            .flatMap((one) => one.nodes.slice(0, 4).map((node) => [one.id, one.impact, node.html.slice(0, 160),
                (node.any[0]?.message ?? "").slice(0, 180)].join(" | "))))""",
        rules,
    )
    return list(found)
