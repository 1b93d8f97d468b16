"""
Reading the chain for what comes and goes: a cursor that moves in the same commit as the rows it stands for.

Whatever fails leaves the cursor where it was. A block that turns out not to be on the chain any more sends it back to
the common ancestor, orphaning what was above, in one commit and before anything of the new branch is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from django.conf import settings
from django.db import transaction

from accounts import clock
from escrow import deposits, heads, outflows, sightings, treasury
from escrow.chain import network, rpc, usdc
from escrow.models import Deposit, DepositAddress, ScanCursor, ScannedBlock

OVERLAP = 4  # blocks read again: a node may have been asked before it had indexed its newest block
REMEMBERED = 1_024  # blocks a reorg can be walked back over
HEADERS = 50
# Up to this many addresses the node filters for us; beyond, every transfer is read and matched here.
FILTERED = 300


class CursorMoved(Exception):
    """Another process read this range first."""


class Stretch(NamedTuple):
    """Consecutive blocks to read, and those of them whose hash is known, the last one included."""

    first: int
    last: int
    headers: list[rpc.Block]


def scan() -> int:
    """
    Read all blocks that are new, and answer how many.

    :raises ChainNotTrusted: if the node contradicts itself
    :raises NodeError: if it does not answer
    """
    here, node = network.current(), network.node()
    tips = heads.trusted(node, here)
    cursor = _cursor(node, here)
    try:
        cursor = _on_the_chain(node, cursor, tips)
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
    return read


def rescan(first: int) -> int:
    """Read everything from a block on once more, without moving the cursor; answer how many transfers were found."""
    here, node = network.current(), network.node()
    cursor = _cursor(node, here)
    count = 0
    for start in range(first, cursor.block_number + 1, settings.CHAIN_SCAN_RANGE):
        last = min(start + settings.CHAIN_SCAN_RANGE - 1, cursor.block_number)
        found = _transfers(node, here, start, last)
        _write_behind(here, found, last)
        count += len(found)
    return count


def look_up(tx_hash: bytes) -> int:
    """
    Read one transaction that somebody says paid us, if the scan has passed its block; answer what was news in it.

    :raises ChainNotTrusted: if its receipt contradicts what was read
    :raises NodeError: if the node does not answer
    """
    here, node = network.current(), network.node()
    receipt = node.receipt(tx_hash)
    if receipt is None or rpc.number(receipt["blockNumber"]) > _cursor(node, here).block_number:
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


def _cursor(node: rpc.Node, here: network.Network) -> ScanCursor:
    cursor = ScanCursor.objects.filter(chain_id=here.chain_id).first()
    if cursor:
        return cursor
    start = node.block(settings.CHAIN_START_BLOCK)
    if start is None:
        raise rpc.ChainNotTrusted("the block to start from is not there", reason="no_start")
    with transaction.atomic():
        ScannedBlock.objects.get_or_create(chain_id=here.chain_id, number=start.number, defaults={"hash": start.hash})
        return ScanCursor.objects.get_or_create(
            chain_id=here.chain_id, defaults={"block_number": start.number, "block_hash": start.hash}
        )[0]


def _on_the_chain(node: rpc.Node, cursor: ScanCursor, tips: rpc.Heads) -> ScanCursor:
    """The cursor, walked back to the common ancestor if its block is not on the chain any more."""
    reached = min(cursor.block_number, tips.latest.number)
    expected = cursor.block_hash if reached == cursor.block_number else _remembered(cursor, reached)
    block = node.block(reached)
    if block is None:
        raise rpc.NodeUnavailable("a block below the head is missing")
    if expected is None or block.hash == expected:
        return cursor  # a head below the cursor on the same chain: the node is behind, not the chain
    return _walk_back(cursor, _ancestor(node, cursor, reached))


def _remembered(cursor: ScanCursor, number: int) -> bytes | None:
    found = ScannedBlock.objects.filter(chain_id=cursor.chain_id, number=number).first()
    return found.hash if found else None


def _ancestor(node: rpc.Node, cursor: ScanCursor, below: int) -> rpc.Block:
    """
    The newest block we read that is still on the chain.

    :raises ChainNotTrusted: if none is: this is another chain
    """
    ours = ScannedBlock.objects.filter(chain_id=cursor.chain_id, number__lt=below).order_by("-number")
    known = list(ours.values_list("number", "hash"))
    for start in range(0, len(known), HEADERS):
        part = known[start : start + HEADERS]
        theirs = node.blocks([number for number, _ in part])
        for (_, hash_), block in zip(part, theirs, strict=True):
            if block.hash == bytes(hash_):
                return block
    raise rpc.ChainNotTrusted("no block that we read is on this chain", reason="no_common_ancestor")


@transaction.atomic
def _walk_back(cursor: ScanCursor, ancestor: rpc.Block) -> ScanCursor:
    """Go back to the common ancestor: what was above it is orphaned, in the same commit."""
    locked = _locked(cursor)
    at = clock.now()
    lost = Deposit.objects.filter(chain_id=cursor.chain_id, block_number__gt=ancestor.number)
    lost = lost.exclude(state=Deposit.State.ORPHANED)
    for deposit in lost.select_for_update(no_key=True).order_by("pk"):
        deposit.state = Deposit.State.ORPHANED
        deposit.save(update_fields=["state"])
        if deposit.agent_id:
            sightings.tell("deposit.orphaned", deposit, at=at)
    outflows.orphan(chain_id=cursor.chain_id, above=ancestor.number, at=at)
    ScannedBlock.objects.filter(chain_id=cursor.chain_id, number__gt=ancestor.number).delete()
    locked.block_number, locked.block_hash = ancestor.number, ancestor.hash
    locked.save(update_fields=["block_number", "block_hash"])
    return locked


def _locked(cursor: ScanCursor) -> ScanCursor:
    """
    The cursor under lock, if it still stands where we saw it.

    :raises CursorMoved: if another process moved it meanwhile
    """
    locked = ScanCursor.objects.select_for_update(no_key=True).get(pk=cursor.pk)
    if (locked.block_number, locked.block_hash) != (cursor.block_number, cursor.block_hash):
        raise CursorMoved
    return locked


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
    """What came to or left addresses of ours in these blocks, and, where these are many, everybody's transfers."""
    # The head was read before the addresses are: whoever learns an address later cannot be paid in these blocks.
    watched = DepositAddress.objects.filter(chain_id=here.chain_id)
    some = [bytes(address) for address in watched.values_list("address", flat=True)[: FILTERED + 1]]
    if len(some) > FILTERED:
        return usdc.transfers(node, here.usdc, first=first, last=last, receivers=None)
    ours = [*some, *treasury.addresses(here.chain_id)]
    return usdc.transfers(node, here.usdc, first=first, last=last, receivers=ours, senders=ours)


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
    cursor = ScanCursor.objects.select_for_update(no_key=True).get(chain_id=here.chain_id)
    if cursor.block_number < last:
        raise CursorMoved
    _require_same_chain(here, found, [])
    return _write(here, found)


@transaction.atomic
def _record(
    here: network.Network, cursor: ScanCursor, stretch: Stretch, found: Sequence[usdc.Transfer], tips: rpc.Heads
) -> ScanCursor:
    """Write what a stretch brought and move the cursor past it, in one commit."""
    locked = _locked(cursor)
    _write(here, found)
    ScannedBlock.objects.bulk_create(
        [ScannedBlock(chain_id=here.chain_id, number=header.number, hash=header.hash) for header in stretch.headers],
        update_conflicts=True,
        unique_fields=["chain_id", "number"],
        update_fields=["hash"],
    )
    ScannedBlock.objects.filter(chain_id=here.chain_id, number__lt=stretch.last - REMEMBERED).delete()
    locked.block_number, locked.block_hash = stretch.last, stretch.headers[-1].hash
    locked.finalized_number, locked.finalized_hash = tips.finalized.number, tips.finalized.hash
    locked.safe_number, locked.latest_number = tips.safe.number, tips.latest.number
    locked.read_at = clock.now()
    locked.save()
    return locked
