"""What the parties do: opening, answering, withdrawing, settling; and the deposit."""

from datetime import datetime, timedelta

import pytest

from accounts import clock
from accounts.errors import DomainError, NotFound
from accounts.models import Agent, Event, User
from disputes import assignment, cases, deadlines, lifecycle
from disputes.models import Dispute, DisputeTransition, Ruling
from disputes.tests.conftest import DAY, HOUR, STATEMENT, ruled
from escrow import ledger
from marketplace import lifecycle as job_lifecycle
from marketplace import locking
from marketplace.models import Job, Transition

pytestmark = pytest.mark.django_db


def opened(job, opener: Agent, at: datetime, **given) -> Dispute:
    plan = {"reason": "late", "statement": STATEMENT, "requested_seller_bps": 0, "at": at}
    return cases.open(job.id, opener=opener, **(plan | given))


class TestOpen:
    def test_freezes_the_job_under_the_clock_of_the_case(self, job_at, alice, noon):
        job = job_at("delivered")

        case = opened(job, alice, noon + HOUR)

        job = Job.objects.get(pk=job.pk)
        assert (job.state, job.dispute_id) == ("disputed", case.id)
        assert job.deadline_at == case.deadline_at == case.answer_by == noon + HOUR + 3 * DAY
        assert job.awaiting == "seller"
        assert "silence counts as having asked for everything" in job.deadline_effect

    def test_copies_the_windows_into_the_row(self, job_at, alice, noon, settings):
        settings.DISPUTE_ANSWER_SECONDS = 60
        case = opened(job_at(), alice, noon)
        settings.DISPUTE_ANSWER_SECONDS = 3_600

        case = Dispute.objects.get(pk=case.pk)

        assert case.answer_seconds == 60
        assert case.deadline_at == noon + timedelta(seconds=60)
        assert case.hard_stop_at == noon + 30 * DAY

    def test_tells_both_sides(self, job_at, alice, bob, noon):
        case = opened(job_at(), alice, noon)

        told = Event.objects.filter(type="dispute.opened", data__dispute_id=str(case.id))
        assert {event.recipient_id for event in told} == {alice.id, bob.id}

    @pytest.mark.parametrize("state", ["in_progress", "revising"])
    def test_is_open_to_the_seller_while_it_works(self, job_at, bob, noon, state):
        assert opened(job_at(state), bob, noon).opened_by == "seller"

    @pytest.mark.parametrize("state", ["funded", "delivered", "completed"])
    def test_is_refused_to_the_seller_otherwise(self, job_at, bob, noon, state):
        job = job_at(state)

        with pytest.raises(job_lifecycle.TransitionNotAllowed):
            opened(job, bob, noon)

    @pytest.mark.parametrize(("state", "over"), [("in_progress", DAY), ("delivered", 3 * DAY), ("revising", DAY)])
    def test_is_refused_once_the_clock_of_the_job_is_over(self, job_at, alice, noon, state, over):
        job = job_at(state)

        with pytest.raises(job_lifecycle.TransitionNotAllowed):
            opened(job, alice, noon + over)

        assert opened(job, alice, noon + over - timedelta(microseconds=1))

    def test_is_refused_to_a_stranger_as_if_there_were_no_job(self, job_at, carol, noon):
        with pytest.raises(job_lifecycle.NotFound):
            opened(job_at(), carol, noon)

    def test_is_had_once_by_each_side_withdrawn_or_not(self, job_at, alice, bob, noon):
        job = job_at("in_progress")
        cases.withdraw(opened(job, alice, noon).id, by=alice, at=noon)

        again = locking.lock(job.id, at=noon)
        assert "dispute" not in job_lifecycle.available(again, job_lifecycle.Role.CLIENT, noon)
        assert "dispute" in job_lifecycle.available(again, job_lifecycle.Role.SELLER, noon)
        with pytest.raises(job_lifecycle.TransitionNotAllowed):
            opened(job, alice, noon)

        assert opened(job, bob, noon).opened_by == "seller"


