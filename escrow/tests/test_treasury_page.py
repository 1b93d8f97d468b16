"""The treasury page: true figures, who sees it and who may act, strangers' text, and what a page costs."""

import hashlib
import re
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from django.conf import settings as of_django
from django.contrib.auth.models import Permission
from django.test import Client

from accounts import alerts, clock, pauses, staff
from accounts.models import Pause, PauseChange, User
from escrow import deposits, scans, treasury, withdrawals
from escrow.chain import addresses, hurry, rpc
from escrow.console import figures
from escrow.models import (
    Deposit,
    Outflow,
    Relayer,
    RelayTransaction,
    Treasury,
    TreasuryReading,
    Withdrawal,
    WithdrawalApproval,
)
from escrow.tests.chain import UNITS
from escrow.tests.console import form_of, say_yes, signed_in, text_of, url_of
from escrow.tests.treasury import entry_for, run, treasury_tick

pytestmark = pytest.mark.django_db
PAGE, LIVE = "/admin/treasury/", "/admin/treasury/live/"
AWAY = "http://127.0.0.1:9"  # nobody listens there
NEW, COLD = b"\x22" * 20, b"\x33" * 20
PROBE = "<script>alert(1)</script>\u202etxt"


class TestFigures:
    def test_are_those_of_ledger_and_chain_at_their_block(self, page, chain, ask):
        ask(40 * UNITS)
        run(chain, 2)
        scans.scan()
        chain.finalize()
        scans.scan()

        said = text_of(page.get(PAGE))

        assert "59.900000 On the chain" in said or "60.000000 On the chain" in said
        assert f"at final block {chain.node.heads().finalized.number} of" in said
        assert f"in the treasuries {60}.000000, cold 0.000000, unswept 0.000000" in said
        assert "60.000000 Custody in the ledger 60.000000 Liabilities 0.000000 Ledger less chain" in said
        assert "Ledger and chain agree. No alert." in said

    def test_change_with_the_chain(self, page, chain, rich, pay_in):
        before = text_of(page.get(PAGE))
        pay_in(rich, 25 * UNITS)
        chain.finalize()
        scans.scan()
        deposits.credit_due()

        parts = page.get(LIVE).json()["parts"]

        assert "100.000000 Custody" in before
        assert "<b>125.000000</b><span>Custody in the ledger" in parts["figures"]

    def test_say_what_is_missing(self, page, chain, stolen):
        said = text_of(page.get(PAGE))

        assert "Ledger and chain differ by 60.000000 USDC. 1 alert." in said
        assert "USDC left that nothing explains" in said

    def test_count_what_is_under_way(self, page, chain, ask):
        ask(40 * UNITS)
        treasury_tick()
        chain.finalize()
        scans.scan()

        said = text_of(page.get(PAGE))

        assert Withdrawal.objects.get().state == "broadcast"
        assert "0.000000 Ledger less chain; +40.000000 under way" in said

    def test_show_what_each_address_has(self, page, chain, rich):
        treasury.register(NEW, chain_id=chain.chain_id)
        Treasury.objects.create(chain_id=chain.chain_id, address=COLD, cold=True)
        chain.mint(COLD, 5 * UNITS)
        chain.finalize()
        scans.scan()

        said = text_of(page.get(PAGE))

        assert f"current 0.000000 {addresses.to_text(NEW)}" in said
        assert f"earlier 100.000000 Empty it {addresses.to_text(chain.treasury)}" in said
        assert f"cold 5.000000 {addresses.to_text(COLD)}" in said

    def test_show_gas_and_how_long_it_lasts(self, page, chain, rich, settings):
        settings.RELAYER_GAS_MINIMUM_WEI = 10**30
        relayer = chain.deployed["relayers"][0]
        chain.node.ask("anvil_setBalance", rpc.text(relayer), hex(3_120_000_000_000_000))

        said = text_of(page.get(PAGE))

        assert f"0.00312 ETH low 0 open {addresses.to_text(relayer)} enough for" in said

    def test_are_in_the_chart_and_its_table(self, page, chain, rich):
        at = clock.now()
        for days, units in ((31, 1), (29, 2), (10, 3), (0, 4)):
            _reading(chain, at=at - timedelta(days=days), treasury_units=units * UNITS)

        shown = page.get(PAGE).content.decode()

        assert re.findall(r'data-holdings="(\d+)"', shown) == ["4000000", "3000000", "2000000"]
        assert "chart.umd.min.js" in shown

    def test_thin_many_readings_to_what_can_be_read(self, page, chain, rich):
        at = clock.now()
        for minute in range(400):
            _reading(chain, at=at - timedelta(minutes=minute), treasury_units=minute)

        points = figures.history(chain.chain_id, at=at)

        assert 50 <= len(points) <= figures.POINTS + 1
        assert points[-1].holdings_units == 0
        assert [point.at for point in points] == sorted(point.at for point in points)


