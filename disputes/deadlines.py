"""
What silence does to a case: the sweep that finds the cases for which something is due and takes the step that was
announced, be it the end of a state or what comes before it.

The row is the queue (accounts/sweeps.py). Whoever holds a case's lock is at work on it, so it is skipped.
"""

from datetime import datetime
from uuid import UUID

from django.db import transaction

from accounts import clockwork, sweeps
from accounts.errors import NotFound
from disputes import appeals, approvals, arbitration, assignment, cases, lifecycle, questions
from disputes.lifecycle import Action, Who
from disputes.models import Dispute
from marketplace import incidents


def enforce_due(*, limit: int = 1_000) -> int:
    """Take the due step of every case that has one; return how many were taken."""
    incidents.seen("worker")
    return sweeps.run(SWEEP, limit=limit) if incidents.may_fire() else 0


@transaction.atomic(savepoint=False)
def enforce(dispute_id: UUID, *, at: datetime | None = None) -> Dispute | None:
    """
    Take the step that is due in a case, if one is.

    Answers None where another transaction is at work on the case or was faster, or where clocks stand still.
    """
    try:
        dispute = lifecycle.lock(dispute_id, skip_locked=True)
    except NotFound:
        return None
    at = lifecycle.moment(at)
    if dispute.stands_since or dispute.due_at is None or at < dispute.due_at:
        return None
    match lifecycle.due_action(dispute, at):
        case Action.GO_UNANSWERED:
            lifecycle.advance(dispute, Action.GO_UNANSWERED, by=Who.SYSTEM, at=at, unanswered=True)
            cases.show_clock(dispute)
        case Action.CLOSE_EVIDENCE:
            lifecycle.advance(dispute, Action.CLOSE_EVIDENCE, by=Who.SYSTEM, at=at)
            cases.show_clock(dispute)
        case Action.QUESTION_LAPSES:
            return questions.lapse(dispute.pk, at=at)
        case Action.ESCALATE:
            return assignment.escalate(dispute.pk, at=at)
        case Action.ASK_SENIOR:
            return approvals.ask_senior(dispute.pk, at=at)
        case Action.RULE_BY_DEFAULT:
            return arbitration.rule_by_default(dispute.pk, at=at)
        case Action.FINALISE:
            return arbitration.finalise(dispute.pk, at=at)
        case Action.APPEAL_LAPSES:
            return appeals.lapse(dispute.pk, at=at)
        case Action.HARD_STOP:
            return arbitration.stop_hard(dispute.pk, at=at)
    return dispute


SWEEP = sweeps.Sweep(noun="case", table="disputes_dispute", failures="due_attempts", act=enforce)


def waiting() -> tuple[int, datetime | None]:
    """Count what is due, and say since when the oldest is; while clocks stand still nothing is."""
    return _due() if incidents.standing_since() is None else (0, None)


_due = clockwork.of_sweeps(SWEEP)
