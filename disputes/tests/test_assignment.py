"""Who gets a case, and how it changes hands."""

import pytest
from django.contrib.auth.models import Group, Permission
from django.db import connection

from accounts import alerts
from accounts.errors import Invalid, NotAllowed
from accounts.models import AuditRecord, User
from disputes import assignment, candidates, conflicts, lifecycle, questions, tasks, vacancies
from disputes.lifecycle import Action, Who
from disputes.models import Appeal, Assignment, Dispute, DisputeTransition, Question, Ruling, RulingApproval
from disputes.tests.conftest import DAY, HOUR, ruled
from marketplace.models import Job

pytestmark = pytest.mark.django_db
PARTS = ["author", "step", "approver", "returner", "asker"]
REASON = "I know the person behind one of the agents."


@pytest.fixture
def review(noon):
    """When the fixtures' case comes under review."""
    return noon + HOUR + 2 * DAY


@pytest.fixture
def make_moderator(make_moderator):
    """Make a moderator, or find the one of that name: mona is there with every case."""

    def make(username: str, **fields: bool) -> User:
        return User.objects.filter(username=username).first() or make_moderator(username, **fields)

    return make


def is_away(person: User) -> None:
    User.objects.filter(pk=person.pk).update(is_active=False)


@pytest.fixture
def make_senior(make_moderator):
    def make(username: str) -> User:
        user = make_moderator(username)
        group, _ = Group.objects.get_or_create(name="Senior moderators")
        group.permissions.set(
            Permission.objects.filter(
                content_type__app_label="disputes", codename__in=["rule", "approve", "hear_appeals"]
            )
        )
        user.groups.add(group)
        return User.objects.get(pk=user.pk)

    return make


@pytest.fixture
def three(case_at, job_at):
    """Three cases under review."""
    return [case_at("under_review", job=job_at()) for _ in range(3)]


@pytest.fixture
def appealed(case_at, moderator, noon):
    """A case that mona ruled and the seller appealed; nobody hears it yet."""
    case = case_at("ruled")
    at = noon + 4 * DAY
    Appeal.objects.create(
        dispute=case,
        against=Ruling.objects.get(dispute=case),
        by="seller",
        appellant=case.seller,
        grounds="The ruling leaves out that nine of the twelve chapters were called off by the client. " * 2,
        deposit_due_units=0,
        deposit_held_units=0,
        filed_at=at,
        decide_by=at + 3 * DAY,
    )
    who = Who.RESPONDENT
    return lifecycle.advance(case, Action.APPEAL, by=who, at=at, assigned_to=None, assigned_at=None)


def holder(case: Dispute) -> User | None:
    return Dispute.objects.get(pk=case.pk).assigned_to


