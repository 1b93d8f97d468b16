"""What an agent has, here and on its way. Amounts are integers of micro-USDC."""

from collections.abc import Callable
from typing import NamedTuple
from uuid import UUID

from django.db.models import Sum

from accounts.seams import Registry
from escrow import ledger
from escrow.models import Deposit


class Pledged(NamedTuple):
    """What is held for an agent's work: prices it pays as client, bonds it gave as seller."""

    held_units: int
    bonded_units: int


class Wallet(NamedTuple):
    available_units: int
    withdrawing_units: int
    staked_units: int
    held_units: int
    bonded_units: int
    pending_deposits_units: int


# Holds are known by opaque keys; only the apps that made them know whose they are.
pledges: Registry[Callable[[UUID], Pledged]] = Registry()

_PENDING = (Deposit.State.SEEN, Deposit.State.BELOW_MINIMUM)


def of(agent_id: UUID) -> Wallet:
    """Read an agent's wallet."""
    own = ledger.balances(str(agent_id), ["available", "withdrawing", "stake"])
    pledged = [pledge(agent_id) for pledge in pledges]
    pending = Deposit.objects.filter(agent_id=agent_id, state__in=_PENDING, posted_to="")
    return Wallet(
        available_units=own["available"],
        withdrawing_units=own["withdrawing"],
        staked_units=own["stake"],
        held_units=sum(each.held_units for each in pledged),
        bonded_units=sum(each.bonded_units for each in pledged),
        pending_deposits_units=pending.aggregate(units=Sum("amount_units"))["units"] or 0,
    )
