"""Which heads are believed, what is told when they are not, and what happens when a final block changes."""

import re
from pathlib import Path

import pytest

from accounts import alerts, clock, pauses
from escrow import deposits, heads, ledger, scans, withdrawals
from escrow.chain import network, rpc
from escrow.models import Deposit, PayoutGuard, ScanCursor, ScannedBlock
from escrow.tests.chain import UNITS, LocalChain
from escrow.tests.liar import liar as lying_in_front_of
from escrow.tests.treasury import entry_for

State = Deposit.State


@pytest.fixture
def spent(chain, alice, bob, pay_in, noon) -> Deposit:
    """50 USDC of Alice's, final and credited, of which she has spent 30."""
    scans.scan()
    pay_in(alice, 50 * UNITS)
    chain.finalize()
    scans.scan()
    deposits.credit_due()
    spend = [ledger.Move("available", str(alice.id), -30 * UNITS), ledger.Move("available", str(bob.id), 30 * UNITS)]
    ledger.post("test:spent", kind="test", moves=spend, at=noon)
    return Deposit.objects.get()


def lose(chain: LocalChain, deposit: Deposit) -> rpc.Block:
    """A reorg deeper than finality, which takes the deposit; answers the final block that we knew."""
    known = chain.node.block(ScanCursor.objects.get().finalized_number)
    chain.reorg(chain.head().number - deposit.block_number + 1)
    return known


class TestFinalBlockThatChanged:
    def test_is_walked_back_over_reversed_and_told(self, chain, spent, alice):
        lose(chain, spent)

        scans.scan()

        spent.refresh_from_db()
        assert (spent.state, spent.shortfall_units) == (State.ORPHANED, 30 * UNITS)
        assert ledger.balance("available", str(alice.id)) == 0
        assert ledger.balance("shortfall", "platform") == -30 * UNITS
        assert alerts.is_sounding("deep_reorg")
        assert pauses.is_paused(pauses.Flag.WITHDRAWALS)
        cursor = ScanCursor.objects.get()
        assert chain.node.block(cursor.finalized_number).hash == cursor.finalized_hash

    def test_freezes_withdrawals_of_who_owes_what_it_brought(self, chain, spent, alice, credit, settings):
        settings.TREASURY_PAUSE_ON = []
        lose(chain, spent)
        scans.scan()
        credit(alice, 20 * UNITS)
        entry = entry_for(alice)

        withdrawal = withdrawals.request(alice, amount_units=5 * UNITS, entry_id=entry.pk)

        assert (withdrawal.state, withdrawal.held_for) == ("held", ["shortfall"])

    def test_is_over_once_the_new_branch_was_read(self, chain, spent):
        lose(chain, spent)
        scans.scan()

        scans.scan()

        assert not alerts.is_sounding("deep_reorg")
        assert pauses.is_paused(pauses.Flag.WITHDRAWALS)  # only people resume

    def test_has_what_was_paid_in_the_new_blocks_looked_at_again(self, chain, spent):
        known = ScanCursor.objects.get().finalized_number
        PayoutGuard.objects.create(chain_id=chain.chain_id, checked_block=known, checked_at=clock.now())
        lose(chain, spent)

        scans.scan()

        assert PayoutGuard.objects.get().checked_block < spent.block_number

    def test_is_found_though_finality_stood_still_for_longer_than_blocks_are_remembered(
        self, chain, spent, monkeypatch
    ):
        monkeypatch.setattr(scans, "REMEMBERED", 3)

        for _ in range(6):
            chain.mine()
            scans.scan()

        oldest = ScannedBlock.objects.order_by("number").first().number
        assert oldest == ScanCursor.objects.get().finalized_number - 3

    def test_stops_crediting_until_the_scan_has_walked_back(self, chain, spent, bob, pay_in):
        lose(chain, spent)

        with pytest.raises(rpc.ChainNotTrusted) as refusal:
            deposits.credit_due()

        assert refusal.value.reason == "finalized_changed"
        assert alerts.is_sounding("chain_not_trusted", "finalized_changed")

    def test_that_a_second_node_shows_too_is_believed(self, chain, spent, settings):
        lose(chain, spent)
        with lying_in_front_of(chain.url) as second:
            settings.CHAIN_SECOND_RPC_URL = second.url

            scans.scan()

        spent.refresh_from_db()
        assert spent.state == State.ORPHANED
        assert second.calls["eth_getBlockByNumber"] == 1

    @pytest.mark.parametrize("how", ["shows the old one", "is on another chain", "is away", "has no such block"])
    def test_that_a_second_node_does_not_show_is_a_lie(self, chain, spent, settings, how):
        known = lose(chain, spent)
        old = {
            "number": hex(known.number),
            "hash": rpc.text(known.hash),
            "parentHash": rpc.text(known.parent),
            "timestamp": hex(known.timestamp),
        }
        with lying_in_front_of(chain.url) as second:
            settings.CHAIN_SECOND_RPC_URL = second.url
            if how == "shows the old one":
                second.fault("eth_getBlockByNumber", lambda request, answer: {**answer, "result": old})
            elif how == "is on another chain":
                second.fault("eth_chainId", lambda request, answer: {**answer, "result": "0x1"})
            elif how == "is away":
                second.fault("*", "rate_limit")
            else:
                second.fault("eth_getBlockByNumber", lambda request, answer: {**answer, "result": None})

            with pytest.raises(rpc.ChainNotTrusted) as refusal:
                scans.scan()

        assert refusal.value.reason == "finalized_changed"
        assert alerts.is_sounding("chain_not_trusted", "finalized_changed")
        assert not alerts.is_sounding("deep_reorg")
        spent.refresh_from_db()
        assert spent.state == State.CREDITED
        assert not pauses.is_paused(pauses.Flag.WITHDRAWALS)

    def test_under_a_cursor_that_still_stands_contradicts_itself(self, chain, spent):
        ScanCursor.objects.update(finalized_hash=b"\x07" * 32)

        with pytest.raises(rpc.ChainNotTrusted) as refusal:
            scans.scan()

        assert refusal.value.reason == "finalized_changed"


