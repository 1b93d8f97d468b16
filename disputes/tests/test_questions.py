"""Questions of moderators: who may ask and answer, and what the clocks do meanwhile."""

from datetime import timedelta

import pytest

from accounts import clock, ids
from accounts.errors import DomainError, Invalid, NotAllowed, NotFound
from accounts.models import Event
from disputes import arbitration, cases, evidence, lifecycle, questions
from disputes.models import Dispute, DisputeTransition, Question
from disputes.tests.conftest import DAY, HOUR, ruled
from marketplace.models import Job

pytestmark = pytest.mark.django_db
ASKED = "Which chapters did the first delivery hold?"
TEXT = evidence.from_text("See the attached list.")


@pytest.fixture
def review(noon):
    """The moment at which `case_at("under_review")` came under review; the ruling is due three days later."""
    return noon + HOUR + 2 * DAY


@pytest.fixture
def case(case_at) -> Dispute:
    return case_at("under_review")


@pytest.fixture
def ask(case, moderator, review):
    def ask(to="seller", *, at=review + DAY, text=ASKED, by=moderator, revision=None) -> Question:
        revision = revision or Dispute.objects.get(pk=case.pk).revision
        return questions.ask(case.pk, moderator=by, to=to, text=text, revision=revision, at=at)

    return ask


def now(case) -> Dispute:
    return Dispute.objects.get(pk=case.pk)


class TestAsk:
    def test_stops_the_clock_of_the_ruling_and_tells_both_sides(self, case, ask, alice, bob, review):
        question = ask()

        stopped = now(case)
        assert (question.number, question.to, question.answer_by) == (1, "seller", review + 3 * DAY)
        assert stopped.clock_stopped_at == review + DAY
        assert stopped.deadline_at == review + 5 * DAY  # two days of the question, two that were left
        assert stopped.remind_at == review + 3 * DAY
        told = Event.objects.filter(type="dispute.question", data__to="seller")
        assert {event.recipient_id for event in told} == {alice.id, bob.id}
        assert {event.data["question_id"] for event in told} == {str(question.id)}
        assert ASKED not in str([event.data for event in Event.objects.all()])

    def test_shows_the_job_who_is_awaited_and_until_when(self, case, ask, review):
        ask("client")
        job = Job.objects.get(pk=case.job_id)
        assert (job.awaiting, job.deadline_at) == ("client", review + 5 * DAY)

        ask("seller")
        assert Job.objects.get(pk=case.job_id).awaiting is None

    def test_makes_an_unassigned_case_ones_own(self, case, ask, moderator):
        assert case.assigned_to_id is None

        ask()

        assert now(case).assigned_to == moderator

    def test_is_refused_to_another_than_the_assigned_moderator(self, case, ask, moderator, make_moderator):
        ask()

        with pytest.raises(DomainError) as refusal:
            ask("client", by=make_moderator("max"))

        assert refusal.value.code == "assigned_to_another"
        assert Question.objects.count() == 1

    def test_is_refused_to_whoever_has_a_stake_in_the_case(self, case, ask, moderator, alice):
        type(alice).objects.filter(pk=alice.pk).update(owner=moderator)

        with pytest.raises(DomainError) as refusal:
            ask()

        assert refusal.value.code == "conflict_of_interest"
        assert not Question.objects.exists()

    def test_is_refused_on_the_third_question_to_a_side(self, case, ask, bob, review):
        for _ in range(2):
            question = ask()
            questions.answer(case.pk, by=bob, question_id=question.id, text="The first three.", at=review + DAY)
        before = now(case)

        with pytest.raises(questions.QuestionsUsedUp):
            ask()

        assert (now(case).revision, now(case).clock_stopped_at) == (before.revision, None)
        assert Question.objects.count() == 2
        assert ask("client").number == 3

    @pytest.mark.parametrize("text", ["too short", " " * 30, "x" * 2_001])
    def test_is_refused_in_too_few_or_too_many_words(self, case, ask, text):
        with pytest.raises(Invalid):
            ask(text=text)

        assert not Question.objects.exists()

    def test_is_refused_to_nobody(self, ask):
        with pytest.raises(Invalid):
            ask("moderator")

    def test_is_refused_to_whoever_read_an_older_case(self, case, ask, review):
        with pytest.raises(arbitration.CaseChanged):
            ask(revision=case.revision - 1)

        assert now(case).clock_stopped_at is None

    @pytest.mark.parametrize("state", ["awaiting_answer", "evidence", "ruled", "final", "settled", "withdrawn"])
    def test_is_refused_when_the_case_is_not_under_review(self, case_at, moderator, noon, state):
        case = case_at(state)

        with pytest.raises(lifecycle.TransitionNotAllowed):
            questions.ask(
                case.pk, moderator=moderator, to="client", text=ASKED, revision=case.revision, at=noon + 2 * DAY
            )

    def test_is_refused_once_the_time_for_the_ruling_is_over(self, case, ask, review):
        with pytest.raises(lifecycle.TransitionNotAllowed):
            ask(at=review + 3 * DAY)

        assert ask(at=review + 3 * DAY - timedelta(microseconds=1))

    def test_takes_its_window_from_the_row_and_never_passes_the_last_day(self, case, ask, settings, noon):
        settings.DISPUTE_QUESTION_SECONDS = 60
        Dispute.objects.filter(pk=case.pk).update(hard_stop_at=noon + 4 * DAY, deadline_at=noon + 4 * DAY)

        question = ask(at=noon + 3 * DAY)

        assert question.answer_by == noon + 4 * DAY
        assert now(case).deadline_at == noon + 4 * DAY

    def test_makes_hidden_characters_visible(self, case, ask):
        assert ask(text="Which chapters\u202e did you get?").text == "Which chapters\\u{202E} did you get?"

    def test_keeps_the_case_from_being_ruled(self, case, ask, moderator, review):
        ask()

        with pytest.raises(lifecycle.TransitionNotAllowed):
            ruled(now(case), moderator, at=review + 2 * DAY)


