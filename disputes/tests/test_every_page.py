"""
What holds of every page of the console, in a real browser: no stranger's text runs, axe-core finds nothing serious, it
fits a laptop (1280 x 800), by day and in the dark, and the keyboard is enough.
"""

import os
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.urls import reverse

from disputes.models import Dispute
from disputes.tests import everywhere, world
from disputes.tests.browsing import sign_in_page
from disputes.tests.chromium import *  # noqa: F403 (fixtures)
from disputes.tests.chromium import judged, watched
from disputes.tests.conftest import REASONS
from disputes.tests.world import World

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
# Set it to a folder to keep a picture of every page.
PICTURES = os.environ.get("CONSOLE_PICTURES")
HIDDEN = "\u202e\u200b"


@pytest.fixture
def on_a_chain(settings: Any) -> None:
    """Name a chain, so that the readings are of one; nobody answers there."""
    settings.CHAIN_ID, settings.CHAIN_RPC_URL = 31337, "http://127.0.0.1:9"
    settings.USDC_ADDRESS, settings.DEPOSIT_FACTORY_ADDRESS = "0x" + "11" * 20, "0x" + "22" * 20


@pytest.fixture
def poisoned(make_agent: Any, credit: Any, on_a_chain: None) -> World:
    return world.build(make_agent, credit)


@pytest.fixture
def ordinary(make_agent: Any, credit: Any, on_a_chain: None) -> World:
    return world.build(make_agent, credit, poison=False)


def picture(page: Any, name: str) -> None:
    if PICTURES:
        page.screenshot(path=f"{PICTURES}/{name.replace('/', '-').replace(', ', '-')}.png", full_page=True)


def root_of(browser: Any, live_server: Any, **options: Any) -> Any:
    return sign_in_page(watched(browser, **options), live_server, "root", world.PASSWORD)


def to_the_confirmation(page: Any, live_server: Any, built: World) -> None:
    """Fill in a ruling and go to the page that asks about it."""
    page.goto(live_server.url + reverse("admin:case", args=[built.cases["calm"].pk]))
    page.check("input[name=reason_codes][value=not_as_agreed]")
    page.fill("#id_reasons", REASONS)
    page.fill("#id_private_notes", world.POISON)
    page.click("text=Review the ruling")
    page.wait_for_url("**/ruling/")


# Colours fade into one another: wait until they did.
SETTLED = """() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))
    .then(() => Promise.all(document.getAnimations().map((fading) => fading.finished)))"""


def in_both_schemes(page: Any, axe: str, name: str) -> dict[str, list[str]]:
    """Judge a page in the dark by its colours, and in the light by everything: nothing else changes with them."""
    found = {}
    for scheme, rules in (("dark", ["color-contrast"]), ("light", None)):
        page.emulate_media(color_scheme=scheme)
        page.evaluate(SETTLED)
        found[f"{scheme}, {name}"] = judged(page, axe, rules=rules)
        picture(page, f"{scheme}-{name}")
    return found


def width_of(page: Any) -> int:
    """Measure how wide a window has to be for nothing to stand beyond its edge."""
    return int(page.evaluate("document.documentElement.scrollWidth"))


def went_wrong(page: Any, live_server: Any) -> list[str]:
    """Say what a stranger's text did on this page that text does not do."""
    found = [f"a script ran: {page.evaluate('window.ran')}"] if page.evaluate("'ran' in window") else []
    found += page.evaluate("window.refused")
    found += page.evaluate(
        """() => [...document.querySelectorAll(
            ".probe, [onerror], [onload], [onmouseover], [onfocus], a[href^='javascript:'], a[href*='ran.example'],"
            + "[src='/ran'], script:not([src]), iframe, object, embed")].map((one) => one.outerHTML.slice(0, 200))"""
    )
    text = page.evaluate("document.body.innerText")
    found += [f"a hidden character: {character!r}" for character in HIDDEN if character in text]
    if "{{ 7|add:7 }}" not in text and "x=14" in text:
        found.append("a template ran")
    for kind, address in page.asked:
        path = urlsplit(address).path
        if not address.startswith(live_server.url) or not path.startswith(("/static/", "/admin/")):
            found.append(f"asked for {kind} {address}")
    page.asked.clear()
    return found + [said for said in page.wrong if "403" not in said and "404" not in said]