def _reading(chain, *, at, **units) -> TreasuryReading:
    named = dict.fromkeys(
        [
            *("treasury_units", "cold_units", "unswept_units", "custody_units", "liabilities_units"),
            *("shortfall_units", "difference_units", "pending_units"),
        ],
        0,
    )
    return TreasuryReading.objects.create(
        chain_id=chain.chain_id, block_number=5, block_at=at, read_at=at, **(named | units)
    )


class TestANodeThatIsAway:
    def test_leaves_the_last_reading_with_its_age(self, page, chain, rich, settings):
        _reading(chain, at=clock.now() - timedelta(hours=2), treasury_units=77 * UNITS, custody_units=77 * UNITS)
        settings.CHAIN_RPC_URL = AWAY

        said = text_of(page.get(PAGE))

        assert "Not live. The node does not answer. These are the figures of the last reading, 2 h ago" in said
        assert "77.000000 On the chain" in said
        assert "The figures are not live." in said

    def test_is_said_where_nothing_was_ever_read(self, page, chain, rich, settings):
        settings.CHAIN_RPC_URL = AWAY

        said = text_of(page.get(PAGE))

        assert "The chain was never read" in said
        assert "alice" not in said
        assert page.get(LIVE).status_code == 200

    def test_is_not_waited_for(self, page, chain, rich, liar, monkeypatch):
        monkeypatch.setattr(figures, "PATIENCE_SECONDS", 0.3)
        _reading(chain, at=clock.now(), treasury_units=77 * UNITS)
        liar.fault("*", "hang")

        assert "Not live." in text_of(page.get(PAGE))

    def test_is_asked_nothing_once_its_time_is_over(self, chain, liar):
        node = hurry.HurriedNode(liar.url, seconds=0)

        with pytest.raises(rpc.NodeUnavailable):
            node.ask("eth_chainId")
        with pytest.raises(rpc.NodeUnavailable):
            node.ask_many([("eth_chainId", [])])
        assert sum(liar.calls.values()) == 0

    def test_is_waited_for_no_longer_than_is_left(self, chain):
        node = hurry.HurriedNode(chain.url, seconds=3)

        node.ask("eth_chainId")
        first = node._provider.get_request_kwargs()["timeout"]
        node.ask("eth_chainId")

        assert 0 < node._provider.get_request_kwargs()["timeout"] < first < 3

    @pytest.mark.parametrize("how", ["refuse", "rate_limit", "truncate"])
    def test_or_talks_nonsense_is_no_error_page(self, page, chain, rich, liar, how):
        _reading(chain, at=clock.now(), treasury_units=77 * UNITS)
        liar.fault("*", how)

        assert "Not live." in text_of(page.get(PAGE))

    def test_or_answers_what_cannot_be_read_is_no_error_page(self, page, chain, rich, liar):
        _reading(chain, at=clock.now(), treasury_units=77 * UNITS)
        liar.fault("*", lambda request, answer: answer | {"result": {"number": "seven"}})

        assert "Not live." in text_of(page.get(PAGE))

    def test_or_breaks_what_reads_it_is_no_error_page_but_a_line_in_the_log(
        self, page, chain, rich, monkeypatch, caplog
    ):
        def broken(**_: object) -> None:
            raise KeyError("hash")

        _reading(chain, at=clock.now(), treasury_units=77 * UNITS)
        monkeypatch.setattr("escrow.custody.read", broken)

        assert "Not live. What the node answers cannot be read." in text_of(page.get(PAGE))
        assert "treasury_page_without_figures" in caplog.text

    def test_or_contradicts_itself_is_not_believed(self, page, chain, rich, liar):
        _reading(chain, at=clock.now(), treasury_units=77 * UNITS)
        liar.fault("eth_chainId", lambda request, answer: answer | {"result": "0x1"})

        said = text_of(page.get(PAGE))

        assert "Not live. The node is on another chain." in said
        assert "77.000000 On the chain" in said

    def test_without_any_chain_there_is_a_page_all_the_same(self, page, settings, tmp_path):
        settings.STATE_DIR, settings.CHAIN_ID = tmp_path, 0

        assert "not deployed yet" in text_of(page.get(PAGE))
        assert page.get(LIVE).status_code == 200


ASKING = ("approve", "reject", "call_off", "platform", "cold", "return", "drain", "attribute", "write_off")


