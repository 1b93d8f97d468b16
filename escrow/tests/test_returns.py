"""Deposits of nobody's on their way back: to whoever sent them, once, by two treasurers."""

import secrets

import pytest
from django.db import IntegrityError, transaction

from accounts import clock, ids, pauses
from accounts.errors import Conflict, Invalid, NotAllowed, NotFound, Paused
from escrow import deposits, ledger, returns, scans, withdrawals
from escrow.chain import usdc
from escrow.ledger import Move
from escrow.models import Deposit, Withdrawal
from escrow.tests.chain import UNITS
from escrow.tests.people import person
from escrow.tests.treasury import run

State = Withdrawal.State


@pytest.fixture(autouse=True)
def _here(settings):
    settings.CHAIN_ID = 31337
    settings.USDC_ADDRESS = "0x" + "aa" * 20
    settings.DEPOSIT_FACTORY_ADDRESS = "0x" + "bb" * 20


@pytest.fixture
def tina(db):
    return person("tina")


@pytest.fixture
def theo(db):
    return person("theo")


@pytest.fixture
def stray(db):
    return stray_of(secrets.token_bytes(20))


def stray_of(sender: bytes, **changed) -> Deposit:
    """A final deposit of 20 USDC that no agent's address received, posted to suspense."""
    deposit = Deposit.objects.create(
        **{
            "id": ids.uuid7(),
            "chain_id": 31337,
            "tx_hash": secrets.token_bytes(32),
            "log_index": 0,
            "block_number": 7,
            "block_hash": secrets.token_bytes(32),
            "sender": sender,
            "receiver": b"\xcc" * 20,
            "amount_units": 20 * UNITS,
            "state": "unattributed",
            "generation": 1,
            "posted_to": "suspense",
            **changed,
        }
    )
    if deposit.posted_to == "suspense":
        moves = [Move("custody", "chain:31337", -20 * UNITS), Move("suspense", "platform", 20 * UNITS)]
        ledger.post(f"deposit:{deposit.id}:credit:1", kind="deposit", moves=moves, at=clock.now())
    return deposit


def ask(deposit, by, note="sent to the wrong address"):
    return returns.request(deposit.pk, by=by, note=note)


class TestRequest:
    def test_takes_it_out_of_suspense_and_waits_for_another_treasurer(self, stray, tina, balance_of):
        withdrawal = ask(stray, tina)

        assert (withdrawal.owner, withdrawal.state, withdrawal.held_for) == ("return", State.HELD, ["return"])
        assert (withdrawal.address, withdrawal.amount_units) == (stray.sender, 20 * UNITS)
        assert (balance_of("suspense"), balance_of("withdrawing", "platform")) == (0, 20 * UNITS)

    def test_needs_a_treasurer_and_a_note(self, stray, tina, balance_of):
        with pytest.raises(NotAllowed):
            ask(stray, person("moderator", may_approve=False))
        with pytest.raises(Invalid):
            ask(stray, tina, note="")

        assert balance_of("suspense") == 20 * UNITS

    def test_while_withdrawals_are_paused_is_refused(self, stray, tina):
        pauses.pause("withdrawals", reason="looking at something", cause="test")

        with pytest.raises(Paused):
            ask(stray, tina)

    @pytest.mark.parametrize("sender", [bytes(20), b"\xaa" * 20, b"\xbb" * 20])
    def test_to_a_sender_that_cannot_be_paid_is_refused(self, tina, sender, balance_of):
        with pytest.raises(Invalid):
            ask(stray_of(sender), tina)

        assert balance_of("suspense") == 20 * UNITS

    def test_of_what_is_an_agents_or_not_final_is_refused(self, alice, credit, tina):
        agents = stray_of(b"\x01" * 20, agent=alice, state="seen", posted_to="", generation=0)
        unposted = stray_of(b"\x01" * 20, posted_to="", generation=0)

        for deposit in (agents, unposted):
            with pytest.raises(returns.NotReturnable):
                ask(deposit, tina)
        with pytest.raises(NotFound):
            returns.request(ids.uuid7(), by=tina, note="which")

    @pytest.mark.django_db(transaction=True)
    def test_many_at_once_send_it_back_once(self, stray, tina, race, balance_of):
        stray_of(secrets.token_bytes(20))  # suspense holds more than this one

        outcomes = race(*[lambda: ask(stray, tina)] * 8)

        assert sum(isinstance(outcome, returns.ReturnedAlready) for outcome in outcomes) == 7
        assert (balance_of("suspense"), balance_of("withdrawing", "platform")) == (20 * UNITS, 20 * UNITS)

    def test_the_database_keeps_it_to_one(self, stray, tina):
        first = ask(stray, tina)
        first.pk = ids.uuid7()

        with pytest.raises(IntegrityError), transaction.atomic():
            first.save(force_insert=True)


class TestEnd:
    def test_refused_it_is_in_suspense_again_and_can_be_asked_for_again(self, stray, tina, theo, balance_of):
        withdrawal = ask(stray, tina)
        with pytest.raises(withdrawals.OwnWithdrawal):
            withdrawals.approve(withdrawal.pk, by=tina, revision=withdrawal.revision)

        withdrawals.reject(withdrawal.pk, by=theo, revision=withdrawal.revision, reason="who is this")

        assert (balance_of("suspense"), balance_of("withdrawing", "platform")) == (20 * UNITS, 0)
        assert ask(stray, theo).state == State.HELD

    def test_what_the_chain_took_back_meanwhile_is_not_approved(self, stray, tina, theo):
        stray_of(secrets.token_bytes(20))
        withdrawal = ask(stray, tina)
        Deposit.objects.filter(pk=stray.pk).update(state="orphaned")
        deposits.reverse(stray.pk)

        with pytest.raises(Conflict, match="suspense"):
            withdrawals.approve(withdrawal.pk, by=theo, revision=withdrawal.revision)

    def test_what_the_chain_took_back_takes_nothing_that_is_anothers(self, stray, tina, balance_of):
        stray_of(secrets.token_bytes(20))
        ask(stray, tina)
        Deposit.objects.filter(pk=stray.pk).update(state="orphaned")

        deposits.reverse_orphaned()

        assert balance_of("suspense") == 20 * UNITS
        assert balance_of("shortfall") == -20 * UNITS

    def test_paid_it_is_gone_for_good(self, chain, treasury_rows, tina, theo, balance_of, settings):
        settings.CHAIN_ID, settings.USDC_ADDRESS, settings.DEPOSIT_FACTORY_ADDRESS = 0, "", ""
        chain.mint(chain.faucet, 20 * UNITS)
        chain.do(chain.usdc, usdc.transfer_call(chain.treasury, 20 * UNITS))
        chain.finalize()
        scans.scan()
        deposits.credit_due()
        stray = Deposit.objects.get()
        withdrawal = ask(stray, tina)
        withdrawals.approve(withdrawal.pk, by=theo, revision=withdrawal.revision)

        run(chain)

        withdrawal.refresh_from_db()
        assert withdrawal.state == State.SETTLED
        assert (chain.balance(chain.faucet), chain.balance(chain.treasury)) == (20 * UNITS, 0)
        assert balance_of("custody", f"chain:{chain.chain_id}") == 0
        with pytest.raises(returns.ReturnedAlready):
            ask(stray, tina)
