"""
The table of cases, written again by hand from the specification (disputes.md, section 1): every action of everyone in
every state, and what silence does.

A test that took the table from the code could not catch a wrong table: nothing here is imported from it.
"""

from datetime import datetime, timedelta
from uuid import UUID

import pytest
from django.db import transaction

from accounts import ids
from accounts.errors import DomainError
from accounts.models import User
from disputes import appeals, approvals, arbitration, assignment, cases, deadlines, evidence, lifecycle, questions
from disputes.models import Dispute, DisputeTransition, Question, Ruling
from disputes.tests.conftest import DAY, GROUNDS, HOUR, PROPOSED, REASONS, STATEMENT, appealed, replaced, ruled
from marketplace.models import Job

pytestmark = pytest.mark.django_db
WHY = "Because I know the person behind it."
MOMENT = timedelta(microseconds=1)

# What an agent's step leads to; `-`: the case does not allow it. A stranger finds no case at all.
PARTIES = """
    row | state             | action   | opener            | respondent
    2   | awaiting_answer   | answer   | -                 | evidence
    4   | awaiting_answer   | evidence | awaiting_answer   | awaiting_answer
    6   | awaiting_answer   | settle   | settled           | settled
    7   | awaiting_answer   | withdraw | withdrawn         | -
    4   | evidence          | evidence | evidence          | evidence
    6   | evidence          | settle   | settled           | settled
    7   | evidence          | withdraw | evidence          | -
    6   | unanswered        | settle   | settled           | settled
    7   | unanswered        | withdraw | withdrawn         | -
    6   | under_review      | settle   | settled           | settled
    7   | under_review      | withdraw | under_review      | -
    6   | asked             | settle   | settled           | settled
    7   | asked             | withdraw | under_review      | -
    9   | asked             | reply    | -                 | under_review
    9   | asked             | evidence | -                 | under_review
    6   | leaving           | settle   | settled           | settled
    7   | leaving           | withdraw | -                 | withdrawn
    6   | awaiting_approval | settle   | settled           | settled
    7   | awaiting_approval | withdraw | awaiting_approval | -
    14  | ruled             | appeal   | appealed          | appealed
    22  | withdrawn         | settle   | withdrawn         | withdrawn
"""
AGENT_ACTIONS = ["answer", "evidence", "settle", "withdraw", "reply", "appeal"]

