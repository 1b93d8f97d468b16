"""
The table of cases, written again by hand from the specification (disputes.md, section 1), rows 1–8, 10, 15 and 18.

A test that took the table from the code could not catch a wrong table: nothing here is imported from lifecycle.RULES.
"""

from datetime import timedelta

import pytest
from django.db import transaction

from accounts.errors import DomainError
from disputes import assignment, cases, deadlines, evidence, lifecycle
from disputes.models import Dispute, DisputeTransition
from disputes.tests.conftest import DAY, HOUR, STATEMENT, ruled
from marketplace.models import Job

pytestmark = pytest.mark.django_db

#  state              action      who may                       → state
TABLE = {
    ("awaiting_answer", "answer"): ({"respondent"}, "evidence"),  # 2
    ("awaiting_answer", "evidence"): ({"opener", "respondent"}, "awaiting_answer"),  # 4
    ("evidence", "evidence"): ({"opener", "respondent"}, "evidence"),  # 4
    ("awaiting_answer", "settle"): ({"opener", "respondent"}, "settled"),  # 6
    ("evidence", "settle"): ({"opener", "respondent"}, "settled"),  # 6
    ("unanswered", "settle"): ({"opener", "respondent"}, "settled"),  # 6
    ("under_review", "settle"): ({"opener", "respondent"}, "settled"),  # 6
    ("withdrawn", "settle"): ({"opener", "respondent"}, "withdrawn"),  # the job settles; the case is over
    ("awaiting_answer", "withdraw"): ({"opener"}, "withdrawn"),  # 7, alone while unanswered
    ("unanswered", "withdraw"): ({"opener"}, "withdrawn"),  # 7
    ("unanswered", "take"): ({"moderator"}, "under_review"),  # 8
    ("under_review", "take"): ({"moderator"}, "under_review"),  # 8
    ("unanswered", "rule"): ({"moderator"}, "ruled"),  # 10
    ("under_review", "rule"): ({"moderator"}, "ruled"),  # 10
}
STATES = [
    "awaiting_answer", "evidence", "unanswered", "under_review", "ruled", "final", "settled", "withdrawn",
]  # fmt: skip
ACTIONS = ["answer", "evidence", "settle", "withdraw", "take", "rule"]
PEOPLE = ["opener", "respondent", "stranger", "moderator"]

# What time does, how long after the state was entered, and where that leads.
TIME = {
    "awaiting_answer": (timedelta(hours=72), "under_review"),  # 3
    "evidence": (timedelta(hours=48), "under_review"),  # 5
    "unanswered": (None, None),  # 18 alone
    "under_review": (None, None),  # 18 alone
    "ruled": (timedelta(hours=48), "final"),  # 15
}
ENTERED = {"awaiting_answer": timedelta(0), "evidence": HOUR, "ruled": 3 * DAY}
INSIDE = {"awaiting_answer": 2 * HOUR, "evidence": 2 * HOUR}  # a moment within the clock; four days for the others


@pytest.fixture
def cast(alice, bob, carol, moderator):
    return {"client": alice, "seller": bob, "stranger": carol, "moderator": moderator}


@pytest.fixture(params=["client", "seller"])
def opener(request) -> str:
    return request.param


def act(action, case, person, other, at, moderator):
    """Do what an action is, as whoever `person` is."""
    if action == "answer":
        return cases.answer(case.id, by=person, statement=STATEMENT, requested_seller_bps=1, at=at)
    if action == "evidence":
        return evidence.submit(case.id, by=person, item=evidence.from_text("A receipt."), at=at)
    if action == "withdraw":
        return cases.withdraw(case.id, by=person, at=at)
    if action == "settle":
        if other is not None:
            cases.settle_offer(case.job_id, by=other, seller_bps=5_000, at=at)
        cases.settle_offer(case.job_id, by=person, seller_bps=5_000, at=at)
        return Dispute.objects.get(pk=case.pk)
    if action == "take":
        return assignment.take(case.id, moderator=person, at=at)
    return ruled(Dispute.objects.get(pk=case.pk), person, at=at)


@pytest.mark.parametrize("state", STATES)
def test_every_action_of_everyone_in_every_state(state, opener, case_at, cast, noon):
    people = {
        "opener": cast[opener],
        "respondent": cast["seller" if opener == "client" else "client"],
        "stranger": cast["stranger"],
        "moderator": cast["moderator"],
    }
    case = case_at(state, opener=people["opener"])
    at = noon + INSIDE.get(state, 4 * DAY)
    seen = {}

    for action in ACTIONS:
        for name in PEOPLE:
            staff_action = action in ("take", "rule")
            if (name == "moderator") != staff_action:
                continue  # agents have no door to a moderator's verbs, nor staff to an agent's
            other = {"opener": people["respondent"], "respondent": people["opener"]}.get(name)
            try:
                with transaction.atomic():
                    seen[action, name] = str(act(action, case, people[name], other, at, cast["moderator"]).state)
                    transaction.set_rollback(True)
            except DomainError as refusal:
                seen[action, name] = refusal.code

    expected = {}
    for action, name in seen:
        by, to = TABLE.get((state, action), (set(), None))
        refused = "not_found" if name == "stranger" else "transition_not_allowed"
        expected[action, name] = to if name in by else refused
    assert seen == expected
    assert Dispute.objects.get(pk=case.pk).revision == case.revision


