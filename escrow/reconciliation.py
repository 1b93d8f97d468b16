"""
Books against chain: what the ledger says, and what the token says.
"""

from __future__ import annotations

from typing import NamedTuple

from django.db.models import F, QuerySet, Sum

from escrow import ledger, treasury
from escrow import withdrawal_table as table
from escrow.chain import network, rpc, usdc
from escrow.models import Authorization, Deposit, DepositAddress


class Comparison(NamedTuple):
    """Ledger and chain at one finalized block, in micro-USDC; they agree when `difference_units` is zero."""

    block: int
    holdings_units: int  # what the treasuries and deposit addresses have
    custody_units: int  # what the ledger says the chain holds
    uncredited_units: int  # in the holdings, not yet posted
    early_units: int  # posted already, in blocks above
    leaving_units: int  # paid on the chain, not yet settled in the books

    @property
    def difference_units(self) -> int:
        expected = self.holdings_units - self.uncredited_units + self.early_units + self.leaving_units
        return self.custody_units - expected


def compare() -> Comparison:
    """Compare the ledger's custody with what our addresses hold at the finalized block."""
    here, node = network.current(), network.node()
    block = node.heads().finalized
    deposits = Deposit.objects.filter(chain_id=here.chain_id).exclude(state=Deposit.State.ORPHANED)
    return Comparison(
        block=block.number,
        holdings_units=_holdings(node, here, block),
        custody_units=-ledger.balance(*here.custody),
        uncredited_units=_sum(deposits.filter(posted_to="", block_number__lte=block.number)),
        early_units=_sum(deposits.exclude(posted_to="").filter(block_number__gt=block.number)),
        leaving_units=_leaving(node, here, block),
    )


def _holdings(node: rpc.Node, here: network.Network, block: rpc.Block) -> int:
    used = Deposit.objects.filter(chain_id=here.chain_id).values("receiver")
    ours = DepositAddress.objects.filter(chain_id=here.chain_id, address__in=used).values_list("address", flat=True)
    everyone = treasury.addresses(here.chain_id) | {bytes(address) for address in ours}
    return sum(usdc.balance_of(node, here.usdc, owner, block=block.number) for owner in everyone)


def _leaving(node: rpc.Node, here: network.Network, block: rpc.Block) -> int:
    signed = Authorization.objects.filter(chain_id=here.chain_id, withdrawal__state__in=table.UNPAID)
    return sum(
        row.value_units
        for row in signed
        if usdc.authorization_state(node, here.usdc, authorizer=row.sender, nonce=row.nonce, block=block.hash)
    )


def _sum(deposits: QuerySet[Deposit]) -> int:
    return deposits.aggregate(total=Sum(F("amount_units")))["total"] or 0
