"""Every transfer that touches our addresses is a deposit, an explained outflow, or listed and alarmed."""

import secrets

import pytest

from accounts import alerts, pauses
from accounts.models import User
from escrow import deposits, explanations, guard, payouts, recognition, reconciliation, relays, scans, sweeps, treasury
from escrow.chain import network, usdc
from escrow.models import Deposit, DepositAddress, Outflow, RelayTransaction, Withdrawal
from escrow.tests.chain import UNITS
from escrow.tests.forgotten import pay_unknown, signed_payment
from escrow.tests.treasury import run, treasury_tick


@pytest.fixture
def treasurer(db):
    return User.objects.create_superuser(username="tessa", email="tessa@example.org", password="secret")


def look() -> int:
    scans.scan()
    return explanations.explain_due()


class TestOurOwnPayouts:
    def test_are_explained_by_their_authorization_before_they_are_final(self, chain, rich, ask):
        withdrawal = ask()
        treasury_tick()

        assert look() == 1

        outflow = Outflow.objects.get(explanation="payout")
        assert (outflow.withdrawal, outflow.nonce) == (withdrawal, payouts.nonce_of(withdrawal))
        assert (outflow.sender, outflow.receiver) == (chain.treasury, withdrawal.address)
        assert outflow.explained_at is not None
        withdrawal.refresh_from_db()
        assert withdrawal.state == "broadcast"

    def test_never_pause_anything_at_whatever_moment_the_chain_is_read(self, chain, rich, ask):
        for step in (payouts.authorize_due, payouts.relay_due, relays.push_due, payouts.settle_due):
            ask(5 * UNITS)
            step()
            look()
            chain.mine()
            look()
        run(chain)
        look()

        assert not pauses.is_paused("withdrawals")
        assert not alerts.is_sounding("unexplained_outflow")
        assert Outflow.objects.filter(explanation="payout").count() == 4
        assert not explanations.unexplained().exists()

    def test_two_at_once_are_explained_each_by_its_own(self, chain, rich, ask):
        first, second = ask(10 * UNITS), ask(10 * UNITS)
        treasury_tick()
        look()

        assert {row.withdrawal_id: row.receiver for row in Outflow.objects.filter(explanation="payout")} == {
            first.pk: first.address,
            second.pk: second.address,
        }

    def test_that_changed_their_block_are_explained_again(self, chain, rich, ask):
        withdrawal = ask()
        treasury_tick()
        call = bytes(RelayTransaction.objects.get(purpose="withdrawal").data)
        look()
        chain.reorg(1)
        assert chain.balance(withdrawal.address) == 0
        look()
        chain.do(chain.usdc, call)
        look()

        living = Outflow.objects.get(withdrawal=withdrawal, orphaned_at=None)
        assert living.explanation == "payout"
        assert not alerts.is_sounding("unexplained_outflow")

    def test_sweeps_explain_themselves(self, chain, rich):
        look()

        assert list(Outflow.objects.values_list("explanation", flat=True)) == ["internal"]


