"""Sweeps: deposit addresses are emptied into the treasury, in batches, by anyone who pays the gas. Here it is us."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db.models import F, Q, Sum

from accounts import clock
from escrow import relays, treasury
from escrow import withdrawal_table as table
from escrow.chain import forwarders, network, rpc, usdc
from escrow.models import Authorization, Deposit, DepositAddress, RelayTransaction, Withdrawal

log = logging.getLogger(__name__)
BATCH = 50


def sweep_due() -> RelayTransaction | None:
    """
    Start a sweep if payouts need it, or if enough has gathered. One is under way at a time.

    Only reads the chain: the transaction goes out like every relay.
    """
    here, node = network.current(), network.node()
    open_sweeps = RelayTransaction.objects.filter(
        relayer__chain_id=here.chain_id, purpose=RelayTransaction.Purpose.SWEEP, state__in=RelayTransaction.OPEN
    )
    if open_sweeps.exists():
        return None
    full = _holding(node, here)
    total = sum(units for _, units in full)
    if not total or (total < settings.SWEEP_ABOVE_UNITS and missing_units(node, here) <= 0):
        return None
    if forwarders.treasury_of(node, here.factory) not in treasury.addresses(here.chain_id):
        log.error("sweep_refused: the factory names a treasury that is not ours")
        return None
    salts = [address.salt for address, _ in full]
    call = forwarders.sweep_call(salts, token=here.usdc)
    gas_limit = relays.gas_for(node, to=here.factory, data=call)
    try:
        return relays.allocate(
            here.chain_id,
            purpose=RelayTransaction.Purpose.SWEEP,
            to=here.factory,
            data=call,
            salts=salts,
            gas_limit=gas_limit,
        )
    except relays.NotWanted:
        return None


def missing_units(node: rpc.Node, here: network.Network) -> int:
    """The micro-USDC the treasury lacks for what is authorized and asked for; below zero, what it has to spare."""
    paying = treasury.current(here.chain_id).address
    asked = Withdrawal.objects.filter(chain_id=here.chain_id, state=Withdrawal.State.REQUESTED)
    asked = asked.exclude(Q(owner=Withdrawal.Owner.INTERNAL) & ~Q(source=paying))
    signed = Authorization.objects.filter(chain_id=here.chain_id, sender=paying, withdrawal__state__in=table.UNPAID)
    owed = (asked.aggregate(total=Sum("amount_units"))["total"] or 0) + (
        signed.aggregate(total=Sum("value_units"))["total"] or 0
    )
    if not owed:
        return 0
    return owed - usdc.balance_of(node, here.usdc, paying)


def record(relay: RelayTransaction, receipt: dict[str, Any], *, at: datetime) -> None:
    """Mark the deposits that a finalized sweep brought in; an address that failed stays due."""
    here = network.current()
    moved = [usdc.decoded_transfer(log_, here.usdc) for log_ in receipt["logs"]]
    unswept = Deposit.objects.filter(chain_id=here.chain_id, swept_at=None)
    for move in moved:
        if move:
            # Its block may hold deposits that came after it.
            before = Q(block_number__lt=move.block_number) | Q(
                block_number=move.block_number, log_index__lt=move.log_index
            )
            unswept.filter(before, receiver=move.sender).update(swept_at=at)


def _holding(node: rpc.Node, here: network.Network) -> list[tuple[DepositAddress, int]]:
    """The deposit addresses that hold most, as far as we know, with what they really hold (micro-USDC)."""
    unswept = Deposit.objects.filter(chain_id=here.chain_id, swept_at=None).exclude(state=Deposit.State.ORPHANED)
    sums = unswept.values(address=F("receiver")).annotate(total=Sum("amount_units")).order_by("-total")[:BATCH]
    ours = DepositAddress.objects.filter(
        chain_id=here.chain_id, factory=here.factory, address__in=[row["address"] for row in sums]
    )
    balances = [(address, usdc.balance_of(node, here.usdc, address.address)) for address in ours]
    _write_off_emptied(node, here, [address.address for address, units in balances if not units])
    return [(address, units) for address, units in balances if units]


def _write_off_emptied(node: rpc.Node, here: network.Network, empty: list[bytes]) -> None:
    """Anyone may sweep: what a stranger emptied, finally, is done, and may not take a full address's place for ever."""
    if not empty:
        return
    finalized = node.heads().finalized
    gone = [one for one in empty if not usdc.balance_of(node, here.usdc, one, block=finalized.hash)]
    unswept = Deposit.objects.filter(chain_id=here.chain_id, receiver__in=gone, swept_at=None)
    unswept.filter(block_number__lte=finalized.number).update(swept_at=clock.now())
