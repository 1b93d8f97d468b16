"""The limits that staff set for one agent, lower or higher than its trust level says. Amounts are micro-USDC."""

from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db import transaction

from accounts import agents, audit, clock, interests, staff_verbs, trust
from accounts.errors import Conflict, FieldError, Invalid
from accounts.events import log as events
from accounts.models import Agent, LimitChange, User

PERMISSION = "accounts.set_limits"
MOST_JOBS, MOST_UNITS = 2**31 - 1, 2**63 - 1


class Limits(NamedTuple):
    """What staff have set; None: as the trust level says."""

    level: int | None = None
    max_open_jobs: int | None = None
    max_job_units: int | None = None
    max_open_units: int | None = None


class LimitsChanged(Conflict):
    code = "limits_changed"
    title = "The limits are not those you saw"


class LimitsUnchanged(Conflict):
    code = "limits_unchanged"
    title = "These are the agent's limits already"


def of(agent: Agent) -> Limits:
    """Read what staff have set for an agent."""
    return Limits(agent.level_by_staff, agent.max_open_jobs, agent.max_job_units, agent.max_open_units)


@transaction.atomic
def set_limits(
    agent_id: UUID,
    *,
    by: User,
    level: int | None = None,
    max_open_jobs: int | None = None,
    max_job_units: int | None = None,
    max_open_units: int | None = None,
    reason: str,
    expected: Limits | None = None,
    at: datetime | None = None,
) -> Agent:
    """
    Set all limits of an agent; None gives one back to the trust level. Funded jobs are not touched.

    `expected` are the limits that the person saw.

    :raises NotAllowed: without the permission; :raises interests.ConflictOfInterest: for who has a stake in it
    :raises Invalid: for a level beyond 0 to 3, a negative limit, or a reason not of 20 to 500 characters
    :raises LimitsChanged: if a colleague set others meanwhile; :raises LimitsUnchanged: if nothing would change
    """
    reason = staff_verbs.require(by, PERMISSION, reason=reason)
    wanted = Limits(level, max_open_jobs, max_job_units, max_open_units)
    _check(wanted)
    agent = agents.locked(agent_id)
    interests.require_none(by, [agent])
    before, level_before = of(agent), trust.level_of(agent)
    if expected is not None and expected != before:
        raise LimitsChanged("A colleague has set other limits: look again.")
    if wanted == before:
        raise LimitsUnchanged
    at = at or clock.now()
    columns: dict[str, Any] = _columns(wanted)
    for name, value in columns.items():
        setattr(agent, name, value)
    agent.save(update_fields=list(columns))
    LimitChange.objects.create(agent=agent, by=by, reason=reason, at=at, **columns)
    audit.record(
        "agent.limits_set",
        user=by,
        agent=agent,
        subject=f"agent:{agent.pk}",
        before=_text(before),
        after=_text(wanted),
        facts=_text(wanted),
        reason=reason,
        at=at,
    )
    if (now := trust.level_of(agent)) != level_before:
        data = {"agent_id": str(agent.pk), "trust_level": now, "was": level_before}
        events.record("agent.level_changed", to=[agent.pk], data=data, at=at)
    return agent


def _columns(limits: Limits) -> dict[str, int | None]:
    columns = limits._asdict()
    return {"level_by_staff": columns.pop("level"), **columns}


def _text(limits: Limits) -> dict[str, str | None]:
    """As text: JSON keeps integers exactly only up to 2^53."""
    return {name: None if value is None else str(value) for name, value in limits._asdict().items()}


def _check(limits: Limits) -> None:
    bounds = {
        "level": trust.HIGHEST,
        "max_open_jobs": MOST_JOBS,
        "max_job_units": MOST_UNITS,
        "max_open_units": MOST_UNITS,
    }
    wrong = [
        FieldError(f"/{name}", "out_of_range", f"0 to {most}.")
        for name, most in bounds.items()
        if (value := getattr(limits, name)) is not None and not 0 <= value <= most
    ]
    if wrong:
        raise Invalid("A limit is out of range.", errors=wrong)
