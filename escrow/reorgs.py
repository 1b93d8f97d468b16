"""
When the chain turns out to be another: back to the common ancestor, orphaning what was above it, in one commit.

A reorg deeper than finality is believed only if a second node, where there is one, shows it as well; and it is told.
"""

from __future__ import annotations

from django.db import transaction

from accounts import alerts, clock
from escrow import cursors, heads, outflows, sightings
from escrow.chain import network, rpc
from escrow.models import Deposit, PayoutGuard, ScanCursor, ScannedBlock

HEADERS = 50


def on_the_chain(node: rpc.Node, here: network.Network, cursor: ScanCursor, tips: rpc.Heads) -> ScanCursor:
    """
    The cursor, walked back to the common ancestor if its block is not on the chain any more.

    :raises ChainNotTrusted: if there is no ancestor, or only below what was final and nobody else shows that
    :raises CursorMoved: if another process moved it first
    """
    reached = min(cursor.block_number, tips.latest.number)
    expected = cursor.block_hash if reached == cursor.block_number else _remembered(cursor, reached)
    block = node.block(reached)
    if block is None:
        raise rpc.NodeUnavailable("a block below the head is missing")
    if expected is None or block.hash == expected:  # a head below the cursor on the same chain: the node is behind
        heads.require_final(node, cursor, tips)
        alerts.clear("deep_reorg")
        return cursor
    ancestor = _ancestor(node, cursor, reached)
    if ancestor.number < cursor.finalized_number:
        heads.believe_deep_reorg(node, here, cursor)
    return _walk_back(cursor, ancestor)


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
    locked = cursors.locked(cursor)
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
    changed = ["block_number", "block_hash"]
    if ancestor.number < locked.finalized_number:
        locked.finalized_number, locked.finalized_hash = ancestor.number, ancestor.hash
        changed += ["finalized_number", "finalized_hash"]
        # nothing is known yet of what was paid in the blocks that took their place
        checked = PayoutGuard.objects.filter(chain_id=cursor.chain_id, checked_block__gt=ancestor.number)
        checked.update(checked_block=ancestor.number)
    locked.save(update_fields=changed)
    return locked
