"""Whose payout an unknown one was: the withdrawal's whose nonce it is, the agent's whose address it is, or nobody's."""

import secrets

import pytest
from django.db import IntegrityError, transaction

from accounts import alerts, pauses
from accounts.errors import Conflict, Invalid, NotAllowed
from accounts.models import Event, User
from escrow import address_book, explanations, guard, payouts, recognition, reconciliation, scans, withdrawals
from escrow.models import AddressBookEntry, Authorization, Outflow, PayoutGuard, Withdrawal
from escrow.tests.chain import UNITS
from escrow.tests.forgotten import pay_unknown, signed_payment
from escrow.tests.treasury import entry_for, run

FEE = 500_000


@pytest.fixture
def treasurer(db):
    return User.objects.create_superuser(username="tessa", email="tessa@example.org", password="secret")


@pytest.fixture
def anybody(db):
    return User.objects.create_user(username="andy", email="andy@example.org", password="secret")


@pytest.fixture
def look(chain):
    """All that beats by itself: the scan, the explanations, the recognition."""

    def look() -> int:
        scans.scan()
        explanations.explain_due()
        done = recognition.recognise_due()
        explanations.explain_due()
        return done

    return look


class TestByNonce:
    def test_a_withdrawal_that_still_waits_is_what_was_paid(self, chain, rich, ask, balance_of, look):
        withdrawal = ask(40 * UNITS)
        receipt = pay_unknown(chain, withdrawal.address, 40 * UNITS, nonce=payouts.nonce_of(withdrawal))
        chain.finalize()

        assert look() == 1

        withdrawal.refresh_from_db()
        assert withdrawal.state == "recognised"
        assert "0x" + withdrawal.tx_hash.hex() == receipt["transactionHash"]
        assert withdrawal.block_number == int(receipt["blockNumber"], 16)
        assert balance_of("available", rich) == 100 * UNITS - 40 * UNITS - FEE
        assert (balance_of("withdrawing", rich), balance_of("fees")) == (0, FEE)
        assert Outflow.objects.get(withdrawal=withdrawal).nonce == payouts.nonce_of(withdrawal)
        assert Event.objects.filter(recipient_id=rich.pk, type="withdrawal.settled").count() == 1
        assert reconciliation.compare().difference_units == 0

    @pytest.mark.parametrize("state", ["held", "cooling"])
    def test_whatever_it_is_waiting_for(self, chain, rich, ask, look, settings, state):
        if state == "held":
            settings.WITHDRAWAL_APPROVAL_THRESHOLD_UNITS = UNITS
        withdrawal = ask(40 * UNITS)
        if state == "cooling":
            Withdrawal.objects.filter(pk=withdrawal.pk).update(
                state="cooling", cooling_until=withdrawal.requested_at + withdrawals.timedelta(days=1)
            )
        pay_unknown(chain, withdrawal.address, 40 * UNITS, nonce=payouts.nonce_of(withdrawal))
        chain.finalize()

        look()

        withdrawal.refresh_from_db()
        assert withdrawal.state == "recognised"

    def test_another_amount_under_its_nonce_is_not_that_withdrawal(self, chain, rich, ask, look, balance_of):
        withdrawal = ask(40 * UNITS)
        pay_unknown(chain, withdrawal.address, 7 * UNITS, nonce=payouts.nonce_of(withdrawal))
        chain.finalize()

        look()

        withdrawal.refresh_from_db()
        assert withdrawal.state == "requested"
        assert Withdrawal.objects.get(state="recognised").amount_units == 7 * UNITS
        assert balance_of("available", rich) == 100 * UNITS - 47 * UNITS - FEE

    def test_nothing_before_its_block_is_final(self, chain, rich, ask, look):
        withdrawal = ask(40 * UNITS)
        pay_unknown(chain, withdrawal.address, 40 * UNITS, nonce=payouts.nonce_of(withdrawal))
        chain.mine(4)

        assert look() == 0
        assert alerts.is_sounding("unknown_authorization")

        chain.finalize()
        assert look() == 1
        assert not alerts.is_sounding("unknown_authorization")

    def test_the_word_of_a_withdrawal_without_authorization_cannot_be_taken_twice(self, chain, rich, ask):
        withdrawal = ask()
        payouts.authorize_due()
        proof = {"tx_hash": b"\x01" * 32, "block_hash": b"\x01" * 32, "block_number": 1}

        with pytest.raises(IntegrityError), transaction.atomic():
            Withdrawal.objects.filter(pk=withdrawal.pk).update(
                state="recognised", closed_at=withdrawal.requested_at, **proof
            )