# What a step of staff leads to: a state, or who is refused: `no` for want of permission, or to the author of what is to
# be approved; `theirs`: a colleague has the case; `stake`: a conflict of interest; `had`: it is theirs already.
#
# holder: has the case, and ruled it; or hears the appeal. mod: another moderator, who has no part in it. author: the
# moderator who ruled the case that is appealed. owner: a senior who owns a party. auditor: sees cases and rules none.
# senior: a senior without any part in it. earlier: a senior who had the case before the holder.
STAFF = """
    row | state             | action  | holder            | mod               | author | owner  | auditor | senior            | earlier
    8   | unanswered        | take    | under_review      | under_review      |        | stake  | no      | under_review      | under_review
    8   | unanswered        | give    | no                | no                |        | stake  | no      | under_review      | under_review
    8   | unanswered        | recuse  | theirs            | theirs            |        | theirs | theirs  | theirs            | theirs
    9   | unanswered        | ask     | under_review      | under_review      |        | stake  | no      | under_review      | under_review
    10  | unanswered        | rule    | ruled             | ruled             |        | stake  | no      | ruled             | ruled
    10  | unanswered        | propose | awaiting_approval | awaiting_approval |        | stake  | no      | awaiting_approval | awaiting_approval
    8   | under_review      | take    | had               | theirs            |        | theirs | no      | theirs            | theirs
    8   | under_review      | give    | under_review      | no                |        | stake  | no      | under_review      | under_review
    8   | under_review      | recuse  | under_review      | theirs            |        | theirs | theirs  | theirs            | theirs
    9   | under_review      | ask     | under_review      | theirs            |        | theirs | no      | theirs            | theirs
    10  | under_review      | rule    | ruled             | theirs            |        | theirs | no      | theirs            | theirs
    10  | under_review      | propose | awaiting_approval | theirs            |        | theirs | no      | theirs            | theirs
    8   | asked             | take    | had               | theirs            |        | theirs | no      | theirs            | theirs
    8   | asked             | give    | under_review      | no                |        | stake  | no      | under_review      | under_review
    8   | asked             | recuse  | under_review      | theirs            |        | theirs | theirs  | theirs            | theirs
    9   | asked             | ask     | under_review      | theirs            |        | theirs | no      | theirs            | theirs
    11  | awaiting_approval | approve | no                | ruled             |        | stake  | no      | ruled             | ruled
    11  | awaiting_approval | return  | no                | under_review      |        | stake  | no      | under_review      | under_review
    8   | appealed          | take    | appealed          | no                | no     | stake  | no      | appealed          | stake
    8   | appealed          | give    | appealed          | no                | no     | stake  | no      | appealed          | stake
    8   | appealed          | recuse  | theirs            | theirs            | theirs | theirs | theirs  | theirs            | theirs
    16  | appealed          | uphold  | final             | no                | no     | stake  | no      | final             | stake
    16  | appealed          | replace | final             | no                | no     | stake  | no      | final             | stake
    16  | appealed          | propose | appealed          | no                | no     | stake  | no      | appealed          | stake
    8   | heard             | take    | had               | no                | no     | theirs | no      | theirs            | theirs
    8   | heard             | give    | appealed          | no                | no     | stake  | no      | appealed          | stake
    8   | heard             | recuse  | appealed          | theirs            | theirs | theirs | theirs  | theirs            | theirs
    16  | heard             | uphold  | final             | no                | no     | theirs | no      | theirs            | theirs
    16  | heard             | replace | final             | no                | no     | theirs | no      | theirs            | theirs
    16  | heard             | propose | appealed          | no                | no     | theirs | no      | theirs            | theirs
    8   | replacement       | take    | had               | no                | no     | theirs | no      | theirs            | theirs
    8   | replacement       | give    | appealed          | no                | no     | stake  | no      | appealed          | stake
    8   | replacement       | recuse  | appealed          | theirs            | theirs | theirs | theirs  | theirs            | theirs
    16  | replacement       | approve | no                | no                | no     | stake  | no      | final             | stake
    16  | replacement       | return  | no                | no                | no     | stake  | no      | appealed          | stake
"""  # noqa: E501
STAFF_ACTIONS = ["take", "give", "recuse", "ask", "rule", "propose", "approve", "return", "uphold", "replace"]
CODES = {
    "-": "transition_not_allowed",
    "no": "not_allowed",
    "theirs": "assigned_to_another",
    "stake": "conflict_of_interest",
    "had": "assigned_already",
}
STATES = [
    "awaiting_answer", "evidence", "unanswered", "under_review", "asked", "leaving", "awaiting_approval", "ruled",
    "appealed", "heard", "replacement", "final", "settled", "withdrawn",
]  # fmt: skip

# What time does: when after noon, and where that leads. `asked`: the question was put three days after noon.
TIME = """
    row | state             | hours | action          | to
    3   | awaiting_answer   | 72    | go_unanswered   | under_review
    5   | evidence          | 49    | close_evidence  | under_review
    13  | unanswered        | 108   | escalate        | under_review
    13  | under_review      | 85    | escalate        | under_review
    9   | asked             | 120   | question_lapses | under_review
    12  | awaiting_approval | 96    | ask_senior      | awaiting_approval
    15  | ruled             | 120   | finalise        | final
    17  | appealed          | 168   | appeal_lapses   | final
    17  | heard             | 168   | appeal_lapses   | final
    17  | replacement       | 168   | appeal_lapses   | final
"""
# The same, where nothing was done about what came due before.
LATER = """
    row | state             | hours | action          | to
    13  | unanswered        | 144   | rule_by_default | ruled
    13  | under_review      | 121   | rule_by_default | ruled
    12  | awaiting_approval | 120   | rule_by_default | ruled
"""


def table(text: str) -> list[dict[str, str]]:
    names, *lines = ([cell.strip() for cell in line.split("|")] for line in text.strip().splitlines())
    return [dict(zip(names, line, strict=True)) for line in lines]


@pytest.fixture(params=["client", "seller"])
def opener(request) -> str:
    return request.param


@pytest.fixture
def people(alice, bob, carol, opener, moderator, make_moderator, make_senior, make_staff) -> dict:
    respondent = bob if opener == "client" else alice
    found = {
        "opener": alice if opener == "client" else bob,
        "respondent": respondent,
        "stranger": carol,
        "author": moderator,
        "mod": make_moderator("max"),
        "auditor": make_staff("otto", "Auditors"),
        **{name: make_senior(name) for name in ("senior", "earlier", "owner", "hearer", "free")},
    }
    respondent.owner = found["owner"]
    respondent.save(update_fields=["owner"])
    return found


