"""
What silence does: the sweep that finds the jobs whose clock is over and takes the step that was announced, and before
that reminds both parties, once. While an incident is open, or a part of the platform is away, nothing is due.

The row is the queue (accounts/sweeps.py). Whoever holds a job's lock is at work on it, so it is skipped.
"""

from datetime import datetime
from uuid import UUID

from django.db import transaction

from accounts import clockwork, sweeps
from accounts.api.fields import moment
from accounts.errors import NotFound
from accounts.events import log
from escrow import holds
from marketplace import effects, incidents, lifecycle, locking
from marketplace.lifecycle import Action, Role
from marketplace.models import Job


def enforce_due(*, limit: int = 1_000) -> int:
    """Take the step of every job whose clock is over, remind of every clock that soon will be; return how many."""
    incidents.seen("worker")
    return sweeps.run(SWEEP, limit=limit) if incidents.may_fire() else 0


@transaction.atomic
def enforce(job_id: UUID, *, at: datetime | None = None) -> Job | None:
    """
    Take the step that a job's clock announced, if it is over.

    Answers None where another transaction is at work on the job or was faster, or where clocks stand still.
    """
    job = _free(job_id, at)
    return job if job and _step(job) else None


@transaction.atomic
def remind(job_id: UUID, *, at: datetime | None = None) -> Job | None:
    """
    Tell both parties that a clock is near its end, once; a clock that is over is none to be reminded of.

    Answers None where there is nothing to tell, or another transaction is at work on the job.
    """
    job = _free(job_id, at)
    return job if job and _reminder(job) else None


def _do(job_id: UUID) -> Job | None:
    job = _free(job_id, None)
    return job if job and (_step(job) or _reminder(job)) else None


SWEEP = sweeps.Sweep(
    noun="job",
    table="marketplace_job",
    due="due_at",
    failures="deadline_failures",
    retry_at="deadline_retry_at",
    act=_do,
)


def _free(job_id: UUID, at: datetime | None) -> Job | None:
    """Lock the job, unless somebody else has, or clocks stand still: then nothing is due."""
    try:
        job = locking.lock(job_id, at=at, skip_locked=True)
    except NotFound:
        return None
    return None if job.stands_since else job


def _step(job: Job) -> bool:
    action = lifecycle.due_action(job)
    if action is None or action not in lifecycle.available(job, Role.SYSTEM, job.at):
        return False
    lifecycle.advance(job, action, by=Role.SYSTEM)
    if action == Action.AUTO_APPROVE:
        holds.close(effects.approved(job), kind="job.auto_approve", at=job.at)
    elif action == Action.FAIL:
        holds.close(effects.given_up_by_seller(job), kind="job.fail", at=job.at)
    return True


def _reminder(job: Job) -> bool:
    if job.near_at is None or job.near_at > job.at or job.deadline_at is None:
        return False
    job.near_at, job.deadline_failures, job.deadline_retry_at = None, 0, None
    job.save(update_fields=["near_at", "deadline_failures", "deadline_retry_at"])
    if job.deadline_at <= job.at:  # of a case whose own sweep is about to end it
        return False
    data = {
        "job_id": str(job.id),
        "state": job.state,
        "revision": job.revision,
        "awaiting": job.awaiting,
        "deadline": {"at": moment(job.deadline_at), "action": job.deadline_action, "effect": job.deadline_effect},
    }
    if job.dispute_id:
        data["dispute_id"] = str(job.dispute_id)
    log.record("job.deadline_near", to=[job.client_id, job.seller_id], data=data, at=job.at)
    return True


def waiting() -> tuple[int, datetime | None]:
    """Count what is due, and say since when the oldest is; while clocks stand still nothing is."""
    return _due() if incidents.standing_since() is None else (0, None)


_due = clockwork.of_sweeps(SWEEP)
