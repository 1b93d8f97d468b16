"""Nobody judges their own case: every verb of staff in a case, by every kind of stake; superusers are no exception."""

import pytest

from accounts.models import Agent, User
from disputes import appeals, approvals, assignment, conflicts, questions
from disputes.models import Dispute
from disputes.tests.conftest import DAY, REASONS, replaced, ruled
from marketplace.models import Job

pytestmark = pytest.mark.django_db
WHY = "The reasons do not say which chapters are there."


# verb → the state it is for, and how somebody does it
VERBS = {
    "take": ("under_review", lambda case, who, at: assignment.take(case.pk, moderator=who, at=at)),
    "ask": (
        "under_review",
        lambda case, who, at: questions.ask(
            case.pk, moderator=who, to="client", text="Which chapters are there?", revision=case.revision, at=at
        ),
    ),
    "rule": ("under_review", lambda case, who, at: ruled(case, who, at=at)),
    "reassign": (
        "under_review",
        lambda case, who, at: assignment.reassign(case.pk, by=who, to=colleague(), reason=WHY, at=at),
    ),
    "be given it": (
        "under_review",
        lambda case, who, at: assignment.reassign(case.pk, by=colleague(), to=who, reason=WHY, at=at),
    ),
    "approve": (
        "awaiting_approval",
        lambda case, who, at: approvals.approve(case.pk, approver=who, revision=case.revision, at=at),
    ),
    "send back": (
        "awaiting_approval",
        lambda case, who, at: approvals.send_back(case.pk, approver=who, revision=case.revision, reason=WHY, at=at),
    ),
    "take the appeal": ("appealed", lambda case, who, at: assignment.take(case.pk, moderator=who, at=at)),
    "uphold": (
        "appealed",
        lambda case, who, at: appeals.uphold(case.pk, senior=who, revision=case.revision, reasons=REASONS, at=at),
    ),
    "replace": ("appealed", lambda case, who, at: replaced(case, who, at=at)),
}
AT = {"under_review": 2.5, "awaiting_approval": 3.5, "appealed": 4.5}


def colleague() -> User:
    return User.objects.create_superuser("colleague")


@pytest.fixture
def root(db):
    """May do everything, and is asked like anybody."""
    return User.objects.create_superuser("root")


@pytest.fixture(params=list(VERBS))
def verb(request, case_at, noon):
    state, act = VERBS[request.param]
    case = case_at(state)
    return case, lambda who: act(Dispute.objects.get(pk=case.pk), who, noon + AT[state] * DAY)


def refused(act, who, case):
    before = Dispute.objects.values("revision", "assigned_to").get(pk=case.pk)

    with pytest.raises(conflicts.ConflictOfInterest):
        act(who)

    return Dispute.objects.values("revision", "assigned_to").get(pk=case.pk) == before


class TestEveryVerb:
    @pytest.mark.parametrize("side", ["alice", "bob"])
    def test_is_refused_to_an_owner(self, verb, root, request, side):
        case, act = verb
        Agent.objects.filter(pk=request.getfixturevalue(side).pk).update(owner=root)

        assert refused(act, root, case)

    @pytest.mark.parametrize("role", ["client", "seller"])
    def test_is_refused_to_one_whose_agent_traded_with_a_party(self, verb, root, job_at, make_agent, role):
        case, act = verb
        theirs = make_agent("roots-agent", owner=root)
        Job.objects.filter(pk=job_at("completed").pk).update(**{role: theirs})

        assert refused(act, root, case)

    def test_is_done_by_one_without_a_stake(self, verb, root, make_agent):
        case, act = verb
        make_agent("roots-agent", owner=root)

        act(root)

        assert Dispute.objects.get(pk=case.pk).revision > case.revision


class TestAnAppeal:
    @pytest.mark.parametrize("verb", ["take the appeal", "uphold", "replace"])
    def test_is_not_for_who_ruled(self, case_at, moderator, noon, verb):
        case = case_at("appealed")
        User.objects.filter(pk=moderator.pk).update(is_superuser=True)

        assert refused(lambda who: VERBS[verb][1](case, who, noon + 4.5 * DAY), User.objects.get(pk=moderator.pk), case)