class TestAssignDue:
    def test_gives_to_whoever_has_fewest_open_cases(self, three, case_at, job_at, make_moderator):
        mona, max_ = make_moderator("mona"), make_moderator("max")
        Dispute.objects.filter(pk__in=[case.pk for case in three[:2]]).update(assigned_to=mona)
        more = case_at("under_review", job=job_at())

        assert assignment.assign_due(10) == 2

        assert [holder(case) for case in (three[2], more)] == [max_, max_]

    def test_counts_anew_for_each(self, three, make_moderator):
        people = [make_moderator(name) for name in ("ann", "ben", "mona")]

        assignment.assign_due(10)

        assert {holder(case) for case in three} == set(people)

    def test_counts_no_closed_cases(self, case_at, job_at, make_moderator, noon):
        ann, ben = make_moderator("ann"), make_moderator("ben")
        closed, open_ = case_at("settled", job=job_at()), case_at("under_review", job=job_at())
        Dispute.objects.filter(pk=closed.pk).update(assigned_to=ann)
        Dispute.objects.filter(pk=open_.pk).update(assigned_to=ben)
        case = case_at("under_review", job=job_at())

        assignment.assign_due(10)

        assert holder(case) == ann

    def test_spares_seniors_on_a_tie_then_goes_by_name(self, three, make_moderator, make_senior):
        make_senior("ada")
        make_moderator("ben")

        for case, name in zip(three, ("ben", "mona", "ada"), strict=True):
            assert assignment.assign_due(1)
            assert holder(case).username == name

    def test_takes_the_permission_from_a_group_or_from_the_person(self, case_at, moderator):
        is_away(moderator)
        case, pat = case_at("under_review"), User.objects.create_user("pat", is_staff=True)
        pat.user_permissions.add(Permission.objects.get(codename="rule", content_type__app_label="disputes"))

        assignment.assign_due(10)

        assert holder(case) == pat

    @pytest.mark.parametrize(
        "fields",
        [{"is_superuser": True}, {"is_active": False}, {"is_staff": False}],
        ids=["a superuser by flag alone", "one who left", "an owner"],
    )
    def test_passes_over(self, case_at, make_moderator, moderator, fields):
        case = case_at("under_review")
        is_away(moderator)
        if fields.get("is_superuser"):
            User.objects.create_user("root", is_staff=True, is_superuser=True)
        else:
            User.objects.filter(pk=make_moderator("max").pk).update(**fields)

        assert assignment.assign_due(10) == 0
        assert holder(case) is None

    @pytest.mark.parametrize("side", ["alice", "bob"])
    def test_passes_over_an_owner_of_a_party(self, case_at, make_moderator, request, side):
        agent, case = request.getfixturevalue(side), case_at("under_review")
        agent.owner = make_moderator("ann")
        agent.save(update_fields=["owner"])
        make_moderator("ben")

        assignment.assign_due(10)

        assert holder(case).username == "ben"

    @pytest.mark.parametrize("role", ["client", "seller"])
    def test_passes_over_whose_agent_traded_with_a_party(self, case_at, job_at, make_agent, make_moderator, role):
        case, earlier = case_at("under_review"), job_at("completed")
        theirs = make_agent("anns-agent", owner=make_moderator("ann"))
        Job.objects.filter(pk=earlier.pk).update(**{role: theirs})
        make_moderator("ben")

        assignment.assign_due(10)

        assert holder(case).username == "ben"

    def test_leaves_alone_what_is_not_for_moderators(self, case_at, job_at, moderator):
        cases = [case_at(state, job=job_at()) for state in ("awaiting_answer", "evidence", "settled")]

        assert assignment.assign_due(10) == 0
        assert [holder(case) for case in cases] == [None] * 3

    def test_writes_down_who_how_and_when_and_tells_the_parties_no_name(self, case_at, moderator, review):
        case = case_at("under_review")

        assert assignment.assign(case.pk, at=review)

        given = Assignment.objects.get()
        step = DisputeTransition.objects.get(dispute=case, action="assign")
        assert (given.to, given.by, given.how, given.at) == (moderator, None, "by_turn", review)
        assert (step.by, step.user, step.note) == ("system", None, "")
        assert Dispute.objects.get().assigned_at == review

    def test_goes_on_after_one_that_raises(self, three, moderator, monkeypatch):
        find = candidates.next_for

        def sometimes(dispute, **given):
            if dispute.pk == three[0].pk:
                raise RuntimeError("made for this test")
            return find(dispute, **given)

        monkeypatch.setattr(candidates, "next_for", sometimes)

        assert assignment.assign_due(10) == 2
        assert holder(three[0]) is None

    def test_does_not_restart_the_time_for_the_ruling(self, case_at, moderator, review):
        case = case_at("under_review")

        assignment.assign(case.pk, at=review + HOUR)

        assert Dispute.objects.get().rule_by == case.rule_by


