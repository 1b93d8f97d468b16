"""A treasurer at work in a real browser: figures that follow the chain, one yes for two clicks, switches."""

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from accounts import clock, staff
from accounts.models import PauseChange
from accounts.tests.staff import sign_in_page
from escrow import deposit_addresses, deposits, explanations, scans, sweeps, watch, withdrawals
from escrow.chain import addresses, rpc, usdc
from escrow.models import TreasuryReading, Withdrawal, WithdrawalApproval
from escrow.tests.chain import UNITS
from escrow.tests.treasury import entry_for, run, treasury_tick

CHROMIUM = Path("/usr/bin/chromium")
# Set it to a folder to keep pictures of every step: for people who change the pages. `treasury.png` is the README's.
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
def treasurer(db: None) -> Any:
    staff.prepare_groups()
    return staff.prepare_account("tess", groups=["Treasurers"], password=PASSWORD)


@pytest.fixture
def busy(chain: Any, treasury_rows: None, treasurer: Any, make_agent: Any, settings: Any) -> dict[str, Any]:
    """Money on its way in every direction: what a treasurer finds on an ordinary day, and one alert."""
    settings.SWEEP_ABOVE_UNITS = 1
    names = ["atlas-research", "quill-summaries", "harbor-translations", "lattice-code", "meridian-data"]
    atlas, quill, harbor, lattice, meridian = (make_agent(name) for name in names)
    for days, (agent, units) in enumerate(
        [(atlas, 2_600), (quill, 840), (harbor, 1_275), (lattice, 4_412), (meridian, 15_500)]
    ):
        chain.mint(deposit_addresses.of(agent).address, units * UNITS)
        _settle_down(chain)
        _read_long_ago(days=29 - 6 * days)
    sweeps.sweep_due()
    run(chain, 2)
    for agent, units in ((quill, 125), (harbor, 60)):
        withdrawals.request(agent, amount_units=units * UNITS, entry_id=entry_for(agent).pk)
    run(chain, 2)
    _settle_down(chain)
    _read_long_ago(days=1)
    # one that is not final yet, one that waits for a treasurer, one that waits for two
    withdrawals.request(atlas, amount_units=310 * UNITS, entry_id=entry_for(atlas).pk)
    treasury_tick()
    chain.mine()
    held = withdrawals.request(atlas, amount_units=1_500 * UNITS, entry_id=_entry(atlas, "vault\u202egpj.exe").pk)
    large = withdrawals.request(meridian, amount_units=12_000 * UNITS, entry_id=_entry(meridian, "exchange").pk)
    withdrawals.approve(large.pk, by=_colleague(), revision=1, reason="Their yearly transfer; I rang them up.")
    # one deposit that is nobody's, one below the minimum, one in a young block; and a relayer that runs dry
    chain.mint(chain.faucet, 75 * UNITS)
    chain.do(chain.usdc, usdc.transfer_call(chain.treasury, 75 * UNITS))
    chain.mint(deposit_addresses.of(quill).address, 400_000)
    _settle_down(chain)
    chain.node.ask("anvil_setBalance", rpc.text(chain.deployed["relayers"][1]), hex(3_120_000_000_000_000))
    assert watch.watch() is not None
    withdrawals.request(lattice, amount_units=48 * UNITS, entry_id=entry_for(lattice).pk)
    chain.mint(deposit_addresses.of(harbor).address, 220 * UNITS)
    scans.scan()
    return {"held": held, "harbor": harbor, "large": large}


def _settle_down(chain: Any) -> None:
    """Let what is on the chain become final, and the books follow."""
    scans.scan()
    chain.finalize()
    scans.scan()
    deposits.credit_due()
    explanations.explain_due()


def _read_long_ago(*, days: int) -> None:
    reading = watch.watch()
    assert reading is not None
    at = clock.now() - timedelta(days=days)
    TreasuryReading.objects.filter(pk=reading.pk).update(read_at=at, block_at=at)


def _colleague() -> Any:
    return staff.prepare_account("theo", groups=["Treasurers"])