class TestAnswer:
    def test_lets_the_clock_go_on_from_that_moment(self, case, ask, bob, review):
        question = ask()

        questions.answer(case.pk, by=bob, question_id=question.id, text="The first three.", at=review + 1.25 * DAY)

        case = now(case)
        question.refresh_from_db()
        assert (question.answer, question.answered_at) == ("The first three.", review + 1.25 * DAY)
        assert case.clock_stopped_at is None
        assert case.deadline_at == case.rule_by == review + 3.25 * DAY
        assert Job.objects.get(pk=case.job_id).deadline_at == review + 3.25 * DAY
        assert Job.objects.get(pk=case.job_id).awaiting == "moderator"

    def test_waits_for_the_other_side_if_it_was_asked_too(self, case, ask, alice, bob, review):
        first, second = ask("seller"), ask("client", at=review + 1.5 * DAY)

        questions.answer(case.pk, by=bob, question_id=first.id, text="Three.", at=review + 2 * DAY)
        assert now(case).clock_stopped_at == review + DAY
        assert Job.objects.get(pk=case.job_id).awaiting == "client"
        questions.answer(case.pk, by=alice, question_id=second.id, text="Three.", at=review + 2.5 * DAY)

        assert now(case).rule_by == review + 4.5 * DAY

    def test_one_of_two_keeps_the_side_answering(self, case, ask, bob, review):
        first, second = ask(), ask(at=review + 1.5 * DAY)

        questions.answer(case.pk, by=bob, question_id=second.id, text="Three.", at=review + 2 * DAY)

        assert now(case).question_to_seller_by == first.answer_by == review + 3 * DAY

    def test_after_the_others_time_was_over_but_not_swept_counts_to_this_moment(self, case, ask, alice, bob, review):
        ask("client", at=review + DAY)
        second = ask("seller", at=review + 2 * DAY)

        questions.answer(case.pk, by=bob, question_id=second.id, text="Three.", at=review + 3.5 * DAY)

        assert now(case).clock_stopped_at is None
        assert now(case).rule_by == review + 3 * DAY + 2.5 * DAY
        assert DisputeTransition.objects.filter(dispute=case, action="question_lapses").count() == 1

    def test_is_refused_twice(self, case, ask, bob, review):
        question, _ = ask(), ask()
        said = {"by": bob, "question_id": question.id, "at": review + DAY}
        questions.answer(case.pk, text="The first three.", **said)

        with pytest.raises(questions.QuestionClosed):
            questions.answer(case.pk, text="No, all twelve.", **said)

        question.refresh_from_db()
        assert question.answer == "The first three."

    def test_is_refused_at_the_very_moment_the_time_is_over(self, case, ask, bob, review):
        question = ask()
        late = {"by": bob, "question_id": question.id, "text": "Three.", "at": question.answer_by}

        with pytest.raises(lifecycle.TransitionNotAllowed):
            questions.answer(case.pk, **late)

        question.refresh_from_db()
        assert question.answer is None

    def test_to_the_earlier_of_two_is_refused_when_its_own_time_is_over(self, case, ask, bob, review):
        first, _ = ask(), ask(at=review + 2 * DAY)

        with pytest.raises(questions.QuestionClosed):
            questions.answer(case.pk, by=bob, question_id=first.id, text="Three.", at=first.answer_by)

    def test_is_not_the_other_sides(self, case, ask, alice, bob, review):
        to_bob, _ = ask("seller"), ask("client")

        with pytest.raises(NotAllowed):
            questions.answer(case.pk, by=alice, question_id=to_bob.id, text="Three.", at=review + DAY)

        to_bob.refresh_from_db()
        assert to_bob.answer is None

    def test_is_not_a_strangers(self, case, ask, carol, review):
        question = ask()

        with pytest.raises(NotFound, match="There is no such case"):
            questions.answer(case.pk, by=carol, question_id=question.id, text="Three.", at=review + DAY)

    def test_to_an_unknown_question_is_refused(self, case, ask, bob, review):
        ask()

        with pytest.raises(NotFound):
            questions.answer(case.pk, by=bob, question_id=ids.uuid7(), text="Three.", at=review + DAY)

    def test_to_the_question_of_another_case_is_refused(self, case, case_at, ask, moderator, bob, review):
        ask()
        other = case_at("under_review")
        foreign = questions.ask(
            other.pk, moderator=moderator, to="seller", text=ASKED, revision=other.revision, at=review + DAY
        )

        with pytest.raises(NotFound):
            questions.answer(case.pk, by=bob, question_id=foreign.id, text="Three.", at=review + DAY)

    def test_of_nothing_is_refused(self, case, ask, bob, review):
        question = ask()

        with pytest.raises(Invalid):
            questions.answer(case.pk, by=bob, question_id=question.id, text=" \n ", at=review + DAY)

    def test_is_refused_once_the_case_was_withdrawn(self, case, ask, alice, bob, review):
        question = ask()
        cases.withdraw(case.pk, by=alice, at=review + DAY)
        cases.withdraw(case.pk, by=bob, at=review + DAY)

        with pytest.raises(lifecycle.TransitionNotAllowed):
            questions.answer(case.pk, by=bob, question_id=question.id, text="Three.", at=review + DAY)


