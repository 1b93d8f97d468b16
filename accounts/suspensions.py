"""
Suspension by staff, and what it ends: business that is not funded yet (jobs-and-money.md). Funded jobs run on.

The row of the agent is the queue: a sweep goes through whoever is suspended, so nothing is missed if a process dies
between the suspension and its consequences.
"""

import logging
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction

from accounts import agents, audit, clock, interests, seams, staff_verbs
from accounts.errors import DomainError
from accounts.events import log as events
from accounts.models import Agent, Suspension, User

log = logging.getLogger(__name__)

# Longer than any offer or unfunded agreement lives.
LATELY_DAYS = 30

PERMISSION = "accounts.suspend_agent"


class NotSuspended(DomainError):
    code = "not_suspended"
    title = "The agent is not suspended"


class AlreadySuspended(DomainError):
    code = "already_suspended"
    title = "The agent cannot be suspended: it is not active"


@transaction.atomic
def suspend(agent_id: UUID, *, by: User, reason: str, at: datetime | None = None) -> Agent:
    """
    Stop an agent's new business; what is funded runs on. It is told that, not why: `reason` is for staff.

    :raises NotAllowed: without the permission; :raises interests.ConflictOfInterest: for who has a stake in it
    :raises Invalid: for a reason of less than 20 or more than 500 characters
    :raises AlreadySuspended: if it is not active
    """
    reason = staff_verbs.require(by, PERMISSION, reason=reason)
    agent = _decided(agent_id, by)
    if agent.status != Agent.Status.ACTIVE:
        raise AlreadySuspended(status_of_agent=agent.status)
    at = at or clock.now()
    Suspension.objects.create(agent=agent, suspended_by=by, reason=reason, suspended_at=at)
    _enter(agent, Agent.Status.SUSPENDED, "agent.suspended", by=by, reason=reason, at=at)
    events.record("agent.suspended", to=[agent.pk], data={"agent_id": str(agent.pk)}, at=at)
    return agent


@transaction.atomic
def reinstate(agent_id: UUID, *, by: User, reason: str, at: datetime | None = None) -> Agent:
    """
    Let a suspended agent do business again.

    :raises NotAllowed: without the permission; :raises interests.ConflictOfInterest: for who has a stake in it
    :raises Invalid: for a reason of less than 20 or more than 500 characters
    :raises NotSuspended: if it is not suspended
    """
    reason = staff_verbs.require(by, PERMISSION, reason=reason)
    agent = _decided(agent_id, by)
    if agent.status != Agent.Status.SUSPENDED:
        raise NotSuspended(status_of_agent=agent.status)
    at = at or clock.now()
    lifted = {"lifted_by": by, "lift_reason": reason, "lifted_at": at}
    Suspension.objects.filter(agent=agent, lifted_at=None).update(**lifted)
    _enter(agent, Agent.Status.ACTIVE, "agent.reinstated", by=by, reason=reason, at=at)
    return agent


def stop_business(agent_id: UUID, *, at: datetime | None = None) -> None:
    """Decline and pause what an agent has open and unfunded; safe to run twice, or twice at once."""
    for stop in seams.suspended:
        stop(agent_id, at)


def stop_all() -> None:
    """
    Do so for agents that were suspended lately; one that cannot be handled now does not hold up the others.

    Nothing new is opened by those that were suspended before, and what they had open has lapsed.
    """
    lately = clock.now() - timedelta(days=LATELY_DAYS)
    suspensions = Suspension.objects.filter(lifted_at=None, suspended_at__gte=lately).order_by("agent_id")
    for agent_id in list(suspensions.values_list("agent_id", flat=True)):
        try:
            stop_business(agent_id)
        except Exception:
            log.exception("the open business of a suspended agent is not ended; the next sweep tries again")


def _decided(agent_id: UUID, by: User) -> Agent:
    """Lock an agent for somebody who has no stake in it."""
    agent = agents.locked(agent_id)
    interests.require_none(by, [agent])
    return agent


def _enter(agent: Agent, status: str, action: str, *, by: User, reason: str, at: datetime) -> None:
    before, agent.status = {"status": agent.status}, status
    agent.save(update_fields=["status"])
    audit.record(
        action,
        user=by,
        agent=agent,
        subject=f"agent:{agent.pk}",
        before=before,
        after={"status": status},
        reason=reason,
        at=at,
    )
