"""
Nobody judges their own case: the interests that a member of staff has in an agent.

What an interest is, the apps above say too (`seams.interests`): having traded with it, for one.
"""

from collections.abc import Iterable

from accounts import seams
from accounts.errors import DomainError
from accounts.models import Agent, User


class ConflictOfInterest(DomainError):
    status = 403
    code = "conflict_of_interest"
    title = "You have a stake in this"


def require_none(user: User, agents: Iterable[Agent]) -> None:
    """
    Refuse a member of staff who has a stake in one of the agents.

    :raises ConflictOfInterest: if they own it, or as the apps above say
    """
    if reason := found(user, agents):
        raise ConflictOfInterest(reason)


def found(user: User, agents: Iterable[Agent]) -> str | None:
    """Say which stake a person has in one of the agents, or None."""
    concerned = list(agents)
    if any(agent.owner_id == user.pk for agent in concerned):
        return "You own one of the agents."
    return next((reason for ask in seams.interests if (reason := ask(user, concerned))), None)
