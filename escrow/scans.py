"""
Reading the chain for what comes and goes: a cursor that moves in the same commit as the rows it stands for.

Whatever fails leaves the cursor where it was, and is told. A block that turns out not to be on the chain any more sends
it back (reorgs.py) before anything of the new branch is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from django.conf import settings
from django.core.cache import cache
from django.db import transaction

from accounts import clock
from escrow import cursors, deposit_addresses, deposits, heads, opinions, outflows, reorgs, sightings, treasury
from escrow.chain import network, rpc, usdc
from escrow.cursors import CursorMoved
from escrow.models import Deposit, DepositAddress, ScanCursor, ScannedBlock

OVERLAP = 4  # blocks read again: a node may have been asked before it had indexed its newest block
REMEMBERED = 1_024  # blocks below the finalized one that a reorg can be walked back over
HEADERS = 50
# Up to this many addresses the node filters for us; beyond, every transfer is read and matched here.
FILTERED = 300
HINTED_SCAN_SECONDS = 1


class Stretch(NamedTuple):
    """Consecutive blocks to read, and those of them whose hash is known, the last one included."""

    first: int
    last: int
    headers: list[rpc.Block]


@heads.reported("scan")
def scan() -> int:
    """
    Read all blocks that are new, and answer how many.

    :raises ChainNotTrusted: if the node contradicts itself
    :raises NodeError: if it does not answer
    """
    here, node = network.current(), network.node()
    known = ScanCursor.objects.filter(chain_id=here.chain_id).first()
    tips = heads.plausible(node, here, known)
    cursor = known or cursors.of(node, here)
    try:
        cursor = reorgs.on_the_chain(node, here, cursor, tips)
        deposits.reverse_orphaned()
        read = 0
        while cursor.block_number < tips.latest.number:
            stretch = _stretch(node, cursor, tips)
            found = _transfers(node, here, max(stretch.first - OVERLAP, settings.CHAIN_START_BLOCK), stretch.last)
            _require_same_chain(here, found, stretch.headers)
            cursor = _record(here, cursor, stretch, found, tips)
            read += stretch.last - stretch.first + 1
    except CursorMoved:
        return 0
    heads.believed()
    return read


def hinted(tx_hash: bytes) -> int:
    """Read a transaction that somebody points at, and new blocks: these at most once a second, however many point."""
    if cache.add("deposit-hint-scan", 1, HINTED_SCAN_SECONDS):
        scan()
    return look_up(tx_hash)


def rescan(first: int) -> int:
    """
    Read everything from a block on once more, without moving the cursor; answer how many transfers were found.

    What a wrong answer kept back is written down; what one made up, and nobody has posted, is let go.
    """
    here, node = network.current(), network.node()
    cursor = cursors.of(node, here)
    count = 0
    for start in range(first, cursor.block_number + 1, settings.CHAIN_SCAN_RANGE):
        last = min(start + settings.CHAIN_SCAN_RANGE - 1, cursor.block_number)
        found = _transfers(node, here, start, last)
        _let_go_of_invented(node, here, found, first=start, last=last)
        _write_behind(here, found, last)
        count += len(found)
    return count


def _let_go_of_invented(
    node: rpc.Node, here: network.Network, found: Sequence[usdc.Transfer], *, first: int, last: int
) -> None:
    """Orphan deposits that neither the logs of these blocks show nor a receipt: two answers, as one may lie again."""
    shown = {(*transfer.log_key, transfer.receiver, transfer.amount_units) for transfer in found}
    rows = Deposit.objects.filter(chain_id=here.chain_id, block_number__range=(first, last), state__in=deposits.DUE)
    for row in rows.filter(posted_to=""):
        if (row.tx_hash, row.log_index, row.receiver, row.amount_units) not in shown and not opinions.stands(
            node, here, row
        ):
            sightings.let_go(row, at=clock.now())


def look_up(tx_hash: bytes) -> int:
    """
    Read one transaction that somebody says paid us, if the scan has passed its block; answer what was news in it.

    :raises ChainNotTrusted: if its receipt contradicts what was read
    :raises NodeError: if the node does not answer
    """
    here, node = network.current(), network.node()
    receipt = node.receipt(tx_hash)
    if receipt is None or rpc.number(receipt["blockNumber"]) > cursors.of(node, here).block_number:
        return 0
    block = node.block(rpc.number(receipt["blockNumber"]))
    if block is None or block.hash != rpc.raw(receipt["blockHash"]):
        return 0
    decoded = [usdc.decoded_transfer(entry, here.usdc) for entry in receipt["logs"]]
    found = [transfer for transfer in decoded if transfer]
    if any(transfer.place[:3] != (block.number, block.hash, tx_hash) for transfer in found):
        raise rpc.ChainNotTrusted("a receipt holds logs of elsewhere", reason="wrong_receipt")
    try:
        return _write_behind(here, found, block.number)
    except CursorMoved:  # walked back meanwhile: the scan will read it by itself
        return 0


def _stretch(node: rpc.Node, cursor: ScanCursor, tips: rpc.Heads) -> Stretch:
    """
    The next blocks: many at once where they are final, each by its hash where they can still change.

    :raises ChainNotTrusted: if they do not follow from the cursor: the chain changed under our eyes
    """
    first = cursor.block_number + 1
    if first <= tips.finalized.number:
        last = min(first + settings.CHAIN_SCAN_RANGE - 1, tips.finalized.number)
        headers = node.blocks([first] if first == last else [first, last])
    else:
        last = min(first + HEADERS - 1, tips.latest.number)
        headers = node.blocks(range(first, last + 1))
    parents = [cursor.block_hash, *(header.hash for header in headers)]
    for parent, header in zip(parents, headers, strict=False):
        if header.number - 1 in {cursor.block_number, *(known.number for known in headers)} and header.parent != parent:
            raise rpc.ChainNotTrusted("the blocks do not follow from what was read", reason="blocks_do_not_follow")
    return Stretch(first, last, headers)


def _transfers(node: rpc.Node, here: network.Network, first: int, last: int) -> list[usdc.Transfer]:
    """What came to or left addresses of ours in these blocks; where these are many, picked out of all transfers."""
    # The head was read before the addresses are: whoever learns an address later cannot be paid in these blocks.
    watched = DepositAddress.objects.filter(chain_id=here.chain_id)
    some = [bytes(address) for address in watched.values_list("address", flat=True)[: FILTERED + 1]]
    if len(some) > FILTERED:
        everybodys = usdc.everybodys_transfers(node, here.usdc, first=first, last=last)
        return [transfer for part in everybodys for transfer in _ours(here, part)]
    ours = [*some, *treasury.addresses(here.chain_id)]
    return usdc.transfers(node, here.usdc, first=first, last=last, receivers=ours, senders=ours)


def _ours(here: network.Network, found: Sequence[usdc.Transfer]) -> list[usdc.Transfer]:
    ours = deposit_addresses.owners(here, usdc.parties(found))
    return [transfer for transfer in found if transfer.sender in ours or transfer.receiver in ours]


def _require_same_chain(here: network.Network, found: Sequence[usdc.Transfer], headers: Sequence[rpc.Block]) -> None:
    """
    Logs and headers come from different calls: refuse logs of another branch.

    :raises ChainNotTrusted: if one is in a block that is not the one we know at its height
    """
    heights = {transfer.block_number for transfer in found}
    known = dict(ScannedBlock.objects.filter(chain_id=here.chain_id, number__in=heights).values_list("number", "hash"))
    known.update({header.number: header.hash for header in headers})
    for transfer in found:
        if transfer.block_hash != bytes(known.get(transfer.block_number, transfer.block_hash)):
            raise rpc.ChainNotTrusted("logs and blocks are of different branches", reason="branches_mixed")


def _write(here: network.Network, found: Sequence[usdc.Transfer]) -> int:
    """
    Write down what came and what left, in the caller's transaction; answer how many rows were news.

    :raises ChainNotTrusted: if two of them have one log
    """
    if len({transfer.log_key for transfer in found}) != len(found):
        raise rpc.ChainNotTrusted("one log is shown as two transfers", reason="log_twice")
    return sightings.write(here, found) + outflows.write(here, found)


@transaction.atomic
def _write_behind(here: network.Network, found: Sequence[usdc.Transfer], last: int) -> int:
    """
    Write down what was found up to a block that the scan has passed, on the branch it read; the cursor stays.

    :raises CursorMoved: if the scan went back below it
    """
    cursors.locked_past(last, chain_id=here.chain_id)
    _require_same_chain(here, found, [])
    return _write(here, found)


@transaction.atomic
def _record(
    here: network.Network, cursor: ScanCursor, stretch: Stretch, found: Sequence[usdc.Transfer], tips: rpc.Heads
) -> ScanCursor:
    """Write what a stretch brought and move the cursor past it, in one commit."""
    locked = cursors.locked(cursor)
    _write(here, found)
    ScannedBlock.objects.bulk_create(
        [ScannedBlock(chain_id=here.chain_id, number=header.number, hash=header.hash) for header in stretch.headers],
        update_conflicts=True,
        unique_fields=["chain_id", "number"],
        update_fields=["hash"],
    )
    oldest = min(stretch.last, tips.finalized.number) - REMEMBERED
    ScannedBlock.objects.filter(chain_id=here.chain_id, number__lt=oldest).delete()
    locked.block_number, locked.block_hash = stretch.last, stretch.headers[-1].hash
    locked.finalized_number, locked.finalized_hash = tips.finalized.number, tips.finalized.hash
    locked.safe_number, locked.latest_number = tips.safe.number, tips.latest.number
    locked.read_at = clock.now()
    locked.save()
    return locked