class TestWhoMay:
    """Treasurers act; Auditors and Operators look; nobody else sees anything."""

    @pytest.fixture
    def urls(self, held, nobodys, make_treasurer):
        """Every page that asks, with the row it is about."""
        old, _ = Treasury.objects.get(), treasury.register(NEW, chain_id=nobodys.chain_id)
        outflow = Outflow.objects.create(
            chain_id=nobodys.chain_id, tx_hash=b"\x01" * 32, log_index=0, block_number=1, block_hash=b"\x02" * 32,
            sender=old.address, receiver=NEW, amount_units=1, seen_at=clock.now(), nonce=b"\x05" * 32,
        )  # fmt: skip
        alerts.sound("unexplained_outflow", str(outflow.pk))
        row_of = {"platform": [], "cold": [], "return": [nobodys.pk], "drain": [old.pk]}
        row_of |= {"attribute": [outflow.pk], "write_off": [outflow.pk]}
        verbs = [url_of(name, *row_of.get(name, [held.pk])) for name in ASKING]
        return verbs + [url_of(name, flag) for name in ("pause", "resume") for flag in Pause.Flag.values]

    def test_treasurers_see_and_may(self, page, urls):
        shown = page.get(PAGE).content.decode()

        for url in urls:
            assert page.get(url).status_code == 200, url
        assert {url for url in urls if f'href="{url}"' in shown} == {
            *(url for url in urls if "/resume/" not in url and "/call-off/" not in url)
        }

    @pytest.mark.parametrize("group", ["Auditors", "Operators"])
    def test_auditors_and_operators_only_look(self, urls, group):
        client = signed_in(staff.prepare_account("aud", groups=[group]))

        for address in (PAGE, LIVE):
            shown = client.get(address)
            assert shown.status_code == 200
            assert not [url for url in urls if url in shown.content.decode()]
        self._may_nothing(client, urls)

    @pytest.mark.parametrize("groups", [["Moderators"], ["Senior moderators"], []])
    def test_others_see_nothing(self, urls, groups):
        client = signed_in(staff.prepare_account("mona", groups=groups))

        assert client.get(PAGE).status_code == client.get(LIVE).status_code == 403
        assert PAGE not in client.get("/admin/").content.decode()
        self._may_nothing(client, urls)

    def test_strangers_are_asked_who_they_are(self, urls):
        for url in (PAGE, LIVE, *urls):
            assert Client().get(url).status_code == 302
            assert Client().post(url, {"reason": "x"}).status_code == 302
        assert not PauseChange.objects.exists()

    def test_a_superuser_may_without_a_group(self, urls, held):
        root = signed_in(User.objects.create_superuser("root"))

        say_yes(root, url_of("approve", held.pk))

        assert root.get(PAGE).status_code == 200
        assert WithdrawalApproval.objects.get().by.username == "root"

    def test_one_who_is_dismissed_may_nothing(self, page, tess, urls):
        forms = {url: form_of(page, url) for url in urls}
        tess.groups.clear()

        for url, form in forms.items():
            assert page.post(url, form | {"reason": "x", "sure": "yes"}).status_code == 403
        self._nothing_happened()

    def test_pausing_is_a_permission_of_its_own(self, urls):
        user = staff.prepare_account("aud", groups=["Auditors"])
        user.user_permissions.add(Permission.objects.get(codename="approve_withdrawal"))
        client = signed_in(user)

        for url in urls:
            assert client.get(url).status_code == (403 if "/switches/" in url else 200), url

    def _may_nothing(self, client, urls):
        for url in urls:
            form = {"key": str(uuid4()), "revision": "1", "reason": "x", "sure": "yes", "amount": "5"}
            assert client.get(url).status_code == 403, url
            assert client.post(url, form).status_code == 403, url
        self._nothing_happened()

    def _nothing_happened(self):
        assert list(Withdrawal.objects.values_list("state", flat=True)) == ["held"]
        assert not WithdrawalApproval.objects.exists()
        assert not PauseChange.objects.exists()
        assert not Outflow.objects.exclude(explanation__in=["", "internal"]).exists()


