"""
Books against chain: what the ledger says and what the token says; and each log of ours against its row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from django.conf import settings

from escrow import custody, deposit_addresses, treasury
from escrow.chain import network, rpc, usdc
from escrow.models import Deposit, DepositAddress, Outflow, Withdrawal

FILTERED = 300  # as many addresses as a node is asked to filter for us
PAID = (Withdrawal.State.SETTLED, Withdrawal.State.RECOGNISED)
UNDECIDED = (Withdrawal.State.AUTHORIZED, Withdrawal.State.BROADCAST, Withdrawal.State.LAPSED)

Log = tuple[bytes, bytes, int, bytes, bytes, int]


class Stray(NamedTuple):
    """A log that no row tells rightly, or a row whose log is not on the chain."""

    what: str
    log: Log

    def __str__(self) -> str:
        block_hash, tx_hash, log_index, sender, receiver, units = self.log
        return (
            f"{self.what}: {units} micro-USDC from {rpc.text(sender)} to {rpc.text(receiver)},"
            f" log {log_index} of {rpc.text(tx_hash)} in block {rpc.text(block_hash)}"
        )


def compare() -> custody.Custody:
    """Compare the ledger's custody with what all our addresses hold, at the newest final block that was scanned."""
    return custody.read(every_address=True)


def strays(*, first: int) -> Iterator[Stray]:
    """
    Read every final transfer of ours from a block on once more, and find what rows and chain do not both tell.

    :raises custody.NotScanned: if no block has been read yet
    :raises ChainNotTrusted, NodeError: if the chain cannot be read
    """
    here, node = network.current(), network.node()
    end, _ = custody.newest_common_block(node, here)
    for start in range(first, end.number + 1, settings.CHAIN_SCAN_RANGE):
        last = min(start + settings.CHAIN_SCAN_RANGE - 1, end.number)
        found = {_log(one) for one in _transfers(node, here, start, last) if one.amount_units}
        yield from _compared(here, found, start, last)


def _transfers(node: rpc.Node, here: network.Network, first: int, last: int) -> Iterator[usdc.Transfer]:
    ours = DepositAddress.objects.filter(chain_id=here.chain_id).values_list("address", flat=True)
    some = [bytes(address) for address in ours[: FILTERED + 1]]
    if len(some) <= FILTERED:
        some += treasury.addresses(here.chain_id)
        yield from usdc.transfers(node, here.usdc, first=first, last=last, receivers=some, senders=some)
        return
    for part in usdc.everybodys_transfers(node, here.usdc, first=first, last=last):
        of_ours = deposit_addresses.owners(here, usdc.parties(part))
        yield from (one for one in part if one.sender in of_ours or one.receiver in of_ours)


def _compared(here: network.Network, found: set[Log], first: int, last: int) -> Iterator[Stray]:
    """The chain was read before the rows are: of final blocks these only become more, and better explained."""
    within = {"chain_id": here.chain_id, "block_number__range": (first, last)}
    deposits = {_log(row) for row in Deposit.objects.filter(**within).exclude(state=Deposit.State.ORPHANED)}
    outflows = {
        _log(row): row for row in Outflow.objects.filter(**within, orphaned_at=None).select_related("withdrawal")
    }
    ours = deposit_addresses.owners(here, {address for log in found for address in log[3:5]})
    for log in sorted(found):
        _, _, _, sender, _, _ = log
        if sender not in ours and log not in deposits:
            yield Stray("no deposit tells of it", log)
        if sender in ours and (wrong := _wrong(outflows.get(log))):
            yield Stray(wrong, log)
    for log in sorted(deposits - found):
        yield Stray("a deposit whose log is not on the chain", log)
    for log in sorted(outflows.keys() - found):
        yield Stray("an outflow whose log is not on the chain", log)


def _wrong(outflow: Outflow | None) -> str:
    if outflow is None:
        return "no outflow tells of it"
    if outflow.explanation == Outflow.Explanation.UNEXPLAINED:
        return "nothing explains it"
    if outflow.withdrawal and outflow.withdrawal.state not in (*PAID, *UNDECIDED):
        return f"it paid {outflow.withdrawal}"
    return ""


def _log(one: usdc.Transfer | Deposit | Outflow) -> Log:
    return (one.block_hash, one.tx_hash, one.log_index, one.sender, one.receiver, one.amount_units)
