"""Custody: one block, one snapshot; whatever is on its way at that moment is a term, and the difference stays zero."""

from datetime import timedelta
from typing import Any

import pytest

from accounts import clock
from escrow import custody, deposit_addresses, deposits, payouts, scans, sweeps
from escrow.chain import rpc, usdc
from escrow.models import (
    Authorization,
    Deposit,
    Outflow,
    ScanCursor,
    ScannedBlock,
    Treasury,
    Withdrawal,
)
from escrow.tests.chain import UNITS
from escrow.tests.test_payouts import cancellation
from escrow.tests.treasury import run, treasury_tick

pytestmark = pytest.mark.django_db


def sign_and_pay(chain: Any, signed: Authorization) -> dict[str, Any]:
    """Submit an authorization as anybody may."""
    from escrow.signing import keys

    fields = usdc.Authorization(signed.sender, signed.receiver, signed.value_units, signed.valid_before, signed.nonce)
    domain = usdc.domain_separator(chain.node, chain.usdc, chain_id=chain.chain_id)
    word = keys.sign_digest(signed.sender, usdc.authorization_digest(fields, domain))
    return chain.do(chain.usdc, usdc.payment_call(fields, v=word.v, r=word.r, s=word.s))


class TestRead:
    def test_shows_where_the_money_is(self, chain, rich, ask, bob, pay_in):
        pay_in(bob, 30 * UNITS)
        chain.finalize()
        scans.scan()
        deposits.credit_due()
        ask(40 * UNITS)

        found = custody.read()

        assert found.treasuries == {chain.treasury: 100 * UNITS}
        assert (found.cold_units, found.unswept_units, found.holdings_units) == (0, 30 * UNITS, 130 * UNITS)
        assert (found.custody_units, found.liabilities_units) == (130 * UNITS, 130 * UNITS)
        assert (found.pending_units, found.shortfall_units, found.difference_units) == (40 * UNITS, 0, 0)
        assert found.block == chain.node.heads().finalized.number
        assert len(found.relayers) == 2
        assert all(wei > 0 for wei in found.relayers.values())

    def test_counts_cold_addresses(self, chain, rich):
        cold = b"\xc0" * 20
        Treasury.objects.create(chain_id=chain.chain_id, address=cold, cold=True)
        pay_out_by_hand(chain, Withdrawal.Owner.INTERNAL, cold, 25 * UNITS)
        chain.finalize()
        scans.scan()

        found = custody.read()

        assert (found.treasury_units, found.cold, found.difference_units) == (75 * UNITS, {cold: 25 * UNITS}, 0)

    def test_sees_money_that_the_scan_was_not_shown(self, chain, rich, bob, monkeypatch):
        chain.mint(deposit_addresses.of(bob).address, 9 * UNITS)
        chain.finalize()
        with monkeypatch.context() as hidden:
            hidden.setattr(usdc, "transfers", lambda *_, **__: [])
            scans.scan()

        assert custody.read().difference_units == -9 * UNITS
        monkeypatch.setattr(custody, "FEW", 1)
        assert custody.read().difference_units == 0  # that many are not all asked each minute
        assert custody.read(every_address=True).difference_units == -9 * UNITS

    def test_needs_a_scan(self, chain, treasury_rows):
        with pytest.raises(custody.NotScanned):
            custody.read()