class TestReported:
    @pytest.mark.parametrize("verb", [scans.scan, deposits.credit_due])
    def test_a_node_that_is_not_believed_is_told_until_a_scan_succeeds(self, chain, alice, pay_in, liar, verb):
        scans.scan()
        liar.fault("eth_chainId", lambda request, answer: {**answer, "result": "0x1"})
        with pytest.raises(rpc.ChainNotTrusted):
            verb()
        assert alerts.is_sounding("chain_not_trusted", "other_chain")

        liar.honest()
        scans.scan()

        assert not alerts.is_sounding("chain_not_trusted")

    @pytest.mark.parametrize(("verb", "subject"), [(scans.scan, "scan"), (deposits.credit_due, "credit")])
    @pytest.mark.parametrize("how", ["rate_limit", "refuse", "truncate"])
    def test_a_node_that_is_away_is_told_until_the_same_reading_succeeds(
        self, chain, alice, pay_in, liar, verb, subject, how
    ):
        scans.scan()
        liar.fault("*", how)
        with pytest.raises(rpc.NodeError):
            verb()
        assert alerts.is_sounding("chain_unreadable", subject)

        liar.honest()
        verb()

        assert not alerts.is_sounding("chain_unreadable")

    def test_leaves_alerts_of_others_alone(self, chain, treasury_rows):
        alerts.sound("chain_not_trusted", "custody_read_twice")

        scans.scan()

        assert alerts.is_sounding("chain_not_trusted", "custody_read_twice")

    def test_knows_every_reason_of_scan_and_credit(self):
        root = Path(__file__).resolve().parents[1]
        names = ("scans", "cursors", "reorgs", "sightings", "outflows", "heads", "deposits", "chain/rpc", "chain/usdc")
        sources = [(root / f"{name}.py").read_text() for name in names]

        used = {reason for source in sources for reason in re.findall(r'reason(?:: str)?\s*=\s*"(\w+)"', source)}

        assert used - {"wrong_receipt"} <= set(heads.REASONS)  # that one is a look-up's


class TestTrusted:
    def test_reads_the_cursor_before_the_node(self, chain, treasury_rows, monkeypatch):
        """Or a scan that moves it on meanwhile makes an honest node look as if it went back."""
        chain.finalize()
        scans.scan()
        asked = rpc.Node.heads

        def overtaken(node):
            answer = asked(node)
            chain.mine(3)
            with monkeypatch.context() as honest:
                honest.setattr(rpc.Node, "heads", asked)
                scans.scan()
            return answer

        monkeypatch.setattr(rpc.Node, "heads", overtaken)

        assert heads.trusted(chain.node, network.current())
