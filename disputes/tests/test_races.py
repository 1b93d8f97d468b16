"""Real commits, eight and more threads behind a barrier."""

from typing import Any

import pytest

from accounts import clock
from accounts.errors import DomainError
from accounts.models import User
from disputes import arbitration, cases, deadlines
from disputes.models import Dispute, DisputeTransition, Ruling
from disputes.tests.conftest import DAY, HOUR, STATEMENT, ruled
from escrow import ledger
from escrow.models import Transfer
from marketplace import jobs
from marketplace.models import Job

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def noon():
    return clock.now() - 4 * DAY


def won(outcomes: list[Any]) -> list[Any]:
    """Keep what was done; whatever failed must have been refused, not broken."""
    for outcome in outcomes:
        assert not isinstance(outcome, Exception) or isinstance(outcome, DomainError), repr(outcome)
    return [outcome for outcome in outcomes if not isinstance(outcome, Exception)]


def opening(job: Job, opener: Any) -> Any:
    return lambda: cases.open(job.id, opener=opener, reason="late", statement=STATEMENT, requested_seller_bps=0)


class TestRulings:
    def test_of_ten_moderators_at_once_one_stands(self, case_at, make_moderator, race, noon):
        case = case_at("under_review")
        people = [make_moderator(f"m{number}") for number in range(10)]

        done = won(race(*(lambda person=person: ruled(case, person) for person in people)))

        assert len(done) == 1
        assert Ruling.objects.get().author == done[0].assigned_to
        assert DisputeTransition.objects.filter(dispute=case, action="rule").count() == 1

    def test_of_ten_clicks_at_once_one_stands(self, case_at, moderator, race):
        case = case_at("under_review")

        assert len(won(race(*[lambda: ruled(case, moderator)] * 10))) == 1
        assert Ruling.objects.count() == 1

    @pytest.mark.parametrize("turn", range(8))
    def test_settlement_withdrawal_and_the_last_day_at_once_end_a_case_once(
        self, case_at, job_at, alice, bob, moderator, race, noon, turn
    ):
        job = job_at(seller_bond=2_000_000)
        case = case_at("unanswered", job=job)
        cases.settle_offer(job.id, by=alice, seller_bps=4_000)
        everything = ledger.balance("available", str(alice.id)) + ledger.balance("available", str(bob.id))

        won(
            race(
                *[lambda: ruled(case, moderator)] * 2,
                *[lambda: cases.settle_offer(job.id, by=bob, seller_bps=4_000)] * 2,
                *[lambda: deadlines.enforce(case.pk, at=noon + 31 * DAY)] * 2,
                *[lambda: arbitration.stop_hard(case.pk, at=noon + 31 * DAY)] * 2,
                *[lambda: cases.withdraw(case.id, by=alice)] * 2,
            )
        )

        case.refresh_from_db()
        job = Job.objects.get(pk=job.pk)
        closed = Transfer.objects.filter(reference=f"job:{job.id}:close").count()
        if case.state == "withdrawn":
            assert closed == 0 or job.state == "resolved"  # settled afterwards, without the case
        elif case.state == "ruled":
            assert (job.state, closed) == ("disputed", 0)
        else:
            assert case.state in ("final", "settled")
            assert (job.state, closed) == ("resolved", 1)
        held = 0 if closed else 52_000_000
        now = ledger.balance("available", str(alice.id)) + ledger.balance("available", str(bob.id))
        assert now + ledger.balance("fees", "platform") - everything == 52_000_000 - held
        assert Ruling.objects.filter(dispute=case).count() <= 1


class TestTheSweep:
    def test_by_eight_workers_takes_each_step_once(self, case_at, job_at, race):
        due = [case_at("awaiting_answer", job=job_at()) for _ in range(6)]

        taken = won(race(*[lambda: deadlines.enforce_due()] * 8))

        assert sum(taken) == 6
        for case in due:
            assert DisputeTransition.objects.filter(dispute=case, action="go_unanswered").count() == 1

    def test_carries_a_ruling_out_once(self, case_at, race, noon):
        case = case_at("ruled")

        won(race(*[lambda: deadlines.enforce(case.pk, at=noon + 6 * DAY)] * 8))

        assert Dispute.objects.get().state == "final"
        assert Transfer.objects.filter(reference=f"job:{case.job_id}:close").count() == 1


class TestOpening:
    def test_of_ten_at_once_one_is_opened(self, job_at, alice, race):
        job = job_at(at=clock.now())

        assert len(won(race(*[opening(job, alice)] * 10))) == 1
        assert Dispute.objects.count() == 1

    @pytest.mark.parametrize("turn", range(4))
    def test_beside_approval_and_settlement_ends_one_way(self, job_at, alice, bob, race, turn):
        job = job_at(at=clock.now())
        cases.settle_offer(job.id, by=bob, seller_bps=5_000)

        won(
            race(
                *[opening(job, alice)] * 3,
                *[lambda: jobs.approve(job.id, client=alice)] * 3,
                *[lambda: cases.settle_offer(job.id, by=alice, seller_bps=5_000)] * 3,
            )
        )

        job = Job.objects.get(pk=job.pk)
        case = Dispute.objects.filter(job_id=job.id).first()
        assert job.state in ("disputed", "completed", "resolved")
        if case is not None:
            assert (job.state == "disputed") == (case.state == "awaiting_answer")
        assert Transfer.objects.filter(reference=f"job:{job.id}:close").count() == (job.state != "disputed")

    def test_of_two_first_cases_of_an_owner_one_is_free(self, job_at, make_agent, credit, alice, race):
        owner = User.objects.create_user("olga")
        alice.owner = owner
        alice.save(update_fields=["owner"])
        all_jobs = [job_at(at=clock.now()) for _ in range(8)]

        opened = won(race(*(opening(job, alice) for job in all_jobs)))

        assert sorted(case.deposit_due_units for case in opened) == [0] + [1_000_000] * 7
        held = [ledger.balance("dispute_deposit", case.deposit_key) for case in opened]
        assert sorted(held) == [0] + [1_000_000] * 7


class TestEvidence:
    def test_of_both_sides_at_once_is_one_chain(self, case_at, alice, bob, race, noon):
        from disputes import evidence

        case = case_at("evidence")

        def bring(agent):
            return lambda: evidence.submit(case.id, by=agent, item=evidence.from_text("A receipt."), at=noon + 2 * HOUR)

        done = won(race(*(bring(agent) for agent in [alice, bob] * 12)))

        assert len(done) == 20  # ten a side
        case = Dispute.objects.get(pk=case.pk)
        assert list(case.evidence.order_by("number").values_list("number", flat=True)) == list(range(1, 21))
        assert evidence.broken_links(case) == []
