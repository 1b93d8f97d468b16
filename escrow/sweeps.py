"""Sweeps: deposit addresses are emptied into the treasury, in batches, by anyone who pays the gas. Here it is us."""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db.models import Q, Sum

from accounts import alerts, clock, pauses
from escrow import guard, relays, sweep_failures, treasury
from escrow import withdrawal_table as table
from escrow.chain import forwarders, network, rpc, usdc
from escrow.models import Authorization, Deposit, DepositAddress, RelayTransaction, Withdrawal

log = logging.getLogger(__name__)
BATCH = 200  # what the factory takes at once


def sweep_due() -> RelayTransaction | None:
    """
    Start a sweep if payouts need it, or if enough has gathered. One is under way at a time.

    Only reads the chain: the transaction goes out like every relay, and a process that dies leaves it to the next.
    While payouts are paused nothing is brought to a treasury whose key may be stolen.
    """
    here, node = network.current(), network.node()
    open_sweeps = RelayTransaction.objects.filter(
        relayer__chain_id=here.chain_id, purpose=RelayTransaction.Purpose.SWEEP, state__in=RelayTransaction.OPEN
    )
    with suppress(relays.NoRelayer):  # one that waits for a key that is gone keeps no other from starting
        open_sweeps = open_sweeps.filter(relayer__address__in=relays.addresses_with_keys())
    if pauses.is_paused(pauses.Flag.WITHDRAWALS) or guard.frozen() or open_sweeps.exists():
        return None
    full = _holding(node, here)
    total = sum(units for _, units in full)
    if not total or (total < settings.SWEEP_ABOVE_UNITS and missing_units(node, here) <= 0):
        return None
    gathering = forwarders.treasury_of(node, here.factory)
    if gathering not in treasury.addresses(here.chain_id):
        log.error("sweep_refused: the factory names a treasury that is not ours")
        return None
    if not _token_moves(node, here, gathering):
        return None
    return _start(node, here, _movable(node, here, full, to=gathering))


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
    """Mark the deposits that a finalized sweep brought in; an address that failed stays due, after a rest."""
    here = network.current()
    found = [usdc.decoded_transfer(log_, here.usdc) for log_ in receipt["logs"]]
    moves = [move for move in found if move]
    unswept = Deposit.objects.filter(chain_id=here.chain_id, swept_at=None)
    for move in moves:
        # Its block may hold deposits that came after it.
        before = Q(block_number__lt=move.block_number) | Q(block_number=move.block_number, log_index__lt=move.log_index)
        unswept.filter(before, receiver=move.sender).update(swept_at=at)
    sweep_failures.forget([move.sender for move in moves], chain_id=here.chain_id, at=at)
    for address in forwarders.failed(receipt, factory=here.factory, token=here.usdc):
        sweep_failures.note(address, chain_id=here.chain_id, why="Its transfer failed in a sweep.", at=at)


def _holding(node: rpc.Node, here: network.Network) -> list[tuple[DepositAddress, int]]:
    """The deposit addresses that hold most, as far as we know, with what they really hold (micro-USDC), most first."""
    of_factory = DepositAddress.objects.filter(chain_id=here.chain_id, factory=here.factory)
    unswept = Deposit.objects.filter(chain_id=here.chain_id, swept_at=None, receiver__in=of_factory.values("address"))
    unswept = unswept.exclude(state=Deposit.State.ORPHANED)
    due = unswept.exclude(receiver__in=sweep_failures.resting(here.chain_id, at=clock.now()))
    fullest = due.values("receiver").annotate(total=Sum("amount_units")).order_by("-total")[:BATCH]
    ours = list(of_factory.filter(address__in=[row["receiver"] for row in fullest]))
    held = usdc.balances_of(node, here.usdc, [bytes(one.address) for one in ours])
    _write_off_emptied(node, here, [address for address, units in held.items() if not units])
    full = [(one, held[bytes(one.address)]) for one in ours if held[bytes(one.address)]]
    return sorted(full, key=lambda pair: pair[1], reverse=True)


