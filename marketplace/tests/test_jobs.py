from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction

from accounts import limits, spending, tokens
from accounts.errors import NotFound
from accounts.models import Agent, Event
from escrow import holds, ledger
from marketplace import effects, jobs, lifecycle, locking, offers, settlements
from marketplace.lifecycle import Role, TransitionNotAllowed
from marketplace.models import Job
from marketplace.tests.trades import BOND, CLIENT_FUNDS, PRICE, SELLER_FUNDS, terms_of

pytestmark = pytest.mark.django_db


class TestFund:
    def test_holds_the_price_and_the_bond(self, trade, money):
        job = trade.job("agreed")

        job = jobs.fund(job.id, client=trade.client, at=trade.later(10))

        assert (job.state, job.awaiting, job.funded_at) == ("funded", "seller", trade.later(10))
        assert job.deliver_by == job.deadline_at == trade.later(10 + 3_600)
        assert (money(job)["hold"], money(job)["bond"]) == (PRICE, BOND)

    def test_takes_the_last_unit_of_both(self, alice, bob, credit, trade, balance_of):
        job = trade.job("agreed", price="100", seller_bond="50")

        jobs.fund(job.id, client=alice, at=trade.at)

        assert (balance_of("available", alice), balance_of("available", bob)) == (0, 0)

    def test_tells_a_client_how_much_is_missing(self, trade):
        job = trade.job("agreed", price="100.000001")

        with pytest.raises(ledger.InsufficientFunds) as refusal:
            jobs.fund(job.id, client=trade.client, at=trade.at)

        assert refusal.value.members == {"short_by": "0.000001"}

    def test_tells_nobody_how_much_of_the_bond_is_missing(self, trade, money):
        job = trade.job("agreed", price="60", seller_bond="50.000001")

        with pytest.raises(holds.BondUnavailable) as refusal:
            jobs.fund(job.id, client=trade.client, at=trade.at)

        assert refusal.value.members == {}
        assert "0.000001" not in refusal.value.detail
        job.refresh_from_db()
        assert job.state == "agreed"
        assert money(job) == {"client": CLIENT_FUNDS, "seller": SELLER_FUNDS, "hold": 0, "bond": 0, "fees": 0}

    def test_tells_the_seller_that_its_bond_is_missing(self, trade, client_for):
        job = trade.job("agreed", price="60", seller_bond="50.000001")

        answer = client_for(trade.client).post(f"/jobs/{job.id}/funding")

        assert (answer.status_code, answer.json()["code"]) == (409, "bond_unavailable")
        told = Event.objects.get(type="job.bond_unavailable")
        assert (told.recipient, told.data) == (trade.seller, {"job_id": str(job.id), "sequence": 3})

    def test_says_that_the_client_is_short_where_both_are(self, trade):
        job = trade.job("agreed", price="1000", seller_bond="1000")

        with pytest.raises(ledger.InsufficientFunds):
            jobs.fund(job.id, client=trade.client, at=trade.at)

    def test_asks_the_limits_of_both_again(self, trade):
        job = trade.job("agreed")
        Agent.objects.filter(pk=trade.seller.pk).update(status="suspended")

        with pytest.raises(limits.AgentNotActive):
            jobs.fund(job.id, client=trade.client, at=trade.at)

    @pytest.mark.parametrize("cap", ["max_per_job_units", "max_per_day_units"])
    def test_counts_the_price_against_the_token(self, trade, cap, money):
        job = trade.job("agreed")
        token, _ = tokens.mint(trade.client, scopes=["jobs:write"], **{cap: PRICE - 1})

        with pytest.raises(spending.SpendingCapExceeded):
            jobs.fund(job.id, client=trade.client, token=token, at=trade.at)

        assert money(job)["hold"] == 0

    def test_spends_a_day_of_the_token_once_for_each_job(self, trade):
        first, second = trade.job("agreed"), trade.job("agreed")
        token, _ = tokens.mint(trade.client, scopes=["jobs:write"], max_per_day_units=2 * PRICE - 1)

        jobs.fund(first.id, client=trade.client, token=token, at=trade.at)
        with pytest.raises(spending.SpendingCapExceeded):
            jobs.fund(second.id, client=trade.client, token=token, at=trade.at)

        tomorrow = trade.at + timedelta(days=1)
        assert jobs.fund(second.id, client=trade.client, token=token, at=tomorrow).state == "funded"


class TestStart:
    def test_leaves_the_clock_running(self, trade):
        job = trade.job("funded")

        job = jobs.start(job.id, seller=trade.seller, at=trade.later(3_599))

        assert (job.state, job.deadline_at) == ("in_progress", trade.later(3_600))