class TestAppealed:
    def test_goes_to_a_senior(self, appealed, make_moderator, make_senior):
        make_moderator("ann")
        sue = make_senior("sue")

        assignment.assign_due(10)

        assert holder(appealed) == sue
        assert Assignment.objects.get(to=sue).how == "appeal"

    def test_takes_no_more_than_the_permission_to_hear_appeals(self, appealed):
        pat = User.objects.create_user("pat", is_staff=True)
        pat.user_permissions.add(Permission.objects.get(codename="hear_appeals"))

        assignment.assign_due(10)

        assert holder(appealed) == pat

    @pytest.mark.parametrize("part", PARTS)
    def test_passes_over_a_senior_who_had_a_part_in_the_ruling(self, appealed, make_senior, noon, part):
        had_a_part(make_senior("mona"), appealed, part, noon)
        zoe = make_senior("zoe")

        assignment.assign_due(10)

        assert holder(appealed) == zoe

    @pytest.mark.parametrize("part", PARTS)
    def test_cannot_be_taken_by_one_either(self, appealed, make_senior, noon, part):
        mona = make_senior("mona")
        had_a_part(mona, appealed, part, noon)

        with pytest.raises(conflicts.ConflictOfInterest):
            assignment.take(appealed.pk, moderator=mona, at=noon + 4 * DAY)

    def test_is_not_lost_by_acting_on_the_appeal(self, appealed, make_senior, noon):
        sue = make_senior("sue")

        case = assignment.take(appealed.pk, moderator=sue, at=noon + 4 * DAY)

        assignment.require_fit(sue, case, senior=True)
        assert sue.pk not in conflicts.acted(case)

    def test_cannot_be_taken_by_a_moderator(self, appealed, make_moderator, noon):
        with pytest.raises(NotAllowed):
            assignment.take(appealed.pk, moderator=make_moderator("max"), at=noon + 4 * DAY)

    def test_waits_while_no_senior_is_fit_and_keeps_no_other_case_waiting(self, appealed, case_at, job_at, moderator):
        other = case_at("under_review", job=job_at())

        assert assignment.assign_due(1) == 1

        assert (holder(appealed), holder(other)) == (None, moderator)


def had_a_part(mona, case, part, noon):
    """Leave mona, of all that she did in the case, one part in what led to the ruling."""
    ruling, colleague = Ruling.objects.get(dispute=case), User.objects.create_user("colleague")
    with connection.cursor() as cursor:  # what happened does not change, but for this
        cursor.execute("SET LOCAL session_replication_role = replica")
    if part != "author":
        Ruling.objects.update(author=colleague)
    if part != "step":
        DisputeTransition.objects.filter(dispute=case, user=mona).update(user=colleague)
    match part:
        case "approver" | "returner":
            decision = "approved" if part == "approver" else "returned"
            RulingApproval.objects.create(ruling=ruling, by=mona, decision=decision, decided_at=noon)
        case "asker":
            Question.objects.create(
                dispute=case, number=1, to="client", text="Which chapters?", asked_by=mona,
                asked_at=noon, answer_by=noon + HOUR,
            )  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = DEFAULT")


class TestTake:
    def test_makes_a_case_ones_own(self, case_at, moderator, review):
        case = assignment.take(case_at("under_review").pk, moderator=moderator, at=review)

        given = Assignment.objects.get()
        assert (case.assigned_to, case.assigned_at) == (moderator, review)
        assert (given.to, given.by, given.how) == (moderator, moderator, "taken")
        assert AuditRecord.objects.get(action="dispute.take").user == moderator

    def test_twice_is_refused_and_changes_nothing(self, case_at, moderator, review):
        case = assignment.take(case_at("under_review").pk, moderator=moderator, at=review)

        with pytest.raises(assignment.AssignedAlready):
            assignment.take(case.pk, moderator=moderator, at=review)

        assert Dispute.objects.get().revision == case.revision
        assert Assignment.objects.count() == 1

    def test_of_a_colleagues_case_is_refused(self, case_at, moderator, make_senior, review):
        case = assignment.take(case_at("under_review").pk, moderator=moderator, at=review)

        with pytest.raises(assignment.AssignedToAnother):
            assignment.take(case.pk, moderator=make_senior("sue"), at=review)

    def test_may_a_superuser_without_a_stake(self, case_at, alice, review):
        case, root = case_at("under_review"), User.objects.create_superuser("root")

        assert assignment.take(case.pk, moderator=root, at=review).assigned_to == root

    def test_may_no_superuser_with_one(self, case_at, alice, review):
        case, root = case_at("under_review"), User.objects.create_superuser("root")
        type(alice).objects.filter(pk=alice.pk).update(owner=root)

        with pytest.raises(conflicts.ConflictOfInterest):
            assignment.take(case.pk, moderator=root, at=review)


