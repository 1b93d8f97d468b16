"""
How a standstill that is over moves the clocks of cases: one statement for a case that is locked, and for a batch.

A question stops the clock of the ruling: while both stood still the question's time moves, and what is left of the
ruling's is left as it is. The job shows the clock of its case, so it is moved with it.
"""

from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import BooleanField, DateTimeField, F, Func, Value

from disputes.models import Dispute
from marketplace import jobclocks, standstills
from marketplace.standstills import Shift, moved


class CaseMover:
    """Cases that are open."""

    def move(self, shift: Shift, *, limit: int) -> int:
        # Locked by a statement of its own: what reads their questions then sees those that were asked until the lock.
        with connection.cursor() as cursor:
            cursor.execute(_BATCH, {"number": shift.number, "limit": limit})
            ids = [dispute_id for (dispute_id,) in cursor.fetchall()]
        return _move(shift, _THESE, ids=ids) if ids else 0

    def is_done(self, shift: Shift) -> bool:
        return not Dispute.objects.filter(closed_at=None, standstill__lt=shift.number).exists()


def catch_up(dispute_id: UUID, *, known: int) -> None:
    """Move a locked case by every standstill that is over and later than `known`, and its job with it."""
    for shift in standstills.after(known):
        _move(shift, _THESE, ids=[dispute_id])


def _move(shift: Shift, which: str, **parameters: Any) -> int:
    with connection.cursor() as cursor:
        cursor.execute(_MOVE.format(which=which), standstills.parameters(shift) | parameters)
        rows = cursor.fetchall()
        cursor.execute(_APPEALS, [[dispute_id for dispute_id, *_ in rows]])
    jobclocks.show(shift, {job_id: (old_at, deadline_at) for _, job_id, old_at, deadline_at in rows})
    return len(rows)


_BATCH = """
    SELECT id FROM disputes_dispute WHERE closed_at IS NULL AND standstill < %(number)s
    ORDER BY standstill, id LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED
"""
_THESE = "id = ANY(%(ids)s::uuid[]) AND standstill < %(number)s FOR NO KEY UPDATE"

# The time for a ruling begins once, and runs on while one is proposed; a question stops it until its time is over.
_RULE = """
    CASE WHEN state IN ('under_review', 'awaiting_approval') AND rule_by > %(start)s THEN rule_by + greatest(
        interval '0',
        CASE WHEN greatest(question_to_client_by, question_to_seller_by) > %(start)s
             THEN least(%(end)s, clock_stopped_at) ELSE %(end)s END - greatest(%(start)s, entered_review_at)
    ) ELSE rule_by END
"""
_DEADLINE = f"""
    least(hard, CASE
        WHEN state <> 'under_review' THEN {moved("deadline_at", start="deadline_from")}
        WHEN clock_stopped_at IS NULL THEN rule
        ELSE rule + (greatest(to_client, to_seller) - clock_stopped_at)
    END)
"""
_REMIND = f"""
    CASE WHEN clock_stopped_at IS NOT NULL THEN least(to_client, to_seller)
         WHEN state = 'under_review' THEN {moved("remind_at", start="entered_review_at")}
         ELSE {moved("remind_at", start="deadline_from")} END
"""


def _asked(side: str) -> str:
    return f"""
        (SELECT max(asked_at) FROM disputes_question q
         WHERE q.dispute_id = d.id AND q."to" = '{side}' AND q.answered_at IS NULL)
    """


_MOVE = f"""
    WITH due AS MATERIALIZED (
        SELECT * FROM disputes_dispute WHERE {{which}}
    ), asked AS (
        SELECT d.*, {_asked("client")} AS client_asked, {_asked("seller")} AS seller_asked FROM due d
    ), moving AS (
        SELECT asked.*,
               {moved("hard_stop_at", start="created_at")} AS hard,
               {_RULE} AS rule,
               {moved("question_to_client_by", start="client_asked")} AS to_client,
               {moved("question_to_seller_by", start="seller_asked")} AS to_seller
        FROM asked
    ), timed AS (
        SELECT moving.*, {_DEADLINE} AS deadline, {_REMIND} AS remind FROM moving
    ), questions AS (
        UPDATE disputes_question q SET answer_by = {moved("q.answer_by", start="q.asked_at")}
        FROM due WHERE q.dispute_id = due.id AND q.answered_at IS NULL AND q.answer_by > %(start)s
          AND CASE q."to" WHEN 'client' THEN due.question_to_client_by ELSE due.question_to_seller_by END IS NOT NULL
    ), written AS (
        UPDATE disputes_dispute d SET
            standstill = %(number)s,
            hard_stop_at = timed.hard,
            deadline_at = timed.deadline,
            remind_at = CASE WHEN timed.remind < timed.deadline THEN timed.remind END,
            rule_by = timed.rule,
            question_to_client_by = timed.to_client,
            question_to_seller_by = timed.to_seller,
            answer_by = CASE WHEN d.state = 'awaiting_answer' THEN timed.deadline ELSE d.answer_by END,
            evidence_by = CASE WHEN d.state = 'evidence' THEN timed.deadline ELSE d.evidence_by END,
            approve_by = CASE WHEN d.state = 'awaiting_approval' THEN timed.deadline ELSE d.approve_by END,
            appeal_by = CASE WHEN d.state = 'ruled' THEN timed.deadline ELSE d.appeal_by END,
            hear_appeal_by = CASE WHEN d.state = 'appealed' THEN timed.deadline ELSE d.hear_appeal_by END
        FROM timed WHERE d.id = timed.id
    )
    SELECT id, job_id, deadline_at, deadline FROM timed ORDER BY id
"""
_APPEALS = """
    UPDATE disputes_appeal appeal SET decide_by = dispute.hear_appeal_by
    FROM disputes_dispute dispute
    WHERE dispute.id = ANY(%s::uuid[]) AND appeal.dispute_id = dispute.id AND dispute.state = 'appealed'
      AND appeal.decide_by < dispute.hear_appeal_by
"""


# --- for those who lock a case --------------------------------------------------------------------------------------
def clocks() -> dict[str, Func]:
    """Annotate cases with since when clocks stand still, and whether an outage has not moved them yet."""
    return {
        "stands_since": _clock("stands_since", DateTimeField()),
        "is_behind": _clock("behind", BooleanField()),
    }


def _clock(name: str, field: Any) -> Func:
    return Func(
        F("standstill"),
        Value(standstills.after_seconds()),
        function="marketplace_clocks",
        template=f"(%(function)s(%(expressions)s)).{name}",
        output_field=field,
    )