class TestWhatNothingExplains:
    def test_a_stolen_key_pauses_payouts_at_once(self, chain, rich, ask):
        waiting = ask()
        chain.empty_treasury_of(30 * UNITS)

        assert look() == 0  # not final by far

        outflow = explanations.unexplained().get()
        assert alerts.is_sounding("unexplained_outflow", str(outflow.pk))
        assert pauses.Pause.objects.get(pk="withdrawals").cause == "unexplained_outflow"
        treasury_tick()
        waiting.refresh_from_db()
        assert waiting.state == "requested"

    def test_is_written_off_by_a_treasurer_who_then_resumes(self, chain, rich, treasurer, balance_of):
        chain.empty_treasury_of(30 * UNITS)
        look()
        outflow = explanations.unexplained().get()
        with pytest.raises(recognition.NotYet):
            recognition.write_off(outflow.pk, by=treasurer, reason="the key was stolen")
        with pytest.raises(pauses.StillUnsafe):
            guard.resume("withdrawals", by=treasurer, reason="go on")

        chain.finalize()
        look()
        recognition.write_off(outflow.pk, by=treasurer, reason="the key was stolen")

        outflow.refresh_from_db()
        assert (outflow.explanation, outflow.by, outflow.reason) == ("written_off", treasurer, "the key was stolen")
        assert balance_of("shortfall") == -30 * UNITS
        assert balance_of("custody", f"chain:{chain.chain_id}") == -70 * UNITS
        assert not alerts.is_sounding("unexplained_outflow")
        guard.resume("withdrawals", by=treasurer, reason="a new key signs")
        look()
        assert not pauses.is_paused("withdrawals")
        assert reconciliation.compare().difference_units == 0

    def test_a_plain_transfer_is_nobodys_payout(self, chain, rich, treasurer):
        chain.empty_treasury_of(30 * UNITS)
        chain.finalize()
        look()

        with pytest.raises(recognition.Conflict):
            recognition.attribute(
                explanations.unexplained().get().pk, agent_id=rich.pk, by=treasurer, reason="hers, surely"
            )

    def test_a_plain_transfer_of_the_same_amount_to_the_same_receiver_is_no_payout(self, chain, rich, ask):
        withdrawal = ask(30 * UNITS, b"\x11" * 20)
        treasury_tick()
        chain.empty_treasury_of(30 * UNITS)

        look()

        assert Outflow.objects.get(explanation="payout").withdrawal == withdrawal
        assert explanations.unexplained().count() == 1
        assert alerts.is_sounding("unexplained_outflow")

    def test_to_an_address_that_is_recorded_as_ours_later_is_a_move(self, chain, rich):
        chain.empty_treasury_of(30 * UNITS)
        look()
        rescue = Outflow.objects.get(explanation="").receiver
        assert alerts.is_sounding("unexplained_outflow")

        treasury.register(rescue, chain_id=chain.chain_id, cold=True)

        assert look() == 1
        assert Outflow.objects.get(receiver=rescue).explanation == "internal"
        assert not alerts.is_sounding("unexplained_outflow")

    def test_an_unknown_authorization_sounds_both_alarms(self, chain, rich):
        pay_unknown(chain, secrets.token_bytes(20), UNITS)
        look()
        recognition.recognise_due()

        assert alerts.is_sounding("unexplained_outflow")
        assert alerts.is_sounding("unknown_authorization")

    def test_is_over_when_its_block_is_gone(self, chain, rich):
        chain.mine(3)
        chain.empty_treasury_of(30 * UNITS)
        look()
        assert alerts.is_sounding("unexplained_outflow")

        chain.reorg(2)
        chain.mine(3)
        assert chain.balance(b"\x11" * 20) == 0
        look()

        assert not alerts.is_sounding("unexplained_outflow")
        assert not explanations.unexplained().exists()


class TestAuthorizedTransfers:
    def test_are_paired_with_the_nonce_before_them(self, chain, rich):
        receipt = pay_unknown(chain, b"\x22" * 20, UNITS, nonce=b"\x07" * 32)

        [(moved, used)] = usdc.authorized_transfers(receipt, chain.usdc).values()

        assert (moved.sender, moved.receiver, moved.amount_units) == (chain.treasury, b"\x22" * 20, UNITS)
        assert (used.nonce, used.log_index) == (b"\x07" * 32, moved.log_index - 1)

    def test_two_in_one_transaction_each_with_its_own(self, chain, rich):
        calls = [signed_payment(chain, bytes([n]) * 20, UNITS, nonce=bytes([n]) * 32) for n in (1, 2)]
        receipts = [chain.do(chain.usdc, call) for call in calls]
        logs = [log for receipt in receipts for log in receipt["logs"]]
        for position, log in enumerate(logs):
            log["logIndex"] = hex(position)

        found = usdc.authorized_transfers({"logs": logs}, chain.usdc)

        assert {used.nonce[0]: moved.receiver[0] for moved, used in found.values()} == {1: 1, 2: 2}

    def test_a_transfer_without_an_authorization_has_none(self, chain, rich):
        receipt = chain.mint(b"\x22" * 20, UNITS)

        assert usdc.authorized_transfers(receipt, chain.usdc) == {}


def test_every_transfer_that_touches_us_is_a_row(chain, rich, bob, ask, pay_in, treasurer):
    """Deposits, a sweep, payouts, a theft and a gift: what the token says and what our rows say are the same set."""
    pay_in(bob, 60 * UNITS)
    ask(10 * UNITS)
    run(chain)
    chain.mint(chain.treasury, 3 * UNITS)
    chain.empty_treasury_of(7 * UNITS)
    sweeps.sweep_due()
    run(chain, 1)
    look()
    deposits.credit_due()

    here = network.current()
    ours = {chain.treasury, *DepositAddress.objects.values_list("address", flat=True)}
    parts = usdc.everybodys_transfers(chain.node, here.usdc, first=0, last=chain.head().number)
    touching = {
        (one.tx_hash, one.log_index) for part in parts for one in part if one.sender in ours or one.receiver in ours
    }
    rows = {*Deposit.objects.values_list("tx_hash", "log_index"), *Outflow.objects.values_list("tx_hash", "log_index")}
    assert touching == rows
    assert explanations.unexplained().count() == 1
    assert Withdrawal.objects.get().state == "settled"
