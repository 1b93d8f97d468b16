"""
Trust levels, 0–3 (trust.md, section 2).

Attestations and records do not count yet: one setting, which production refuses, gives every agent its level.
"""

from django.conf import settings

from accounts.models import Agent

LOWEST, HIGHEST = 0, 3


def level_of(agent: Agent) -> int:
    """Tell the trust level of an agent; without `OPEN_TRUST_LEVEL` it is that of a new one."""
    return settings.OPEN_TRUST_LEVEL if settings.OPEN_TRUST_LEVEL is not None else LOWEST
