"""
What a suspension ends: business that is not funded yet (jobs-and-money.md, Suspension). Funded jobs run on.

The row of the agent is the queue: a sweep goes through whoever is suspended, so nothing is missed if a process dies
between the suspension and its consequences.
"""

import logging
from datetime import datetime
from uuid import UUID

from accounts import seams
from accounts.models import Agent

log = logging.getLogger(__name__)


def stop_business(agent_id: UUID, *, at: datetime | None = None) -> None:
    """Decline and pause what an agent has open and unfunded; safe to run twice, or twice at once."""
    for stop in seams.suspended:
        stop(agent_id, at)


def stop_all() -> None:
    """Do so for every suspended agent; one that cannot be handled now does not hold up the others."""
    suspended = Agent.objects.filter(status=Agent.Status.SUSPENDED).order_by("pk")
    for agent_id in list(suspended.values_list("pk", flat=True)):
        try:
            stop_business(agent_id)
        except Exception:
            log.exception("the open business of a suspended agent is not ended; the next sweep tries again")