class TestTerms:
    """Each thing that rows and block cannot both know yet; without its term the difference is not zero."""

    def test_a_deposit_seen_and_not_credited(self, chain, rich, pay_in):
        pay_in(rich, 7 * UNITS)
        chain.finalize()
        scans.scan()

        found = custody.read()

        assert (found.uncredited_units, found.difference_units) == (7 * UNITS, 0)

    def test_a_deposit_credited_before_it_is_final(self, chain, rich, pay_in):
        pay_in(rich, 7 * UNITS)
        chain.mine(5)
        scans.scan()
        deposits.credit_due()

        found = custody.read()

        assert (found.early_units, found.difference_units) == (7 * UNITS, 0)

    def test_a_deposit_whose_block_went_and_whose_posting_still_stands(self, chain, rich, pay_in, monkeypatch):
        pay_in(rich, 7 * UNITS)
        chain.mine(5)
        scans.scan()
        deposits.credit_due()
        chain.reorg(6)
        chain.finalize()
        with monkeypatch.context() as patch:
            patch.setattr(deposits, "reverse_orphaned", lambda: 0)
            scans.scan()

        before = custody.read()
        deposits.reverse_orphaned()
        after = custody.read()

        assert (before.early_units, before.difference_units) == (7 * UNITS, 0)
        assert (after.early_units, after.difference_units) == (0, 0)

    def test_a_payout_that_was_paid_and_not_settled(self, chain, rich, ask):
        ask()
        treasury_tick()
        chain.finalize()
        scans.scan()

        found = custody.read()

        assert Withdrawal.objects.get().state == "broadcast"
        assert (found.leaving_units, found.pending_units, found.difference_units) == (40 * UNITS, 0, 0)

    def test_a_payout_that_was_settled_above_the_block(self, chain, rich, ask):
        ask()
        run(chain)

        found = custody.read()  # the scan has not gone on

        assert Withdrawal.objects.get().state == "settled"
        assert Withdrawal.objects.get().block_number > found.block
        assert (found.ahead_units, found.holdings_units, found.difference_units) == (40 * UNITS, 100 * UNITS, 0)

    def test_a_payout_that_was_called_off_on_the_chain(self, chain, rich, ask):
        ask()
        payouts.authorize_due()
        chain.do(chain.usdc, cancellation(chain, Authorization.objects.get()))
        chain.finalize()
        scans.scan()

        found = custody.read()

        assert (found.leaving_units, found.pending_units, found.difference_units) == (0, 40 * UNITS, 0)

    def test_a_sweep_above_the_block(self, chain, bob, pay_in, monkeypatch):
        monkeypatch.setattr(custody, "FEW", 0)
        pay_in(bob, 200 * UNITS)
        chain.finalize()
        scans.scan()
        deposits.credit_due()
        sweeps.sweep_due()
        run(chain, 1)
        Deposit.objects.update(swept_at=clock.now() - timedelta(days=1))

        found = custody.read()  # the scan has not gone on

        assert chain.balance(chain.treasury) == 200 * UNITS
        assert (found.unswept_units, found.treasury_units, found.difference_units) == (200 * UNITS, 0, 0)

    def test_a_sweep_that_became_final_after_the_block_was_chosen(self, chain, bob, pay_in, monkeypatch):
        monkeypatch.setattr(custody, "FEW", 0)
        pay_in(bob, 200 * UNITS)
        chain.finalize()
        scans.scan()
        deposits.credit_due()
        rows = custody._rows

        def rows_later(*args: Any, **options: Any) -> Any:
            sweeps.sweep_due()
            run(chain, 1)
            scans.scan()
            return rows(*args, **options)

        monkeypatch.setattr(custody, "_rows", rows_later)

        found = custody.read()

        assert not Deposit.objects.filter(swept_at=None).exists()
        assert (found.unswept_units, found.difference_units) == (200 * UNITS, 0)

    def test_an_internal_move_that_was_paid_and_not_settled(self, chain, rich):
        cold = b"\xc0" * 20
        Treasury.objects.create(chain_id=chain.chain_id, address=cold, cold=True)
        pay_out_by_hand(chain, Withdrawal.Owner.INTERNAL, cold, 25 * UNITS)
        chain.finalize()
        scans.scan()

        found = custody.read()

        assert (found.leaving_units, found.pending_units, found.difference_units) == (0, 0, 0)

    def test_an_internal_move_that_was_settled_above_the_block(self, chain, rich):
        cold = b"\xc0" * 20
        Treasury.objects.create(chain_id=chain.chain_id, address=cold, cold=True)
        withdrawal, receipt = pay_out_by_hand(chain, Withdrawal.Owner.INTERNAL, cold, 25 * UNITS)
        settle_by_hand(withdrawal, receipt)

        found = custody.read()

        assert found.block < rpc.number(receipt["blockNumber"])
        assert (found.ahead_units, found.difference_units) == (0, 0)

    def test_a_loss_written_off_above_the_block(self, chain, rich, noon, django_user_model):
        from escrow import ledger

        chain.empty_treasury_of(30 * UNITS)
        block = chain.head()
        Outflow.objects.create(
            **{"chain_id": chain.chain_id, "tx_hash": b"\x01" * 32, "log_index": 0, "block_number": block.number},
            **{"block_hash": block.hash, "sender": chain.treasury, "receiver": b"\x11" * 20},
            **{"amount_units": 30 * UNITS, "explanation": "written_off", "reason": "stolen", "seen_at": noon},
            by=django_user_model.objects.create(username="tina"),
        )
        moves = [("shortfall", "platform", -30 * UNITS), ("custody", f"chain:{chain.chain_id}", 30 * UNITS)]
        ledger.post("test:loss", kind="test", moves=[ledger.Move(*move) for move in moves], at=noon)

        before = custody.read()
        chain.finalize()
        scans.scan()
        after = custody.read()

        assert (before.ahead_units, before.holdings_units, before.difference_units) == (30 * UNITS, 100 * UNITS, 0)
        assert (after.ahead_units, after.holdings_units, after.difference_units) == (0, 70 * UNITS, 0)
        assert after.shortfall_units == 30 * UNITS