class TestPages:
    def test_have_no_inline_script_or_style_and_a_policy_that_forbids_it(self, page, held):
        for path in (PAGE, url_of("approve", held.pk), url_of("platform"), url_of("pause", "withdrawals"), "/admin/"):
            answer = page.get(path)
            text = answer.content.decode()
            assert "script-src 'self'" in answer["Content-Security-Policy"]
            assert "unsafe" not in answer["Content-Security-Policy"]
            assert not re.search(r"<script(?![^>]*\bsrc=)", text)
            assert not re.search(r"<style|\sstyle=|\son[a-z]+=", text)

    def test_are_read_by_get_and_kept_by_nobody(self, page, chain):
        assert page.post(PAGE).status_code == page.post(LIVE).status_code == 405
        assert "no-store" in page.get(PAGE)["Cache-Control"]

    def test_show_what_strangers_wrote_as_it_is(self, page, held, alice):
        type(alice).objects.filter(pk=alice.pk).update(display_name=PROBE)
        held.entry.label = PROBE
        held.entry.save(update_fields=["label"])
        alerts.sound("key_refused", PROBE, detail=PROBE)
        alerts.sound("key_refused", "over", detail=PROBE)
        alerts.clear("key_refused", "over")
        Withdrawal.objects.filter(pk=held.pk).update(note=PROBE)

        for address in (PAGE, LIVE, url_of("approve", held.pk)):
            text = page.get(address).content.decode()
            assert "<script>alert" not in text
            assert "\u202e" not in text
            assert "\\\\u202e" not in text
            assert "\\u{202E}txt" in text or "\\\\u{202E}txt" in text

    def test_the_chart_is_the_published_file_with_its_licence(self):
        folder = Path(of_django.BASE_DIR) / "templates" / "static" / "vendor" / "chartjs"
        digest = hashlib.sha256((folder / "chart.umd.min.js").read_bytes()).hexdigest()

        assert digest in (folder / "README.md").read_text()
        assert "MIT License" in (folder / "LICENSE.md").read_text()


class TestHome:
    def test_shows_the_lights(self, page, chain, held):
        _reading(chain, at=clock.now(), treasury_units=100 * UNITS)
        alerts.sound("shortfall", detail="x")

        said = text_of(page.get("/admin/"))

        assert "Agree Ledger and chain, 100.000000 USDC 1 Alerts 1 Payouts wait for a treasurer None Paused" in said

    def test_says_what_differs_and_what_is_paused(self, page, tess, chain):
        _reading(chain, at=clock.now(), difference_units=12 * UNITS)
        pauses.pause("deposits", reason="x", by=tess)

        said = text_of(page.get("/admin/"))

        assert "12.000000 Ledger and chain" in said
        assert "Deposits Paused" in said

    def test_does_not_take_an_old_reading_for_a_new_one(self, page, chain):
        _reading(chain, at=clock.now() - timedelta(minutes=30))

        assert "? Ledger less chain was last read" in text_of(page.get("/admin/"))

    def test_leaves_out_what_waits_for_others(self, page, tess, held):
        Withdrawal.objects.update(approvals_needed=2)
        withdrawals.approve(held.pk, by=tess, revision=held.revision)

        assert "0 Payouts wait for a treasurer" in text_of(page.get("/admin/"))


class TestManyRows:
    def test_cost_no_more_statements(self, page, chain, rich, settings, django_assert_max_num_queries):
        settings.WITHDRAWAL_APPROVAL_THRESHOLD_UNITS = 0
        settings.WITHDRAWAL_MINIMUM_UNITS, settings.WITHDRAWAL_FEE_UNITS = 1, 0
        entry = entry_for(rich)
        for number in range(600):
            settings.WITHDRAWAL_APPROVAL_THRESHOLD_UNITS = 0 if number % 2 else UNITS
            withdrawals.request(rich, amount_units=1_000, entry_id=entry.pk)
        old = clock.now() - timedelta(hours=1)
        place = {"chain_id": chain.chain_id, "block_number": 3, "block_hash": b"\x02" * 32, "receiver": NEW}
        Outflow.objects.bulk_create(
            Outflow(tx_hash=b"\x03" * 32, log_index=n, sender=chain.treasury, amount_units=1, seen_at=old, **place)
            for n in range(300)
        )
        Deposit.objects.bulk_create(
            Deposit(
                tx_hash=b"\x04" * 32, log_index=n, sender=NEW, amount_units=1, agent=rich, state="orphaned", **place
            )
            for n in range(300)
        )
        relayer = Relayer.objects.order_by("pk").first()
        RelayTransaction.objects.bulk_create(
            RelayTransaction(
                relayer=relayer, nonce=10_000 + n, purpose="filler", to=NEW, data=b"", gas_limit=1, created_at=old
            )
            for n in range(300)
        )
        for number in range(300):
            alerts.sound("payout_overdue", str(number))
            alerts.sound("key_refused", str(number))
        alerts.clear_others("key_refused", still=[])
        for minute in range(300):
            _reading(chain, at=old - timedelta(minutes=minute))

        with django_assert_max_num_queries(30):
            shown = page.get(PAGE)

        said = text_of(shown)
        assert "Alerts 300" in said
        assert "Over within the last 7 days: 300" in said
        assert "Wait for a treasurer 300" in said
        assert "Under way 300" in said
        assert "Deposits in flight 300" in said
        assert "Unexplained transfers 300" in said
        assert "Relays that hang 300" in said
        assert "275 more wait." in said
        assert "275 more are under way." in said
        assert shown.content.count(b"/approve/") == 25
