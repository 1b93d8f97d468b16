"""What a decision does to the money: the preview, the words and the transfer are one plan."""

import random
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from django.db import transaction

from disputes import appeals, approvals, arbitration, cases, deadlines, decisions, lifecycle, rulings
from disputes.decisions import Decision
from disputes.models import Dispute
from disputes.tests.conftest import DAY, HOUR, REASONS, STATEMENT, appealed, replaced, ruled
from escrow import holds, ledger
from marketplace import effects
from marketplace.models import Job

pytestmark = pytest.mark.django_db


@pytest.fixture
def poor_case(case_at, job_at, alice, balance_of, noon):
    """Alice's second case, for which she owes 1 USDC and has 0.25."""
    case_at("withdrawn")
    job = job_at("delivered", price=10_000_000)
    rest = balance_of("available", alice) - 250_000
    moves = [ledger.Move("available", str(alice.id), -rest), ledger.Move("custody", "chain:31337", rest)]
    ledger.post("test:spent", kind="withdrawal", moves=moves, at=noon)
    opening = {"reason": "late", "statement": STATEMENT, "requested_seller_bps": 0}
    case = cases.open(job.id, opener=alice, at=noon, **opening)
    assert (case.deposit_due_units, case.deposit_held_units) == (1_000_000, 250_000)
    return case


class TestInWords:
    @pytest.mark.parametrize(
        ("seller_bps", "deposit", "words"),
        [
            (0, "back", "the deposit of 0.250000 USDC back to the client"),
            (0, "other_side", "the deposit of 1.000000 USDC to the seller"),
            (9_500, "penalties", "the deposit of 0.750000 USDC to the platform"),
        ],
    )
    def test_names_what_of_a_deposit_will_move(self, poor_case, seller_bps, deposit, words):
        decision = Decision(seller_bps=seller_bps, bond_to="seller", deposit=deposit)

        assert decisions.in_words(poor_case, poor_case.job, decision).endswith(words)

    def test_is_silent_about_a_deposit_that_nobody_paid(self, case_at):
        case = case_at("awaiting_answer")
        case.deposit_due_units = 1_000_000

        assert "deposit" not in decisions.in_words(case, case.job, Decision(seller_bps=0, bond_to="seller"))

    @pytest.mark.parametrize(("days", "whichever"), [(1, False), (60, True)])
    def test_gives_a_redo_no_less_time_than_was_agreed(self, case_at, days, whichever):
        case = case_at("awaiting_answer", delivery_seconds=days * 86_400, revision_seconds=86_400)

        words = decisions.in_words(case, case.job, Decision(seller_bps=0, bond_to="seller", redo=True))

        assert words.startswith("the seller does the work again within 24 hours")
        assert ("or by its time of delivery, whichever is later" in words) == whichever


class TestSplits:
    def test_of_ten_thousand_random_cases_sum_exactly(self):
        rolled = random.Random(7)

        for number in range(10_000):
            dispute, job = case_on_paper(rolled, number)
            decision = any_decision(rolled)
            if decision.redo:
                moves = list(decisions.deposit_moves(dispute, job, decision))
            else:
                moves = holds.closing_moves(decisions.closing(dispute, job, decision))

            assert sum(move.amount_units for move in moves) == 0
            gained: dict[Any, int] = {}
            for kind, owner, units in moves:
                gained[kind, owner] = gained.get((kind, owner), 0) + units
            for agent in (CLIENT, SELLER):
                assert gained.get(("available", str(agent)), 0) >= 0  # nobody is billed beyond its share
            paid_out = 0 if decision.redo else 1
            assert gained.get(("hold", "job:x"), 0) == -job.price_units * paid_out
            assert gained.get(("bond", "job:x"), 0) == -job.bond_units * paid_out
            assert gained.get(("dispute_deposit", dispute.deposit_key), 0) == -dispute.deposit_held_units
            if dispute.hear_appeal_by:
                appeal = dispute.appeal
                assert gained.get(("dispute_deposit", appeal.deposit_key), 0) == -appeal.deposit_held_units


CLIENT, SELLER = UUID(int=1), UUID(int=2)


