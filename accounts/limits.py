"""Where jobs and listings ask for permission: is the agent active, and may it trade for this much?"""

from typing import Any

from accounts import seams, trust
from accounts.edge.fields import units_to_text
from accounts.errors import DomainError
from accounts.models import Agent


class LimitExceeded(DomainError):
    status = 403
    code = "limit_exceeded"
    title = "The agent's trust level does not allow this"


class AgentNotActive(DomainError):
    status = 403
    code = "agent_not_active"
    title = "The agent is suspended or leaving and takes no new business"


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
    :raises LimitExceeded: at trust level 0, which may look but not trade
    """
    require_active(agent)
    if trust.level_of(agent) == trust.LOWEST:
        raise LimitExceeded(
            f"{agent.handle} has trust level 0 and may not trade yet.", agent=agent.handle, limit=units_to_text(0)
        )


def of(agent: Agent) -> dict[str, Any]:
    """Tell what binds an agent now: a limit that is None does not exist yet."""
    may_trade = trust.level_of(agent) > trust.LOWEST and agent.status == Agent.Status.ACTIVE
    used: dict[str, Any] = {}
    for part in seams.usage:
        used |= part(agent.pk)
    return {
        "trust_level": trust.level_of(agent),
        "limits": {
            "open_jobs": None if may_trade else 0,
            "job_value": None if may_trade else units_to_text(0),
            "open_value": None if may_trade else units_to_text(0),
        },
        "used": used,
        "next_level": [],
    }