@pytest.fixture
def in_state(case_at, people, moderator, noon):
    """Make a case in a state of the tables above; where somebody has it, a senior had it before."""

    def make(state: str) -> Dispute:
        opener = people["opener"]
        if state in ("awaiting_answer", "evidence", "unanswered", "settled", "withdrawn"):
            return case_at(state, opener=opener)
        case = assignment.take(
            case_at("under_review", opener=opener).id, moderator=people["earlier"], at=noon + 3 * DAY
        )
        case = assignment.reassign(case.id, by=people["earlier"], to=moderator, reason=WHY, at=noon + 3 * DAY)
        if state == "asked":
            return asked(case, moderator, people, noon + 3 * DAY)
        if state == "leaving":
            return cases.withdraw(case.id, by=opener, at=noon + 3 * DAY)
        if state == "awaiting_approval":
            return ruled(case, moderator, at=noon + 3 * DAY, **PROPOSED)
        if state == "under_review":
            return case
        case = ruled(case, moderator, at=noon + 3 * DAY)
        if state == "ruled":
            return case
        if state == "final":
            return arbitration.finalise(case.id, at=noon + 5 * DAY)
        case = appealed(case, opener, at=noon + 4 * DAY)
        if state == "appealed":
            return case
        case = assignment.take(case.id, moderator=people["hearer"], at=noon + 4 * DAY)
        if state == "heard":
            return case
        assert state == "replacement"
        return replaced(case, people["hearer"], at=noon + 4 * DAY, **PROPOSED)

    return make


def asked(case: Dispute, moderator: User, people: dict, at: datetime) -> Dispute:
    to = lifecycle.party_of(people["respondent"], case)
    questions.ask(case.id, moderator=moderator, to=to, text="What was delivered when?", revision=case.revision, at=at)
    return Dispute.objects.get(pk=case.pk)


def open_question(case: Dispute) -> UUID:
    question = Question.objects.filter(dispute=case).first()
    return question.pk if question else ids.uuid7()


def agent_acts(action: str, case: Dispute, person, other, at: datetime):
    match action:
        case "answer":
            return cases.answer(case.id, by=person, statement=STATEMENT, requested_seller_bps=1, at=at)
        case "evidence":
            return evidence.submit(case.id, by=person, item=evidence.from_text("A receipt."), at=at)
        case "withdraw":
            return cases.withdraw(case.id, by=person, at=at)
        case "reply":
            return questions.answer(case.id, by=person, question_id=open_question(case), text="On Monday.", at=at)
        case "appeal":
            return appeals.file(case.id, appellant=person, grounds=GROUNDS, at=at)
    if other is not None:
        cases.settle_offer(case.job_id, by=other, seller_bps=5_000, at=at)
    return cases.settle_offer(case.job_id, by=person, seller_bps=5_000, at=at)


def staff_acts(action: str, case: Dispute, person: User, free: User, at: datetime):
    heard = {"revision": case.revision, "at": at}
    on_appeal = case.state == "appealed"
    match action:
        case "take":
            return assignment.take(case.id, moderator=person, at=at)
        case "give":
            return assignment.reassign(case.id, by=person, to=free, reason=WHY, at=at)
        case "recuse":
            return assignment.recuse(case.id, moderator=person, reason=WHY, at=at)
        case "ask":
            return questions.ask(
                case.id, moderator=person, to="client", text="What did you receive, and when?", **heard
            )
        case "rule":
            return ruled(case, person, at=at)
        case "propose" if on_appeal:
            return replaced(case, person, at=at, **PROPOSED)
        case "propose":
            return ruled(case, person, at=at, **PROPOSED)
        case "approve":
            return approvals.approve(case.id, approver=person, **heard)
        case "return":
            return approvals.send_back(case.id, approver=person, reason=WHY, **heard)
        case "uphold":
            return appeals.uphold(case.id, senior=person, reasons=REASONS, **heard)
    return replaced(case, person, at=at)


def outcome(case: Dispute, act) -> str:
    """Do it, say what came of it, and undo it."""
    try:
        with transaction.atomic():
            act()
            state = str(Dispute.objects.get(pk=case.pk).state)
            transaction.set_rollback(True)
    except DomainError as refusal:
        return refusal.code
    return state