class TestTakeNext:
    def test_takes_what_ends_first(self, three, moderator, review):
        for days, case in zip((3, 1, 2), three, strict=True):
            Dispute.objects.filter(pk=case.pk).update(deadline_at=review + days * DAY)

        taken = [assignment.take_next(moderator=moderator, at=review).pk for _ in three]

        assert taken == [three[1].pk, three[2].pk, three[0].pk]
        assert Assignment.objects.filter(how="taken", to=moderator, by=moderator).count() == 3

    def test_says_that_nothing_is_left(self, case_at, moderator, review):
        case_at("evidence")

        with pytest.raises(assignment.NothingToTake):
            assignment.take_next(moderator=moderator, at=review)

    def test_passes_over_what_one_may_not_decide(self, three, moderator, review):
        for case in three[:2]:
            assignment.take(case.pk, moderator=moderator, at=review)
            assignment.recuse(case.pk, moderator=moderator, reason=REASON, at=review)

        assert assignment.take_next(moderator=moderator, at=review).pk == three[2].pk
        with pytest.raises(assignment.NothingToTake):
            assignment.take_next(moderator=moderator, at=review)

    def test_takes_no_appeal_for_a_moderator_but_for_a_senior(self, appealed, make_moderator, make_senior, noon):
        at = noon + 4 * DAY
        with pytest.raises(assignment.NothingToTake):
            assignment.take_next(moderator=make_moderator("max"), at=at)

        assert assignment.take_next(moderator=make_senior("sue"), at=at).pk == appealed.pk

    def test_takes_nothing_for_who_may_not_rule(self, case_at, review):
        case_at("under_review")

        with pytest.raises(NotAllowed):
            assignment.take_next(moderator=User.objects.create_user("pat", is_staff=True), at=review)


class TestReassign:
    @pytest.fixture
    def case(self, case_at, moderator, review):
        return assignment.take(case_at("under_review").pk, moderator=moderator, at=review)

    @pytest.mark.parametrize("giver", ["holder", "senior", "superuser"])
    def test_gives_the_case_on(self, case, moderator, make_moderator, make_senior, review, giver):
        max_ = make_moderator("max")
        by = {
            "holder": lambda: moderator,
            "senior": lambda: make_senior("sue"),
            "superuser": lambda: User.objects.create_superuser("root"),
        }[giver]()

        given = assignment.reassign(case.pk, by=by, to=max_, reason=REASON, at=review + HOUR)

        row = Assignment.objects.latest("pk")
        assert given.assigned_to == max_
        assert (row.to, row.by, row.how, row.reason) == (max_, by, "reassigned", REASON)
        assert AuditRecord.objects.get(action="dispute.reassign").reason == REASON
        assert DisputeTransition.objects.get(dispute=case, action="reassign").note == ""
        assert given.rule_by == case.rule_by

    def test_is_not_for_another_moderator(self, case, make_moderator, review):
        max_ = make_moderator("max")

        with pytest.raises(NotAllowed):
            assignment.reassign(case.pk, by=max_, to=max_, reason=REASON, at=review)

    def test_is_not_for_a_senior_with_a_stake(self, case, alice, make_moderator, make_senior, review):
        sue = make_senior("sue")
        type(alice).objects.filter(pk=alice.pk).update(owner=sue)

        with pytest.raises(conflicts.ConflictOfInterest):
            assignment.reassign(case.pk, by=sue, to=make_moderator("max"), reason=REASON, at=review)

    def test_gives_nothing_to_who_has_a_stake(self, case, bob, moderator, make_moderator, review):
        max_ = make_moderator("max")
        type(bob).objects.filter(pk=bob.pk).update(owner=max_)

        with pytest.raises(conflicts.ConflictOfInterest):
            assignment.reassign(case.pk, by=moderator, to=max_, reason=REASON, at=review)

    def test_gives_nothing_to_who_may_not_rule(self, case, moderator, review):
        with pytest.raises(NotAllowed):
            assignment.reassign(case.pk, by=moderator, to=User.objects.create_user("pat"), reason=REASON, at=review)

    def test_gives_nobody_what_they_have(self, case, moderator, review):
        with pytest.raises(assignment.AssignedAlready):
            assignment.reassign(case.pk, by=moderator, to=moderator, reason=REASON, at=review)

    @pytest.mark.parametrize("reason", ["", "too short", " " * 30, "x" * 501])
    def test_takes_a_reason(self, case, moderator, make_moderator, review, reason):
        with pytest.raises(Invalid):
            assignment.reassign(case.pk, by=moderator, to=make_moderator("max"), reason=reason, at=review)

    def test_gives_an_appeal_to_seniors_alone(self, appealed, make_moderator, make_senior, noon):
        sue, zoe, at = make_senior("sue"), make_senior("zoe"), noon + 4 * DAY

        with pytest.raises(NotAllowed):
            assignment.reassign(appealed.pk, by=sue, to=make_moderator("max"), reason=REASON, at=at)
        assert assignment.reassign(appealed.pk, by=sue, to=zoe, reason=REASON, at=at).assigned_to == zoe


