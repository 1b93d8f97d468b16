"""What a treasury has to pay with: its own USDC at a block, less what it has signed for. Amounts are micro-USDC."""

from __future__ import annotations

from typing import NamedTuple

from django.db.models import Q, QuerySet, Sum

from accounts.errors import Conflict
from escrow import treasury
from escrow import withdrawal_table as table
from escrow.chain import network, rpc, usdc
from escrow.models import Authorization, Treasury, Withdrawal


class NotReady(Conflict):
    """The withdrawal has to wait: for the chain, for an earlier treasury, or for USDC."""


class TreasuryShort(NotReady):
    """The treasury's own USDC does not cover it: deposit addresses have to be swept first."""


class Funds(NamedTuple):
    """What one treasury has (micro-USDC), as of a block."""

    treasury: Treasury
    units: int
    block: int
    is_current: bool = True

    @property
    def free_units(self) -> int:
        """What is not promised yet. What was paid after the balance was read is still in that balance."""
        signed = Authorization.objects.filter(chain_id=self.treasury.chain_id, sender=self.treasury.address)
        counted = Q(withdrawal__state__in=table.UNPAID) | Q(withdrawal__block_number__gt=self.block)
        return self.units - (signed.filter(counted).aggregate(total=Sum("value_units"))["total"] or 0)

    def owes(self, waiting: QuerySet[Withdrawal]) -> QuerySet[Withdrawal]:
        """Which of these withdrawals this treasury pays: what leaves it by name, and the current one all others."""
        return waiting.filter(Q(source=self.treasury.address) | (Q(source=None) if self.is_current else Q(pk=None)))


def read(node: rpc.Node, here: network.Network, *, latest: rpc.Block, waiting: QuerySet[Withdrawal]) -> list[Funds]:
    """What the current treasury has at a block, and every other that one of these withdrawals leaves by name."""
    current = treasury.current(here.chain_id)
    named = Treasury.objects.filter(chain_id=here.chain_id, cold=False, address__in=waiting.values("source"))
    paying = [current, *named.exclude(pk=current.pk).order_by("pk")]
    held = usdc.balances_of(node, here.usdc, [one.address for one in paying], block=latest.hash)
    return [Funds(one, held[one.address], latest.number, one == current) for one in paying]


def require_cover(withdrawal: Withdrawal, funds: Funds) -> None:
    """
    Let no two authorizations count on the same USDC, and no treasury sign while an earlier one has payouts open.

    :raises NotReady: if it does, or if another treasury has to pay this one
    :raises TreasuryShort: if there is not enough
    """
    paying = funds.treasury
    all_of_them = Treasury.objects.filter(chain_id=paying.chain_id).order_by("pk")
    list(all_of_them.select_for_update(no_key=True))  # one at a time, whichever treasury pays
    if (withdrawal.source or treasury.current(paying.chain_id).address) != paying.address:
        raise NotReady("Another treasury pays this one.")
    earlier = all_of_them.filter(pk__lt=paying.pk).values("address")
    unpaid = Authorization.objects.filter(chain_id=paying.chain_id, withdrawal__state__in=table.UNPAID)
    if unpaid.filter(sender__in=earlier).exists():
        raise NotReady("An earlier treasury has payouts open.")
    if funds.free_units < withdrawal.amount_units:
        raise TreasuryShort("The treasury's own USDC does not cover it.")