class TestDeposit:
    def test_is_free_the_first_time(self, job_at, alice, balance_of, noon):
        case = opened(job_at(), alice, noon)

        assert case.deposit_due_units == 0
        assert balance_of("dispute_deposit", case.deposit_key) == 0

    def test_is_two_percent_from_the_second_case_on(self, job_at, alice, balance_of, noon):
        opened(job_at(price=200_000_000), alice, noon)
        before = balance_of("available", alice)

        case = opened(job_at(price=200_000_000), alice, noon)

        assert case.deposit_due_units == case.deposit_held_units == 4_000_000
        assert balance_of("dispute_deposit", case.deposit_key) == 4_000_000
        assert balance_of("available", alice) == before - 200_000_000 - 4_000_000

    def test_is_at_least_the_minimum_and_at_most_the_price(self, job_at, alice, noon):
        opened(job_at(), alice, noon)

        assert opened(job_at(price=10_000_000), alice, noon).deposit_due_units == 1_000_000
        assert opened(job_at(price=400_000), alice, noon).deposit_due_units == 400_000

    def test_is_doubled_from_the_eleventh_open_case_on(self, job_at, alice, noon):
        due = [opened(job_at(price=10_000_000), alice, noon).deposit_due_units for _ in range(12)]

        assert due == [0] + [1_000_000] * 9 + [2_000_000] * 2

    def test_is_doubled_after_two_losses_in_180_days(self, case_at, job_at, alice, noon):
        for _ in range(2):
            lost = case_at("final")
            assert lost.lost_by == "seller"
        Dispute.objects.update(lost_by="client")

        soon = opened(job_at(price=10_000_000, at=noon + 6 * DAY), alice, noon + 6 * DAY)
        later = opened(job_at(price=10_000_000, at=noon + 186 * DAY), alice, noon + 186 * DAY)

        assert soon.deposit_due_units == 2_000_000
        assert later.deposit_due_units == 1_000_000

    def test_counts_the_cases_of_all_agents_of_an_owner(self, job_at, alice, make_agent, credit, bob, noon):
        owner = User.objects.create_user("olga")
        sister = make_agent("sister", owner=owner)
        type(alice).objects.filter(pk=alice.pk).update(owner=owner)
        alice.refresh_from_db()
        Job.objects.filter(pk=(first := job_at()).pk).update(client=sister)
        opened(first, sister, noon)

        assert opened(job_at(price=10_000_000), alice, noon).deposit_due_units == 1_000_000

    def test_a_client_without_money_is_not_refused_and_pays_what_is_missing_from_its_share(
        self, case_at, job_at, alice, bob, moderator, balance_of, noon
    ):
        opened(job_at(), alice, noon)
        job = job_at()
        everything = balance_of("available", alice) - 400_000
        moves = [ledger.Move("available", str(alice.id), -everything), ledger.Move("suspense", "platform", everything)]
        ledger.post("test:poor", kind="deposit", moves=moves, at=noon)

        case = opened(job, alice, noon)
        assert (case.deposit_due_units, case.deposit_held_units) == (1_000_000, 400_000)

        case = deadlines.enforce(case.id, at=noon + 3 * DAY)
        from disputes.decisions import Decision

        ruled(
            case,
            moderator,
            at=noon + 4 * DAY,
            decision=Decision(seller_bps=9_000, bond_to="seller", deposit="other_side"),
        )
        before_alice, before_bob = balance_of("available", alice), balance_of("available", bob)
        deadlines.enforce(case.id, at=noon + 6 * DAY)

        # 50 USDC: 45 less 1 % to the seller, 5 to the client, who pays 0.6 of the deposit out of it.
        assert balance_of("available", bob) - before_bob == 44_550_000 + 1_000_000
        assert balance_of("available", alice) - before_alice == 5_000_000 - 600_000


class TestAnswer:
    def test_opens_the_time_for_evidence(self, case_at, bob, noon):
        case = case_at()

        case = cases.answer(case.id, by=bob, statement=STATEMENT, requested_seller_bps=9_000, at=noon + DAY)

        assert case.state == "evidence"
        assert case.evidence_by == case.deadline_at == noon + 3 * DAY
        assert (case.requested_by_client_bps, case.requested_by_seller_bps) == (0, 9_000)
        assert Job.objects.get(pk=case.job_id).deadline_at == noon + 3 * DAY

    def test_is_refused_at_the_very_moment_the_time_is_over(self, case_at, bob, noon):
        case = case_at()

        with pytest.raises(lifecycle.TransitionNotAllowed):
            cases.answer(case.id, by=bob, statement=STATEMENT, requested_seller_bps=0, at=noon + 3 * DAY)

    def test_is_refused_to_the_opener(self, case_at, alice, noon):
        case = case_at()

        with pytest.raises(lifecycle.TransitionNotAllowed):
            cases.answer(case.id, by=alice, statement=STATEMENT, requested_seller_bps=0, at=noon)