class TestApprove:
    def test_pays_and_closes(self, trade, money):
        job = trade.job("delivered")

        job = jobs.approve(job.id, client=trade.client, at=trade.later(20))

        assert (job.state, job.closed_at, job.deadline_at, job.awaiting) == ("completed", trade.later(20), None, None)
        assert money(job)["seller"] == SELLER_FUNDS + 12_222_222

    def test_pays_once(self, trade, money):
        job = trade.job("completed")
        paid = money(job)

        with pytest.raises(TransitionNotAllowed):
            jobs.approve(job.id, client=trade.client, at=trade.at)

        assert money(job) == paid

    def test_is_possible_while_the_review_is_over_but_not_swept(self, trade):
        job = trade.job("delivered")

        assert jobs.approve(job.id, client=trade.client, at=trade.later(7_201)).state == "completed"

    @pytest.mark.parametrize("status", ["suspended", "leaving"])
    def test_goes_on_for_agents_that_take_no_new_business(self, trade, status):
        job = trade.job("delivered")
        Agent.objects.update(status=status)

        assert jobs.approve(job.id, client=trade.client, at=trade.at).state == "completed"


class TestAbort:
    def test_keeps_the_reason(self, trade):
        job = trade.job("in_progress")

        job = jobs.abort(job.id, by=trade.seller, reason="The source is empty", at=trade.at)

        assert job.state == "cancelled"
        assert job.transitions.get(action="abort").note == "The source is empty"

    def test_is_over_for_the_client_when_the_delivery_is_due(self, trade):
        job = trade.job("in_progress")

        with pytest.raises(TransitionNotAllowed):
            jobs.abort(job.id, by=trade.client, reason="late", at=job.deliver_by)

        assert jobs.abort(job.id, by=trade.seller, reason="late", at=job.deliver_by).state == "cancelled"

    def test_costs_a_client_without_a_fee_nothing(self, trade, money):
        job = trade.job("funded", client_abort_fee="0")

        jobs.abort(job.id, by=trade.client, reason="no need", at=trade.at)

        assert money(job) == {"client": CLIENT_FUNDS, "seller": SELLER_FUNDS, "hold": 0, "bond": 0, "fees": 0}


class TestFreeze:
    def test_takes_the_job_out_of_its_clock(self, trade, money):
        job = trade.freeze(trade.job("delivered"), at=trade.later(100))

        assert (job.state, job.awaiting, job.deadline_action) == ("disputed", "seller", "resolve")
        assert (job.deadline_at, job.deadline_effect) == (trade.later(100) + timedelta(days=3), "A moderator decides.")
        assert (job.frozen_state, job.frozen_at) == ("delivered", trade.later(100))
        assert money(job)["hold"] == PRICE

    def test_is_over_when_the_clock_of_the_state_is(self, trade):
        job = trade.job("delivered")

        with pytest.raises(TransitionNotAllowed):
            trade.freeze(job, at=job.deadline_at)


class TestShowDisputeClock:
    def test_writes_time_and_effect_for_display(self, trade):
        job = trade.job("disputed")

        jobs.show_dispute_clock(
            job.id, deadline_at=trade.later(9), effect="The ruling becomes final.", awaiting="moderator"
        )

        job.refresh_from_db()
        assert (job.deadline_at, job.deadline_effect, job.awaiting) == (
            trade.later(9), "The ruling becomes final.", "moderator",
        )  # fmt: skip
        assert job.revision == 6

    def test_ends_what_settlements_a_ruling_finds(self, trade):
        job = trade.job("disputed")
        settlements.offer(job.id, by=trade.client, seller_bps=1_000, at=trade.at)

        jobs.show_dispute_clock(
            job.id, deadline_at=trade.later(9), effect="Final.", awaiting=None, settlement_closed=True
        )

        job.refresh_from_db()
        assert (job.client_settlement_bps, job.settlement_closed) == (None, True)
        with pytest.raises(TransitionNotAllowed):
            settlements.offer(job.id, by=trade.client, seller_bps=1_000, at=trade.at)

    def test_does_not_know_a_job_without_a_dispute(self, trade):
        job = trade.job("delivered")

        with pytest.raises(NotFound):
            jobs.show_dispute_clock(job.id, deadline_at=trade.at, effect="", awaiting=None)


class TestResolve:
    def test_takes_deposits_along_in_the_same_transfer(self, trade, balance_of):
        job = trade.job("disputed")
        key = "dispute:1:opening"
        held = holds.take_deposit(key, agent_id=trade.client.id, wanted_units=1_000_000, at=trade.at)

        back = tuple(holds.deposit_moves(key, held, to=("available", str(trade.seller.id))))
        jobs.resolve(job.id, plan=lambda job: effects.split(job, 10_000, extra=back), note="As agreed.", at=trade.at)

        assert balance_of("available", trade.seller) == SELLER_FUNDS + 12_222_222 + 1_000_000
        assert balance_of("dispute_deposit", key) == 0

    def test_may_be_the_clocks_work(self, trade):
        job = trade.job("disputed")

        job = jobs.resolve(
            job.id, plan=lambda job: effects.split(job, 0, bond_to="client"), by=Role.SYSTEM, at=trade.at
        )

        assert job.transitions.get(action="resolve").by == "system"

    @pytest.mark.parametrize("by", [Role.CLIENT, Role.SELLER])
    def test_is_never_a_partys_work(self, trade, by):
        job = trade.job("disputed")

        with pytest.raises(TransitionNotAllowed):
            jobs.resolve(job.id, plan=lambda job: effects.split(job, 10_000), by=by, at=trade.at)


