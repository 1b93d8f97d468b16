"""Real commits, eight and more threads behind a barrier."""

from typing import Any

import pytest

from accounts import clock, seams
from accounts.errors import DomainError
from accounts.models import User
from disputes import appeals, approvals, arbitration, cases, deadlines
from disputes.decisions import Decision
from disputes.models import Appeal, Dispute, DisputeTransition, Ruling, RulingApproval
from disputes.tests.conftest import DAY, HOUR, PROPOSED, REASONS, STATEMENT, appealed, replaced, ruled
from escrow import ledger
from escrow.models import Transfer
from marketplace import jobs
from marketplace.models import Job

pytestmark = pytest.mark.django_db(transaction=True)
WHY = "The delivery was never opened by the author of this."


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


def the_books_of(case: Dispute, everything: int) -> None:
    """Check that a job's money is held or was paid out once, all of it; `everything` is what both had before."""
    job = Job.objects.get(pk=case.job_id)
    closed = Transfer.objects.filter(reference=f"job:{job.id}:close").count()
    assert closed == (job.closed_at is not None)
    held = sum(
        ledger.balance(kind, key)
        for kind, key in [
            ("hold", job.hold_key), ("bond", job.hold_key),
            ("dispute_deposit", f"dispute:{case.pk}:opening"), ("dispute_deposit", f"dispute:{case.pk}:appeal"),
        ]
    )  # fmt: skip
    paid = sum(ledger.balance(kind, "platform") for kind in ("fees", "penalties"))
    assert of_both(case) + held + paid == everything
    if job.closed_at is None:
        assert (ledger.balance("hold", job.hold_key), ledger.balance("bond", job.hold_key)) == (
            job.price_units, job.bond_units,
        )  # fmt: skip
    assert Ruling.objects.filter(dispute=case, standing="standing").count() <= 1
    living_proposal = case.state in ("awaiting_approval", "appealed")
    assert Ruling.objects.filter(dispute=case, standing="proposed").count() <= living_proposal


def of_both(case: Dispute) -> int:
    return sum(ledger.balance("available", str(agent)) for agent in (case.client_id, case.seller_id))


def money_of(case: Dispute) -> int:
    """Add up what both sides have, the job's hold and bond, and the case's deposits."""
    job = Job.objects.get(pk=case.job_id)
    held = case.price_units + case.bond_units + case.deposit_held_units
    held += ledger.balance("dispute_deposit", f"dispute:{case.pk}:appeal")
    paid = sum(ledger.balance(kind, "platform") for kind in ("fees", "penalties"))
    assert ledger.balance("hold", job.hold_key) == job.price_units
    return of_both(case) + held + paid


class Turns:
    """Real commits again and again: each turn a case of its own, at whose end everything is accounted for."""

    def reached(self, make_case, turns: int, play) -> set[str]:
        """Play the turns; answers the states in which cases ended."""
        ends = set()
        for _ in range(turns):
            case = make_case()
            everything = money_of(case)
            won(play(case))
            case = Dispute.objects.get(pk=case.pk)
            the_books_of(case, everything)
            ends.add(str(case.state))
        return ends


MANY = [pytest.param(8, id="8"), pytest.param(50, id="50", marks=pytest.mark.long)]