def a_moment_in(state: str, noon: datetime) -> datetime:
    return noon + {"awaiting_answer": 2 * HOUR, "evidence": 2 * HOUR}.get(state, 4 * DAY)


@pytest.mark.parametrize("state", STATES)
def test_every_action_of_every_agent(state, in_state, people, noon):
    case, at = in_state(state), a_moment_in(state, noon)
    rows = {row["action"]: row for row in table(PARTIES) if row["state"] == state}

    seen, expected = {}, {}
    for action in AGENT_ACTIONS:
        for name in ("opener", "respondent", "stranger"):
            person = people[name]
            other = {"opener": people["respondent"], "respondent": people["opener"]}.get(name)
            seen[action, name] = outcome(case, lambda: agent_acts(action, case, person, other, at))  # noqa: B023
            allowed = rows.get(action, {}).get(name, "-")
            expected[action, name] = "not_found" if name == "stranger" else CODES.get(allowed, allowed)

    assert seen == expected
    assert Dispute.objects.get(pk=case.pk).revision == case.revision


@pytest.mark.parametrize("opener", ["client"], indirect=True)
@pytest.mark.parametrize("state", STATES)
def test_every_action_of_every_member_of_staff(state, in_state, people, noon):
    case, at = in_state(state), a_moment_in(state, noon)
    written = "under_review" if state == "leaving" else state  # that a party wants to withdraw changes nothing
    rows = {row["action"]: row for row in table(STAFF) if row["state"] == written}
    on_appeal = state in ("appealed", "heard", "replacement")
    people["holder"] = people["hearer"] if on_appeal else people["author"]

    seen, expected = {}, {}
    for action in STAFF_ACTIONS:
        for name in ("holder", "mod", "author", "owner", "auditor", "senior", "earlier"):
            if name == "author" and not on_appeal:
                continue  # the holder
            person = User.objects.get(pk=people[name].pk)
            free = people["free"]
            seen[action, name] = outcome(case, lambda: staff_acts(action, case, person, free, at))  # noqa: B023
            allowed = rows.get(action, {}).get(name, "-")
            expected[action, name] = CODES.get(allowed, allowed)

    assert seen == expected
    assert Dispute.objects.get(pk=case.pk).revision == case.revision


@pytest.mark.parametrize("opener", ["client"], indirect=True)
@pytest.mark.parametrize("row", table(TIME), ids=lambda row: row["state"])
def test_time_acts_at_its_moment_and_not_before(row, in_state, noon):
    case = in_state(row["state"])
    over = noon + int(row["hours"]) * HOUR

    assert case.due_at == over or Dispute.objects.get(pk=case.pk).due_at == over
    assert deadlines.enforce(case.pk, at=over - MOMENT) is None
    moved = deadlines.enforce(case.pk, at=over)

    assert moved is not None
    assert moved.state == row["to"]
    last = DisputeTransition.objects.filter(dispute=case).latest("revision")
    assert (last.action, last.by, last.from_state, last.to_state) == (row["action"], "system", case.state, row["to"])
    assert deadlines.enforce(case.pk, at=over) is None


@pytest.mark.parametrize("opener", ["client"], indirect=True)
@pytest.mark.parametrize("row", table(LATER), ids=lambda row: row["state"])
def test_time_then_acts_again(row, in_state, noon):
    case = in_state(row["state"])
    over = noon + int(row["hours"]) * HOUR
    deadlines.enforce(case.pk, at=over - MOMENT)  # the reminder

    assert Dispute.objects.get(pk=case.pk).deadline_at == over
    assert deadlines.enforce(case.pk, at=over - MOMENT) is None
    moved = deadlines.enforce(case.pk, at=over)

    assert moved is not None
    assert moved.state == row["to"]
    last = DisputeTransition.objects.filter(dispute=case).latest("revision")
    assert (last.action, last.by, last.to_state) == (row["action"], "system", row["to"])
    assert Ruling.objects.get(dispute=case, standing="standing").is_default


@pytest.mark.parametrize("opener", ["client"], indirect=True)
@pytest.mark.parametrize("state", STATES)
def test_thirty_days_end_every_living_case_and_no_other(state, in_state, noon):
    case = in_state(state)

    ended = deadlines.enforce(case.pk, at=noon + 30 * DAY)

    if state in ("final", "settled", "withdrawn"):
        assert ended is None
        return
    assert ended is not None
    assert (ended.state, ended.deadline_at) == ("final", None)
    assert Job.objects.get(pk=case.job_id).state == "resolved"
    standing = Ruling.objects.get(dispute=case, standing="standing")
    assert standing.is_default == (state not in ("ruled", "appealed", "heard", "replacement"))
    last = DisputeTransition.objects.filter(dispute=case).latest("revision")
    assert (last.action, last.by) == ("hard_stop", "system")


