"""What outages make of the clocks of cases, of those that questions stop, and of the jobs that show them."""

import threading
import time
from datetime import timedelta

import pytest
from django.db import connection, transaction

from accounts.models import Event
from disputes import cases, deadlines, lifecycle, questions
from disputes import standstills as cases_standstills
from disputes.lifecycle import TransitionNotAllowed
from disputes.models import Dispute, Question
from disputes.standstills import CaseMover
from disputes.tests.conftest import STATEMENT
from marketplace import incidents, locking, standstills
from marketplace.models import Job
from marketplace.tests.outages import move_all

pytestmark = pytest.mark.django_db

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
TEXT = "Which chapters hold a table of figures?"
COLUMNS = {
    "awaiting_answer": "answer_by",
    "evidence": "evidence_by",
    "under_review": "rule_by",
    "awaiting_approval": "approve_by",
    "ruled": "appeal_by",
    "appealed": "hear_appeal_by",
}


def outage(since, *, until):
    incidents.end(incidents.start(reason="x", at=since).pk, at=until)


def fresh(case):
    """Read the case and its job again; the job shows the clock of its case."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    found, job = Dispute.objects.get(pk=case.pk), Job.objects.get(pk=case.job_id)
    if found.closed_at is None:
        assert job.deadline_at == found.deadline_at
    return found


def asked(case, moderator, at, to="seller"):
    case = Dispute.objects.get(pk=case.pk)
    return questions.ask(case.pk, moderator=moderator, to=to, text=TEXT, revision=case.revision, at=at)


class TestEveryState:
    @pytest.mark.parametrize("state", COLUMNS)
    def test_is_later_by_the_outage(self, case_at, state, noon):
        before = fresh(case_at(state))
        shown = Job.objects.get(pk=before.job_id)
        at = noon + 5 * DAY - HOUR if state in ("ruled", "appealed") else before.deadline_at - 2 * HOUR
        outage(at, until=at + HOUR)

        move_all()

        case = fresh(before)
        assert case.deadline_at == before.deadline_at + HOUR
        assert getattr(case, COLUMNS[state]) == getattr(before, COLUMNS[state]) + HOUR
        assert case.hard_stop_at == before.hard_stop_at + HOUR
        if state == "appealed":
            assert case.appeal.decide_by == case.hear_appeal_by
        job = Job.objects.get(pk=case.job_id)
        if shown.near_at > at:
            assert job.near_at == shown.near_at + HOUR

    @pytest.mark.parametrize("state", COLUMNS)
    def test_is_moved_by_whoever_locks_it(self, case_at, state, noon):
        before = fresh(case_at(state))
        at = before.deadline_at - 2 * HOUR
        outage(at, until=at + HOUR)

        assert lifecycle.lock(before.pk).deadline_at == before.deadline_at + HOUR
        assert fresh(before).standstill == 1
        move_all()
        assert fresh(before).deadline_at == before.deadline_at + HOUR

    def test_that_was_over_before_is_not_saved(self, case_at, noon):
        before = case_at("awaiting_answer")
        outage(before.deadline_at, until=before.deadline_at + HOUR)

        move_all()

        assert fresh(before).deadline_at == before.deadline_at

    def test_is_later_by_the_rest_where_it_began_meanwhile(self, case_at, alice, bob, noon):
        before = case_at("awaiting_answer")
        incident = incidents.start(reason="x", at=noon + HOUR)
        said = {"statement": STATEMENT, "requested_seller_bps": 10_000}
        answered = cases.answer(before.pk, by=bob, at=noon + 3 * HOUR, **said)
        incidents.end(incident.pk, at=noon + 4 * HOUR)

        move_all()

        case = fresh(before)
        assert case.evidence_by == answered.evidence_by + HOUR
        assert case.answer_by == before.answer_by
        assert case.hard_stop_at == before.hard_stop_at + 3 * HOUR

    def test_tells_both_parties_of_the_case_once(self, case_at, alice, bob, noon):
        case = case_at("awaiting_answer")
        outage(noon + HOUR, until=noon + 2 * HOUR)

        move_all()
        lifecycle.lock(case.pk)

        told = Event.objects.filter(type="incident.ended")
        assert sorted(one.recipient_id for one in told) == sorted([alice.pk, bob.pk])
        assert told[0].data["dispute_id"] == str(case.pk)
        assert told[0].data["moved_seconds"] == 3_600
        assert told[0].data["deadline"]["at"] == "2026-11-24T13:00:00Z"


class TestQuestions:
    def test_leave_what_was_left_of_the_ruling(self, case_at, moderator, bob, noon):
        """A question is open during the outage: its time is later, the ruling's was not running."""
        case = case_at("under_review")
        began = case.entered_review_at
        question = asked(case, moderator, began + HOUR)
        outage(began + 2 * HOUR, until=began + 5 * HOUR)
        move_all()

        case = fresh(case)
        later = Question.objects.get().answer_by
        assert later == case.question_to_seller_by == question.answer_by + 3 * HOUR
        questions.answer(case.pk, by=bob, question_id=question.id, text="All of them.", at=began + 10 * HOUR)

        assert fresh(case).rule_by == began + 3 * DAY + 9 * HOUR
        assert fresh(case).deadline_at == began + 3 * DAY + 9 * HOUR

    def test_asked_and_answered_meanwhile_count_once(self, case_at, moderator, bob, noon):
        case = case_at("under_review")
        began = case.entered_review_at
        incident = incidents.start(reason="x", at=began + HOUR)
        question = asked(case, moderator, began + 2 * HOUR)
        questions.answer(case.pk, by=bob, question_id=question.id, text="All of them.", at=began + 3 * HOUR)
        incidents.end(incident.pk, at=began + 5 * HOUR)

        move_all()

        assert fresh(case).rule_by == began + 3 * DAY + 4 * HOUR

    def test_asked_before_and_answered_meanwhile_count_up_to_the_outage(self, case_at, moderator, bob, noon):
        case = case_at("under_review")
        began = case.entered_review_at
        question = asked(case, moderator, began + HOUR)
        incident = incidents.start(reason="x", at=began + 2 * HOUR)
        questions.answer(case.pk, by=bob, question_id=question.id, text="All of them.", at=began + 3 * HOUR)
        incidents.end(incident.pk, at=began + 5 * HOUR)

        move_all()

        assert fresh(case).rule_by == began + 3 * DAY + HOUR + 3 * HOUR

    def test_asked_meanwhile_stop_what_was_left_when_the_outage_began(self, case_at, moderator, bob, noon):
        case = case_at("under_review")
        began = case.entered_review_at
        incident = incidents.start(reason="x", at=began + HOUR)
        question = asked(case, moderator, began + 2 * HOUR)
        incidents.end(incident.pk, at=began + 5 * HOUR)
        move_all()

        case = fresh(case)
        assert case.question_to_seller_by == question.answer_by + 3 * HOUR
        assert case.deadline_at == began + 4 * HOUR + 3 * DAY + 2 * DAY
        questions.answer(case.pk, by=bob, question_id=question.id, text="All of them.", at=began + 6 * HOUR)
        assert fresh(case).rule_by == began + 3 * DAY + 5 * HOUR

    def test_whose_time_was_over_before_stop_the_ruling_no_longer(self, case_at, moderator, bob, noon):
        case = case_at("under_review")
        began = case.entered_review_at
        question = asked(case, moderator, began + HOUR)
        outage(question.answer_by + HOUR, until=question.answer_by + 3 * HOUR)
        move_all()

        assert Question.objects.get().answer_by == question.answer_by
        deadlines.enforce(case.pk, at=question.answer_by + 3 * HOUR)
        assert fresh(case).rule_by == began + 3 * DAY + 2 * DAY + 2 * HOUR

    def test_that_were_answered_or_lapsed_stay_as_they_were(self, case_at, moderator, bob, noon):
        case = case_at("under_review")
        began = case.entered_review_at
        question = asked(case, moderator, began + HOUR)
        questions.answer(case.pk, by=bob, question_id=question.id, text="All of them.", at=began + 2 * HOUR)
        outage(began + 3 * HOUR, until=began + 4 * HOUR)

        move_all()

        assert Question.objects.get().answer_by == question.answer_by
        assert fresh(case).rule_by == began + 3 * DAY + HOUR + HOUR

    def test_to_both_sides_move_each_by_its_own(self, case_at, moderator, alice, bob, noon):
        case = case_at("under_review")
        began = case.entered_review_at
        first = asked(case, moderator, began + HOUR)
        incident = incidents.start(reason="x", at=began + 2 * HOUR)
        second = asked(case, moderator, began + 3 * HOUR, to="client")
        incidents.end(incident.pk, at=began + 6 * HOUR)
        move_all()

        case = fresh(case)
        assert case.question_to_seller_by == first.answer_by + 4 * HOUR
        assert case.question_to_client_by == second.answer_by + 3 * HOUR
        assert case.remind_at == case.question_to_seller_by
        last = case.question_to_client_by
        assert case.deadline_at == case.rule_by + (last - case.clock_stopped_at)