@pytest.mark.parametrize("turns", MANY)
class TestOneEnd(Turns):
    """Whatever happens to a case at once, it ends once; the job with it, and the money goes one way."""

    def test_of_rulings_settlement_default_withdrawal_and_the_last_day(
        self, case_at, job_at, alice, bob, make_moderator, moderator, race, noon, turns
    ):
        colleague = make_moderator("max")

        def make_case():
            case = case_at("unanswered", job=job_at(price=10_000_000, seller_bond=2_000_000))
            cases.settle_offer(case.job_id, by=alice, seller_bps=4_000)
            return case

        def play(case):
            return race(
                lambda: ruled(case, moderator),
                lambda: ruled(case, colleague),
                lambda: ruled(case, colleague, **PROPOSED),
                lambda: cases.settle_offer(case.job_id, by=bob, seller_bps=4_000),
                lambda: cases.settle_offer(case.job_id, by=bob, seller_bps=4_000),
                lambda: deadlines.enforce(case.pk, at=noon + 8 * DAY),
                lambda: arbitration.rule_by_default(case.pk, at=noon + 8 * DAY),
                lambda: arbitration.stop_hard(case.pk, at=noon + 31 * DAY),
                lambda: cases.withdraw(case.id, by=alice),
                lambda: jobs.leave(alice.id),
                lambda: jobs.leave(bob.id),
            )

        ends = self.reached(make_case, turns, play)

        assert ends <= {"ruled", "awaiting_approval", "settled", "withdrawn", "final"}
        assert len(ends) > 1  # the race was one

    def test_of_approval_return_default_settlement_and_the_last_day(
        self, case_at, job_at, alice, bob, moderator, make_moderator, race, noon, turns
    ):
        colleagues = [make_moderator(name) for name in ("max", "mia")]

        def make_case():
            case = ruled(
                case_at("unanswered", job=job_at(price=10_000_000, seller_bond=2_000_000)), moderator, **PROPOSED
            )
            cases.settle_offer(case.job_id, by=alice, seller_bps=4_000)
            return case

        def play(case):
            seen = {"revision": case.revision}
            return race(
                *[lambda who=who: approvals.approve(case.id, approver=who, **seen) for who in colleagues],
                *[lambda who=who: approvals.send_back(case.id, approver=who, reason=WHY, **seen) for who in colleagues],
                lambda: deadlines.enforce(case.pk, at=noon + 12 * DAY),
                lambda: approvals.ask_senior(case.pk, at=noon + 12 * DAY),
                lambda: arbitration.stop_hard(case.pk, at=noon + 31 * DAY),
                lambda: cases.settle_offer(case.job_id, by=bob, seller_bps=4_000),
                lambda: cases.withdraw(case.id, by=alice),
            )

        ends = self.reached(make_case, turns, play)

        assert ends <= {"ruled", "under_review", "settled", "withdrawn", "final"}
        assert RulingApproval.objects.values("ruling").count() == RulingApproval.objects.count()

    def test_of_appeals_and_the_end_of_their_time(self, case_at, job_at, alice, bob, moderator, race, noon, turns):
        def make_case():
            return ruled(case_at("unanswered", job=job_at(price=10_000_000, seller_bond=2_000_000)), moderator)

        def play(case):
            return race(
                *[lambda: appealed(case, alice)] * 3,
                *[lambda: appealed(case, bob)] * 3,
                *[lambda: arbitration.finalise(case.pk, at=noon + 12 * DAY)] * 2,
                lambda: deadlines.enforce(case.pk, at=noon + 12 * DAY),
            )

        ends = self.reached(make_case, turns, play)

        assert ends <= {"appealed", "final"}
        assert Appeal.objects.filter(outcome=None).count() == Dispute.objects.filter(state="appealed").count()

    def test_of_upholding_replacing_and_the_end_of_time(
        self, case_at, job_at, alice, moderator, make_senior, race, noon, turns
    ):
        seniors = [make_senior(name) for name in ("ada", "berta", "cora")]

        def make_case():
            return appealed(
                ruled(case_at("unanswered", job=job_at(price=10_000_000, seller_bond=2_000_000)), moderator), alice
            )

        def play(case):
            seen = {"revision": case.revision}
            return race(
                *[lambda who=who: appeals.uphold(case.id, senior=who, reasons=REASONS, **seen) for who in seniors],
                *[lambda who=who: replaced(case, who) for who in seniors],
                lambda: replaced(case, seniors[0], decision=Decision(seller_bps=0, bond_to="seller", redo=True)),
                lambda: replaced(case, seniors[1], **PROPOSED),
                lambda: appeals.lapse(case.pk, at=noon + 12 * DAY),
                lambda: arbitration.stop_hard(case.pk, at=noon + 31 * DAY),
            )

        ends = self.reached(make_case, turns, play)

        assert ends <= {"appealed", "final"}
        assert Appeal.objects.exclude(outcome=None).count() == Dispute.objects.filter(state="final").count()

    def test_of_a_second_word_on_what_replaces_a_ruling(
        self, case_at, job_at, alice, moderator, make_senior, race, noon, turns
    ):
        author, *seconds = (make_senior(name) for name in ("ada", "berta", "cora"))

        def make_case():
            case = appealed(
                ruled(case_at("unanswered", job=job_at(price=10_000_000, seller_bond=2_000_000)), moderator), alice
            )
            return replaced(case, author, decision=Decision(seller_bps=0, bond_to="client"))

        def play(case):
            seen = {"revision": case.revision}
            return race(
                *[lambda who=who: approvals.approve(case.id, approver=who, **seen) for who in seconds] * 2,
                *[lambda who=who: approvals.send_back(case.id, approver=who, reason=WHY, **seen) for who in seconds],
                lambda: appeals.lapse(case.pk, at=noon + 12 * DAY),
                lambda: deadlines.enforce(case.pk, at=noon + 12 * DAY),
            )

        assert self.reached(make_case, turns, play) <= {"appealed", "final"}


class TestAgentsThatLeave:
    def test_keep_no_case_from_its_end(self, case_at, job_at, alice, bob, moderator, race, noon):
        """A case whose parties leave while it is carried out ends all the same."""
        case = ruled(case_at("unanswered", job=job_at(price=10_000_000, seller_bond=2_000_000)), moderator)

        won(
            race(
                *[lambda: leaving(alice)] * 3,
                *[lambda: leaving(bob)] * 3,
                *[lambda: arbitration.finalise(case.pk, at=noon + 12 * DAY)] * 3,
            )
        )

        assert Dispute.objects.get().state == "final"
        assert Transfer.objects.filter(reference=f"job:{case.job_id}:close").count() == 1


def leaving(agent) -> None:
    for end in seams.leaving:
        end(agent.id, None)


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
        assert evidence.broken_links(case.evidence.order_by("number")) == []
