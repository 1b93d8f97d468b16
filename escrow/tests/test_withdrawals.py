"""Withdrawals as far as the database decides: the request, what holds it, who lets it go, who calls it off."""

import secrets
from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction

from accounts import alerts, clock, ids
from accounts.errors import Invalid, NotAllowed, NotFound
from accounts.models import Agent, AgentKey, Event, User
from escrow import address_book, ledger, withdrawal_table, withdrawals
from escrow.models import AddressBookEntry, Withdrawal
from escrow.tests.chain import UNITS
from escrow.tests.people import person
from escrow.withdrawal_table import Action

State = Withdrawal.State
FEE = 500_000


@pytest.fixture(autouse=True)
def _here(settings):
    """A chain nobody has to speak to."""
    settings.CHAIN_ID = 31337
    settings.USDC_ADDRESS = "0x" + "aa" * 20
    settings.DEPOSIT_FACTORY_ADDRESS = "0x" + "bb" * 20


@pytest.fixture
def entry(alice):
    return entry_of(alice)


def entry_of(agent) -> AddressBookEntry:
    then = clock.now() - timedelta(days=2)
    return AddressBookEntry.objects.create(
        id=ids.uuid7(), agent=agent, address=secrets.token_bytes(20), created_at=then, usable_at=then
    )


@pytest.fixture
def treasurer(db):
    return person("treasurer")


def told(agent) -> list[str]:
    return list(Event.objects.filter(recipient_id=agent.id).order_by("id").values_list("type", flat=True))


# Written by hand from jobs-and-money.md, section 4; "-" is refused.
TABLE = """
            requested  held       cooling    authorized broadcast  lapsed
hold        held       -          held       -          -          -
cool        cooling    -          -          -          -          -
approve     -          requested  -          -          -          -
reject      -          rejected   -          -          -          -
release     -          -          requested  -          -          -
cancel      cancelled  cancelled  cancelled  -          -          -
authorize   authorized -          -          -          -          -
broadcast   -          -          -          broadcast  -          -
lapse       -          -          -          lapsed     lapsed     -
settle      -          -          -          settled    settled    settled
refund      -          -          -          refunded   refunded   refunded
recognise   recognised recognised recognised -          -          -
"""
ENDED = ("settled", "refunded", "cancelled", "rejected", "recognised")


def cells():
    head, *rows = TABLE.strip("\n").splitlines()
    for row in rows:
        action, *ends = row.split()
        yield from ((action, before, after) for before, after in zip(head.split(), ends, strict=True))
        yield from ((action, before, "-") for before in ENDED)


class TestTable:
    @pytest.mark.parametrize(("action", "before", "after"), list(cells()))
    def test_every_action_in_every_state(self, action, before, after):
        withdrawal = Withdrawal(state=before, revision=3)

        if after == "-":
            with pytest.raises(withdrawal_table.TransitionNotAllowed):
                withdrawal_table.advance(withdrawal, Action(action))
            assert (withdrawal.state, withdrawal.revision) == (before, 3)
        else:
            withdrawal_table.advance(withdrawal, Action(action))
            assert (withdrawal.state, withdrawal.revision) == (after, 4)

    def test_no_action_is_left_out(self):
        assert {action for action, _, _ in cells()} == set(Action)