def _entry(agent: Any, label: str) -> Any:
    entry = entry_for(agent)
    entry.label = label
    entry.save(update_fields=["label"])
    return entry


def picture(page: Any, name: str, **options: Any) -> None:
    if PICTURES:
        page.screenshot(path=f"{PICTURES}/{name}.png", **options)


def treasury_of(browser: Any, live_server: Any, *, clock: bool = False, **options: Any) -> Any:
    page = browser.new_page(viewport={"width": 1280, "height": 800}, **options)
    page.wrong = []
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.on("console", lambda said: page.wrong.append(said.text) if said.type in ("error", "warning") else None)
    if clock:
        page.clock.install()
    return sign_in_page(page, live_server, "tess", PASSWORD, path="/admin/treasury/")


def shown(page: Any, part: str) -> str:
    return " ".join(page.locator(f"[data-part={part}]").inner_text().replace("\u202f", "").split())


def see(page: Any, part: str, text: str) -> None:
    """Wait until a part of the page says so by itself."""
    page.wait_for_function(
        """([part, text]) => document.querySelector(`[data-part=${part}]`).innerText
            .replaceAll("\\u202f", "").replace(/\\s+/g, " ").includes(text)""",
        arg=[part, text],
    )


def say_why(page: Any, reason: str, button: str) -> None:
    """Give a reason and click twice, as people do."""
    page.fill("#id_reason", reason)
    page.dblclick(f"button:text-is('{button}')")
    page.wait_for_url("**/admin/treasury/")


def test_a_treasurer_sees_the_money_move_and_decides(browser, live_server, chain, busy, treasurer):
    page = treasury_of(browser, live_server)
    page.goto(f"{live_server.url}/admin/")
    picture(page, "treasury-home")
    page.click("nav.desk-links >> text=Treasury")

    # the figures, with their block
    final = chain.node.heads().finalized.number
    assert page.locator("#as-of-block").inner_text() == str(final)
    assert shown(page, "figures").startswith("24207.400000 On the chain, USDC 24517.400000 Custody in the ledger")
    assert "0.000000 Ledger less chain; +310.000000 under way" in shown(page, "figures")
    assert "A relayer is short of gas" in shown(page, "alerts")
    assert page.locator("#treasury-words").inner_text() == "Ledger and chain agree. 1 alert."
    assert page.evaluate("Chart.getChart('history-chart').data.datasets[0].data.length") == 7
    page.locator("#treasury-pulse:visible").wait_for()
    picture(page, "treasury", full_page=True, clip={"x": 0, "y": 0, "width": 1280, "height": 1290})
    picture(page, "treasury-whole", full_page=True)

    # a deposit, step by step and without a reload
    page.evaluate("window.neverReloaded = true")
    assert "220.000000 harbor-translations" in shown(page, "deposits")
    _settle_down(chain)
    see(page, "figures", "24737.400000 Custody in the ledger")
    see(page, "figures", f"at final block {chain.node.heads().finalized.number} of")
    see(page, "deposits", "Deposits in flight 2")
    assert page.evaluate("window.neverReloaded")

    # a held payout: the page that asks, and a double click
    row = page.locator(".payouts-held tr", has_text="1\u202f500.000000")
    row.locator("text=Approve").click()
    picture(page, "treasury-approve")
    assert "vault\\u{202E}gpj.exe" in page.locator("#content").inner_text()
    assert Withdrawal.objects.get(pk=busy["held"].pk).state == "held"
    say_why(page, "They asked for it by phone as well.", "Approve")
    assert "You approved the payout of 1500.000000 USDC." in page.locator(".messagelist").inner_text()
    assert WithdrawalApproval.objects.filter(withdrawal=busy["held"]).count() == 1
    assert Withdrawal.objects.get(pk=busy["held"].pk).state == "requested"

    # a switch there and back, each with a reason
    page.click("[data-part=switches] a >> nth=0")
    picture(page, "treasury-pause")
    say_why(page, "The keys are being looked at.", "Pause")
    assert "Withdrawals paused" in shown(page, "switches")
    assert "withdrawals to be resumed" in shown(page, "payouts")
    picture(page, "treasury-paused")
    page.click("[data-part=switches] >> text=Resume")
    say_why(page, "They are fine.", "Resume")
    assert list(PauseChange.objects.order_by("revision").values_list("paused", "reason")) == [
        (True, "The keys are being looked at."),
        (False, "They are fine."),
    ]
    assert page.wrong == []