class TestFrozenJobs:
    """The job was delivered and the case opened at noon: three days for the review are left."""

    def test_get_back_exactly_what_was_left(self, case_at, alice, bob, noon):
        case = case_at("evidence")
        cases.withdraw(case.pk, by=alice, at=noon + 2 * HOUR)
        outage(noon + 3 * HOUR, until=noon + 5 * HOUR)
        move_all()
        cases.withdraw(case.pk, by=bob, at=noon + DAY)

        assert Job.objects.get(pk=case.job_id).deadline_at == noon + DAY + 3 * DAY

    def test_get_back_what_was_left_while_it_lasts(self, case_at, alice, bob, noon):
        case = case_at("evidence")
        cases.withdraw(case.pk, by=alice, at=noon + 2 * HOUR)
        incident = incidents.start(reason="x", at=noon + 3 * HOUR)
        cases.withdraw(case.pk, by=bob, at=noon + 4 * HOUR)
        incidents.end(incident.pk, at=noon + 6 * HOUR)
        move_all()

        assert Job.objects.get(pk=case.job_id).deadline_at == noon + 6 * HOUR + 3 * DAY

    def test_that_were_frozen_meanwhile_get_back_what_was_left_when_it_began(self, job_at, alice, bob, noon):
        job = job_at("delivered")
        incident = incidents.start(reason="x", at=noon + HOUR)
        said = {"statement": STATEMENT, "reason": "not_as_agreed"}
        case = cases.open(job.pk, opener=alice, requested_seller_bps=0, at=noon + 2 * HOUR, **said)
        cases.answer(case.pk, by=bob, statement=STATEMENT, requested_seller_bps=10_000, at=noon + 3 * HOUR)
        cases.withdraw(case.pk, by=alice, at=noon + 3 * HOUR)
        cases.withdraw(case.pk, by=bob, at=noon + 4 * HOUR)
        incidents.end(incident.pk, at=noon + 6 * HOUR)
        move_all()

        assert Job.objects.get(pk=job.pk).deadline_at == noon + 6 * HOUR + 3 * DAY - HOUR

    def test_are_moved_once_where_one_of_a_batch_was_moved_before(self, case_at, job_at, noon):
        moved, other = case_at("awaiting_answer"), case_at("awaiting_answer")
        outage(noon + HOUR, until=noon + 3 * HOUR)
        with transaction.atomic():
            locking.lock(moved.job_id)
        [shift] = standstills.after(0)

        assert CaseMover().move(shift, limit=10) == 2

        for case in (moved, other):
            assert fresh(case).answer_by == case.answer_by + 2 * HOUR
            assert Job.objects.get(pk=case.job_id).review_by == noon + 3 * DAY + 2 * HOUR

    def test_run_on_under_a_clock_that_is_later(self, case_at, alice, noon):
        case = case_at("awaiting_answer")
        outage(noon + HOUR, until=noon + 3 * HOUR)
        move_all()
        cases.withdraw(case.pk, by=alice, at=noon + DAY)

        job = Job.objects.get(pk=case.job_id)
        assert (job.deadline_at, job.deadline_from) == (noon + 3 * DAY + 2 * HOUR, noon)

    def test_run_on_under_a_clock_that_is_moved_after_they_resumed(self, case_at, alice, noon):
        case = case_at("awaiting_answer")
        incident = incidents.start(reason="x", at=noon + HOUR)
        cases.withdraw(case.pk, by=alice, at=noon + 2 * HOUR)
        incidents.end(incident.pk, at=noon + 3 * HOUR)
        move_all()

        assert Job.objects.get(pk=case.job_id).deadline_at == noon + 3 * DAY + 2 * HOUR

    def test_show_a_clock_that_was_set_anew_as_it_is(self, case_at, alice, bob, noon):
        """The outage is over and nobody moved the job yet: the clock shown is that of the next state."""
        case = case_at("awaiting_answer")
        outage(noon + HOUR, until=noon + 3 * HOUR)
        said = {"statement": STATEMENT, "requested_seller_bps": 10_000}
        cases.answer(case.pk, by=bob, at=noon + 4 * HOUR, **said)
        move_all()

        assert fresh(case).deadline_at == noon + 4 * HOUR + 2 * DAY