class TestStrangersText:
    def test_runs_on_no_page_that_staff_work_with(self, browser, live_server, poisoned):
        page = root_of(browser, live_server)
        shown = set()
        for name, path in everywhere.pages(poisoned).items():
            page.goto(live_server.url + path)

            assert went_wrong(page, live_server) == [], name
            assert width_of(page) <= 1280, name
            if "user\\u{202E}gnp.exe\\u{200B}" in page.evaluate("document.body.innerText"):
                shown.add(name)
        to_the_confirmation(page, live_server, poisoned)

        assert went_wrong(page, live_server) == []
        # it was there to run: on every case, and on the pages that tell of one
        assert shown >= {f"case, {state}" for state in poisoned.cases} | {"agent, client", "agent, seller"}

    @pytest.mark.long
    def test_runs_on_no_page_of_records(self, browser, live_server, poisoned):
        page = root_of(browser, live_server)
        looked_at = 0
        for path in everywhere.records():
            page.goto(live_server.url + path)

            assert went_wrong(page, live_server) == [], path
            looked_at += 1

        assert looked_at > 60


class TestAxe:
    def test_finds_nothing_serious_where_staff_work(self, browser, live_server, ordinary, axe):
        page = watched(browser)
        page.goto(f"{live_server.url}/admin/login/")
        found = in_both_schemes(page, axe, "sign-in")
        page = root_of(browser, live_server)
        kinds = set()
        for name, path in everywhere.pages(ordinary).items():
            page.goto(live_server.url + path)
            kind = name.split(",")[0]
            found |= in_both_schemes(page, axe, name) if kind not in kinds else {name: judged(page, axe)}
            kinds.add(kind)
            assert width_of(page) <= 1280, name
        to_the_confirmation(page, live_server, ordinary)
        found |= in_both_schemes(page, axe, "confirm a ruling")

        assert listed(found) == []

    @pytest.mark.long
    def test_finds_nothing_serious_on_records(self, browser, live_server, ordinary, axe):
        page = root_of(browser, live_server)
        found = {}
        for path in everywhere.records():
            page.goto(live_server.url + path)
            found[path] = judged(page, axe)

        assert listed(found) == []


class TestTheKeyboard:
    def test_leads_from_the_door_to_the_oldest_case(self, browser, live_server, ordinary):
        from accounts.tests.staff import fresh_code_of

        page = watched(browser)
        page.goto(f"{live_server.url}/admin/")
        for text in (ordinary.mona.username, world.PASSWORD, fresh_code_of(ordinary.mona)):
            page.keyboard.type(text)
            page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.wait_for_url(f"{live_server.url}/admin/")

        # the first stop leads past the top of the page
        page.keyboard.press("Tab")
        assert focused(page) == "Skip to main content"
        page.keyboard.press("Enter")
        oldest = Dispute.objects.get(pk=ordinary.cases["late"].pk)
        walk_to(page, str(oldest.pk)[-6:])
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
        page.keyboard.press("Enter")
        page.wait_for_url(f"**/admin/cases/{oldest.pk}/")

        assert page.wrong == []

    def test_sees_where_it_is_on_every_stop(self, browser, live_server, ordinary):
        page = root_of(browser, live_server)
        for path in ("/admin/", "/admin/cases/", f"/admin/cases/{ordinary.cases['mine'].pk}/", "/admin/agents/"):
            page.goto(live_server.url + path)
            for _ in range(40):
                page.keyboard.press("Tab")
                unseen = page.evaluate(
                    """() => {
                        const style = getComputedStyle(document.activeElement);
                        const shown = (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0)
                            || style.boxShadow !== "none" || style.borderBottomStyle !== "none"
                            || style.textDecorationLine !== "none";
                        const here = document.activeElement;
                        return here === document.body || shown ? "" : here.outerHTML;
                    }"""
                )
                assert unseen == "", path


def listed(found: dict[str, list[str]]) -> list[str]:
    return [f"{page}: {said}" for page, all_said in found.items() for said in all_said]


def focused(page: Any) -> str:
    return str(page.evaluate("document.activeElement.innerText"))


def walk_to(page: Any, words: str, most: int = 80) -> None:
    """Press Tab until something with these words is focused."""
    for _ in range(most):
        if focused(page) == words:
            return
        page.keyboard.press("Tab")
    pytest.fail(f"no stop says {words!r}")