class TestRecuse:
    @pytest.fixture
    def case(self, case_at, moderator, review):
        return assignment.take(case_at("under_review").pk, moderator=moderator, at=review)

    def test_gives_the_case_to_the_next(self, case, moderator, make_moderator, review):
        max_ = make_moderator("max")

        case = assignment.recuse(case.pk, moderator=moderator, reason=REASON, at=review)

        row = Assignment.objects.latest("pk")
        assert case.assigned_to == max_
        assert (row.to, row.by, row.how, row.reason) == (max_, moderator, "recused", REASON)

    def test_leaves_it_to_nobody_where_nobody_is_fit(self, case, moderator, review):
        case = assignment.recuse(case.pk, moderator=moderator, reason=REASON, at=review)

        assert (case.assigned_to, case.assigned_at) == (None, None)

    def test_is_for_ever(self, case, moderator, make_moderator, review):
        assignment.recuse(case.pk, moderator=moderator, reason=REASON, at=review)
        max_ = make_moderator("max")

        assert assignment.assign(case.pk, at=review)
        assert holder(case) == max_
        assignment.recuse(case.pk, moderator=max_, reason=REASON, at=review)
        assert not assignment.assign(case.pk, at=review)
        with pytest.raises(conflicts.ConflictOfInterest):
            assignment.take(case.pk, moderator=moderator, at=review)
        with pytest.raises(assignment.NothingToTake):
            assignment.take_next(moderator=moderator, at=review)
        with pytest.raises(conflicts.ConflictOfInterest):
            ruled(Dispute.objects.get(pk=case.pk), moderator, at=review)

    def test_is_for_who_has_it(self, case, make_moderator, review):
        with pytest.raises(assignment.AssignedToAnother):
            assignment.recuse(case.pk, moderator=make_moderator("max"), reason=REASON, at=review)

    def test_takes_a_reason(self, case, moderator, review):
        with pytest.raises(Invalid):
            assignment.recuse(case.pk, moderator=moderator, reason="no", at=review)

    def test_of_an_escalated_case_gives_it_to_another_senior(self, case_at, make_moderator, make_senior, review):
        make_moderator("ann")
        sue, zoe = make_senior("sue"), make_senior("zoe")
        case = case_at("under_review")
        assignment.escalate(case.pk, at=case.remind_at)
        assert holder(case) == sue

        assignment.recuse(case.pk, moderator=sue, reason=REASON, at=case.remind_at)

        assert holder(case) == zoe


