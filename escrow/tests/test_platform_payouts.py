"""Income on its way out: two treasurers, what was earned and no more, and every unit of it accounted for."""

import secrets
from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction

from accounts import clock, pauses
from accounts.errors import Invalid, NotAllowed, Paused
from escrow import income, ledger, payouts, platform_payouts, withdrawal_table, withdrawals
from escrow.models import LedgerAccount, Withdrawal, WithdrawalApproval
from escrow.tests.chain import UNITS
from escrow.tests.people import earn, person
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
def earned(db):
    """100 USDC in three accounts."""
    earn(("fees", "platform:0", 50 * UNITS), ("fees", "platform:7", 20 * UNITS), ("penalties", "platform", 30 * UNITS))


def ask(by, units=60 * UNITS, **changed):
    return platform_payouts.request(
        by=by, amount_units=units, **{"address": secrets.token_bytes(20), "note": "rent", **changed}
    )


def income_by_account() -> dict[str, int]:
    rows = LedgerAccount.objects.filter(kind__in=["fees", "penalties"], balance__gt=0)
    return {f"{row.kind} {row.owner_key}": row.balance for row in rows}


class TestRequest:
    def test_sets_income_aside_from_all_its_accounts_and_waits_for_another_treasurer(self, earned, tina, balance_of):
        withdrawal = ask(tina, 95 * UNITS)

        assert (withdrawal.owner, withdrawal.state, withdrawal.held_for) == ("platform", State.HELD, ["platform"])
        assert (withdrawal.approvals_needed, withdrawal.fee_units, withdrawal.asked_by) == (1, 0, tina)
        assert income.units() == 5 * UNITS
        assert balance_of("withdrawing", "platform") == 95 * UNITS

    def test_more_than_was_earned_is_refused_and_nothing_is_held(self, earned, tina, balance_of):
        with pytest.raises(ledger.InsufficientFunds) as refusal:
            ask(tina, 100 * UNITS + 1)

        assert refusal.value.short_by_units == 1
        assert not Withdrawal.objects.exists()
        assert (income.units(), balance_of("withdrawing", "platform")) == (100 * UNITS, 0)

    def test_agents_money_is_not_income(self, alice, credit, tina):
        credit(alice, 1_000 * UNITS)

        with pytest.raises(ledger.InsufficientFunds):
            ask(tina)

    def test_needs_a_treasurer_a_note_and_the_minimum(self, earned, tina):
        with pytest.raises(NotAllowed):
            ask(person("moderator", may_approve=False))
        for wrong in ({"note": "  "}, {"note": "x" * 501}, {"units": UNITS - 1}, {"units": -UNITS}):
            with pytest.raises(Invalid):
                ask(tina, **wrong)

        assert income.units() == 100 * UNITS

    @pytest.mark.parametrize("address", [bytes(20), b"\xaa" * 20, b"\xbb" * 20])
    def test_to_what_cannot_be_paid_is_refused(self, earned, tina, address):
        with pytest.raises(Invalid) as refusal:
            ask(tina, address=address)

        assert refusal.value.errors[0].code == "refused_address"

    def test_while_withdrawals_are_paused_is_refused(self, earned, tina):
        pauses.pause("withdrawals", reason="looking at something", cause="test")

        with pytest.raises(Paused):
            ask(tina)

        assert income.units() == 100 * UNITS

    @pytest.mark.django_db(transaction=True)
    def test_many_at_once_take_what_there_is_once(self, earned, tina, race, balance_of):
        outcomes = race(*[lambda: ask(tina, 30 * UNITS)] * 12)

        assert sum(isinstance(outcome, ledger.InsufficientFunds) for outcome in outcomes) == 9
        assert [outcome for outcome in outcomes if not isinstance(outcome, ledger.InsufficientFunds | Withdrawal)] == []
        assert (income.units(), balance_of("withdrawing", "platform")) == (10 * UNITS, 90 * UNITS)


