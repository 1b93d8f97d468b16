"""The second person's word on a ruling."""

import pytest

from accounts.errors import Invalid, NotAllowed
from accounts.models import AuditRecord, Event, User
from disputes import approvals, arbitration, assignment, conflicts, deadlines, lifecycle
from disputes.decisions import Decision
from disputes.models import Dispute, DisputeTransition, Ruling, RulingApproval
from disputes.tests.conftest import DAY, HOUR, PROPOSED, ruled
from marketplace.models import Job

pytestmark = pytest.mark.django_db
WHY = "The delivery was never opened by the author of this."


@pytest.fixture
def proposed(case_at):
    """Mona's ruling, made three days after noon, waits for a colleague."""
    return case_at("awaiting_approval")


@pytest.fixture
def max_(make_moderator):
    return make_moderator("max")


class TestNeeded:
    @pytest.mark.parametrize(
        ("terms", "given"),
        [
            ({"price": 100_000_000}, {}),
            ({"price": 60_000_000, "seller_bond": 40_000_000}, {}),
            ({"seller_bond": 1_000_000}, {"decision": Decision(seller_bps=0, bond_to="client")}),
            ({}, {"decision": Decision(seller_bps=0, bond_to="seller", deposit="penalties")}),
            ({}, {"reason_codes": ["other", "fraud"]}),
            ({"price": 100_000_000}, {"decision": Decision(seller_bps=0, bond_to="seller", redo=True)}),
        ],
    )
    def test_where_one_alone_may_not_rule(self, case_at, moderator, noon, terms, given):
        case = ruled(case_at("under_review", **terms), moderator, at=noon + 3 * DAY, **given)

        ruling = Ruling.objects.get()
        assert (case.state, ruling.standing, ruling.needs_approval) == ("awaiting_approval", "proposed", True)
        assert case.deadline_at == noon + 5 * DAY
        assert case.remind_at == noon + 4 * DAY

    @pytest.mark.parametrize(
        ("terms", "given"),
        [
            ({"price": 99_999_999}, {}),
            ({"price": 60_000_000, "seller_bond": 39_999_999}, {}),
            ({}, {"decision": Decision(seller_bps=0, bond_to="client")}),  # there is no bond
            ({}, {"decision": Decision(seller_bps=0, bond_to="seller", deposit="other_side")}),
        ],
    )
    def test_nowhere_else(self, case_at, moderator, noon, terms, given):
        case = ruled(case_at("under_review", **terms), moderator, at=noon + 3 * DAY, **given)

        assert case.state == "ruled"
        assert not Ruling.objects.get().needs_approval

    def test_says_nothing_of_the_ruling_to_the_parties(self, proposed):
        assert not Event.objects.filter(type="dispute.ruled").exists()
        assert "14.850000" not in Job.objects.get(pk=proposed.job_id).deadline_effect


