"""
What keeps an agent's withdrawal from going at once: limits that ask for a treasurer, changes that ask for time.

Amounts are micro-USDC.
"""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection
from django.db.models import Sum

from accounts.models import Agent, AgentKey
from escrow.models import Deposit, Withdrawal

State = Withdrawal.State
DAY = timedelta(hours=24)
# Above this multiple of the threshold two treasurers have to agree.
TWO_APPROVALS_MULTIPLE = 10


def reasons_to_hold(agent_id: UUID, *, amount_units: int, at: datetime) -> list[str]:
    """What a treasurer has to look at. The agent's row is locked; the platform's sum gets a lock of its own."""
    with connection.cursor() as cursor:  # one request at a time, or two could pass the platform's limit together
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('withdrawals.velocity'))")
    return _reasons(agent_id, _recent(at=at), amount_units=amount_units)


def reasons_now(withdrawal: Withdrawal, *, at: datetime) -> list[str]:
    """What in the limits of this moment asks for a treasurer; what was asked for later does not count."""
    if withdrawal.agent_id is None:
        return []
    earlier = _recent(at=at).filter(pk__lt=withdrawal.pk)
    return _reasons(withdrawal.agent_id, earlier, amount_units=withdrawal.amount_units)


def approvals_for(amount_units: int) -> int:
    """How many treasurers have to agree to a payout that is held."""
    return 2 if amount_units > TWO_APPROVALS_MULTIPLE * settings.WITHDRAWAL_APPROVAL_THRESHOLD_UNITS else 1


def cooling_until(agent: Agent, *, at: datetime) -> datetime | None:
    """Until when a change of its keys, of its owner, or of the owner's e-mail makes an agent wait, if one does."""
    changes = [*_key_changes(agent.pk), agent.owner_changed_at, agent.owner and agent.owner.email_changed_at]
    until = [change + timedelta(seconds=settings.WITHDRAWAL_COOLING_SECONDS) for change in changes if change]
    return max((moment for moment in until if moment > at), default=None)


def newest_credited_block(chain_id: int) -> int:
    """
    The block of the newest deposit that was credited, to whomever: it has to be final before money leaves again.

    What one agent was credited early may have paid another one by now.
    """
    credited = Deposit.objects.filter(chain_id=chain_id, state=Deposit.State.CREDITED)
    return credited.order_by("-block_number").values_list("block_number", flat=True).first() or 0


def _reasons(agent_id: UUID, recent: Any, *, amount_units: int) -> list[str]:
    of_all = recent.aggregate(total=Sum("amount_units"))["total"] or 0
    of_agent = recent.filter(agent_id=agent_id).aggregate(total=Sum("amount_units"))["total"] or 0
    rules = {
        "amount": amount_units > settings.WITHDRAWAL_APPROVAL_THRESHOLD_UNITS,
        "agent_limit": of_agent + amount_units > settings.WITHDRAWAL_DAILY_LIMIT_UNITS,
        "platform_limit": of_all + amount_units > settings.WITHDRAWAL_PLATFORM_DAILY_LIMIT_UNITS,
        "shortfall": Deposit.objects.filter(agent_id=agent_id, shortfall_units__gt=0).exists(),
    }
    return [name for name, applies in rules.items() if applies]


def _recent(*, at: datetime) -> Any:
    """What agents asked for in the last 24 hours and did not get back."""
    came_back = (State.CANCELLED, State.REJECTED, State.REFUNDED)
    return Withdrawal.objects.filter(requested_at__gt=at - DAY, owner="agent").exclude(state__in=came_back)


def _key_changes(agent_id: UUID) -> list[datetime]:
    """When keys came and went; the first key is no change."""
    keys = list(AgentKey.objects.filter(agent_id=agent_id).order_by("created_at"))
    return [key.created_at for key in keys[1:]] + [key.removed_at for key in keys if key.removed_at]
