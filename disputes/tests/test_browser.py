"""A moderator at work in a real browser: signs in, reads, moves the slider, rules; the money follows."""

import os
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import connections

from accounts import clock, staff
from disputes import cases, deadlines, evidence
from disputes.models import Dispute, Ruling
from disputes.tests.browsing import sign_in_page
from disputes.tests.conftest import REASONS
from marketplace import deliveries, jobs, offers, terms

CHROMIUM = Path("/usr/bin/chromium")
# Set it to a folder to keep pictures of every step: for people who change the pages. `dispute.png` is the README's.
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
def case(settings, make_agent, credit) -> Dispute:
    """A quarrel with something of everything, under review."""
    settings.APPEAL_SECONDS = 2
    now = clock.now()
    client, seller = make_agent("atlas-research"), make_agent("quill-summaries")
    for agent in (client, seller):
        credit(agent, 500_000_000)
    at = now - timedelta(days=4)
    wanted = {
        "price": 60_000_000,
        "title": "Summaries of the twelve chapters of Tides and Ports",
        "requirements": {"chapters": 12, "words_per_chapter": 400, "figures": "one table per chapter"},
        "delivery_seconds": 172_800,
        "seller_bond": 6_000_000,
    }
    first = terms.read(wanted)
    agreed = terms.read(wanted | {"price": 80_000_000, "delivery_seconds": 259_200, "seller_bond": 4_000_000})
    job = offers.propose(client, seller, terms=first, message="Twelve chapters, one table each.", at=at)
    offers.counter(job.id, by=seller, terms=agreed, message="Gladly, with a day more.", at=at + timedelta(minutes=4))
    offers.agree(job.id, by=client, terms_hash=agreed.hash, at=at + timedelta(minutes=9))
    jobs.fund(job.id, client=client, at=at + timedelta(minutes=10))
    jobs.start(job.id, seller=seller, at=at + timedelta(minutes=12))
    work = {"chapters": [{"number": n, "summary": f"Chapter {n} follows the harbour …"} for n in (1, 2, 3)]}
    at += timedelta(hours=20)
    deliveries.deliver(job.id, seller=seller, content=deliveries.from_json(work), note="First part.", at=at)
    at += timedelta(hours=2)
    deliveries.request_revision(job.id, client=client, reason="Nine chapters and all tables are missing.", at=at)
    at += timedelta(hours=5)
    deliveries.deliver(job.id, seller=seller, content=deliveries.from_json(work), note="Complete.", at=at)
    opened = cases.open(
        job.id,
        opener=client,
        reason="not_as_agreed",
        statement="Both deliveries hold the first three chapters only, and not one of the twelve tables that the terms"
        " ask for. The second is byte for byte the first.",
        requested_seller_bps=1_000,
        at=at + timedelta(hours=1),
    )
    cases.answer(
        opened.id,
        by=seller,
        statement="Chapters four to twelve repeat what the first three say; three summaries are the honest length, and"
        " the tables follow from the book itself.",
        requested_seller_bps=10_000,
        at=at + timedelta(hours=3),
    )
    at += timedelta(hours=4)
    evidence.submit(
        opened.id,
        by=client,
        item=evidence.from_text("Digests of delivery 1 and 2 are equal: nothing was added after my request."),
        at=at,
    )
    hidden = {"said": "see chapters.pdf\u202egpj", "pages": [41, 42]}
    evidence.submit(opened.id, by=seller, item=evidence.from_json(hidden), at=at + timedelta(minutes=30))
    return deadlines.enforce(opened.id, at=at + timedelta(days=2))


@pytest.fixture
def people() -> None:
    staff.prepare_groups()
    staff.prepare_account("mona", groups=["Moderators"], password=PASSWORD)
    assert Group.objects.filter(name="Moderators").exists()


def picture(page: Any, name: str, **options: Any) -> None:
    if PICTURES:
        page.screenshot(path=f"{PICTURES}/{name}.png", **options)


def desk_of(browser: Any, live_server: Any, **options: Any) -> Any:
    page = browser.new_page(viewport={"width": 1280, "height": 800}, **options)
    page.wrong = []
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.on("console", lambda said: page.wrong.append(said.text) if said.type == "error" else None)
    return sign_in_page(page, live_server, "mona", PASSWORD)


def amounts(page: Any) -> dict[str, str]:
    rows = page.locator("#entries tr")
    return {rows.nth(n).locator("th").inner_text(): rows.nth(n).locator("td").inner_text() for n in range(rows.count())}


def test_a_moderator_finds_a_case_rules_and_the_money_moves(browser, live_server, case, people, balance_of):
    client, seller = case.client, case.seller
    before = {agent.pk: balance_of("available", agent) for agent in (client, seller)}
    page = desk_of(browser, live_server)
    picture(page, "desk")

    # the oldest case, found from the desk
    page.click("table.cases a")
    page.click("text=Take this case")
    assert page.locator(".messagelist").inner_text() == "The case is yours."
    page.reload()
    picture(page, "case-whole", full_page=True)

    # the slider, by keyboard, and what it would post
    slider = page.locator("#share-slider")
    slider.focus()
    for _ in range(40):
        page.keyboard.press("ArrowLeft")
    assert page.locator("#id_seller_bps").input_value() == "3000"
    assert page.locator("#share-words").inner_text() == "30 %"
    page.locator("#entries", has_text="27.760000").wait_for()
    assert amounts(page) == {
        "Held price": "−80.000000",
        "Seller": "+27.760000",  # 24 less 1 %, and the bond
        "Platform fee": "+0.240000",
        "Client": "+56.000000",
        "Held bond": "−4.000000",
    }
    page.check("input[name=reason_codes][value=not_as_agreed]")
    page.fill("#id_reasons", REASONS)
    assert "of at least 200" in page.locator("#reasons-count").inner_text()
    page.evaluate("window.scrollTo(0, 0)")
    page.locator(".case-aside").evaluate("aside => aside.scrollTop = 0")
    picture(page, "dispute")

    # the page that asks again, and a double click
    page.click("text=Review the ruling")
    picture(page, "confirm")
    assert not Ruling.objects.exists()
    page.dblclick("button:text-is('Rule')")
    page.wait_for_url("**/admin/cases/*/")
    picture(page, "ruled")
    assert Ruling.objects.count() == 1
    assert {agent.pk: balance_of("available", agent) for agent in (client, seller)} == before

    # the window passes
    time.sleep(2.1)
    assert deadlines.enforce_due() == 1
    assert balance_of("available", seller) - before[seller.pk] == 27_760_000
    assert balance_of("available", client) - before[client.pk] == 56_000_000
    page.reload()
    assert "Final" in page.locator("h1").inner_text()
    picture(page, "final")
    assert page.wrong == []


def test_it_is_readable_in_the_dark(browser, live_server, case, people):
    page = desk_of(browser, live_server, color_scheme="dark")
    page.goto(f"{live_server.url}/admin/cases/")
    picture(page, "queue-dark")
    page.click("table.cases a")
    picture(page, "case-dark")

    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    ink = page.evaluate("getComputedStyle(document.querySelector('.reasons, .asks')).color")

    assert _luminance(background) < 0.05
    assert _contrast(background, ink) > 4.5
    assert page.wrong == []


def test_it_fits_a_laptop(browser, live_server, case, people):
    page = desk_of(browser, live_server)
    for path in ("", "cases/", f"cases/{case.pk}/", "disputes/dispute/"):
        page.goto(f"{live_server.url}/admin/{path}")
        picture(page, f"laptop-{path.replace('/', '-')}")

        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), path

    assert page.wrong == []


def _luminance(colour: str) -> float:
    parts = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)
