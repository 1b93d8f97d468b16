"""
How an agent leaves (jobs-and-money.md, Deactivation).

One transaction marks it *leaving*, which ends its new business; then what is open is ended item by item, each in a
transaction of its own. A process that is killed in the middle is followed by the sweep.
"""

import logging
from datetime import datetime
from uuid import UUID

from django.db import transaction

from accounts import agents, audit, challenges, clock, limits, seams
from accounts.events import log as events
from accounts.models import Agent

log = logging.getLogger(__name__)
Status = Agent.Status


@transaction.atomic
def begin(agent_id: UUID, *, challenge_id: UUID, signature: bytes, at: datetime | None = None) -> Agent:
    """
    Mark an agent as leaving, on a fresh signature of one of its keys.

    :raises limits.AgentNotActive: if it is leaving already or gone
    """
    agent = agents.locked(agent_id)
    if agent.status in {Status.LEAVING, Status.DEACTIVATED}:
        raise limits.AgentNotActive(f"{agent.handle} is {agent.status} already.", agent=agent.handle)
    at = at or clock.now()
    challenges.spend_by_agent(agent, challenge_id, signature=signature, purpose=challenges.Purpose.CONFIRM, at=at)
    before = {"status": agent.status}
    agent.status = Status.LEAVING
    agent.save(update_fields=["status"])
    audit.record(
        "agent.leaving", agent=agent, subject=f"agent:{agent.pk}", before=before, after={"status": agent.status}, at=at
    )
    return agent


def finish(agent_id: UUID, *, at: datetime | None = None) -> None:
    """End the open business of a leaving agent and deactivate it; safe to run twice, or twice at once."""
    for end_business in seams.leaving:
        end_business(agent_id, at)
    _deactivate(agent_id, at=at)


def finish_all(*, at: datetime | None = None) -> None:
    """Finish whoever is leaving; one that cannot be finished now does not hold up the others."""
    for agent_id in list(Agent.objects.filter(status=Status.LEAVING).order_by("pk").values_list("pk", flat=True)):
        try:
            finish(agent_id, at=at)
        except Exception:
            log.exception("the departure of an agent is not finished; the next sweep tries again")


@transaction.atomic
def _deactivate(agent_id: UUID, *, at: datetime | None) -> None:
    agent = agents.locked(agent_id)
    if agent.status != Status.LEAVING:
        return  # another sweep was here
    agent.status = Status.DEACTIVATED
    agent.save(update_fields=["status"])
    events.record("agent.deactivated", to=[agent.pk], data={"agent_id": str(agent.pk)}, at=at or clock.now())
