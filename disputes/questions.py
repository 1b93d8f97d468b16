"""What a moderator asks a side. The clock of the ruling stops until it has answered, or its time is over."""

from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction

from accounts import text as texts
from accounts.errors import DomainError, Invalid, NotAllowed, NotFound
from accounts.models import Agent, User
from disputes import arbitration, assignment, cases, clocks, lifecycle, table
from disputes.lifecycle import Action, Who
from disputes.models import Dispute, Party, Question

MOST_A_SIDE = 2
TEXT_CHARS = (20, 2_000)
ANSWER_CHARS = (1, 20_000)


class QuestionsUsedUp(DomainError):
    code = "questions_used_up"
    title = "This side was asked all the questions it may be asked"


class QuestionClosed(DomainError):
    code = "question_closed"
    title = "This question takes no answer any more"


@transaction.atomic
def ask(
    dispute_id: UUID, *, moderator: User, to: str, text: str, revision: int, at: datetime | None = None
) -> Question:
    """
    Ask a side (`to`: client or seller) something, at most twice in the case; evidence is open for it meanwhile.

    `revision` is that of the case the moderator read.

    :raises lifecycle.TransitionNotAllowed: unless it is under review, with time left
    :raises arbitration.CaseChanged: if the case moved on since
    :raises Invalid: for text of less than 20 or more than 2,000 characters, or no such side
    :raises NotAllowed: without the permission to rule; :raises assignment.AssignedToAnother: if a colleague has it
    :raises conflicts.ConflictOfInterest: if the moderator has a stake in it
    :raises QuestionsUsedUp: on the third question to a side
    """
    dispute = lifecycle.lock(dispute_id)
    at = lifecycle.moment(at)
    lifecycle.rule_for(dispute, Action.ASK, Who.MODERATOR, at)
    assignment.require_fit(moderator, dispute)
    if revision != dispute.revision:
        raise arbitration.CaseChanged("Read the case again, then ask.", revision=dispute.revision)
    question = _question(dispute, moderator, to, texts.visible(text), at)
    _lapse_if_due(dispute, at)
    if dispute.assigned_to_id is None:
        assignment.take_locked(dispute, moderator=moderator, at=at)
    note = f"question {question.number} to the {to}"
    lifecycle.advance(dispute, Action.ASK, by=Who.MODERATOR, at=at, user=moderator, note=note)
    question.save(force_insert=True)
    clocks.stop_for_question(dispute, to, at=at, answer_by=question.answer_by)
    _show(dispute)
    answer_by = question.answer_by.isoformat().replace("+00:00", "Z")
    cases.tell("dispute.question", dispute, at, to=to, question_id=str(question.id), answer_by=answer_by)
    return question


@transaction.atomic
def answer(dispute_id: UUID, *, by: Agent, question_id: UUID, text: str, at: datetime | None = None) -> Dispute:
    """
    Answer a question, once; the clock of the ruling goes on when none is left open.

    :raises lifecycle.TransitionNotAllowed: if no question to this side is open
    :raises NotFound: for a stranger, and for a question that this case has not
    :raises NotAllowed: for a question to the other side
    :raises QuestionClosed: if this one was answered, or its time is over
    """
    dispute = lifecycle.lock(dispute_id)
    who, at = lifecycle.who_of(by, dispute), lifecycle.moment(at)
    lifecycle.rule_for(dispute, Action.ANSWER_QUESTION, who, at)
    question = _open_question(dispute, question_id, lifecycle.role_named(dispute, who), at)
    _require_length(text, "/text", ANSWER_CHARS)
    _lapse_if_due(dispute, at)
    lifecycle.advance(dispute, Action.ANSWER_QUESTION, by=who, at=at, note=f"question {question.number}")
    question.answer, question.answered_at = text, at
    question.save(update_fields=["answer", "answered_at"])
    _end_what_is_over(dispute, at)
    _show(dispute)
    told = {"to": str(question.to), "question_id": str(question.id)}
    cases.tell("dispute.question_answered", dispute, at, **told)
    return dispute


@transaction.atomic
def lapse(dispute_id: UUID, *, at: datetime | None = None) -> Dispute:
    """
    Let the clock go on because the time for an answer is over.

    :raises lifecycle.TransitionNotAllowed: unless it is
    """
    dispute = lifecycle.lock(dispute_id)
    _lapse(dispute, lifecycle.moment(at))
    return dispute


def _lapse(dispute: Dispute, at: datetime) -> None:
    lifecycle.advance(dispute, Action.QUESTION_LAPSES, by=Who.SYSTEM, at=at)
    _end_what_is_over(dispute, at)
    _show(dispute)


def _lapse_if_due(dispute: Dispute, at: datetime) -> None:
    """Do what the sweep has not come to yet: a question that is over must not keep the clock until the next one."""
    if dispute.clock_stopped_at and dispute.remind_at and not dispute.stands_since and at >= dispute.remind_at:
        _lapse(dispute, at)


def _question(dispute: Dispute, moderator: User, to: str, text: str, at: datetime) -> Question:
    if to not in Party.values:
        raise Invalid.at("/to", "invalid_choice", "A question goes to the client or to the seller.")
    _require_length(text, "/text", TEXT_CHARS)
    asked = list(Question.objects.filter(dispute=dispute).values_list("to", flat=True))
    if asked.count(to) >= MOST_A_SIDE:
        raise QuestionsUsedUp(f"A side is asked at most {MOST_A_SIDE} times in a case.", limit=MOST_A_SIDE)
    return Question(
        dispute=dispute,
        number=len(asked) + 1,
        to=to,
        text=text,
        asked_by=moderator,
        asked_at=at,
        answer_by=min(at + timedelta(seconds=dispute.question_seconds), dispute.hard_stop_at),
    )


def _open_question(dispute: Dispute, question_id: UUID, role: str, at: datetime) -> Question:
    question = Question.objects.filter(dispute=dispute, pk=question_id).first()
    if question is None:
        raise NotFound("There is no such question.")
    if question.to != role:
        raise NotAllowed(f"This question is to the {question.to}.")
    if question.answered_at is not None or table.judged_at(dispute, at) >= question.answer_by:
        raise QuestionClosed
    return question


def _require_length(text: str, pointer: str, bounds: tuple[int, int]) -> None:
    shortest, longest = bounds
    if not shortest <= len(text.strip()) or len(text) > longest:
        raise Invalid.at(pointer, "length", f"This takes {shortest:,} to {longest:,} characters.")


def _end_what_is_over(dispute: Dispute, at: datetime) -> None:
    """
    End the questions that were answered or whose time is over; the clock goes on from the moment the last one ended.

    All sides are looked at: the end of one may come before the sweep has seen that the other's time was over.
    """
    asked = list(Question.objects.filter(dispute=dispute, asked_at__gte=dispute.clock_stopped_at))
    ended_at = max(question.answered_at or question.answer_by for question in asked)
    at = table.judged_at(dispute, at)
    for side in Party.values:
        open_until = [q.answer_by for q in asked if q.to == side and q.answered_at is None and q.answer_by > at]
        clocks.end_question(dispute, side, at=ended_at, open_until=max(open_until, default=None))


def _show(dispute: Dispute) -> None:
    dispute.save(update_fields=clocks.COLUMNS)
    cases.show_clock(dispute)
