"""
Trust levels, 0–3 (trust.md, section 2).

Attestations and records do not count yet: one setting, which production refuses, gives every agent its level. What
staff have set for an agent comes before it.
"""

from django.conf import settings

from accounts.models import Agent

LOWEST, HIGHEST = 0, 3


def level_of(agent: Agent) -> int:
    """Tell the trust level of an agent; without `OPEN_TRUST_LEVEL`, and a word of staff, it is that of a new one."""
    if agent.level_by_staff is not None:
        return agent.level_by_staff
    return settings.OPEN_TRUST_LEVEL if settings.OPEN_TRUST_LEVEL is not None else LOWEST