class TestApprove:
    def test_lets_the_ruling_stand(self, proposed, max_, moderator, noon):
        case = approvals.approve(proposed.id, approver=max_, revision=proposed.revision, at=noon + 4 * DAY)

        ruling = Ruling.objects.get()
        assert (case.state, ruling.standing, ruling.author) == ("ruled", "standing", moderator)
        assert case.appeal_by == case.deadline_at == noon + 6 * DAY
        said = RulingApproval.objects.get()
        assert (said.by, said.decision, said.decided_at) == (max_, "approved", noon + 4 * DAY)
        assert set(Event.objects.filter(type="dispute.ruled").values_list("recipient", flat=True)) == {
            case.client_id,
            case.seller_id,
        }
        assert "The ruling is carried out: 14.850000" in Job.objects.get(pk=case.job_id).deadline_effect

    def test_is_on_the_time_line_and_in_the_audit_log(self, proposed, max_, noon):
        approvals.approve(proposed.id, approver=max_, revision=proposed.revision, reason="So it is.", at=noon + 4 * DAY)

        step = DisputeTransition.objects.get(action="approve")
        assert (step.by, step.user, step.from_state, step.to_state) == (
            "moderator", max_, "awaiting_approval", "ruled",
        )  # fmt: skip
        record = AuditRecord.objects.get(action="dispute.approve")
        assert (record.user, record.reason, record.subject) == (max_, "So it is.", f"dispute:{proposed.pk}")

    def test_is_refused_to_the_author(self, proposed, moderator, noon):
        with pytest.raises(NotAllowed, match="their own"):
            approvals.approve(proposed.id, approver=moderator, revision=proposed.revision, at=noon + 4 * DAY)

        assert Ruling.objects.get().standing == "proposed"

    def test_is_refused_to_an_author_who_is_superuser(self, case_at, max_, noon):
        root = User.objects.create_superuser("root")
        case = ruled(case_at("under_review"), root, at=noon + 3 * DAY, **PROPOSED)

        with pytest.raises(NotAllowed, match="their own"):
            approvals.approve(case.id, approver=root, revision=case.revision, at=noon + 4 * DAY)

    def test_is_refused_without_the_permission(self, proposed, make_staff, noon):
        for user in (
            make_staff("otto", "Auditors"),
            make_staff("nora"),
            make_staff("mia", "Moderators", is_active=False),
        ):
            with pytest.raises(NotAllowed):
                approvals.approve(proposed.id, approver=user, revision=proposed.revision, at=noon + 4 * DAY)

    def test_is_refused_to_whoever_has_a_stake(self, proposed, max_, bob, noon):
        bob.owner = max_
        bob.save(update_fields=["owner"])

        with pytest.raises(conflicts.ConflictOfInterest):
            approvals.approve(proposed.id, approver=max_, revision=proposed.revision, at=noon + 4 * DAY)

    def test_is_refused_to_whoever_stepped_back(self, case_at, moderator, max_, noon):
        case = assignment.take(case_at("under_review").id, moderator=max_, at=noon + 3 * DAY)
        case = assignment.recuse(case.id, moderator=max_, reason="I know the person.....", at=noon + 3 * DAY)
        case = ruled(case, moderator, at=noon + 3 * DAY, **PROPOSED)

        with pytest.raises(conflicts.ConflictOfInterest):
            approvals.approve(case.id, approver=max_, revision=case.revision, at=noon + 4 * DAY)

    def test_needs_the_revision_that_was_read(self, proposed, max_, noon):
        with pytest.raises(arbitration.CaseChanged):
            approvals.approve(proposed.id, approver=max_, revision=proposed.revision - 1, at=noon + 4 * DAY)

    @pytest.mark.parametrize("state", ["evidence", "under_review", "ruled", "appealed", "final", "settled"])
    def test_needs_a_proposed_ruling(self, case_at, max_, state, noon):
        case = case_at(state)

        with pytest.raises(lifecycle.TransitionNotAllowed):
            approvals.approve(case.id, approver=max_, revision=case.revision, at=noon + 4 * DAY)