class TestLeave:
    """Deactivation, jobs-and-money.md: what a leaving agent's open jobs become."""

    @pytest.mark.parametrize(
        ("state", "as_seller", "as_client"),
        [
            ("negotiating", "cancelled", "cancelled"),
            ("agreed", "cancelled", "cancelled"),
            ("funded", "cancelled", "cancelled"),
            ("in_progress", "cancelled", "cancelled"),
            ("delivered", "delivered", "delivered"),
            ("revising", "cancelled", "revising"),
            ("disputed", "disputed", "disputed"),
            ("completed", "completed", "completed"),
        ],
    )
    @pytest.mark.parametrize("role", ["seller", "client"])
    def test_ends_what_the_specification_says(self, trade, state, as_seller, as_client, role):
        job = trade.job(state)
        agent = lifecycle.party_of(Role(role), job)

        jobs.leave(agent.id, at=trade.later(60))

        job.refresh_from_db()
        assert job.state == (as_seller if role == "seller" else as_client)
        last = job.transitions.order_by("revision").last()
        if job.state != state:
            assert (last.by, last.note) == (role, "The agent left.")

    def test_costs_a_leaving_client_the_abort_fee(self, trade, money):
        job = trade.job("in_progress")

        jobs.leave(trade.client.id, at=trade.later(60))

        assert money(job)["seller"] == SELLER_FUNDS + 1_980_099

    def test_costs_a_leaving_seller_the_bond(self, trade, money):
        job = trade.job("revising")

        jobs.leave(trade.seller.id, at=trade.later(60))

        assert money(job)["client"] == CLIENT_FUNDS + BOND

    def test_is_safe_to_run_again(self, trade, money):
        several = [trade.job("negotiating"), trade.job("funded"), trade.job("delivered")]
        jobs.leave(trade.client.id, at=trade.later(60))
        after_one = [(money(job), Job.objects.values().get(pk=job.pk)) for job in several]

        jobs.leave(trade.client.id, at=trade.later(120))

        assert [(money(job), Job.objects.values().get(pk=job.pk)) for job in several] == after_one

    def test_leaves_a_job_alone_whose_clock_is_over(self, trade):
        job = trade.job("funded")

        jobs.leave(trade.client.id, at=job.deadline_at)

        job.refresh_from_db()
        assert job.state == "funded"

    def test_touches_nobody_elses_jobs(self, trade, carol):
        job = trade.job("funded")

        jobs.leave(carol.id, at=trade.at)

        job.refresh_from_db()
        assert job.state == "funded"


class TestStopNewBusiness:
    @pytest.mark.parametrize("role", ["client", "seller"])
    def test_declines_what_is_not_funded_and_leaves_the_rest(self, trade, role):
        states = ["negotiating", "agreed", "funded", "in_progress", "delivered", "revising", "disputed"]
        several = [trade.job(state, price="1", seller_bond="0", client_abort_fee="0") for state in states]
        agent = lifecycle.party_of(Role(role), several[0])

        jobs.stop_new_business(agent.id, at=trade.at)

        assert [Job.objects.get(pk=job.pk).state for job in several] == ["cancelled", "cancelled", *states[2:]]


class TestRow:
    """What the database itself refuses of a job."""

    @pytest.mark.parametrize(
        ("state", "change"),
        [
            ("agreed", {"price_units": 9_999}),
            ("agreed", {"price_units": 10**12 + 1}),
            ("agreed", {"bond_units": -1}),
            ("agreed", {"bond_units": PRICE + 1}),
            ("agreed", {"client_abort_fee_units": -1}),
            ("agreed", {"fee_bps": 10_001}),
            ("agreed", {"agreed_terms_hash": None}),
            ("delivered", {"state": "lost"}),
            ("delivered", {"state": "completed"}),
            ("delivered", {"deadline_at": None}),
            ("delivered", {"revisions_used": 3}),
            ("delivered", {"client_settlement_bps": 10_001}),
            ("delivered", {"seller_settlement_bps": -1}),
        ],
    )
    def test_keeps_its_bounds(self, trade, state, change):
        job = trade.job(state)

        with pytest.raises(IntegrityError), transaction.atomic():
            Job.objects.filter(pk=job.pk).update(**change)

    def test_of_one_agent_hiring_itself_is_refused(self, trade):
        with pytest.raises(IntegrityError), transaction.atomic():
            Job.objects.filter(pk=trade.job().pk).update(client=trade.seller)

    def test_is_read_whole_under_its_lock(self, trade):
        job = trade.job("delivered")

        with transaction.atomic():
            locked = locking.lock(job.id)

        assert Job.objects.values().get(pk=job.pk) == {
            field.attname: getattr(locked, field.attname) for field in Job._meta.concrete_fields
        }
        assert (locked.client, locked.seller, locked.offer.terms) == (trade.client, trade.seller, job.offer.terms)
        assert locked.client.capabilities == []

    def test_takes_its_clock_from_the_database(self, trade):
        job = offers.propose(trade.client, trade.seller, terms=terms_of())

        with transaction.atomic():
            first, second = locking.lock(job.id).at, locking.lock(job.id).at

        assert job.created_at < first < second