class TestRequest:
    def test_puts_amount_and_fee_aside(self, alice, credit, entry, balance_of):
        credit(alice, 100 * UNITS)

        withdrawal = withdrawals.request(alice, amount_units=40 * UNITS, entry_id=entry.pk)

        assert (withdrawal.state, withdrawal.fee_units, withdrawal.address) == (State.REQUESTED, FEE, entry.address)
        assert balance_of("available", alice) == 60 * UNITS - FEE
        assert balance_of("withdrawing", alice) == 40 * UNITS + FEE
        assert told(alice) == ["withdrawal.requested"]

    def test_without_the_fee_too_is_refused(self, alice, credit, entry, balance_of):
        credit(alice, 40 * UNITS)

        with pytest.raises(ledger.InsufficientFunds) as refusal:
            withdrawals.request(alice, amount_units=40 * UNITS, entry_id=entry.pk)

        assert refusal.value.members == {"short_by": "0.500000"}
        assert not Withdrawal.objects.exists()
        assert balance_of("available", alice) == 40 * UNITS

    def test_below_the_minimum_is_refused(self, alice, credit, entry):
        credit(alice, 40 * UNITS)

        with pytest.raises(Invalid) as refusal:
            withdrawals.request(alice, amount_units=UNITS - 1, entry_id=entry.pk)

        assert [(error.pointer, error.code) for error in refusal.value.errors] == [("/amount", "below_minimum")]

    def test_to_an_address_that_is_still_cooling_is_refused(self, alice, credit, entry, balance_of):
        credit(alice, 40 * UNITS)
        AddressBookEntry.objects.update(usable_at=clock.now() + timedelta(seconds=60))

        with pytest.raises(address_book.AddressCooling):
            withdrawals.request(alice, amount_units=10 * UNITS, entry_id=entry.pk)

        assert balance_of("withdrawing", alice) == 0

    def test_to_an_address_of_another_agent_or_one_removed_is_refused(self, alice, bob, credit, entry):
        credit(bob, 40 * UNITS)
        with pytest.raises(NotFound):
            withdrawals.request(bob, amount_units=10 * UNITS, entry_id=entry.pk)

        address_book.remove(entry.pk, agent=alice)
        credit(alice, 40 * UNITS)
        with pytest.raises(NotFound):
            withdrawals.request(alice, amount_units=10 * UNITS, entry_id=entry.pk)

    def test_after_a_change_of_key_it_cools(self, alice, credit, entry, settings):
        settings.WITHDRAWAL_COOLING_SECONDS = 3_600
        credit(alice, 40 * UNITS)
        at = clock.now()
        for days in (30, 0):
            AgentKey.objects.create(
                agent=alice, public_key=secrets.token_bytes(32), created_at=at - timedelta(days=days)
            )

        withdrawal = withdrawals.request(alice, amount_units=10 * UNITS, entry_id=entry.pk)

        assert withdrawal.state == State.COOLING
        assert withdrawal.cooling_until == at + timedelta(seconds=3_600)
        withdrawals.advance_due()
        withdrawal.refresh_from_db()
        assert withdrawal.state == State.COOLING
        Withdrawal.objects.update(cooling_until=clock.now())
        withdrawals.advance_due()
        withdrawal.refresh_from_db()
        assert withdrawal.state == State.REQUESTED

    def test_after_a_change_of_the_owners_e_mail_it_cools(self, alice, credit, entry, settings):
        settings.WITHDRAWAL_COOLING_SECONDS = 3_600
        credit(alice, 40 * UNITS)
        owner = User.objects.create(username="owner", email="owner@example.com")
        Agent.objects.filter(pk=alice.pk).update(owner=owner)
        assert withdrawals.request(alice, amount_units=10 * UNITS, entry_id=entry.pk).state == State.REQUESTED

        User.objects.filter(pk=owner.pk).update(email="thief@example.com")
        withdrawal = withdrawals.request(alice, amount_units=10 * UNITS, entry_id=entry.pk)

        owner.refresh_from_db()
        assert withdrawal.state == State.COOLING
        assert withdrawal.cooling_until == owner.email_changed_at + timedelta(seconds=3_600)

    def test_after_a_change_of_owner_it_cools(self, alice, credit, entry, settings):
        settings.WITHDRAWAL_COOLING_SECONDS = 3_600
        credit(alice, 40 * UNITS)
        for name in ("owner", "buyer"):
            assert withdrawals.request(alice, amount_units=10 * UNITS, entry_id=entry.pk).state == State.REQUESTED
            owner = User.objects.create(username=name, email=f"{name}@example.com")
            Agent.objects.filter(pk=alice.pk).update(owner=owner)

        withdrawal = withdrawals.request(alice, amount_units=10 * UNITS, entry_id=entry.pk)

        assert withdrawal.state == State.COOLING

    def test_cools_from_the_latest_of_all_changes(self, alice, credit, entry, settings):
        settings.WITHDRAWAL_COOLING_SECONDS = 3_600
        credit(alice, 40 * UNITS)
        at = clock.now()
        for minutes in (50_000, 30, 10):
            AgentKey.objects.create(
                agent=alice, public_key=secrets.token_bytes(32), created_at=at - timedelta(minutes=minutes)
            )

        withdrawal = withdrawals.request(alice, amount_units=10 * UNITS, entry_id=entry.pk)

        assert withdrawal.cooling_until == at + timedelta(minutes=50)

    def test_the_first_key_is_no_change(self, alice, credit, entry):
        credit(alice, 40 * UNITS)
        AgentKey.objects.create(agent=alice, public_key=secrets.token_bytes(32), created_at=clock.now())

        assert withdrawals.request(alice, amount_units=10 * UNITS, entry_id=entry.pk).state == State.REQUESTED