def test_income_is_asked_for_in_two_steps(browser, live_server, busy):
    page = treasury_of(browser, live_server)
    page.click("text=Pay out platform income")
    page.fill("#id_amount", "1")
    page.fill("#id_address", addresses.to_text(b"\x11" * 20))
    page.fill("#id_reason", "Rent of the office.")
    page.click("button:text-is('Review')")
    picture(page, "treasury-income")
    assert not Withdrawal.objects.filter(owner="platform").exists()

    page.dblclick("button:text-is('Ask for it')")
    page.wait_for_url("**/admin/treasury/")

    assert Withdrawal.objects.filter(owner="platform").count() == 1
    assert "asked by tess: Rent of the office." in shown(page, "payouts")
    assert page.wrong == []


def test_it_tells_the_truth_while_the_node_is_away_and_the_chain_turns_back(
    browser, live_server, busy, chain, settings
):
    page = treasury_of(browser, live_server)
    settings.CHAIN_RPC_URL = "http://127.0.0.1:9"
    see(page, "figures", "Not live. The node does not answer. These are the figures of the last reading")
    assert page.locator("#treasury-words").inner_text() == "The figures are not live. 1 alert."
    picture(page, "treasury-away")
    settings.CHAIN_RPC_URL = chain.url
    see(page, "figures", "Read now")

    chain.reorg(1)
    chain.mine(2)
    scans.scan()

    see(page, "deposits", "orphaned nothing: its block is gone")
    assert page.wrong == []


def test_it_rests_while_nobody_looks(browser, live_server, chain, treasury_rows, treasurer):
    page = treasury_of(browser, live_server, clock=True)
    asked = []
    page.on("request", lambda request: asked.append(request.url) if request.url.endswith("/live/") else None)
    with page.expect_response("**/live/"):
        page.clock.run_for(5_000)
    page.locator("#treasury-pulse:visible").wait_for()

    page.evaluate("Object.defineProperty(document, 'hidden', { value: true, configurable: true })")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.clock.run_for(60_000)
    assert len(asked) == 1
    page.evaluate("Object.defineProperty(document, 'hidden', { value: false })")
    with page.expect_response("**/live/"):
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")

    assert len(asked) == 2
    assert page.wrong == []


def test_it_is_readable_in_the_dark(browser, live_server, busy):
    page = treasury_of(browser, live_server, color_scheme="dark")
    picture(page, "treasury-dark", full_page=True)

    background = page.evaluate("getComputedStyle(document.querySelector('.panel')).backgroundColor")
    for selector in (".as-of", ".chip-held", ".light-late", ".tile-good b", ".payouts td", ".quiet"):
        ink = page.evaluate(f"getComputedStyle(document.querySelector('{selector}')).color")
        assert _contrast(background, ink) > 4.5, selector
    assert page.evaluate("Chart.getChart('history-chart').data.datasets[1].borderColor") == "#4fc1b8"
    assert page.wrong == []


@pytest.mark.parametrize("width", [1280, 1024])
def test_it_fits_a_laptop(browser, live_server, busy, width):
    page = treasury_of(browser, live_server)
    page.set_viewport_size({"width": width, "height": 800})
    for path in ("", f"payouts/{busy['held'].pk}/reject/", "income/", "switches/deposits/pause/"):
        page.goto(f"{live_server.url}/admin/treasury/{path}")
        picture(page, f"treasury-{width}-{path.replace('/', '-')[-12:]}", full_page=True)

        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), path
    assert page.wrong == []


def _luminance(colour: str) -> float:
    parts = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)