class TestEvidenceMeanwhile:
    def test_is_open_to_the_side_that_is_asked_alone(self, case, ask, alice, bob, review):
        with pytest.raises(lifecycle.TransitionNotAllowed):
            evidence.submit(case.pk, by=bob, item=TEXT, at=review + DAY)
        question = ask("seller")

        evidence.submit(case.pk, by=bob, item=TEXT, at=review + DAY)
        with pytest.raises(lifecycle.TransitionNotAllowed):
            evidence.submit(case.pk, by=alice, item=TEXT, at=review + DAY)
        questions.answer(case.pk, by=bob, question_id=question.id, text="Three.", at=review + 2 * DAY)
        with pytest.raises(lifecycle.TransitionNotAllowed):
            evidence.submit(case.pk, by=bob, item=TEXT, at=review + 2 * DAY)

        assert case.evidence.count() == 1

    def test_is_closed_at_the_very_moment_the_time_is_over(self, case, ask, bob, review):
        question = ask("seller")

        with pytest.raises(lifecycle.TransitionNotAllowed):
            evidence.submit(case.pk, by=bob, item=TEXT, at=question.answer_by)


class TestLapse:
    def test_lets_the_clock_go_on_from_when_the_time_was_over(self, case, ask, review):
        ask()

        questions.lapse(case.pk, at=review + 4 * DAY)

        case = now(case)
        assert case.clock_stopped_at is None
        assert case.deadline_at == review + 5 * DAY
        assert Job.objects.get(pk=case.job_id).awaiting == "moderator"

    def test_is_refused_before(self, case, ask, review):
        question = ask()

        with pytest.raises(lifecycle.TransitionNotAllowed):
            questions.lapse(case.pk, at=question.answer_by - timedelta(microseconds=1))

        assert now(case).clock_stopped_at == review + DAY

    def test_of_one_side_leaves_the_others_question_open(self, case, ask, review):
        ask("seller"), ask("client", at=review + 2 * DAY)

        questions.lapse(case.pk, at=review + 3 * DAY)

        case = now(case)
        assert (case.question_to_seller_by, case.question_to_client_by) == (None, review + 4 * DAY)
        assert case.clock_stopped_at == review + DAY
        questions.lapse(case.pk, at=review + 4 * DAY)
        assert now(case).rule_by == review + 6 * DAY

    def test_unswept_is_done_before_the_next_question(self, case, ask, review):
        ask("seller", at=review + DAY)

        ask("client", at=review + 4 * DAY)

        case = now(case)
        assert case.clock_stopped_at == review + 4 * DAY
        assert case.rule_by == review + 5 * DAY
        assert case.deadline_at == review + 7 * DAY
        assert case.question_to_seller_by is None


@pytest.mark.django_db(transaction=True)
class TestAtOnce:
    @pytest.fixture
    def noon(self):
        return clock.now() - 3 * DAY

    def test_of_ten_answers_to_a_question_one_is_kept(self, case, ask, bob, race):
        question = ask(at=None)
        answers = [
            lambda number=number: questions.answer(case.pk, by=bob, question_id=question.id, text=f"Answer {number}.")
            for number in range(10)
        ]

        outcomes = race(*answers)

        refused = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        assert all(isinstance(error, DomainError) for error in refused), refused
        assert len(refused) == 9
        assert DisputeTransition.objects.filter(dispute=case, action="answer_question").count() == 1

    def test_of_ten_questions_to_a_side_by_one_page_one_is_asked(self, case, moderator, race):
        def ask():
            return questions.ask(case.pk, moderator=moderator, to="seller", text=ASKED, revision=case.revision)

        outcomes = race(*[ask] * 10)

        assert sum(isinstance(outcome, Question) for outcome in outcomes) == 1
        assert Question.objects.count() == 1