class TestHeld:
    def test_above_the_threshold(self, alice, credit, entry):
        credit(alice, 3_000 * UNITS)

        withdrawal = withdrawals.request(alice, amount_units=1_000 * UNITS + 1, entry_id=entry.pk)

        assert (withdrawal.state, withdrawal.held_for, withdrawal.approvals_needed) == (State.HELD, ["amount"], 1)
        assert told(alice) == ["withdrawal.requested", "withdrawal.held"]

    def test_above_ten_times_the_threshold_two_have_to_agree(self, alice, credit, entry):
        credit(alice, 30_000 * UNITS)

        withdrawal = withdrawals.request(alice, amount_units=10_000 * UNITS + 1, entry_id=entry.pk)

        assert withdrawal.approvals_needed == 2

    def test_over_the_agents_day(self, alice, credit, entry, settings):
        settings.WITHDRAWAL_DAILY_LIMIT_UNITS = 100 * UNITS
        credit(alice, 300 * UNITS)
        withdrawals.request(alice, amount_units=60 * UNITS, entry_id=entry.pk)

        second = withdrawals.request(alice, amount_units=60 * UNITS, entry_id=entry.pk)

        assert (second.state, second.held_for) == (State.HELD, ["agent_limit"])

    def test_over_the_platforms_day(self, alice, bob, credit, entry, settings):
        settings.WITHDRAWAL_PLATFORM_DAILY_LIMIT_UNITS = 100 * UNITS
        credit(alice, 300 * UNITS)
        credit(bob, 300 * UNITS)
        withdrawals.request(alice, amount_units=60 * UNITS, entry_id=entry.pk)

        second = withdrawals.request(bob, amount_units=60 * UNITS, entry_id=entry_of(bob).pk)

        assert (second.state, second.held_for) == (State.HELD, ["platform_limit"])

    def test_what_came_back_or_is_a_day_old_does_not_count(self, alice, credit, entry, settings):
        settings.WITHDRAWAL_DAILY_LIMIT_UNITS = 100 * UNITS
        credit(alice, 300 * UNITS)
        at = clock.now()
        withdrawals.request(alice, amount_units=60 * UNITS, entry_id=entry.pk, at=at - timedelta(hours=25))
        back = withdrawals.request(alice, amount_units=60 * UNITS, entry_id=entry.pk)
        withdrawals.cancel(back.pk, agent=alice)

        assert withdrawals.request(alice, amount_units=60 * UNITS, entry_id=entry.pk).state == State.REQUESTED

    @pytest.mark.django_db(transaction=True)
    def test_the_days_limit_is_exact_with_many_at_once(self, alice, credit, entry, race, settings):
        settings.WITHDRAWAL_DAILY_LIMIT_UNITS = 50 * UNITS
        credit(alice, 1_000 * UNITS)

        race(*[lambda: withdrawals.request(alice, amount_units=10 * UNITS, entry_id=entry.pk)] * 50)

        states = list(Withdrawal.objects.values_list("state", flat=True))
        assert (states.count("requested"), states.count("held")) == (5, 45)

    @pytest.mark.django_db(transaction=True)
    def test_the_platforms_limit_is_exact_over_many_agents(self, make_agent, credit, race, settings):
        settings.WITHDRAWAL_PLATFORM_DAILY_LIMIT_UNITS = 50 * UNITS
        agents = [make_agent(f"agent-{n}") for n in range(10)]
        books = []
        for agent in agents:
            credit(agent, 60 * UNITS)
            books.append((agent, entry_of(agent).pk))

        race(*[lambda a=a, e=e: withdrawals.request(a, amount_units=10 * UNITS, entry_id=e) for a, e in books] * 5)

        states = list(Withdrawal.objects.values_list("state", flat=True))
        assert (states.count("requested"), states.count("held")) == (5, 45)

    @pytest.mark.django_db(transaction=True)
    def test_of_fifty_requests_for_the_whole_balance_one_is_accepted(self, alice, credit, entry, race, balance_of):
        credit(alice, 40 * UNITS + FEE)

        outcomes = race(*[lambda: withdrawals.request(alice, amount_units=40 * UNITS, entry_id=entry.pk)] * 50)

        assert sum(isinstance(outcome, ledger.InsufficientFunds) for outcome in outcomes) == 49
        assert Withdrawal.objects.count() == 1
        assert balance_of("available", alice) == 0

    def test_not_approved_in_time_it_is_rejected_and_the_money_is_back(self, alice, credit, entry, balance_of):
        credit(alice, 3_000 * UNITS)
        withdrawal = withdrawals.request(alice, amount_units=2_000 * UNITS, entry_id=entry.pk)
        withdrawals.advance_due()
        withdrawal.refresh_from_db()
        assert withdrawal.state == State.HELD

        Withdrawal.objects.update(approve_by=clock.now())
        withdrawals.advance_due()

        withdrawal.refresh_from_db()
        assert withdrawal.state == State.REJECTED
        assert balance_of("available", alice) == 3_000 * UNITS
        assert told(alice)[-1] == "withdrawal.rejected"

    def test_is_not_rejected_while_payouts_may_be_forgotten_and_others_cool_on(self, alice, credit, entry, settings):
        settings.WITHDRAWAL_APPROVAL_THRESHOLD_UNITS = 15 * UNITS
        credit(alice, 40 * UNITS)
        held = withdrawals.request(alice, amount_units=20 * UNITS, entry_id=entry.pk)
        cooled = withdrawals.request(alice, amount_units=10 * UNITS, entry_id=entry.pk)
        Withdrawal.objects.filter(pk=cooled.pk).update(state=State.COOLING, cooling_until=clock.now())
        Withdrawal.objects.filter(pk=held.pk).update(approve_by=clock.now())
        alerts.sound("unknown_authorization")

        withdrawals.advance_due()

        assert [withdrawals.lock(one.pk).state for one in (held, cooled)] == [State.HELD, State.REQUESTED]
        alerts.clear("unknown_authorization")
        withdrawals.advance_due()
        assert withdrawals.lock(held.pk).state == State.REJECTED

    @pytest.mark.django_db(transaction=True)
    def test_two_sweepers_at_once_give_back_once(self, alice, credit, entry, race, balance_of):
        credit(alice, 3_000 * UNITS)
        withdrawals.request(alice, amount_units=2_000 * UNITS, entry_id=entry.pk)
        Withdrawal.objects.update(approve_by=clock.now())

        assert sorted(race(*[withdrawals.advance_due] * 8)) == [0] * 7 + [1]

        assert balance_of("available", alice) == 3_000 * UNITS