def test_a_question_gives_the_ruling_the_time_it_took(case_at, moderator, bob, noon):
    case = case_at("under_review")  # for 72 hours, from the 49th
    question = questions.ask(
        case.id,
        moderator=moderator,
        to="seller",
        text="What was delivered when?",
        revision=case.revision,
        at=noon + 60 * HOUR,
    )

    case = questions.answer(case.id, by=bob, question_id=question.pk, text="On Monday.", at=noon + 70 * HOUR)

    assert case.deadline_at == noon + (49 + 72 + 10) * HOUR
    assert deadlines.enforce(case.pk, at=noon + 131 * HOUR).state == "ruled"


@pytest.mark.parametrize("state", ["awaiting_answer", "evidence", "under_review", "awaiting_approval", "ruled"])
def test_the_hard_stop_comes_first_where_the_windows_are_longer(case_at, settings, noon, state):
    settings.DISPUTE_HARD_STOP_SECONDS = 4 * 86_400
    settings.DISPUTE_ANSWER_SECONDS = settings.RULING_SLA_SECONDS = 30 * 86_400
    settings.RULING_APPROVAL_SLA_SECONDS = settings.APPEAL_SECONDS = 30 * 86_400
    if state == "evidence":
        settings.DISPUTE_EVIDENCE_SECONDS = 30 * 86_400
    case = case_at(state)

    assert case.deadline_at == noon + 4 * DAY
    assert deadlines.enforce(case.pk, at=noon + 4 * DAY).state == "final"


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
    evidence.submit(case.id, by=bob, item=evidence.from_text("in time"), at=at - MOMENT)


@pytest.mark.parametrize("opener", ["client"], indirect=True)
def test_nobody_decides_anything_after_the_hard_stop(in_state, people, noon):
    at = noon + 30 * DAY
    for state in ("unanswered", "under_review", "awaiting_approval", "appealed", "replacement"):
        with transaction.atomic():
            case = in_state(state)
            for name in ("author", "senior", "hearer"):
                for action in STAFF_ACTIONS:
                    act = lambda: staff_acts(action, case, people[name], people["free"], at)  # noqa: B023, E731
                    assert outcome(case, act) == "transition_not_allowed", (state, name, action)
            for name in ("opener", "respondent"):
                for action in AGENT_ACTIONS:
                    act = lambda: agent_acts(action, case, people[name], None, at)  # noqa: B023, E731
                    assert outcome(case, act) == "transition_not_allowed", (state, name, action)
            transaction.set_rollback(True)


WORDS = {
    "awaiting_answer": ("seller", "the seller's silence counts as having asked for everything"),
    "evidence": (None, "Evidence closes and the case goes to a moderator."),
    "unanswered": ("moderator", "If no moderator has ruled by then, the default ruling is made: 24.750000 USDC to"),
    "under_review": ("moderator", "If no moderator has ruled by then, the default ruling is made: 24.750000 USDC to"),
    "asked": ("seller", "The time for a ruling stands still while a question is open"),
    "awaiting_approval": ("moderator", "If none has approved one by then, the default ruling is made: 24.750000 USDC"),
    "ruled": (None, "The ruling is carried out: 14.850000 USDC to the seller, 35.000000 USDC to the client"),
    "appealed": ("moderator", "If no senior moderator has decided the appeal by then, the ruling is carried out as it"),
    "heard": ("moderator", "If no senior moderator has decided the appeal by then, the ruling is carried out as it"),
    "replacement": ("moderator", "the ruling is carried out as it stands: 14.850000 USDC to the seller"),
}


@pytest.mark.parametrize("opener", ["client"], indirect=True)
@pytest.mark.parametrize("state", WORDS)
def test_every_living_state_tells_the_job_what_silence_does(state, in_state):
    case = in_state(state)

    job = Job.objects.get(pk=case.job_id)
    awaiting, words = WORDS[state]
    assert words in job.deadline_effect
    assert job.deadline_at == Dispute.objects.get(pk=case.pk).deadline_at
    assert job.awaiting == awaiting
    assert job.settlement_closed == (state in ("ruled", "appealed", "heard", "replacement"))