def any_decision(rolled: random.Random) -> Decision:
    redo = rolled.random() < 0.15
    return Decision(
        seller_bps=rolled.choice([0, 10_000, rolled.randint(0, 10_000)]),
        bond_to="seller" if redo else rolled.choice(["client", "seller"]),
        deposit=rolled.choice(["back", "other_side", "penalties"]),
        redo=redo,
    )


def case_on_paper(rolled: random.Random, number: int) -> tuple[Any, Any]:
    """Roll a case that may have been appealed, with deposits that were held in part."""

    def deposit(stage: str) -> dict[str, Any]:
        due = rolled.randint(0, price)
        held = rolled.randint(0, due)
        return {
            "deposit_key": f"dispute:{number}:{stage}",
            "deposit_due_units": due,
            "deposit_held_units": held,
            "deposit_missing_units": due - held,
        }

    price = rolled.randint(10_000, 10**12)
    against = any_decision(rolled)
    dispute = SimpleNamespace(
        opened_by=rolled.choice(["client", "seller"]),
        client_id=CLIENT,
        seller_id=SELLER,
        hear_appeal_by=rolled.choice([None, True]),
        appeal=SimpleNamespace(
            by=rolled.choice(["client", "seller"]),
            against=SimpleNamespace(**vars(against)),
            **deposit("appeal"),
        ),
        **deposit("opening"),
    )
    job = SimpleNamespace(
        hold_key="job:x",
        client_id=CLIENT,
        seller_id=SELLER,
        price_units=price,
        bond_units=rolled.choice([0, rolled.randint(1, price)]),
        fee_bps=rolled.randint(0, 10_000),
    )
    return dispute, job


class TestPreview:
    """What is shown is what is posted: through the database, from the opening to the end."""

    @pytest.mark.parametrize("rounds", [30, pytest.param(400, marks=pytest.mark.long)])
    def test_is_what_is_posted(self, job_at, case_at, alice, bob, moderator, make_moderator, make_senior, noon, rounds):
        case_at("withdrawn")  # so that both owe a deposit for the next
        case_at("withdrawn", opener=bob)
        staff = [moderator, make_moderator("max"), make_senior("ada"), make_senior("berta")]
        rolled, ends, redone = random.Random(11), set(), 0

        for _ in range(rounds):
            with transaction.atomic():
                job, shown, posted, end = self.play(rolled, job_at, alice, bob, staff, noon)
                transaction.set_rollback(True)
            assert shown == effects.named(job, posted), end
            ends.add(end)
            redone += job.state == "revising"

        assert ends == {"finalise", "uphold", "replace", "approve", "lapse", "stop"}
        assert redone

    def play(self, rolled, job_at, alice, bob, staff, noon):
        """Take one case to its end; answers what was shown before, and what was then posted."""
        mona, max_, ada, berta = staff
        price = rolled.randint(10_000, rolled.choice([40_000_000, 40_000_000, 150_000_000]))
        bond = rolled.choice([0, rolled.randint(1, price)])
        job = job_at(rolled.choice(["in_progress", "revising"]), price=price, seller_bond=bond)
        opener = rolled.choice([alice, bob])
        leave(opener, rolled, price, noon)
        case = cases.open(
            job.id, opener=opener, reason="late", statement=STATEMENT, requested_seller_bps=rolled.choice([1, 9_999]),
            at=noon,
        )  # fmt: skip
        case = ruled_after(case, mona, max_, any_decision(rolled), noon)
        leave(alice, rolled, price, noon)
        leave(bob, rolled, price, noon)
        if rolled.random() < 0.7:
            case = appealed(case, rolled.choice(self.who_may(case, alice, bob, noon)), at=noon + 5 * DAY)
        return self.end(rolled, case, ada, berta, noon)

    def who_may(self, case, alice, bob, noon):
        return [
            agent
            for agent in (alice, bob)
            if "appeal" in lifecycle.available(case, lifecycle.who_of(agent, case), noon + 5 * DAY)
        ]

    def end(self, rolled, case, ada, berta, noon):
        at = noon + 6 * DAY
        job = Job.objects.get(pk=case.job_id)
        decision = first = decisions.of_ruling(rulings.standing(case))
        end, act = "finalise", lambda: arbitration.finalise(case.id, at=noon + 9 * DAY)
        if case.state == "appealed":
            end = rolled.choice(["uphold", "replace", "replace", "lapse", "stop"])
            if end in ("lapse", "stop"):
                decision = replace(first, appeal_deposit="back")
                act = {
                    "lapse": lambda: appeals.lapse(case.id, at=noon + 9 * DAY),
                    "stop": lambda: arbitration.stop_hard(case.id, at=noon + 30 * DAY),
                }[end]
            elif end == "uphold":
                act = partial(appeals.uphold, case.id, senior=ada, revision=case.revision, reasons=REASONS, at=at)
            else:
                alone = Decision(seller_bps=rolled.randint(0, 10_000), bond_to="seller", deposit="other_side")
                decision = rolled.choice([any_decision(rolled), alone])
                act = partial(replaced, case, ada, decision=decision, at=at)
        shown = decisions.entries(case, job, decision)
        with ledger.recording() as posted:
            ended = act()
            if ended.state == "appealed":
                end = "approve"
                approvals.approve(case.id, approver=berta, revision=ended.revision, at=at)
        return Job.objects.get(pk=job.pk), shown, posted, end