class TestSendBack:
    def test_gives_the_case_back_to_its_moderator(self, proposed, max_, moderator, noon):
        case = approvals.send_back(
            proposed.id, approver=max_, revision=proposed.revision, reason=WHY, at=noon + 4 * DAY
        )

        assert (case.state, case.assigned_to) == ("under_review", moderator)
        assert Ruling.objects.get().standing == "returned"
        said = RulingApproval.objects.get()
        assert (said.by, said.decision, said.reason) == (max_, "returned", WHY)
        step = DisputeTransition.objects.get(action="return")
        assert step.note == ""  # the reason is for colleagues

    def test_does_not_begin_the_time_for_a_ruling_anew(self, proposed, max_, noon):
        entered = noon + HOUR + 2 * DAY

        case = approvals.send_back(
            proposed.id, approver=max_, revision=proposed.revision, reason=WHY, at=noon + 4 * DAY
        )

        assert case.deadline_at == case.rule_by == entered + 3 * DAY

    def test_after_that_time_is_followed_by_the_default_ruling(self, case_at, moderator, max_, noon):
        case = ruled(case_at("under_review"), moderator, at=noon + 5 * DAY, **PROPOSED)
        case = approvals.send_back(case.id, approver=max_, revision=case.revision, reason=WHY, at=noon + 6 * DAY)

        case = deadlines.enforce(case.pk, at=noon + 6 * DAY)

        assert (case.state, Ruling.objects.get(standing="standing").is_default) == ("ruled", True)

    def test_lets_the_moderator_rule_again(self, proposed, max_, moderator, noon):
        case = approvals.send_back(
            proposed.id, approver=max_, revision=proposed.revision, reason=WHY, at=noon + 4 * DAY
        )

        case = ruled(case, moderator, at=noon + 4 * DAY, **PROPOSED)
        case = approvals.approve(case.id, approver=max_, revision=case.revision, at=noon + 4 * DAY)

        assert case.state == "ruled"
        assert list(Ruling.objects.order_by("number").values_list("standing", flat=True)) == ["returned", "standing"]

    @pytest.mark.parametrize("reason", ["", "No.", " " * 40, "x" * 2_001])
    def test_needs_a_reason(self, proposed, max_, noon, reason):
        with pytest.raises(Invalid):
            approvals.send_back(
                proposed.id, approver=max_, revision=proposed.revision, reason=reason, at=noon + 4 * DAY
            )

        assert Ruling.objects.get().standing == "proposed"

    def test_is_refused_to_the_author(self, proposed, moderator, noon):
        with pytest.raises(NotAllowed):
            approvals.send_back(
                proposed.id, approver=moderator, revision=proposed.revision, reason=WHY, at=noon + 4 * DAY
            )


class TestAskSenior:
    def test_asks_the_one_with_fewest_open_cases(self, proposed, make_senior, job_at, case_at, noon):
        busy, free = make_senior("ada"), make_senior("berta")
        assignment.take(case_at("under_review", job=job_at()).id, moderator=busy, at=noon + 3 * DAY)

        case = deadlines.enforce(proposed.pk, at=noon + 4 * DAY)

        assert (case.state, case.approver, case.senior_asked_at) == ("awaiting_approval", free, noon + 4 * DAY)
        assert case.remind_at is None
        assert case.deadline_at == noon + 5 * DAY
        assert deadlines.enforce(proposed.pk, at=noon + 4 * DAY + HOUR) is None

    def test_asks_no_author_and_nobody_with_a_stake(self, case_at, make_senior, alice, noon):
        author, owner = make_senior("ada"), make_senior("berta")
        alice.owner = owner
        alice.save(update_fields=["owner"])
        ruled(case_at("under_review"), author, at=noon + 3 * DAY, **PROPOSED)

        case = deadlines.enforce(Dispute.objects.get().pk, at=noon + 4 * DAY)

        assert (case.approver, case.senior_asked_at) == (None, noon + 4 * DAY)

    def test_leaves_the_word_to_any_colleague(self, proposed, senior, max_, noon):
        case = deadlines.enforce(proposed.pk, at=noon + 4 * DAY)

        assert approvals.approve(case.id, approver=max_, revision=case.revision, at=noon + 4 * DAY).state == "ruled"

    def test_comes_at_its_moment(self, proposed, noon):
        with pytest.raises(lifecycle.TransitionNotAllowed):
            approvals.ask_senior(proposed.id, at=noon + 4 * DAY - HOUR)


class TestDefault:
    def test_comes_after_two_days_and_can_be_appealed(self, proposed, alice, noon):
        case = deadlines.enforce(proposed.pk, at=noon + 5 * DAY)

        assert (case.state, case.appeal_by) == ("ruled", noon + 7 * DAY)
        first, default = Ruling.objects.order_by("number")
        assert (first.standing, default.standing, default.is_default) == ("replaced", "standing", True)
        assert default.seller_bps == 5_000
        assert lifecycle.Action.APPEAL in lifecycle.available(case, lifecycle.Who.OPENER, noon + 5 * DAY)
