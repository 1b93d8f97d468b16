"""
What silence does to a case: the sweep that finds the cases for which something is due and takes the step that was
announced, be it the end of a state or what comes before it.

The row is the queue. Each case is one transaction; one that somebody is at work on is skipped, one that raises waits a
little and does not stop the others.
"""

import logging
from datetime import datetime
from uuid import UUID

from django.db import connection, transaction

from accounts.errors import NotFound
from disputes import appeals, approvals, arbitration, assignment, cases, lifecycle, questions
from disputes.lifecycle import Action, Who
from disputes.models import Dispute

log = logging.getLogger(__name__)


def enforce_due(*, limit: int = 200) -> int:
    """Take the due step of every case that has one; return how many were taken."""
    return sum(_enforced(dispute_id) for dispute_id in _due(limit))


@transaction.atomic
def enforce(dispute_id: UUID, *, at: datetime | None = None) -> Dispute | None:
    """
    Take the step that is due in a case, if one is.

    Answers None where another transaction is at work on the case or was faster.
    """
    try:
        dispute = lifecycle.lock(dispute_id, skip_locked=True)
    except NotFound:
        return None
    at = lifecycle.moment(at)
    if dispute.due_at is None or at < dispute.due_at:
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


def _due(limit: int) -> list[UUID]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id FROM disputes_dispute"
            " WHERE due_at <= clock_timestamp()"
            "   AND (due_retry_at IS NULL OR due_retry_at <= clock_timestamp())"
            " ORDER BY due_at LIMIT %s",
            [limit],
        )
        return [row[0] for row in cursor.fetchall()]


def _enforced(dispute_id: UUID) -> bool:
    try:
        return enforce(dispute_id) is not None
    except Exception:  # one case that raises must not stop the others
        log.exception("the deadline of case %s could not be enforced", dispute_id)
        _postpone(dispute_id)
        return False


def _postpone(dispute_id: UUID) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE disputes_dispute SET due_attempts = due_attempts + 1,"
            " due_retry_at = clock_timestamp() + make_interval(secs => least(3600, 2 ^ least(20, due_attempts + 1)))"
            " WHERE id = %s",
            [dispute_id],
        )