class TestWithdraw:
    def test_puts_the_job_back_under_its_original_clock_and_gives_the_deposit_back(
        self, case_at, job_at, alice, balance_of, noon
    ):
        case_at()
        job = job_at()
        case = case_at(job=job)
        held = balance_of("available", alice)

        case = cases.withdraw(case.id, by=alice, at=noon + HOUR)

        job = Job.objects.get(pk=job.pk)
        assert (case.state, case.deposit_went) == ("withdrawn", "back")
        assert (job.state, job.deadline_at) == ("delivered", noon + 3 * DAY)
        assert balance_of("available", alice) == held + 1_000_000

    def test_is_the_openers_alone_while_nobody_answered(self, case_at, alice, bob, noon):
        case = case_at("unanswered")
        with pytest.raises(lifecycle.TransitionNotAllowed):
            cases.withdraw(case.id, by=bob, at=noon + 4 * DAY)

        assert cases.withdraw(case.id, by=alice, at=noon + 4 * DAY).state == "withdrawn"

    def test_is_asked_by_the_opener_once_it_was_answered(self, case_at, alice, bob, noon):
        case = case_at("evidence")

        case = cases.withdraw(case.id, by=alice, at=noon + 2 * HOUR)

        assert (case.state, case.withdrawal_asked_at) == ("evidence", noon + 2 * HOUR)
        assert Job.objects.get(pk=case.job_id).state == "disputed"
        told = Event.objects.filter(type="dispute.withdrawal_asked", data__by="client")
        assert {event.recipient_id for event in told} == {alice.id, bob.id}

    def test_is_asked_once(self, case_at, alice, noon):
        case = case_at("evidence")
        cases.withdraw(case.id, by=alice, at=noon + 2 * HOUR)

        with pytest.raises(lifecycle.TransitionNotAllowed, match="asked already"):
            cases.withdraw(case.id, by=alice, at=noon + 3 * HOUR)

        assert Dispute.objects.get().withdrawal_asked_at == noon + 2 * HOUR

    def test_is_not_consented_to_before_it_is_asked(self, case_at, bob, noon):
        case = case_at("evidence")

        with pytest.raises(lifecycle.TransitionNotAllowed, match="has not asked"):
            cases.withdraw(case.id, by=bob, at=noon + 2 * HOUR)

        assert Dispute.objects.get().state == "evidence"

    @pytest.mark.parametrize("state", ["evidence", "under_review"])
    def test_with_consent_gives_the_time_that_was_left_back(self, case_at, job_at, alice, bob, balance_of, noon, state):
        case_at()
        job = job_at()
        case = case_at(state, job=job)
        held = balance_of("available", alice)
        cases.withdraw(case.id, by=alice, at=noon + 3 * DAY)

        case = cases.withdraw(case.id, by=bob, at=noon + 4 * DAY)

        job = Job.objects.get(pk=job.pk)
        assert (case.state, case.deposit_went, case.closed_at) == ("withdrawn", "back", noon + 4 * DAY)
        assert (job.state, job.deadline_at) == ("delivered", noon + 4 * DAY + 3 * DAY)
        assert balance_of("available", alice) == held + 1_000_000
        assert case.lost_by is None

    def test_after_a_moderator_was_assigned_gives_the_deposit_to_the_other_side(
        self, case_at, job_at, alice, bob, moderator, balance_of, noon
    ):
        case_at()
        case = case_at("under_review", job=job_at())
        assignment.take(case.id, moderator=moderator, at=noon + 3 * DAY)
        before = balance_of("available", bob)

        cases.withdraw(case.id, by=alice, at=noon + 3 * DAY)
        case = cases.withdraw(case.id, by=bob, at=noon + 3 * DAY)

        assert case.deposit_went == "other_side"
        assert balance_of("available", bob) == before + 1_000_000
        assert balance_of("dispute_deposit", case.deposit_key) == 0

    def test_alone_after_a_moderator_was_assigned_gives_the_deposit_to_the_other_side_too(
        self, case_at, job_at, alice, bob, moderator, balance_of, noon
    ):
        case_at()
        case = case_at("unanswered", job=job_at())
        assignment.take(case.id, moderator=moderator, at=noon + 3 * DAY)
        before = balance_of("available", bob)

        assert cases.withdraw(case.id, by=alice, at=noon + 3 * DAY).deposit_went == "other_side"

        assert balance_of("available", bob) == before + 1_000_000

    def test_asked_before_anybody_was_assigned_gives_the_deposit_back_however_late_the_consent(
        self, case_at, job_at, alice, bob, moderator, balance_of, noon
    ):
        case_at()
        case = case_at("under_review", job=job_at())
        before = balance_of("available", alice)
        cases.withdraw(case.id, by=alice, at=noon + 3 * DAY)
        assignment.take(case.id, moderator=moderator, at=noon + 3 * DAY + HOUR)

        assert cases.withdraw(case.id, by=bob, at=noon + 3 * DAY + 2 * HOUR).deposit_went == "back"
        assert balance_of("available", alice) == before + 1_000_000

    def test_after_the_only_moderator_stepped_back_still_gives_the_deposit_to_the_other_side(
        self, case_at, job_at, alice, bob, moderator, noon
    ):
        case_at()
        case = case_at("unanswered", job=job_at())
        assignment.take(case.id, moderator=moderator, at=noon + 3 * DAY)
        case = assignment.recuse(
            case.id, moderator=moderator, reason="I know the seller's owner well.", at=noon + 3 * DAY
        )
        assert case.assigned_to is None

        assert cases.withdraw(case.id, by=alice, at=noon + 3 * DAY).deposit_went == "other_side"

    @pytest.mark.parametrize("state", ["ruled", "final", "settled", "withdrawn"])
    def test_is_over_with_a_ruling_or_the_end(self, case_at, alice, bob, balance_of, noon, state):
        case = case_at(state)
        before = (case.revision, balance_of("available", alice), balance_of("available", bob))

        for party in (alice, bob):
            with pytest.raises(lifecycle.TransitionNotAllowed):
                cases.withdraw(case.id, by=party, at=noon + 4 * DAY)

        case.refresh_from_db()
        assert (case.revision, balance_of("available", alice), balance_of("available", bob)) == before

    def test_is_over_on_the_last_day(self, case_at, alice, bob, noon):
        case = case_at("evidence")
        cases.withdraw(case.id, by=alice, at=noon + DAY)

        with pytest.raises(lifecycle.TransitionNotAllowed):
            cases.withdraw(case.id, by=bob, at=noon + 30 * DAY)

    def test_is_refused_to_a_stranger_as_if_there_were_no_case(self, case_at, carol, noon):
        with pytest.raises(NotFound, match="There is no such case"):
            cases.withdraw(case_at("evidence").id, by=carol, at=noon + 2 * HOUR)

    @pytest.mark.parametrize("end", ["settle", "withdraw"])
    def test_or_settlement_puts_a_proposed_ruling_away(self, case_at, moderator, alice, bob, noon, end):
        case = case_at("under_review")
        proposed = propose(case, moderator, noon + 3 * DAY)

        if end == "withdraw":
            cases.withdraw(case.id, by=alice, at=noon + 3 * DAY)
            cases.withdraw(case.id, by=bob, at=noon + 3 * DAY)
        else:
            cases.settle_offer(case.job_id, by=alice, seller_bps=5_000, at=noon + 3 * DAY)
            cases.settle_offer(case.job_id, by=bob, seller_bps=5_000, at=noon + 3 * DAY)

        proposed.refresh_from_db()
        assert proposed.standing == "replaced"
        assert Dispute.objects.get().state in ("withdrawn", "settled")