class TestEscalate:
    def test_gives_the_case_to_the_senior_with_fewest_open_cases(self, case_at, job_at, moderator, make_senior, review):
        sue, zoe = make_senior("sue"), make_senior("zoe")
        busy = case_at("under_review", job=job_at())
        Dispute.objects.filter(pk=busy.pk).update(assigned_to=sue)
        case = assignment.take(case_at("under_review", job=job_at()).pk, moderator=moderator, at=review)
        half = review + 1.5 * DAY

        case = assignment.escalate(case.pk, at=half)

        row = Assignment.objects.latest("pk")
        assert (case.assigned_to, case.escalated_at, case.remind_at) == (zoe, half, None)
        assert (row.to, row.by, row.how) == (zoe, None, "escalated")
        assert (case.rule_by, case.deadline_at) == (review + 3 * DAY, review + 3 * DAY)

    def test_reminds_nobody_again(self, case_at, moderator, review):
        case = assignment.escalate(case_at("under_review").pk, at=review + 1.5 * DAY)

        case.refresh_from_db()
        assert (case.remind_at, case.due_at) == (None, case.deadline_at)
        with pytest.raises(lifecycle.TransitionNotAllowed):
            assignment.escalate(case.pk, at=review + 2 * DAY)

    def test_is_refused_before_half_of_the_time(self, case_at, moderator, review):
        case = case_at("under_review")

        with pytest.raises(lifecycle.TransitionNotAllowed):
            assignment.escalate(case.pk, at=review + 1.5 * DAY - HOUR)

    def test_is_refused_while_a_question_is_open(self, case_at, moderator, review):
        case = case_at("under_review")
        ask = {"to": "client", "text": "Which chapters are there?", "revision": case.revision}
        asked = questions.ask(case.pk, moderator=moderator, **ask, at=review + HOUR)

        with pytest.raises(lifecycle.TransitionNotAllowed):
            assignment.escalate(case.pk, at=asked.answer_by)

    def test_leaves_a_seniors_case_where_it_is(self, case_at, make_senior, review):
        sue, _ = make_senior("sue"), make_senior("ada")
        case = assignment.take(case_at("under_review").pk, moderator=sue, at=review)

        case = assignment.escalate(case.pk, at=review + 1.5 * DAY)

        assert (case.assigned_to, case.escalated_at) == (sue, review + 1.5 * DAY)
        assert Assignment.objects.count() == 1

    def test_takes_it_from_a_senior_who_has_a_stake_by_now(self, case_at, make_senior, alice, review):
        ada, sigrid = make_senior("ada"), make_senior("sigrid")
        case = assignment.take(case_at("under_review").pk, moderator=ada, at=review)
        type(alice).objects.filter(pk=alice.pk).update(owner=ada)

        case = assignment.escalate(case.pk, at=case.remind_at)

        assert case.assigned_to == sigrid

    def test_leaves_it_with_its_holder_where_no_senior_is_fit_and_sounds_an_alarm(
        self, case_at, moderator, make_senior, alice, review
    ):
        case = assignment.take(case_at("under_review").pk, moderator=moderator, at=review)
        sue = make_senior("sue")
        type(alice).objects.filter(pk=alice.pk).update(owner=sue)

        case = assignment.escalate(case.pk, at=review + 1.5 * DAY)
        vacancies.watch(at=review + 1.5 * DAY)

        assert (case.assigned_to, case.escalated_at) == (moderator, review + 1.5 * DAY)
        assert alerts.is_sounding("case_without_senior", str(case.pk))
        assignment.reassign(case.pk, by=moderator, to=make_senior("zoe"), reason=REASON, at=review + 1.6 * DAY)
        vacancies.watch(at=review + 1.6 * DAY)
        assert not alerts.is_sounding("case_without_senior")

    def test_gives_it_to_no_senior_who_stepped_back(self, case_at, make_moderator, make_senior, review):
        sue = make_senior("sue")
        case = assignment.take(case_at("under_review").pk, moderator=sue, at=review)
        ann = make_moderator("ann")
        assignment.recuse(case.pk, moderator=sue, reason=REASON, at=review)

        assert assignment.escalate(case.pk, at=review + 1.5 * DAY).assigned_to == ann