class TestApproval:
    def test_is_never_of_the_one_who_asked(self, earned, tina):
        withdrawal = ask(tina)

        with pytest.raises(withdrawals.OwnWithdrawal):
            withdrawals.approve(withdrawal.pk, by=tina, revision=withdrawal.revision)
        with pytest.raises(IntegrityError), transaction.atomic():  # nor past the verb
            WithdrawalApproval.objects.create(withdrawal=withdrawal, by=tina, revision=1, at=clock.now())

        assert withdrawals.lock(withdrawal.pk).state == State.HELD

    def test_by_another_lets_it_go(self, earned, tina, theo):
        withdrawal = ask(tina)

        assert withdrawals.approve(withdrawal.pk, by=theo, revision=withdrawal.revision).state == State.REQUESTED

    def test_of_a_large_one_is_that_of_two_others(self, tina, theo, settings):
        settings.WITHDRAWAL_APPROVAL_THRESHOLD_UNITS = UNITS
        earn(("fees", "platform:0", 100 * UNITS))
        withdrawal = ask(tina, 10 * UNITS + 1)

        withdrawal = withdrawals.approve(withdrawal.pk, by=theo, revision=withdrawal.revision)

        assert (withdrawal.state, withdrawal.approvals_needed) == (State.HELD, 2)
        third = person("third")
        assert withdrawals.approve(withdrawal.pk, by=third, revision=withdrawal.revision).state == State.REQUESTED


class TestEnd:
    def test_called_off_by_the_one_who_asked_it_is_back_where_it_came_from(self, earned, tina, theo, balance_of):
        before = income_by_account()
        withdrawal = ask(tina, 95 * UNITS)
        with pytest.raises(NotAllowed):
            withdrawals.call_off(withdrawal.pk, by=theo)

        withdrawals.call_off(withdrawal.pk, by=tina)
        with pytest.raises(withdrawal_table.TransitionNotAllowed):
            withdrawals.call_off(withdrawal.pk, by=tina)

        assert income_by_account() == before
        assert balance_of("withdrawing", "platform") == 0

    def test_refused_by_another_it_says_why_beside_what_it_was_for(self, earned, tina, theo):
        withdrawal = ask(tina)

        withdrawals.reject(withdrawal.pk, by=theo, revision=withdrawal.revision, reason="not this month")

        withdrawal.refresh_from_db()
        assert (withdrawal.state, withdrawal.note) == (State.REJECTED, "rent\nRefused: not this month")
        assert income.units() == 100 * UNITS

    def test_that_nobody_approves_in_72_hours_comes_back(self, earned, tina):
        withdrawal = ask(tina, at=clock.now() - timedelta(hours=73))

        withdrawals.advance_due()

        withdrawal.refresh_from_db()
        assert withdrawal.state == State.REJECTED
        assert income.units() == 100 * UNITS

    def test_an_agent_cannot_call_it_off(self, earned, tina, alice):
        withdrawal = ask(tina)

        with pytest.raises(withdrawals.NotFound):
            withdrawals.cancel(withdrawal.pk, agent=alice)

    def test_that_was_called_off_cannot_be_approved(self, earned, tina, theo):
        withdrawal = ask(tina)
        withdrawals.call_off(withdrawal.pk, by=tina)

        with pytest.raises(withdrawal_table.TransitionNotAllowed):
            withdrawals.approve(withdrawal.pk, by=theo, revision=withdrawal.revision + 1)


class TestOnTheChain:
    @pytest.fixture(autouse=True)
    def _there(self, settings):
        settings.CHAIN_ID, settings.USDC_ADDRESS, settings.DEPOSIT_FACTORY_ADDRESS = 0, "", ""

    @pytest.fixture
    def income_of_fees(self, chain, rich, ask, settings):
        """Alice has paid 30 USDC of fees for her payouts."""
        settings.WITHDRAWAL_FEE_UNITS = 15 * UNITS
        for _ in range(2):
            ask(5 * UNITS)
        run(chain)

    def test_is_paid_and_leaves_custody(self, chain, income_of_fees, tina, theo, balance_of):
        withdrawal = ask(tina, 30 * UNITS)
        withdrawals.approve(withdrawal.pk, by=theo, revision=withdrawal.revision)

        run(chain)

        withdrawal.refresh_from_db()
        assert withdrawal.state == State.SETTLED
        assert chain.balance(withdrawal.address) == 30 * UNITS
        assert (income.units(), balance_of("withdrawing", "platform")) == (0, 0)
        assert balance_of("custody", f"chain:{chain.chain_id}") == -chain.balance(chain.treasury)

    def test_that_lapses_is_income_again(self, chain, income_of_fees, tina, theo, settings):
        before = income_by_account()
        withdrawal = ask(tina, 25 * UNITS)
        withdrawals.approve(withdrawal.pk, by=theo, revision=withdrawal.revision)
        payouts.authorize_due()

        chain.pass_time(settings.AUTHORIZATION_SECONDS + 60)
        chain.finalize()
        payouts.settle_due()

        withdrawal.refresh_from_db()
        assert withdrawal.state == State.REFUNDED
        assert income_by_account() == before
