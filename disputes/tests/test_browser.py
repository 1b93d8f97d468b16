"""Moderators at work in a real browser: they take, read, ask, rule, approve and hear an appeal; the money follows."""

import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from accounts import clock, staff
from accounts.models import User
from disputes import appeals, assignment, deadlines, questions
from disputes.models import Appeal, Dispute, Question, Ruling
from disputes.tests import quarrel
from disputes.tests.browsing import sign_in_page
from disputes.tests.conftest import GROUNDS, REASONS

CHROMIUM = Path("/usr/bin/chromium")
# Set it to a folder to keep pictures of every step: for people who change the pages. `case.png` is the README's.
PICTURES = os.environ.get("CONSOLE_PICTURES")
PASSWORD = "a long enough password"

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def _connections_end_with_their_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no thread of the live server keep the test database open."""
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 0)


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    if not CHROMIUM.exists():
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail(f"REQUIRE_BROWSER=1, and there is no {CHROMIUM}: apt-get install chromium")
        pytest.skip(f"there is no {CHROMIUM}: apt-get install chromium")
    sync_api = pytest.importorskip("playwright.sync_api")
    # Playwright runs an event loop in this thread; the test itself stays synchronous.
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=str(CHROMIUM),
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"],
        )
        yield chromium
        connections.close_all()  # the ones opened beside that loop, which nobody else would close
        chromium.close()


@pytest.fixture
def people(db: None) -> dict[str, User]:
    """Two moderators and two seniors."""
    staff.prepare_groups()
    groups = {"mona": "Moderators", "max": "Moderators", "sigrid": "Senior moderators", "sven": "Senior moderators"}
    return {name: staff.prepare_account(name, groups=[group], password=PASSWORD) for name, group in groups.items()}


@pytest.fixture
def case(settings, make_agent, credit, people) -> Dispute:
    """A quarrel with something of everything, under review; the seller has lost one before."""
    settings.APPEAL_SECONDS = 2
    client, seller, rival = (make_agent(handle) for handle in ("atlas-research", "quill-summaries", "delta-notes"))
    for agent in (client, seller, rival):
        credit(agent, 500_000_000)
    now = clock.now()
    for buyer, bps in ((rival, 0), (rival, 3_000), (client, 5_000), (client, 10_000), (rival, 2_500)):
        quarrel.earlier(buyer, seller, moderator=people["max"], now=now, seller_bps=bps)
    return quarrel.of_tides_and_ports(client, seller, now=now)


def picture(page: Any, name: str, **options: Any) -> None:
    if PICTURES:
        page.screenshot(path=f"{PICTURES}/{name}.png", **options)


def desk_of(browser: Any, live_server: Any, who: str = "mona", **options: Any) -> Any:
    """Sign somebody in, in a browser of their own."""
    page = browser.new_page(viewport={"width": 1280, "height": 800}, **options)
    page.wrong = []
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.on("console", lambda said: page.wrong.append(said.text) if said.type == "error" else None)
    return sign_in_page(page, live_server, who, PASSWORD)


def amounts(page: Any, table: str = "#entries") -> dict[str, str]:
    rows = page.locator(f"{table} tr")
    return {rows.nth(n).locator("th").inner_text(): rows.nth(n).locator("td").inner_text() for n in range(rows.count())}


def messages(page: Any) -> str:
    return str(page.locator(".messagelist").inner_text())


def fill_in(page: Any, *, bps: int, codes: tuple[str, ...] = ("not_as_agreed",), notes: str = "") -> None:
    page.fill("#id_seller_bps", str(bps))
    for code in codes:
        page.check(f"input[name=reason_codes][value={code}]")
    page.fill("#id_reasons", REASONS)
    page.fill("#id_private_notes", notes)


def to_the_top(page: Any) -> None:
    page.evaluate("window.scrollTo(0, 0)")
    page.locator(".case-aside").evaluate("aside => aside.scrollTop = 0")


def test_take_read_ask_rule_approve_and_the_money_moves(browser, live_server, case, people, balance_of):
    client, seller = case.client, case.seller
    before = {agent.pk: balance_of("available", agent) for agent in (client, seller)}
    page = desk_of(browser, live_server)
    picture(page, "desk")

    # take whatever is next
    page.goto(f"{live_server.url}/admin/cases/next/")
    picture(page, "take-next")
    page.click("button:text-is('Take it')")
    page.wait_for_url(f"**/admin/cases/{case.pk}/")
    assert messages(page) == "The case is yours."
    assert "You have this case: read it, ask if something is missing, and rule by" in page.inner_text(".next-step")
    assert "quill-summaries" in page.inner_text(".side-seller")
    assert "user\\u{202E}" not in page.inner_text("#evidence >> xpath=..")
    assert "chapters.pdf\\u{202E}gpj" in page.inner_text("#item-2")
    page.locator("#item-3").scroll_into_view_if_needed()
    shown = page.locator("#item-3 img.exhibit")
    shown.evaluate("image => image.decode()")
    assert shown.evaluate("image => image.naturalWidth") == 560

    # ask the seller, who answers
    page.click("text=Ask a party")
    page.check("input[name=to][value=seller]")
    page.fill("#id_text", "Which pages of the book hold the twelve tables that you say follow from it?")
    picture(page, "ask")
    page.click("button:text-is('Ask')")
    page.wait_for_url(f"**/admin/cases/{case.pk}/")
    assert "wait for the seller to answer" in page.inner_text(".next-step")
    assert page.locator("#ruling-form").count() == 0
    picture(page, "question")
    asked = Question.objects.get()
    questions.answer(case.pk, by=seller, question_id=asked.pk, text="Pages 41 and 42, at the end of chapter three.")
    page.goto(f"{live_server.url}/admin/cases/{case.pk}/")
    assert "Pages 41 and 42" in page.inner_text("#question-1")

    # the slider, by keyboard, and what it would post
    slider = page.locator("#share-slider")
    slider.focus()
    page.keyboard.press("Home")
    assert page.locator("#id_seller_bps").input_value() == "0"
    assert page.locator("#id_bond").input_value() == "client", "the default fault table"
    page.locator("#preview-second", has_text="Taking a seller's bond needs a second person").wait_for()
    for _ in range(60):
        page.keyboard.press("ArrowRight")
    assert page.locator("#share-words").inner_text() == "30 %"
    assert page.locator("#id_bond").input_value() == "seller"
    page.locator("#entries", has_text="27.760000").wait_for()
    shown = amounts(page)
    assert shown["Held price"] == "−80.000000"
    assert shown["Seller"] == "+27.760000"  # 24 less 1 %, and the bond
    assert shown["Client"].startswith("+")
    page.check("input[name=reason_codes][value=fraud]")
    page.locator("#preview-second", has_text="A finding of fraud").wait_for()
    page.check("input[name=reason_codes][value=not_as_agreed]")
    page.fill("#id_reasons", REASONS)
    page.fill("#id_private_notes", "Look at both digests.")
    assert "of at least 200" in page.locator("#reasons-count").inner_text()
    to_the_top(page)
    picture(page, "case")
    picture(page, "case-whole", full_page=True)

    # the page that asks again, and a double click
    page.click("text=Review the ruling")
    assert "A second person will be needed" in page.inner_text("#content")
    picture(page, "confirm")
    assert not Ruling.objects.filter(dispute=case).exists()
    page.dblclick("button:text-is('Rule')")
    page.wait_for_url(f"**/admin/cases/{case.pk}/")
    assert Ruling.objects.filter(dispute=case).count() == 1
    assert "You wrote this ruling" in page.inner_text(".next-step")
    picture(page, "awaiting-approval")

    # back to where the form was: the server shows how things stand
    with page.expect_navigation():
        page.evaluate("history.go(-2)")
    assert page.locator("#ruling-form").count() == 0
    assert "You wrote this ruling" in page.inner_text(".next-step")
    assert Ruling.objects.filter(dispute=case).count() == 1

    # the second person
    second = desk_of(browser, live_server, "max")
    second.goto(f"{live_server.url}/admin/cases/{case.pk}/")
    assert "Look at both digests." in second.inner_text(".case-aside")
    assert amounts(second, "#proposed-entries") == shown
    to_the_top(second)
    picture(second, "second-person")
    second.click("a:text-is('Approve')")
    picture(second, "approve")
    second.dblclick("button:text-is('Approve')")
    second.wait_for_url(f"**/admin/cases/{case.pk}/")
    assert "You approved the ruling." in messages(second) or "changed nothing" in messages(second)
    assert Dispute.objects.get(pk=case.pk).state == "ruled"
    assert {agent.pk: balance_of("available", agent) for agent in (client, seller)} == before

    # the window passes
    time.sleep(2.1)
    assert deadlines.enforce_due() >= 1
    moved = {agent.pk: balance_of("available", agent) - before[agent.pk] for agent in (client, seller)}
    assert f"+{moved[seller.pk] / 1e6:.6f}" == shown["Seller"]
    assert f"+{moved[client.pk] / 1e6:.6f}" == shown["Client"]
    page.goto(f"{live_server.url}/admin/cases/{case.pk}/")
    assert "Final" in page.locator("h1").inner_text()
    picture(page, "final")
    assert page.wrong == second.wrong == []


def test_a_senior_hears_an_appeal_and_another_agrees(browser, live_server, settings, case, people, balance_of):
    from disputes.tests.conftest import ruled

    settings.APPEAL_SECONDS = 3_600
    Dispute.objects.filter(pk=case.pk).update(appeal_seconds=3_600)
    ruled(Dispute.objects.get(pk=case.pk), people["mona"])
    appeals.file(case.pk, appellant=case.client, grounds=GROUNDS)
    before = {agent.pk: balance_of("available", agent) for agent in (case.client, case.seller)}
    page = desk_of(browser, live_server, "sigrid")
    page.goto(f"{live_server.url}/admin/cases/{case.pk}/")
    assert "Nobody hears this appeal yet" in page.inner_text(".next-step")
    page.click("text=Take this case")
    page.click("button:text-is('Take it')")
    page.wait_for_url(f"**/admin/cases/{case.pk}/")
    assert "You hear this appeal" in page.inner_text(".next-step")

    fill_in(page, bps=0, codes=("unusable",), notes="The tables decide it.")
    page.locator("#preview-second", has_text="second person").wait_for()
    page.locator("#entries", has_text="+87.200000").wait_for()  # price, bond, and the deposits of case and appeal
    to_the_top(page)
    picture(page, "appeal")
    page.click("text=Review the ruling")
    shown = amounts(page, ".entries tbody")
    picture(page, "appeal-confirm")
    page.click("button:text-is('Replace the ruling')")
    page.wait_for_url(f"**/admin/cases/{case.pk}/")
    assert "waits for a second person" in messages(page)
    assert Dispute.objects.get(pk=case.pk).state == "appealed"

    second = desk_of(browser, live_server, "sven")
    second.goto(f"{live_server.url}/admin/cases/{case.pk}/")
    assert amounts(second, "#proposed-entries") == shown
    second.click("a:text-is('Approve')")
    second.click("button:text-is('Approve')")
    second.wait_for_url(f"**/admin/cases/{case.pk}/")
    assert "Final" in second.locator("h1").inner_text()
    picture(second, "appeal-final")
    moved = {agent.pk: balance_of("available", agent) - before[agent.pk] for agent in (case.client, case.seller)}
    assert f"+{moved[case.client.pk] / 1e6:.6f}" == shown["Client"]
    assert Appeal.objects.get().outcome == "replaced"
    assert page.wrong == second.wrong == []


def test_of_two_moderators_at_once_one_rules_and_the_other_keeps_their_words(browser, live_server, case, people):
    first, second = desk_of(browser, live_server), desk_of(browser, live_server, "max")
    for page in (first, second):
        page.goto(f"{live_server.url}/admin/cases/{case.pk}/")
        fill_in(page, bps=4_000)
        page.click("text=Review the ruling")

    first.click("button:text-is('Rule')")
    first.wait_for_url(f"**/admin/cases/{case.pk}/")
    second.click("button:text-is('Rule')")
    second.wait_for_selector("#unsent")

    assert "Nobody can rule in a case that is ruled" in second.inner_text(".case-aside")
    assert second.locator("#id_reasons").input_value() == REASONS
    assert "mona" in second.inner_text(".news")
    picture(second, "too-late")
    assert Ruling.objects.filter(dispute=case).count() == 1
    assert first.wrong == second.wrong == []


def test_everything_is_reached_by_the_keyboard(browser, live_server, case, people):
    assignment.take(case.pk, moderator=people["mona"])
    page = desk_of(browser, live_server)
    page.goto(f"{live_server.url}/admin/cases/{case.pk}/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent.trim()") == "Skip to main content"
    picture(page, "skip-link")

    reached = set()
    for _ in range(160):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))
        shown = page.evaluate(
            "(() => { const it = document.activeElement, style = getComputedStyle(it);"
            " return style.outlineStyle !== 'none' || style.boxShadow !== 'none' || it === document.body })()"
        )
        assert shown, page.evaluate("document.activeElement.outerHTML")

    assert reached >= {
        "Ask a party", "Give to a colleague", "Step back", "share-slider", "id_seller_bps", "id_redo", "id_bond",
        "id_deposit", "id_reason_codes_0", "id_reasons", "id_private_notes", "Review the ruling", "Default fault table",
    }  # fmt: skip
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(h => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert page.wrong == []


def test_a_redo_moves_nothing_but_deposits(browser, live_server, case, people):
    assignment.take(case.pk, moderator=people["mona"])
    page = desk_of(browser, live_server)
    page.goto(f"{live_server.url}/admin/cases/{case.pk}/")
    page.check("#id_redo")
    page.locator("#entries tr", has_text="Held price").wait_for(state="detached")
    assert page.locator("#share-slider").is_disabled()
    page.check("input[name=reason_codes][value=not_as_agreed]")
    page.fill("#id_reasons", REASONS)
    page.click("text=Review the ruling")
    assert "The work is done again" in page.inner_text("#content")
    page.click("button:text-is('Rule')")
    page.wait_for_url(f"**/admin/cases/{case.pk}/")

    assert Ruling.objects.get(dispute=case).redo
    assert page.wrong == []


def test_it_is_readable_in_the_dark(browser, live_server, case, people):
    page = desk_of(browser, live_server, color_scheme="dark")
    page.goto(f"{live_server.url}/admin/cases/{case.pk}/")
    picture(page, "case-dark")
    picture(page, "case-dark-whole", full_page=True)

    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert _luminance(background) < 0.05
    for what in (".asks", ".next-step p", ".tone-bad", ".party-text"):
        ink = page.evaluate(f"getComputedStyle(document.querySelector('{what}')).color")
        assert _contrast(background, ink) > 4.5, what
    assert page.wrong == []


def test_it_fits_a_laptop(browser, live_server, case, people):
    assignment.take(case.pk, moderator=people["mona"])
    page = desk_of(browser, live_server)
    for path in ("", "cases/", f"cases/{case.pk}/", f"cases/{case.pk}/question/", "disputes/dispute/"):
        page.goto(f"{live_server.url}/admin/{path}")
        picture(page, f"laptop-{path.replace('/', '-')}")

        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), path

    # the form and the facts are side by side, and the share and what it posts are there without scrolling
    page.goto(f"{live_server.url}/admin/cases/{case.pk}/")
    facts, form = page.locator("#stake").bounding_box(), page.locator("#ruling-form").bounding_box()
    assert facts["x"] + 300 < form["x"]
    assert page.locator("#share-slider").bounding_box()["y"] < 800
    assert page.wrong == []


def _luminance(colour: str) -> float:
    parts = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)