class TestReleaseUnfit:
    @pytest.fixture
    def case(self, case_at, moderator, review):
        return assignment.take(case_at("under_review").pk, moderator=moderator, at=review)

    @pytest.mark.parametrize("loss", ["active", "staff", "permission"])
    def test_gives_on_the_case_of_who_cannot_act_any_more(self, case, moderator, make_moderator, loss):
        max_ = make_moderator("max")
        match loss:
            case "permission":
                moderator.groups.clear()
            case _:
                User.objects.filter(pk=moderator.pk).update(**{f"is_{loss}": False})

        assert assignment.release_unfit() == 1

        row = Assignment.objects.latest("pk")
        assert holder(case) == max_
        assert (row.to, row.by, row.how) == (max_, None, "released")
        assert assignment.release_unfit() == 0

    def test_leaves_it_to_nobody_until_somebody_is_fit(self, case, moderator, make_moderator):
        User.objects.filter(pk=moderator.pk).update(is_active=False)

        assignment.release_unfit()
        assert holder(case) is None
        max_ = make_moderator("max")
        tasks.assign_cases()

        assert holder(case) == max_

    def test_takes_nothing_from_who_can(self, case, moderator):
        assert assignment.release_unfit() == 0
        assert holder(case) == moderator

    def test_takes_an_appeal_from_who_hears_none_any_more(self, appealed, make_senior, noon):
        sue, zoe = make_senior("sue"), make_senior("zoe")
        assignment.take(appealed.pk, moderator=sue, at=noon + 4 * DAY)
        sue.groups.remove(Group.objects.get(name="Senior moderators"))

        assert assignment.release_unfit() == 1
        assert holder(appealed) == zoe


class TestVacancies:
    def test_sound_after_an_hour_under_review_until_somebody_has_it(self, case_at, make_moderator, review):
        case = case_at("under_review")

        vacancies.watch(at=review + 0.99 * HOUR)
        assert not alerts.is_sounding("case_unassigned")
        vacancies.watch(at=review + HOUR)
        assert alerts.is_sounding("case_unassigned", str(case.pk))

        assignment.take(case.pk, moderator=make_moderator("mona"), at=review + HOUR)
        vacancies.watch(at=review + HOUR)
        assert not alerts.is_sounding("case_unassigned")

    def test_sound_an_hour_after_an_appeal(self, appealed, noon):
        vacancies.watch(at=noon + 4 * DAY + 0.99 * HOUR)
        assert not alerts.is_sounding("case_unassigned")

        vacancies.watch(at=noon + 4 * DAY + HOUR)
        assert alerts.is_sounding("case_unassigned", str(appealed.pk))

    def test_do_not_sound_for_cases_that_need_nobody(self, case_at, job_at, noon):
        for state in ("awaiting_answer", "evidence", "settled"):
            case_at(state, job=job_at())

        vacancies.watch(at=noon + 9 * DAY)

        assert not alerts.is_sounding("case_unassigned")


class TestRequireFit:
    """What every verb of staff asks; the verbs' own tests show that they do."""

    @pytest.mark.parametrize(
        ("asked", "has"),
        [
            ({}, ["rule"]),
            ({"senior": True}, ["hear_appeals"]),
            ({"second": True}, ["approve"]),
            ({"senior": True, "second": True}, ["approve", "hear_appeals"]),
        ],
    )
    def test_asks_for_exactly_these_permissions(self, case_at, asked, has):
        case = case_at("under_review")
        every = ["rule", "approve", "hear_appeals"]

        assignment.require_fit(person_with(has), case, **asked)
        for missing in has:
            with pytest.raises(NotAllowed):
                assignment.require_fit(person_with(set(every) - {missing}), case, **asked)

    def test_lets_a_second_person_speak_about_a_colleagues_case(self, case_at, moderator, make_senior, review):
        case = assignment.take(case_at("under_review").pk, moderator=moderator, at=review)
        sue = make_senior("sue")

        with pytest.raises(assignment.AssignedToAnother):
            assignment.require_fit(sue, case)
        assignment.require_fit(sue, case, second=True)

    @pytest.mark.parametrize("asked", [{}, {"senior": True}, {"second": True}])
    def test_refuses_a_stake_whatever_the_verb(self, case_at, alice, make_senior, asked):
        case, sue = case_at("under_review"), make_senior("sue")
        case.client.owner = sue

        with pytest.raises(conflicts.ConflictOfInterest):
            assignment.require_fit(sue, case, **asked)

    def test_refuses_who_left(self, case_at, make_moderator):
        gone = make_moderator("max", is_active=False)

        with pytest.raises(NotAllowed):
            assignment.require_fit(gone, case_at("under_review"))


def person_with(codenames):
    person = User.objects.create_user(f"p{User.objects.count()}", is_staff=True)
    person.user_permissions.set(Permission.objects.filter(content_type__app_label="disputes", codename__in=codenames))
    return User.objects.get(pk=person.pk)