class TestByAddress:
    def test_the_only_agent_with_that_address_is_debited(self, chain, rich, balance_of, look):
        entry = entry_for(rich)
        pay_unknown(chain, entry.address, 30 * UNITS)
        chain.finalize()

        assert look() == 1

        recognised = Withdrawal.objects.get()
        assert (recognised.state, recognised.agent, recognised.fee_units) == ("recognised", rich, 0)
        assert recognised.entry == entry
        assert balance_of("available", rich) == 70 * UNITS
        assert not alerts.is_sounding("unknown_authorization")
        assert reconciliation.compare().difference_units == 0

    def test_an_address_that_was_removed_still_says_whose_it_was(self, chain, rich, balance_of, look):
        entry = entry_for(rich)
        address_book.remove(entry.pk, agent=rich)
        pay_unknown(chain, entry.address, 30 * UNITS)
        chain.finalize()

        look()

        assert balance_of("available", rich) == 70 * UNITS

    def test_what_the_agent_has_not_got_any_more_is_a_shortfall(self, chain, rich, ask, balance_of, look):
        ask(60 * UNITS)
        entry = entry_for(rich)
        pay_unknown(chain, entry.address, 50 * UNITS)
        chain.finalize()

        look()

        assert balance_of("available", rich) == 0
        assert balance_of("shortfall") == -(50 * UNITS - (40 * UNITS - FEE))
        assert balance_of("withdrawing", rich) == 60 * UNITS + FEE
        assert reconciliation.compare().difference_units == 0

    def test_several_payouts_of_one_transaction_block(self, chain, rich, bob, balance_of, look):
        pay_unknown(chain, entry_for(rich).address, 10 * UNITS)
        pay_unknown(chain, entry_for(rich).address, 20 * UNITS)
        chain.finalize()

        assert look() == 2

        assert balance_of("available", rich) == 70 * UNITS


class TestUnattributed:
    @pytest.fixture
    def ambiguous(self, chain, rich, bob, ask, look):
        """A payout to an address that two agents have in their books, while another waits."""
        ask(10 * UNITS)
        address = entry_for(rich).address
        entry_for(bob, address)
        pay_unknown(chain, address, 30 * UNITS)
        chain.finalize()
        assert look() == 0
        return Outflow.objects.get(explanation="")

    def test_nothing_is_authorized_until_somebody_says(self, chain, ambiguous, treasurer):
        assert payouts.authorize_due() == 0
        assert alerts.is_sounding("unknown_authorization")
        assert alerts.is_sounding("unexplained_outflow", str(ambiguous.pk))
        with pytest.raises(pauses.StillUnsafe):
            guard.resume("withdrawals", by=treasurer, reason="go on")
        assert not Authorization.objects.exists()

    def test_nobody_has_the_address(self, chain, rich, look):
        pay_unknown(chain, secrets.token_bytes(20), 30 * UNITS)
        chain.finalize()

        assert look() == 0
        assert Outflow.objects.filter(explanation="").count() == 1

    def test_a_treasurer_says_whose_it_was(self, chain, rich, bob, ambiguous, treasurer, balance_of, look):
        recognition.attribute(ambiguous.pk, agent_id=rich.pk, by=treasurer, reason="the log of the lost server")
        look()

        assert balance_of("available", rich) == 60 * UNITS - FEE
        recognised = Withdrawal.objects.get(state="recognised")
        assert (recognised.agent, recognised.note) == (rich, "the log of the lost server")
        ambiguous.refresh_from_db()
        assert (ambiguous.by, ambiguous.withdrawal) == (treasurer, recognised)
        assert not alerts.is_sounding("unknown_authorization")
        assert not alerts.is_sounding("unexplained_outflow")
        guard.resume("withdrawals", by=treasurer, reason="attributed")
        assert reconciliation.compare().difference_units == 0

    def test_only_to_an_agent_with_that_address(self, chain, carol, ambiguous, treasurer):
        with pytest.raises(Invalid):
            recognition.attribute(ambiguous.pk, agent_id=carol.pk, by=treasurer, reason="a guess")

    def test_nobody_says_it_of_an_agent_they_own(self, rich, bob, ambiguous, treasurer):
        rich.owner = treasurer
        rich.save(update_fields=["owner"])

        with pytest.raises(withdrawals.OwnWithdrawal):
            recognition.attribute(ambiguous.pk, agent_id=rich.pk, by=treasurer, reason="mine")
        with pytest.raises(withdrawals.OwnWithdrawal):
            recognition.write_off(ambiguous.pk, by=treasurer, reason="a loss, not mine")
        with pytest.raises(withdrawals.OwnWithdrawal):
            recognition.attribute(ambiguous.pk, agent_id=bob.pk, by=treasurer, reason="his, not mine")

    def test_needs_a_treasurer_and_a_reason(self, rich, ambiguous, treasurer, anybody):
        with pytest.raises(NotAllowed):
            recognition.attribute(ambiguous.pk, agent_id=rich.pk, by=anybody, reason="because")
        with pytest.raises(NotAllowed):
            recognition.write_off(ambiguous.pk, by=anybody, reason="because")
        with pytest.raises(Invalid):
            recognition.write_off(ambiguous.pk, by=treasurer, reason=" ")

    def test_is_said_once(self, rich, bob, ambiguous, treasurer, balance_of):
        recognition.attribute(ambiguous.pk, agent_id=rich.pk, by=treasurer, reason="the log")

        with pytest.raises(Conflict, match="explained already"):
            recognition.attribute(ambiguous.pk, agent_id=bob.pk, by=treasurer, reason="the other log")
        with pytest.raises(Conflict, match="explained already"):
            recognition.write_off(ambiguous.pk, by=treasurer, reason="gone")
        assert (balance_of("available", rich), balance_of("shortfall")) == (60 * UNITS - FEE, 0)

    def test_written_off_it_is_a_loss(self, chain, rich, ambiguous, treasurer, balance_of, look):
        recognition.write_off(ambiguous.pk, by=treasurer, reason="nobody knows")
        look()

        assert balance_of("available", rich) == 90 * UNITS - FEE
        assert balance_of("shortfall") == -30 * UNITS
        assert not alerts.is_sounding("unknown_authorization")
        assert reconciliation.compare().difference_units == 0
        guard.resume("withdrawals", by=treasurer, reason="written off")
        run(chain)
        assert Withdrawal.objects.get().state == "settled"

    def test_what_is_not_final_is_not_for_people(self, chain, rich, treasurer, look):
        pay_unknown(chain, secrets.token_bytes(20), 30 * UNITS)
        chain.mine(2)
        look()

        with pytest.raises(recognition.NotYet):
            recognition.write_off(Outflow.objects.get(explanation="").pk, by=treasurer, reason="gone")

    def test_what_is_recognised_by_itself_is_not_for_people(self, chain, rich, ask, treasurer):
        withdrawal = ask(40 * UNITS)
        pay_unknown(chain, withdrawal.address, 40 * UNITS, nonce=payouts.nonce_of(withdrawal))
        chain.finalize()
        scans.scan()
        explanations.explain_due()

        with pytest.raises(recognition.NotYet):
            recognition.write_off(Outflow.objects.get(explanation="").pk, by=treasurer, reason="gone")

    def test_our_own_payout_that_nobody_has_looked_at_yet_cannot_be_written_off(self, chain, rich, ask, treasurer):
        ask()
        run(chain, 1)
        scans.scan()

        with pytest.raises(recognition.NotYet):
            recognition.write_off(Outflow.objects.get(explanation="").pk, by=treasurer, reason="gone")