def propose(case: Dispute, moderator: User, at: datetime) -> Ruling:
    """Rule in a way that a second person must approve."""
    ruled(case, moderator, at=at, reason_codes=["fraud"])
    assert Dispute.objects.get(pk=case.pk).state == "awaiting_approval"
    return Ruling.objects.get(dispute=case, standing="proposed")


class TestSettle:
    @pytest.mark.parametrize("state", ["awaiting_answer", "evidence", "under_review", "unanswered"])
    def test_ends_the_case_before_a_ruling(self, case_at, alice, bob, balance_of, noon, state):
        case = case_at(state)
        before = balance_of("available", bob)

        cases.settle_offer(
            case.job_id, by=alice, seller_bps=5_000, at=noon + 4 * DAY - DAY * (state == "awaiting_answer") * 4
        )
        job = cases.settle_offer(case.job_id, by=bob, seller_bps=4_000, at=noon + 4 * DAY)

        case = Dispute.objects.get(pk=case.pk)
        assert (case.state, job.state) == ("settled", "resolved")
        assert balance_of("available", bob) == before + 22_500_000 - 225_000
        assert case.lost_by is None

    def test_gives_the_deposit_back_in_the_same_transfer(self, case_at, job_at, alice, bob, balance_of, noon):
        case_at()
        case = case_at(job=job_at())
        assert balance_of("dispute_deposit", case.deposit_key) == 1_000_000

        cases.settle_offer(case.job_id, by=alice, seller_bps=0, at=noon)
        cases.settle_offer(case.job_id, by=bob, seller_bps=0, at=noon)

        assert balance_of("dispute_deposit", case.deposit_key) == 0
        assert Dispute.objects.get(pk=case.pk).deposit_went == "back"

    def test_is_over_with_a_ruling(self, case_at, alice, bob, noon):
        case = case_at("under_review")
        cases.settle_offer(case.job_id, by=alice, seller_bps=2_000, at=noon + 3 * DAY)
        from disputes.models import Dispute as D

        moderator = User.objects.get(username="mona")
        ruled(D.objects.get(pk=case.pk), moderator, at=noon + 3 * DAY)

        with pytest.raises(lifecycle.TransitionNotAllowed):
            cases.settle_offer(case.job_id, by=bob, seller_bps=2_000, at=noon + 3 * DAY)
        assert Job.objects.get(pk=case.job_id).client_settlement_bps is None

    def test_without_a_dispute_is_the_markets(self, job_at, alice, bob, noon):
        job = job_at("funded")

        cases.settle_offer(job.id, by=alice, seller_bps=1_000, at=noon)

        assert cases.settle_offer(job.id, by=bob, seller_bps=1_000, at=noon).state == "resolved"