class TestDoubt:
    def test_rows_that_were_walked_back_below_the_block_are_not_compared(self, chain, rich, monkeypatch):
        rows = custody._rows

        def rows_later(*args: Any, **options: Any) -> Any:
            ScanCursor.objects.update(block_number=1)
            return rows(*args, **options)

        monkeypatch.setattr(custody, "_rows", rows_later)

        with pytest.raises(rpc.ChainNotTrusted, match="went back"):
            custody.read()

    def test_rows_of_another_branch_are_not_compared(self, chain, rich):
        chain.finalize()
        scans.scan()
        ScannedBlock.objects.filter(number=chain.node.heads().finalized.number).update(hash=b"\x0f" * 32)

        with pytest.raises(rpc.ChainNotTrusted, match="another block"):
            custody.read()

    def test_a_scan_that_stands_on_another_branch_is_not_compared(self, chain, rich):
        chain.finalize()
        ScanCursor.objects.update(block_hash=b"\x0f" * 32)

        with pytest.raises(rpc.ChainNotTrusted, match="not on the chain"):
            custody.read()

    def test_a_used_nonce_whose_log_is_missing_is_no_answer(self, chain, rich, ask, monkeypatch):
        ask()
        treasury_tick()
        chain.finalize()
        scans.scan()
        monkeypatch.setattr(usdc, "authorization_logs", lambda *_, **__: [])

        with pytest.raises(rpc.NodeUnavailable, match="logs"):
            custody.read()


def pay_out_by_hand(chain: Any, owner: str, receiver: bytes, units: int) -> tuple[Withdrawal, dict[str, Any]]:
    """A payout that the chain has paid and the books have not settled."""
    from accounts.models import User

    at = clock.now()
    withdrawal = Withdrawal.objects.create(
        owner=owner,
        source=chain.treasury,
        asked_by=User.objects.get_or_create(username="tina")[0],
        chain_id=chain.chain_id,
        amount_units=units,
        address=receiver,
        state=Withdrawal.State.AUTHORIZED,
        requested_at=at,
        lapses_at=at + timedelta(hours=2),
    )
    signed = Authorization.objects.create(
        withdrawal=withdrawal,
        chain_id=chain.chain_id,
        token=chain.usdc,
        sender=chain.treasury,
        receiver=receiver,
        value_units=units,
        valid_before=int(at.timestamp()) + 7_200,
        nonce=payouts.nonce_of(withdrawal),
        since_block=chain.node.heads().finalized.number,
        created_at=at,
    )
    return withdrawal, sign_and_pay(chain, signed)


def settle_by_hand(withdrawal: Withdrawal, receipt: dict[str, Any]) -> None:
    withdrawal.state = Withdrawal.State.SETTLED
    withdrawal.closed_at = clock.now()
    withdrawal.tx_hash = rpc.raw(receipt["transactionHash"])
    withdrawal.block_number = rpc.number(receipt["blockNumber"])
    withdrawal.block_hash = rpc.raw(receipt["blockHash"])
    withdrawal.save()