@pytest.mark.parametrize("state", ["awaiting_answer", "evidence", "ruled"])
def test_time_acts_at_its_moment_and_not_before(state, case_at, noon):
    case = case_at(state)
    wait, to = TIME[state]
    over = noon + ENTERED[state] + wait

    assert case.deadline_at == over
    assert deadlines.enforce(case.pk, at=over - timedelta(microseconds=1)) is None
    moved = deadlines.enforce(case.pk, at=over)

    assert moved is not None
    assert moved.state == to
    last = DisputeTransition.objects.filter(dispute=case).latest("revision")
    assert (last.by, last.from_state, last.to_state) == ("system", state, to)


@pytest.mark.parametrize("state", ["awaiting_answer", "evidence", "unanswered", "under_review", "ruled"])
def test_thirty_days_end_every_living_case(state, case_at, noon):
    case = case_at(state)

    ended = deadlines.enforce(case.pk, at=noon + 30 * DAY)

    assert ended is not None
    assert (ended.state, ended.deadline_at) == ("final", None)
    assert Job.objects.get(pk=case.job_id).state == "resolved"


@pytest.mark.parametrize("state", ["unanswered", "under_review"])
def test_under_review_has_the_hard_stop_for_its_clock(state, case_at, noon):
    case = case_at(state)

    assert case.deadline_at == case.hard_stop_at == noon + 30 * DAY
    assert deadlines.enforce(case.pk, at=noon + 30 * DAY - timedelta(microseconds=1)) is None


@pytest.mark.parametrize("state", ["final", "settled", "withdrawn"])
def test_a_closed_case_has_no_clock(state, case_at, noon):
    case = case_at(state)

    assert case.deadline_at is None
    assert deadlines.enforce(case.pk, at=noon + 365 * DAY) is None


def test_the_hard_stop_comes_first_where_the_windows_are_longer(case_at, settings, noon):
    settings.DISPUTE_HARD_STOP_SECONDS = 86_400
    case = case_at("awaiting_answer")

    assert case.deadline_at == noon + DAY
    assert deadlines.enforce(case.pk, at=noon + DAY).state == "final"


@pytest.mark.parametrize(
    ("state", "late"), [("awaiting_answer", timedelta(hours=72)), ("evidence", timedelta(hours=49))]
)
def test_swept_or_not_what_comes_after_the_clock_is_too_late(state, late, case_at, alice, bob, noon):
    case = case_at(state)
    at = noon + late

    for agent in (alice, bob):
        with pytest.raises(lifecycle.TransitionNotAllowed):
            evidence.submit(case.id, by=agent, item=evidence.from_text("late"), at=at)
    with pytest.raises(lifecycle.TransitionNotAllowed):
        cases.answer(case.id, by=bob, statement=STATEMENT, requested_seller_bps=1, at=at)
    evidence.submit(case.id, by=bob, item=evidence.from_text("in time"), at=at - timedelta(microseconds=1))


def test_nothing_is_ruled_settled_or_withdrawn_after_the_hard_stop(case_at, alice, moderator, noon):
    case = case_at("unanswered")
    at = noon + 30 * DAY

    for act_late in (
        lambda: ruled(case, moderator, at=at),
        lambda: assignment.take(case.id, moderator=moderator, at=at),
        lambda: cases.settle_offer(case.job_id, by=alice, seller_bps=0, at=at),
        lambda: cases.withdraw(case.id, by=alice, at=at),
    ):
        with pytest.raises(lifecycle.TransitionNotAllowed):
            act_late()


@pytest.mark.parametrize("state", ["awaiting_answer", "evidence", "under_review", "ruled", "unanswered"])
def test_every_living_state_tells_the_job_what_silence_does(state, case_at):
    case = case_at(state)

    job = Job.objects.get(pk=case.job_id)
    said = {
        "awaiting_answer": "the seller's silence counts as having asked for everything",
        "evidence": "Evidence closes and the case goes to a moderator.",
        "under_review": "the case ends for good by the default ruling: 24.750000 USDC to the seller",
        "unanswered": "the case ends for good by the default ruling: 24.750000 USDC to the seller",
        "ruled": "The ruling is carried out: 14.850000 USDC to the seller, 35.000000 USDC to the client",
    }[state]
    assert said in job.deadline_effect
    assert job.deadline_at == case.deadline_at
    awaiting = {"awaiting_answer": "seller", "under_review": "moderator", "unanswered": "moderator"}
    assert job.awaiting == awaiting.get(state)