def ruled_after(case: Dispute, author, second, decision: Decision, noon) -> Dispute:
    case = deadlines.enforce(case.pk, at=noon + 3 * DAY)
    case = ruled(case, author, decision=decision, at=noon + 3 * DAY + HOUR)
    if case.state == "awaiting_approval":
        case = approvals.approve(case.id, approver=second, revision=case.revision, at=noon + 4 * DAY)
    return case


def leave(agent, rolled: random.Random, price: int, noon) -> None:
    """Leave an agent with little, so that a deposit is held in part or not at all; or with what it has."""
    has = ledger.balance("available", str(agent.id))
    rest = rolled.choice([has, 0, rolled.randint(0, max(1_000_000, price // 50))])
    if has - rest > 0:
        moves = [
            ledger.Move("available", str(agent.id), rest - has), ledger.Move("custody", "chain:31337", has - rest),
        ]  # fmt: skip
        ledger.post(f"test:{rolled.random()}:{agent.id}", kind="withdrawal", moves=moves, at=noon)


class TestFateOfTheAppealsDeposit:
    @pytest.mark.parametrize(
        ("first", "then", "by", "went"),
        [
            ({"seller_bps": 3_000}, {"seller_bps": 2_999}, "client", "back"),
            ({"seller_bps": 3_000}, {"seller_bps": 3_000}, "client", "other_side"),
            ({"seller_bps": 3_000}, {"seller_bps": 3_001}, "client", "other_side"),
            ({"seller_bps": 3_000}, {"seller_bps": 3_001}, "seller", "back"),
            ({"seller_bps": 3_000, "bond_to": "client"}, {"seller_bps": 3_000}, "seller", "back"),
            ({"seller_bps": 3_000}, {"seller_bps": 2_900, "bond_to": "client"}, "seller", "other_side"),
            ({"seller_bps": 3_000}, {"seller_bps": 0, "redo": True}, "seller", "back"),  # as good as 50 %
            ({"seller_bps": 3_000}, {"seller_bps": 0, "redo": True}, "client", "other_side"),
            ({"seller_bps": 7_000}, {"seller_bps": 0, "redo": True}, "client", "back"),
            ({"seller_bps": 5_000}, {"seller_bps": 0, "redo": True}, "client", "other_side"),
            ({"seller_bps": 0, "redo": True}, {"seller_bps": 4_999}, "client", "back"),
            ({"seller_bps": 3_000, "deposit": "other_side"}, {"seller_bps": 3_000}, "client", "back"),
            ({"seller_bps": 3_000}, {"seller_bps": 3_000, "deposit": "other_side"}, "seller", "back"),
        ],
    )
    def test_is_to_come_back_if_the_appellant_fares_better(self, first, then, by, went):
        seller = {"bond_to": "seller"}
        dispute, job = case_on_paper(random.Random(1), 0)
        dispute.opened_by, job.price_units, job.bond_units, job.fee_bps = "client", 50_000_000, 5_000_000, 100
        dispute.deposit_due_units = dispute.deposit_held_units = 1_000_000
        dispute.deposit_missing_units, dispute.hear_appeal_by = 0, True
        dispute.appeal.against = SimpleNamespace(**vars(Decision(**(seller | first))))
        dispute.appeal.by = by

        assert decisions.fate_of_appeal_deposit(dispute, job, Decision(**(seller | then)), dispute.appeal) == went
