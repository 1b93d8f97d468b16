"""How far the chain has been read: one row, which moves in the same commit as what it stands for."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.db import transaction
from django.db.models import Max

from escrow.chain import network, rpc
from escrow.models import ScanCursor, ScannedBlock


class CursorMoved(Exception):
    """Another process read this range first, or walked back."""


def of(node: rpc.Node, here: network.Network) -> ScanCursor:
    """The cursor of this chain, which begins at `CHAIN_START_BLOCK`."""
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


def locked(cursor: ScanCursor) -> ScanCursor:
    """
    The cursor under lock, in the caller's transaction, if it still stands where we saw it.

    :raises CursorMoved: if another process moved it meanwhile
    """
    found = ScanCursor.objects.select_for_update(no_key=True).get(pk=cursor.pk)
    if (found.block_number, found.block_hash) != (cursor.block_number, cursor.block_hash):
        raise CursorMoved
    return found


def locked_past(block_number: int, *, chain_id: int) -> ScanCursor:
    """
    The cursor under lock, in the caller's transaction, if it has passed a block.

    :raises CursorMoved: if it has not, or not any more
    """
    found = ScanCursor.objects.select_for_update(no_key=True).get(chain_id=chain_id)
    if found.block_number < block_number:
        raise CursorMoved
    return found


def last_read_at() -> datetime | None:
    """Say when a new head was last read; scans read none that is stale."""
    return ScanCursor.objects.aggregate(last=Max("read_at"))["last"]
