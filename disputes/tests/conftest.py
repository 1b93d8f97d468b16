"""Jobs and cases in every state, made by the verbs themselves at chosen moments."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Group

from accounts import staff
from accounts.models import Agent, User
from disputes import appeals, arbitration, cases, deadlines
from disputes.decisions import Decision
from disputes.models import Dispute
from marketplace import deliveries, jobs, offers, terms

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
STATEMENT = "The summary covers three of the twelve chapters and the table of figures is missing altogether. " * 2
REASONS = (
    "The agreed terms ask for twelve chapters with a table of figures each. The delivery holds three chapters, and the"
    " seller does not deny it. What is there is usable, so the seller is paid for a part of the work and the client"
    " gets the rest back."
)
GROUNDS = (
    "The ruling counts three chapters as usable, but each of them lacks its table of figures, without which the terms"
    " say that a chapter is no chapter."
)


@pytest.fixture
def rich(alice: Agent, bob: Agent, credit: Any) -> None:
    credit(alice, 1_000_000_000)
    credit(bob, 1_000_000_000)


@pytest.fixture
def job_at(alice: Agent, bob: Agent, rich: None, noon: datetime) -> Any:
    """Make a job of alice's with bob that is in progress, delivered or revising at noon; the clocks start then."""

    def make(state: str = "delivered", *, at: datetime = noon, **given: Any) -> Any:
        agreed = terms.read({"price": 50_000_000, "title": "Summaries", "delivery_seconds": 86_400} | given)
        job = offers.propose(alice, bob, terms=agreed, at=at)
        offers.agree(job.id, by=bob, terms_hash=agreed.hash, at=at)
        job = jobs.fund(job.id, client=alice, at=at)
        if state == "funded":
            return job
        job = jobs.start(job.id, seller=bob, at=at)
        if state == "in_progress":
            return job
        content = deliveries.from_json({"chapters": [1, 2, 3]})
        job = deliveries.deliver(job.id, seller=bob, content=content, at=at)
        if state == "delivered":
            return job
        if state == "revising":
            return deliveries.request_revision(job.id, client=alice, reason="Nine chapters are missing.", at=at)
        assert state == "completed"
        return jobs.approve(job.id, client=alice, at=at)

    return make


@pytest.fixture
def case_at(job_at: Any, alice: Agent, bob: Agent, moderator: User, noon: datetime) -> Any:
    """Make a case in a state, opened by the client at noon about a delivered job of 50 USDC."""

    def make(state: str = "awaiting_answer", *, opener: Agent = alice, job: Any = None, **given: Any) -> Dispute:
        job = job or job_at("delivered" if opener == alice else "revising", **given)
        respondent = bob if opener == alice else alice
        case = cases.open(
            job.id,
            opener=opener,
            reason="not_as_agreed",
            statement=STATEMENT,
            requested_seller_bps=0 if opener == alice else 10_000,
            at=noon,
        )
        if state == "awaiting_answer":
            return case
        if state == "withdrawn":
            return cases.withdraw(case.id, by=opener, at=noon + HOUR)
        if state == "unanswered":
            return deadlines.enforce(case.id, at=noon + 3 * DAY)
        case = cases.answer(
            case.id,
            by=respondent,
            statement=STATEMENT,
            requested_seller_bps=10_000 if opener == alice else 0,
            at=noon + HOUR,
        )
        if state == "evidence":
            return case
        if state == "settled":
            cases.settle_offer(job.id, by=alice, seller_bps=4_000, at=noon + HOUR)
            cases.settle_offer(job.id, by=bob, seller_bps=4_000, at=noon + HOUR)
            return Dispute.objects.get(pk=case.pk)
        case = deadlines.enforce(case.id, at=noon + HOUR + 2 * DAY)
        if state == "under_review":
            return case
        if state == "awaiting_approval":
            return ruled(case, moderator, at=noon + 3 * DAY, **PROPOSED)
        case = ruled(case, moderator, at=noon + 3 * DAY)
        if state == "ruled":
            return case
        if state == "appealed":
            return appealed(case, alice, at=noon + 4 * DAY)
        assert state == "final"
        return arbitration.finalise(case.id, at=noon + 5 * DAY)

    return make


def ruled(case: Dispute, moderator: User, *, at: datetime | None = None, **given: Any) -> Dispute:
    """Rule 30 % to the seller, everything else back, unless told otherwise."""
    plan = {
        "revision": case.revision,
        "decision": Decision(seller_bps=3_000, bond_to="seller"),
        "reason_codes": ["not_as_agreed"],
        "reasons": REASONS,
        "at": at,
    }
    return arbitration.rule(case.id, moderator=moderator, **(plan | given))


# A finding that takes a second person, whatever the amounts.
PROPOSED: dict[str, Any] = {"reason_codes": ["fraud"]}


def appealed(case: Dispute, appellant: Agent, *, at: datetime | None = None) -> Dispute:
    return appeals.file(case.id, appellant=appellant, grounds=GROUNDS, at=at)


def replaced(case: Dispute, senior: User, *, at: datetime | None = None, **given: Any) -> Dispute:
    """Decide the appeal otherwise: nothing to the seller, everything else back, unless told otherwise."""
    plan = {
        "revision": case.revision,
        "decision": Decision(seller_bps=0, bond_to="seller"),
        "reason_codes": ["unusable"],
        "reasons": REASONS,
        "at": at,
    }
    return appeals.replace(case.id, senior=senior, **(plan | given))


@pytest.fixture
def make_staff(db: None) -> Any:
    """Make somebody who works here, in the groups as they are."""

    def make(username: str, *groups: str, **fields: Any) -> User:
        if not Group.objects.filter(name="Senior moderators").exists():
            staff.prepare_groups()
        user = User.objects.create(
            username=username, password=make_password("a long password"), is_staff=True, **fields
        )
        user.groups.set(Group.objects.filter(name__in=groups))
        return user

    return make


@pytest.fixture
def make_moderator(make_staff: Any) -> Any:
    return lambda username, **fields: make_staff(username, "Moderators", **fields)


@pytest.fixture
def make_senior(make_staff: Any) -> Any:
    return lambda username, **fields: make_staff(username, "Senior moderators", **fields)


@pytest.fixture
def senior(make_senior: Any) -> User:
    return make_senior("sigrid")


@pytest.fixture
def moderator(make_moderator: Any) -> User:
    return make_moderator("mona")
