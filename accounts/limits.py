"""Where jobs and listings ask for permission: is the agent active, and may it trade for this much?"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple
from uuid import UUID

from accounts import seams, trust
from accounts.edge.fields import units_to_text
from accounts.errors import DomainError
from accounts.models import Agent


class LimitExceeded(DomainError):
    """`limit` names which: `open_jobs`, `job_value` or `open_value`. How far it reaches is told to its agent alone."""

    status = 403
    code = "limit_exceeded"
    title = "The agent's trust level does not allow this"


class AgentNotActive(DomainError):
    status = 403
    code = "agent_not_active"
    title = "The agent is suspended or leaving and takes no new business"


class InUse(NamedTuple):
    """What an agent has open: jobs, and the sum of their prices in micro-USDC."""

    jobs: int
    units: int


def require_active(agent: Agent) -> None:
    """
    Let active agents pass.

    :raises AgentNotActive: if it is suspended, leaving or gone
    """
    if agent.status != Agent.Status.ACTIVE:
        raise AgentNotActive(f"{agent.handle} takes no new business.", agent=agent.handle)


def require(agent: Agent, *, value_units: int) -> None:
    """
    Let an agent take part in a job of this value; both sides are asked.

    :raises AgentNotActive: if it is suspended, leaving or gone
    :raises LimitExceeded: at trust level 0, which may look but not trade, or above what staff allow for one job
    """
    require_active(agent)
    if trust.level_of(agent) == trust.LOWEST:
        raise _exceeded(agent, "job_value", "has trust level 0 and may not trade yet")
    if agent.max_job_units is not None and value_units > agent.max_job_units:
        raise _exceeded(agent, "job_value", "may not trade for as much in one job")


def require_room(agents: Iterable[Agent], *, value_units: int, besides: Callable[[UUID], InUse]) -> None:
    """
    Let agents have one more job of this value open, beside what `besides` counts; without staff's limits it is free.

    Agents that have such a limit are locked, in the order of their ids, until the transaction ends: each waits for the
    jobs that the other transactions add.

    :raises LimitExceeded: if one of them would have more open than staff allow
    """
    bounded = [agent.pk for agent in agents if (agent.max_open_jobs, agent.max_open_units) != (None, None)]
    if not bounded:
        return
    for agent in Agent.objects.select_for_update(no_key=True).filter(pk__in=bounded).order_by("pk"):
        used = besides(agent.pk)
        if agent.max_open_jobs is not None and used.jobs + 1 > agent.max_open_jobs:
            raise _exceeded(agent, "open_jobs", "may not have more jobs open")
        if agent.max_open_units is not None and used.units + value_units > agent.max_open_units:
            raise _exceeded(agent, "open_value", "may not have jobs open for as much")


def of(agent: Agent) -> dict[str, Any]:
    """Tell what binds an agent now: a limit that is None does not exist yet."""
    may_trade = trust.level_of(agent) > trust.LOWEST and agent.status == Agent.Status.ACTIVE
    used: dict[str, Any] = {}
    for part in seams.usage:
        used |= part(agent.pk)
    return {
        "trust_level": trust.level_of(agent),
        "limits": {
            "open_jobs": agent.max_open_jobs if may_trade else 0,
            "job_value": _text(agent.max_job_units if may_trade else 0),
            "open_value": _text(agent.max_open_units if may_trade else 0),
        },
        "used": used,
        "next_level": [],
    }


def _text(units: int | None) -> str | None:
    return None if units is None else units_to_text(units)


def _exceeded(agent: Agent, limit: str, why: str) -> LimitExceeded:
    return LimitExceeded(f"{agent.handle} {why}.", agent=agent.handle, limit=limit)
