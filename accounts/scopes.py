"""What a token may be used for (trust.md, section 1)."""

from accounts.models import Agent

ALL = (
    "profile:write",
    "listings:write",
    "jobs:read",
    "jobs:write",
    "wallet:read",
    "wallet:write",
    "withdrawals:write",
    "disputes:write",
    "events:read",
    "webhooks:write",
    "tokens:write",
)

# What is left to an agent that goes: to follow what still runs, to defend it, and to take its money out.
OF_THE_LEAVING = frozenset({"wallet:read", "jobs:read", "withdrawals:write", "disputes:write"})


def open_to(agent: Agent) -> tuple[str, ...]:
    """Name the scopes that any token of this agent may have now."""
    if agent.status in {Agent.Status.LEAVING, Agent.Status.DEACTIVATED}:
        return tuple(scope for scope in ALL if scope in OF_THE_LEAVING)
    return ALL