class TestApprove:
    @pytest.fixture
    def held(self, alice, credit, entry):
        credit(alice, 3_000 * UNITS)
        return withdrawals.request(alice, amount_units=2_000 * UNITS, entry_id=entry.pk)

    @pytest.fixture
    def huge(self, alice, credit, entry):
        credit(alice, 30_000 * UNITS)
        return withdrawals.request(alice, amount_units=20_000 * UNITS, entry_id=entry.pk)

    def test_lets_it_go(self, held, treasurer):
        assert withdrawals.approve(held.pk, by=treasurer, revision=held.revision).state == State.REQUESTED

    def test_needs_a_treasurer(self, held):
        with pytest.raises(NotAllowed):
            withdrawals.approve(held.pk, by=person("moderator", may_approve=False), revision=held.revision)

        assert withdrawals.lock(held.pk).state == State.HELD

    def test_of_ones_own_agent_is_refused(self, held, alice, treasurer):
        alice.owner = treasurer
        alice.save(update_fields=["owner"])

        with pytest.raises(withdrawals.OwnWithdrawal):
            withdrawals.approve(held.pk, by=treasurer, revision=held.revision)

    def test_of_another_revision_is_refused(self, held, treasurer):
        with pytest.raises(withdrawals.RevisionChanged):
            withdrawals.approve(held.pk, by=treasurer, revision=held.revision + 1)

    def test_after_the_time_for_it_is_refused_swept_or_not(self, held, treasurer):
        with pytest.raises(withdrawal_table.TransitionNotAllowed):
            withdrawals.approve(held.pk, by=treasurer, revision=held.revision, at=held.approve_by)

        assert withdrawals.lock(held.pk).state == State.HELD

    def test_two_have_to_be_two(self, huge, treasurer):
        withdrawal = withdrawals.approve(huge.pk, by=treasurer, revision=huge.revision)
        assert withdrawal.state == State.HELD
        with pytest.raises(withdrawals.Conflict, match="another treasurer"):
            withdrawals.approve(huge.pk, by=treasurer, revision=withdrawal.revision)

        second = person("second")
        assert withdrawals.approve(huge.pk, by=second, revision=withdrawal.revision).state == State.REQUESTED

    def test_is_not_held_again_by_the_limit_it_was_approved_over(self, held, treasurer):
        approved = withdrawals.approve(held.pk, by=treasurer, revision=held.revision)

        assert withdrawals.reasons_to_hold_now(approved, at=clock.now()) == []

    def test_goes_on_cooling_where_it_had_to(self, held, treasurer):
        Withdrawal.objects.update(cooling_until=clock.now() + timedelta(minutes=5))

        assert withdrawals.approve(held.pk, by=treasurer, revision=held.revision).state == State.COOLING

    def test_of_one_that_is_not_held_is_refused(self, held, alice, treasurer):
        withdrawals.cancel(held.pk, agent=alice)

        with pytest.raises(withdrawal_table.TransitionNotAllowed):
            withdrawals.approve(held.pk, by=treasurer, revision=held.revision + 1)

    def test_word_of_a_treasurer_cannot_be_changed(self, huge, treasurer):
        withdrawals.approve(huge.pk, by=treasurer, revision=huge.revision)
        from escrow.models import WithdrawalApproval

        with pytest.raises(IntegrityError), transaction.atomic():
            WithdrawalApproval.objects.update(revision=9)