@pytest.mark.django_db(transaction=True)
class TestAtOnce:
    def test_a_treasurer_and_the_recogniser(self, chain, rich, race, treasurer, balance_of, look):
        entry = entry_for(rich)
        pay_unknown(chain, entry.address, 30 * UNITS)
        chain.finalize()
        scans.scan()
        explanations.explain_due()
        outflow = Outflow.objects.get(explanation="")

        outcomes = race(
            *[recognition.recognise_due] * 4,
            *[lambda: recognition.write_off(outflow.pk, by=treasurer, reason="gone")] * 2,
            *[lambda: recognition.attribute(outflow.pk, agent_id=rich.pk, by=treasurer, reason="hers")] * 2,
        )

        assert [one for one in outcomes if isinstance(one, Exception) and not isinstance(one, Conflict)] == []
        ends = (balance_of("available", rich), balance_of("shortfall"))
        assert ends in [(70 * UNITS, 0), (100 * UNITS, -30 * UNITS)]
        assert balance_of("custody", f"chain:{chain.chain_id}") == -70 * UNITS
        assert Withdrawal.objects.count() <= 1
        assert reconciliation.compare().difference_units == 0

    def test_the_recogniser_and_the_treasury(self, chain, rich, ask, race, balance_of):
        """Authorized in the same moment, it is settled like any other; recognised, it is never authorized."""
        withdrawal = ask(40 * UNITS)
        call = signed_payment(chain, withdrawal.address, 40 * UNITS, nonce=payouts.nonce_of(withdrawal))
        chain.do(chain.usdc, call)
        chain.finalize()

        race(*[recognition.recognise_due] * 4, *[payouts.authorize_due] * 4)
        recognition.recognise_due()

        withdrawal.refresh_from_db()
        assert withdrawal.state == "recognised"
        assert not Authorization.objects.exists()
        assert chain.balance(withdrawal.address) == 40 * UNITS


def test_entries_of_other_agents_do_not_matter(chain, rich, bob, look, balance_of):
    entry_for(bob)
    pay_unknown(chain, entry_for(rich).address, 5 * UNITS)
    chain.finalize()

    look()

    assert AddressBookEntry.objects.count() == 2
    assert PayoutGuard.objects.get().checked_block >= 0
    assert balance_of("available", rich) == 95 * UNITS