class TestWhileItLasts:
    def test_a_party_is_in_time_after_its_clock(self, case_at, bob):
        case = case_at("awaiting_answer")
        incidents.start(reason="x", at=case.deadline_at - HOUR)
        said = {"statement": STATEMENT, "requested_seller_bps": 10_000}

        answered = cases.answer(case.pk, by=bob, at=case.deadline_at + DAY, **said)

        assert answered.state == "evidence"

    def test_a_party_that_was_late_before_stays_late(self, case_at, bob):
        case = case_at("awaiting_answer")
        incidents.start(reason="x", at=case.deadline_at)

        said = {"statement": STATEMENT, "requested_seller_bps": 10_000}
        with pytest.raises(TransitionNotAllowed):
            cases.answer(case.pk, by=bob, at=case.deadline_at + HOUR, **said)

    def test_an_answer_to_a_question_is_in_time(self, case_at, moderator, bob):
        case = case_at("under_review")
        question = asked(case, moderator, case.entered_review_at + HOUR)
        incidents.start(reason="x", at=question.answer_by - HOUR)

        found = questions.answer(
            case.pk, by=bob, question_id=question.id, text="All of them.", at=question.answer_by + DAY
        )

        assert found.clock_stopped_at is None

    @pytest.mark.parametrize("state", COLUMNS)
    def test_no_state_ends_by_itself(self, case_at, state):
        case = case_at(state)
        incidents.start(reason="x", at=case.deadline_at + HOUR)

        assert deadlines.enforce(case.pk, at=case.hard_stop_at + DAY) is None
        assert lifecycle.available(lifecycle.lock(case.pk), lifecycle.Who.SYSTEM, case.hard_stop_at + DAY) in (
            [],
            [lifecycle.Action.ASSIGN],
        )

    def test_a_party_is_shown_what_it_may_do(self, case_at, client_for, bob, noon):
        case = case_at("awaiting_answer")
        Dispute.objects.filter(pk=case.pk).update(deadline_at=noon - DAY, answer_by=noon - DAY)
        seller = client_for(bob)

        def offered():
            shown = seller.get(f"/disputes/{case.pk}").json()
            return {one["action"] for one in shown["available_actions"]}

        assert "answer" not in offered()
        incidents.start(reason="x", since=noon - 2 * DAY)
        assert "answer" in offered()


@pytest.mark.django_db(transaction=True)
def test_a_question_that_is_committed_while_a_batch_is_being_locked_is_moved(race, case_at, moderator, monkeypatch):
    """Asked before the end of the outage, and committed after it: between a statement's snapshot and its lock."""
    case = case_at("under_review")
    began = case.entered_review_at
    incident = incidents.start(reason="x", at=began + HOUR)
    waiting = cases_standstills._BATCH.replace(
        "closed_at IS NULL", "(SELECT pg_sleep(1)) IS NOT NULL AND closed_at IS NULL"
    )
    monkeypatch.setattr(cases_standstills, "_BATCH", waiting)
    is_asked = threading.Event()

    def ask():
        with transaction.atomic():
            question = asked(case, moderator, began + 2 * HOUR)
            is_asked.set()
            time.sleep(1)
        return question

    def move():
        is_asked.wait(10)
        incidents.end(incident.pk, at=began + 5 * HOUR)
        move_all()

    question, _ = race(ask, move)
    move_all()

    later = question.answer_by + 3 * HOUR
    assert (Question.objects.get().answer_by, fresh(case).question_to_seller_by) == (later, later)
