"""
How a standstill that is over moves the clocks of jobs: one statement for a job that is locked, and for a batch.

A frozen job keeps what it had left: the clock that its dispute froze moves together with the moment it was frozen at.
The clock of the dispute itself is moved here for display, and set right by its own app.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection
from django.db.models import Min

from accounts.api.fields import moment
from accounts.events import log
from marketplace import standstills
from marketplace.models import Job, State
from marketplace.standstills import Shift, moved


class Moved(NamedTuple):
    """What a party is told about: a job's deadline before and after."""

    job_id: UUID
    client_id: UUID
    seller_id: UUID
    state: str
    dispute_id: UUID | None
    old_at: datetime
    deadline_at: datetime
    action: str
    effect: str


class JobMover:
    """Jobs whose clock runs."""

    def move(self, shift: Shift, *, limit: int) -> int:
        found = _move(shift, _BATCH, limit=limit)
        _tell(shift, _running(found))
        return len(found)

    def is_done(self, shift: Shift) -> bool:
        return not Job.objects.filter(deadline_at__isnull=False, standstill__lt=shift.number).exists()


def catch_up(job_ids: Iterable[UUID], *, known: int) -> None:
    """
    Move jobs by every standstill that is over and later than `known`; those that were moved already it leaves alone.

    Waits for the locks of the jobs, in the order of their ids.
    """
    for shift in standstills.after(known):
        _tell(shift, _running(_move(shift, _THESE, job_ids=list(job_ids))))


def show(shift: Shift, deadlines: dict[UUID, tuple[datetime, datetime]]) -> None:
    """
    Show in disputed jobs what a standstill made of the clocks of their disputes, which are locked: before and after.

    Tells both parties of those that moved.
    """
    if not deadlines:
        return
    known = Job.objects.filter(pk__in=deadlines).aggregate(least=Min("standstill"))["least"]
    catch_up(deadlines, known=known)
    with connection.cursor() as cursor:
        after = [deadline_at for _, deadline_at in deadlines.values()]
        cursor.execute(_SHOW, {"ids": list(deadlines), "deadlines": after, "start": shift.started_at})
        shown = [Moved(*row) for row in cursor.fetchall()]
    _tell(shift, [one._replace(old_at=deadlines[one.job_id][0]) for one in shown])


def _tell(shift: Shift, moved_jobs: list[Moved]) -> None:
    """Tell both parties of each job that an outage moved their deadline, and where it is now."""
    incidents = standstills.incident_ids(shift)
    news = [_news(shift, one, incidents) for one in moved_jobs if one.deadline_at != one.old_at]
    log.record_all("incident.ended", news, at=shift.ended_at)


def _news(shift: Shift, one: Moved, incidents: list[UUID]) -> log.News:
    seconds = (one.deadline_at - one.old_at).total_seconds()
    data = {"job_id": str(one.job_id), **standstills.told(shift, incidents=incidents, moved_seconds=seconds)}
    data["deadline"] = {"at": moment(one.deadline_at), "action": one.action, "effect": one.effect}
    if one.dispute_id:
        data["dispute_id"] = str(one.dispute_id)
    return log.News([one.client_id, one.seller_id], data)


def _running(found: list[Moved]) -> list[Moved]:
    """Leave out disputed jobs: their dispute tells of them, whose deadline it is."""
    return [one for one in found if one.state != State.DISPUTED]


def _move(shift: Shift, which: str, **parameters: Any) -> list[Moved]:
    with connection.cursor() as cursor:
        cursor.execute(_MOVE.format(which=which), standstills.parameters(shift) | parameters)
        found = [Moved(*row) for row in cursor.fetchall()]
        offered = [one.job_id for one in found if one.state == State.NEGOTIATING]
        if offered:
            cursor.execute(_OFFERS, [offered])
    return found


_BATCH = """
    deadline_at IS NOT NULL AND standstill < %(number)s
    ORDER BY standstill, id LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED
"""
_THESE = """
    id = ANY(%(job_ids)s::uuid[]) AND standstill < %(number)s ORDER BY id FOR NO KEY UPDATE
"""

# `clock` is the state whose clock runs, or that a dispute froze, and when that clock was started. The time of delivery
# counts on after it was met: a revision gets at least as long.
_DELIVER = moved("deliver_by", start="CASE WHEN clock IN ('funded', 'in_progress') THEN clock_from ELSE funded_at END")
_REVISE = f"greatest({moved('revise_by', start='clock_from')}, deliver)"
_OWN = moved("deadline_at", start="deadline_from")
_MOVE = f"""
    WITH due AS MATERIALIZED (
        SELECT *, deadline_at AS old_at,
               CASE WHEN state = 'disputed' THEN frozen_state ELSE state END AS clock,
               CASE WHEN state = 'disputed' THEN frozen_from ELSE deadline_from END AS clock_from
        FROM marketplace_job WHERE {{which}}
    ), delivering AS (
        SELECT due.*, {_DELIVER} AS deliver FROM due
    ), keeping AS (
        SELECT delivering.*,
               CASE WHEN clock = 'delivered' THEN {moved("review_by", start="clock_from")} ELSE review_by END AS review,
               CASE WHEN clock = 'revising' AND revise_by > %(start)s THEN {_REVISE} ELSE revise_by END AS revise
        FROM delivering
    ), later AS (
        SELECT keeping.*,
               CASE WHEN state = 'revising' AND deadline_at > %(start)s THEN greatest({_OWN}, deliver)
                    ELSE {_OWN} END AS own,
               CASE clock WHEN 'delivered' THEN review_by WHEN 'revising' THEN revise_by ELSE deliver_by END AS froze
        FROM keeping
    ), written AS (
        UPDATE marketplace_job job SET
            standstill = %(number)s,
            deadline_at = later.own,
            near_at = CASE WHEN job.near_at > %(start)s THEN job.near_at + (later.own - later.old_at)
                           ELSE job.near_at END,
            deliver_by = later.deliver,
            review_by = later.review,
            revise_by = later.revise,
            frozen_at = CASE WHEN job.state = 'disputed' AND later.froze > %(start)s
                             THEN job.frozen_at + greatest(interval '0', %(end)s - greatest(%(start)s, job.frozen_at))
                             ELSE job.frozen_at END,
            updated_at = CASE WHEN later.own > later.old_at THEN greatest(job.updated_at, %(end)s)
                              ELSE job.updated_at END
        FROM later WHERE job.id = later.id
    )
    SELECT id, client_id, seller_id, state, dispute_id, old_at, own, deadline_action, deadline_effect
    FROM later ORDER BY id
"""
_OFFERS = """
    UPDATE marketplace_offer offer SET expires_at = job.deadline_at
    FROM marketplace_job job
    WHERE job.id = ANY(%s::uuid[]) AND offer.job_id = job.id AND offer.number = job.offers_count
      AND offer.expires_at < job.deadline_at
"""
_SHOW = """
    UPDATE marketplace_job job SET
        deadline_at = shown.at,
        near_at = CASE WHEN job.near_at > %(start)s THEN job.near_at + (shown.at - job.deadline_at)
                       ELSE job.near_at END
    FROM unnest(%(ids)s::uuid[], %(deadlines)s::timestamptz[]) AS shown (id, at)
    WHERE job.id = shown.id AND job.state = 'disputed'
    RETURNING job.id, client_id, seller_id, state, dispute_id, shown.at, shown.at, deadline_action, deadline_effect
"""