class TestTimeLine:
    def test_has_a_row_for_every_step(self, case_at):
        case = case_at("final")

        steps = DisputeTransition.objects.filter(dispute=case).order_by("revision")
        assert [(step.action, step.by) for step in steps] == [
            ("open", "client"),
            ("answer", "seller"),
            ("close_evidence", "system"),
            ("take", "moderator"),
            ("rule", "moderator"),
            ("finalise", "system"),
        ]


@pytest.mark.django_db(transaction=True)
class TestAtOnce:
    @pytest.fixture
    def noon(self):
        return clock.now() - 4 * DAY

    @pytest.mark.parametrize("turn", range(6))
    def test_consent_and_a_ruling_leave_one_of_them(self, case_at, alice, bob, moderator, race, turn):
        case = case_at("under_review")
        case = cases.withdraw(case.pk, by=alice)
        held = ledger.balance("hold", f"job:{case.job_id}")

        outcomes = race(
            *[lambda: cases.withdraw(case.pk, by=bob)] * 4,
            *[lambda: ruled(case, moderator)] * 4,
        )

        won = [outcome for outcome in outcomes if not isinstance(outcome, Exception)]
        assert all(isinstance(outcome, Dispute | DomainError) for outcome in outcomes), outcomes
        assert len(won) == 1
        case.refresh_from_db()
        job = Job.objects.get(pk=case.job_id)
        assert ledger.balance("hold", f"job:{case.job_id}") == held
        if case.state == "withdrawn":
            assert (job.state, Ruling.objects.count()) == ("delivered", 0)
        else:
            assert (case.state, job.state, Ruling.objects.get().standing) == ("ruled", "disputed", "standing")

    @pytest.mark.parametrize("turn", range(4))
    def test_consent_and_settlement_end_a_case_once(self, case_at, job_at, alice, bob, race, turn):
        case_at("withdrawn")
        case = case_at("evidence", job=job_at("delivered", at=clock.now()))
        cases.withdraw(case.pk, by=alice)
        cases.settle_offer(case.job_id, by=alice, seller_bps=5_000)

        outcomes = race(
            *[lambda: cases.withdraw(case.pk, by=bob)] * 4,
            *[lambda: cases.settle_offer(case.job_id, by=bob, seller_bps=5_000)] * 4,
        )

        assert all(isinstance(outcome, Dispute | Job | DomainError) for outcome in outcomes), outcomes
        assert ledger.balance("dispute_deposit", case.deposit_key) == 0
        assert DisputeTransition.objects.filter(dispute=case, to_state__in=Dispute.CLOSED).count() == 1

    def test_of_ten_withdrawals_one_is_done(self, case_at, alice, race):
        case = case_at()

        outcomes = race(*[lambda: cases.withdraw(case.pk, by=alice)] * 10)

        assert sum(isinstance(outcome, Dispute) for outcome in outcomes) == 1
        assert all(isinstance(outcome, Dispute | lifecycle.TransitionNotAllowed) for outcome in outcomes)
        assert Transition.objects.filter(job_id=case.job_id, action="resume").count() == 1