def _token_moves(node: rpc.Node, here: network.Network, gathering: bytes) -> bool:
    """False while the token moves nothing to the treasury at all: paused, or the treasury blocked."""
    try:
        _try_transfers(node, here, [(gathering, 0)], to=gathering)
    except rpc.NodeRefused as refusal:
        alerts.sound(sweep_failures.KIND, detail=f"The token moves nothing to the treasury: {refusal.message}")
        return False
    alerts.clear(sweep_failures.KIND)
    return True


def _movable(
    node: rpc.Node, here: network.Network, full: list[tuple[DepositAddress, int]], *, to: bytes
) -> list[DepositAddress]:
    """Which of these the token would let go; the others, blocked by it, rest, and cost no gas and nobody's turn."""
    try:
        _try_transfers(node, here, [(one.address, units) for one, units in full], to=to)
    except rpc.NodeRefused as refusal:
        if len(full) == 1:
            [(blocked, _)] = full
            sweep_failures.note(blocked.address, chain_id=here.chain_id, why=refusal.message, at=clock.now())
            return []
        half = len(full) // 2
        return _movable(node, here, full[:half], to=to) + _movable(node, here, full[half:], to=to)
    return [one for one, _ in full]


def _try_transfers(node: rpc.Node, here: network.Network, held: list[tuple[bytes, int]], *, to: bytes) -> None:
    calls = [
        {"from": rpc.text(owner), "to": rpc.text(here.usdc), "data": rpc.text(usdc.transfer_call(to, units))}
        for owner, units in held
    ]
    node.ask_many([("eth_call", [call, "latest"]) for call in calls])


def _start(node: rpc.Node, here: network.Network, batch: list[DepositAddress]) -> RelayTransaction | None:
    """Give the sweep of these, or of as many as fit into the gas bound, a relayer's nonce."""
    while batch:
        salts = [address.salt for address in batch]
        call = forwarders.sweep_call(salts, token=here.usdc)
        try:
            gas_limit = relays.gas_for(node, to=here.factory, data=call)
            if gas_limit <= settings.SWEEP_GAS_LIMIT:
                return _allocate(here, call, salts=salts, gas_limit=gas_limit)
            why = f"Its sweep takes {gas_limit} gas."
        except rpc.NodeRefused as refusal:  # it would be reverted, or does not fit into a block
            why = refusal.message
        if len(batch) == 1:
            sweep_failures.note(batch[0].address, chain_id=here.chain_id, why=why, at=clock.now())
        batch = batch[: len(batch) // 2]
    return None


def _allocate(here: network.Network, call: bytes, *, salts: list[bytes], gas_limit: int) -> RelayTransaction | None:
    sweep = RelayTransaction.Purpose.SWEEP
    try:
        return relays.allocate(
            here.chain_id, purpose=sweep, to=here.factory, data=call, salts=salts, gas_limit=gas_limit
        )
    except relays.NoRelayer as refusal:
        alerts.sound("key_refused", "relayers", detail=str(refusal))
    except relays.NotWanted:
        pass  # another process has one under way
    return None


def _write_off_emptied(node: rpc.Node, here: network.Network, empty: list[bytes]) -> None:
    """Anyone may sweep: what a stranger emptied, finally, is done, and may not take a full address's place for ever."""
    if not empty:
        return
    finalized = node.heads().finalized
    held = usdc.balances_of(node, here.usdc, empty, block=finalized.hash)
    gone = [address for address, units in held.items() if not units]
    unswept = Deposit.objects.filter(chain_id=here.chain_id, receiver__in=gone, swept_at=None)
    at = clock.now()
    unswept.filter(block_number__lte=finalized.number).update(swept_at=at)
    sweep_failures.forget(gone, chain_id=here.chain_id, at=at)
