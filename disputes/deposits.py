"""
The deposit of whoever opens a case. Amounts are micro-USDC.

It is held from the opener's available as far as that reaches; what is missing comes out of the opener's share when the
case closes. So nobody is refused a case for lack of money.
"""

from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Count, Q

from accounts.models import Agent, User
from disputes.models import Deposit, Dispute
from escrow import holds, ledger
from escrow.ledger import Move

LOSSES_COUNT_DAYS = 180
LOSSES_THAT_DOUBLE = 2
OPEN_CASES_BEFORE_DOUBLING = 10


def due_units(opener: Agent, *, price_units: int, at: datetime) -> int:
    """
    Reckon what the opener owes: nothing for the first case of an owner (of an agent that has none), else 2 % of the
    price and at least the minimum; doubled after two losses in 180 days or beyond ten open cases; at most the price.

    Locks whose record it is: two first cases at once are one first case.
    """
    _lock_record_of(opener)
    theirs, opened = _cases_of(opener)
    record = Dispute.objects.filter(theirs).aggregate(
        opened=Count("pk", filter=opened),
        open=Count("pk", filter=opened & Q(closed_at=None)),
        lost=Count("pk", filter=_lost_by(opener) & Q(closed_at__gte=at - timedelta(days=LOSSES_COUNT_DAYS))),
    )
    if not record["opened"]:
        return 0
    units = max(settings.DISPUTE_DEPOSIT_MIN_UNITS, holds.split(price_units, settings.DISPUTE_DEPOSIT_BPS))
    if record["lost"] >= LOSSES_THAT_DOUBLE or record["open"] >= OPEN_CASES_BEFORE_DOUBLING:
        units *= 2
    return min(price_units, units)


def reach_units(dispute: Dispute) -> int:
    """Reckon how much of what is due the opener's balance covers now: what a token's caps count."""
    if not dispute.deposit_due_units:
        return 0
    return min(dispute.deposit_due_units, ledger.balance("available", str(dispute.opener_id)))


def take(dispute: Dispute, *, at: datetime) -> None:
    """Hold what is due, as far as the opener's balance reaches, and say on the case how much that was."""
    if dispute.deposit_due_units:
        dispute.deposit_held_units = holds.take_deposit(
            dispute.deposit_key, agent_id=dispute.opener_id, wanted_units=dispute.deposit_due_units, at=at
        )


def closing_moves(dispute: Dispute, *, went: str, client_share_units: int, seller_share_units: int) -> tuple[Move, ...]:
    """
    Say where the deposit goes; the shares are what each side gets of the price, the seller's after the fee.

    What the opener's balance did not cover comes out of its share, as far as that reaches; going back it moves nothing.
    """
    opener = ("available", str(dispute.opener_id))
    to = {
        Deposit.BACK: opener,
        Deposit.OTHER_SIDE: ("available", str(dispute.respondent_id)),
        Deposit.PENALTIES: ("penalties", ledger.PLATFORM),
    }[Deposit(went)]
    moves = holds.deposit_moves(dispute.deposit_key, dispute.deposit_held_units, to=to)
    share = client_share_units if dispute.opener_id == dispute.client_id else seller_share_units
    rest_units = min(dispute.deposit_missing_units, share)
    if to != opener and rest_units:
        moves += [Move(*opener, -rest_units), Move(*to, rest_units)]
    return tuple(moves)


def _cases_of(agent: Agent) -> tuple[Q, Q]:
    if agent.owner_id:
        return (
            Q(client__owner_id=agent.owner_id) | Q(seller__owner_id=agent.owner_id),
            Q(opener__owner_id=agent.owner_id),
        )
    return Q(client=agent) | Q(seller=agent), Q(opener=agent)


def _lost_by(agent: Agent) -> Q:
    if agent.owner_id:
        return Q(lost_by="client", client__owner_id=agent.owner_id) | Q(
            lost_by="seller", seller__owner_id=agent.owner_id
        )
    return Q(lost_by="client", client=agent) | Q(lost_by="seller", seller=agent)


def _lock_record_of(agent: Agent) -> None:
    rows = User.objects.filter(pk=agent.owner_id) if agent.owner_id else Agent.objects.filter(pk=agent.pk)
    list(rows.select_for_update(no_key=True).values_list("pk"))