class TestCancel:
    def test_gives_everything_back_once(self, alice, credit, entry, balance_of):
        credit(alice, 100 * UNITS)
        withdrawal = withdrawals.request(alice, amount_units=40 * UNITS, entry_id=entry.pk)

        withdrawals.cancel(withdrawal.pk, agent=alice)
        with pytest.raises(withdrawal_table.TransitionNotAllowed):
            withdrawals.cancel(withdrawal.pk, agent=alice)

        assert balance_of("available", alice) == 100 * UNITS
        assert told(alice) == ["withdrawal.requested", "withdrawal.cancelled"]

    def test_of_another_agents_is_not_found(self, alice, bob, credit, entry):
        credit(alice, 100 * UNITS)
        withdrawal = withdrawals.request(alice, amount_units=40 * UNITS, entry_id=entry.pk)

        with pytest.raises(NotFound):
            withdrawals.cancel(withdrawal.pk, agent=bob)

    @pytest.mark.django_db(transaction=True)
    def test_many_at_once_give_back_once(self, alice, credit, entry, race, balance_of):
        credit(alice, 100 * UNITS)
        withdrawal = withdrawals.request(alice, amount_units=40 * UNITS, entry_id=entry.pk)

        outcomes = race(*[lambda: withdrawals.cancel(withdrawal.pk, agent=alice)] * 16)

        assert sum(isinstance(outcome, withdrawal_table.TransitionNotAllowed) for outcome in outcomes) == 15
        assert balance_of("available", alice) == 100 * UNITS
