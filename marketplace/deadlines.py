"""
What silence does: the sweep that finds the jobs whose clock is over and takes the step that was announced.

The row is the queue. Each job is one transaction; whoever holds a job's lock is at work on it, so it is skipped.
"""

import logging
from datetime import datetime
from uuid import UUID

from django.db import connection, transaction

from accounts.errors import NotFound
from escrow import holds
from marketplace import effects, lifecycle, locking
from marketplace.lifecycle import Action, Role
from marketplace.models import Job

log = logging.getLogger(__name__)


def enforce_due(*, limit: int = 200) -> int:
    """Take the due step of every job whose clock is over; return how many were taken."""
    return sum(_enforced(job_id) for job_id in _due(limit))


@transaction.atomic
def enforce(job_id: UUID, *, at: datetime | None = None) -> Job | None:
    """
    Take the step that a job's clock announced, if it is over.

    Answers None where another transaction is at work on the job or was faster.
    """
    try:
        job = locking.lock(job_id, at=at, skip_locked=True)
    except NotFound:
        return None
    action = lifecycle.due_action(job)
    if action is None or action not in lifecycle.available(job, Role.SYSTEM, job.at):
        return None
    lifecycle.advance(job, action, by=Role.SYSTEM)
    if action == Action.AUTO_APPROVE:
        holds.close(effects.approved(job), kind="job.auto_approve", at=job.at)
    elif action == Action.FAIL:
        holds.close(effects.given_up_by_seller(job), kind="job.fail", at=job.at)
    return job


def _due(limit: int) -> list[UUID]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id FROM marketplace_job"
            " WHERE deadline_at <= clock_timestamp() AND state <> 'disputed'"
            "   AND (deadline_retry_at IS NULL OR deadline_retry_at <= clock_timestamp())"
            " ORDER BY deadline_at LIMIT %s",
            [limit],
        )
        return [row[0] for row in cursor.fetchall()]


def _enforced(job_id: UUID) -> bool:
    try:
        return enforce(job_id) is not None
    except Exception:  # one job that raises must not stop the others
        log.exception("the deadline of job %s could not be enforced", job_id)
        _postpone(job_id)
        return False


def _postpone(job_id: UUID) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE marketplace_job SET deadline_failures = deadline_failures + 1,"
            " deadline_retry_at = clock_timestamp()"
            " + make_interval(secs => least(3600, 2 ^ least(20, deadline_failures + 1)))"
            " WHERE id = %s",
            [job_id],
        )
