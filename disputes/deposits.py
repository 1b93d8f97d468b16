"""
The deposits of whoever opens a case, and of whoever appeals. Amounts are micro-USDC.

A deposit is held from its payer's available as far as that reaches; what is missing comes out of the payer's share when
the case closes. So nobody is refused a case or an appeal for lack of money.
"""

from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.db.models import Count, Q

from accounts.models import Agent, User
from disputes.models import Appeal, Deposit, Dispute, Party
from escrow import holds, ledger
from escrow.ledger import Move

LOSSES_COUNT_DAYS = 180
LOSSES_THAT_DOUBLE = 2
OPEN_CASES_BEFORE_DOUBLING = 10


def due_units(payer: Agent, *, price_units: int, at: datetime, appealing: Dispute | None = None) -> int:
    """
    Reckon what a case or an appeal costs: nothing for the first of either that an owner (an agent that has none)
    brings, else 2 % of the price and at least the minimum; doubled after two losses in 180 days or beyond ten open
    cases; at most the price.

    Locks whose record it is: two first ones at once are one first one.
    """
    _lock_record_of(payer)
    theirs, opened = _cases_of(payer)
    others = ~Q(pk=appealing.pk) if appealing else Q()
    record = Dispute.objects.filter(theirs).aggregate(
        opened=Count("pk", filter=opened),
        open=Count("pk", filter=opened & Q(closed_at=None) & others),
        lost=Count("pk", filter=_lost_by(payer) & Q(closed_at__gte=at - timedelta(days=LOSSES_COUNT_DAYS))),
    )
    if not record["opened"] and not Appeal.objects.filter(_appealed_by(payer)).exists():
        return 0
    units = max(settings.DISPUTE_DEPOSIT_MIN_UNITS, holds.split(price_units, settings.DISPUTE_DEPOSIT_BPS))
    if record["lost"] >= LOSSES_THAT_DOUBLE or record["open"] >= OPEN_CASES_BEFORE_DOUBLING:
        units *= 2
    return min(price_units, units)


def reach_units(payer_id: UUID, *, due_units: int) -> int:
    """Reckon how much of what is due the payer's balance covers now: what a token's caps count."""
    return min(due_units, ledger.balance("available", str(payer_id))) if due_units else 0


def take(deposit_of: Dispute | Appeal, *, payer_id: UUID, at: datetime) -> None:
    """Hold what is due, as far as the payer's balance reaches, and say on the row how much that was."""
    if deposit_of.deposit_due_units:
        deposit_of.deposit_held_units = holds.take_deposit(
            deposit_of.deposit_key, agent_id=payer_id, wanted_units=deposit_of.deposit_due_units, at=at
        )


class Given(NamedTuple):
    """What becomes of one deposit: whose it was (`client` or `seller`), where it goes, and the moves that take it."""

    payer: str
    went: str
    moves: list[Move]

    @property
    def units(self) -> int:
        return sum(move.amount_units for move in self.moves if move.amount_units > 0)


def closing_moves(dispute: Dispute, *, went: str, client_share_units: int, seller_share_units: int) -> tuple[Move, ...]:
    """Say where the deposit goes in a case that nobody appealed; the shares are as in `given`."""
    [opening] = given(dispute, went=went, client_share_units=client_share_units, seller_share_units=seller_share_units)
    return tuple(opening.moves)


def given(
    dispute: Dispute,
    *,
    went: str,
    client_share_units: int,
    seller_share_units: int,
    appeal: Appeal | None = None,
    appeal_went: str = Deposit.BACK,
) -> list[Given]:
    """
    Say where the deposits go, the opening's first; the shares are what each side gets of the price, the seller's after
    the fee.

    What a balance did not cover comes out of its payer's share, as far as that reaches; going back it moves nothing.
    """
    shares = {Party.CLIENT: client_share_units, Party.SELLER: seller_share_units}
    ways = [Given(dispute.opened_by, went, _moves(dispute, dispute, dispute.opened_by, went, shares))]
    if appeal is not None:
        ways.append(Given(appeal.by, appeal_went, _moves(appeal, dispute, appeal.by, appeal_went, shares)))
    return ways


def _moves(deposit_of: Dispute | Appeal, dispute: Dispute, by: str, went: str, shares: dict[Any, int]) -> list[Move]:
    """Say where one deposit goes, and leave in `shares` what it has not taken."""
    account = {
        Party.CLIENT: ("available", str(dispute.client_id)),
        Party.SELLER: ("available", str(dispute.seller_id)),
    }
    payer = account[Party(by)]
    to = {
        Deposit.BACK: payer,
        Deposit.OTHER_SIDE: account[Party.SELLER if by == Party.CLIENT else Party.CLIENT],
        Deposit.PENALTIES: ("penalties", ledger.PLATFORM),
    }[Deposit(went)]
    moves = holds.deposit_moves(deposit_of.deposit_key, deposit_of.deposit_held_units, to=to)
    rest_units = min(deposit_of.deposit_missing_units, shares[Party(by)])
    if to != payer and rest_units:
        shares[Party(by)] -= rest_units
        moves += [Move(*payer, -rest_units), Move(*to, rest_units)]
    return moves


def _cases_of(agent: Agent) -> tuple[Q, Q]:
    if agent.owner_id:
        return (
            Q(client__owner_id=agent.owner_id) | Q(seller__owner_id=agent.owner_id),
            Q(opener__owner_id=agent.owner_id),
        )
    return Q(client=agent) | Q(seller=agent), Q(opener=agent)


def _appealed_by(agent: Agent) -> Q:
    return Q(appellant__owner_id=agent.owner_id) if agent.owner_id else Q(appellant=agent)


def _lost_by(agent: Agent) -> Q:
    if agent.owner_id:
        return Q(lost_by="client", client__owner_id=agent.owner_id) | Q(
            lost_by="seller", seller__owner_id=agent.owner_id
        )
    return Q(lost_by="client", client=agent) | Q(lost_by="seller", seller=agent)


def _lock_record_of(agent: Agent) -> None:
    rows = User.objects.filter(pk=agent.owner_id) if agent.owner_id else Agent.objects.filter(pk=agent.pk)
    list(rows.select_for_update(no_key=True).values_list("pk"))
