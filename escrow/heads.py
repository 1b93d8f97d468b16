"""
The heads of the chain, believed only while they can be true; and what is said aloud when they cannot be.

`reported` wraps what reads the chain by itself, scan and credit: tasks need not tell anybody.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from django.conf import settings

from accounts import alerts, clock
from accounts.models import Alert
from escrow.chain import network, rpc
from escrow.models import ScanCursor

# Why scan and credit may not believe a node: a scan that succeeds ends them all.
REASONS = (
    "blocks_do_not_follow",
    "branches_mixed",
    "contradiction",
    "finalized_changed",
    "finalized_went_back",
    "head_of_the_future",
    "heads_out_of_order",
    "log_changed",
    "log_moved",
    "log_twice",
    "no_common_ancestor",
    "no_heads",
    "no_start",
    "other_chain",
    "other_height",
    "stale_head",
)


def trusted(node: rpc.Node, here: network.Network) -> rpc.Heads:
    """
    The node's three heads, if they can be true.

    :raises ChainNotTrusted: another chain, heads out of order, a finalized block that went back or is another one now,
        a head gone stale
    """
    # The cursor before the node: another process may move it on meanwhile.
    cursor = ScanCursor.objects.filter(chain_id=here.chain_id).first()
    heads = plausible(node, here, cursor)
    if cursor:
        require_final(node, cursor, heads)
    return heads


def plausible(node: rpc.Node, here: network.Network, cursor: ScanCursor | None) -> rpc.Heads:
    """
    The node's three heads, if nothing in themselves speaks against them.

    :raises ChainNotTrusted: another chain, heads out of order, a finalized block that went back, a head gone stale or
        ahead of our clock
    """
    if node.chain_id() != here.chain_id:
        raise rpc.ChainNotTrusted("the node is on another chain", reason="other_chain")
    heads = node.heads()
    if cursor and heads.finalized.number < cursor.finalized_number:
        raise rpc.ChainNotTrusted("the finalized block went back", reason="finalized_went_back")
    oldest = clock.now() - timedelta(seconds=settings.CHAIN_HEAD_MAX_AGE_SECONDS)
    if heads.latest.timestamp < oldest.timestamp():
        raise rpc.ChainNotTrusted("the head is stale", reason="stale_head")
    # Payouts expire by the time of a finalized block: a wrong one would give back what can still be paid.
    if not heads.finalized.timestamp <= heads.safe.timestamp <= heads.latest.timestamp:
        raise rpc.ChainNotTrusted("finalized, safe and latest are out of order in time", reason="heads_out_of_order")
    newest = clock.now() + timedelta(seconds=settings.CHAIN_HEAD_MAX_AHEAD_SECONDS)
    if heads.latest.timestamp > newest.timestamp():
        raise rpc.ChainNotTrusted("the head is of the future", reason="head_of_the_future")
    # What we are told is final we hold against every later answer: it has to be so by its height, too.
    if _block(node, heads.finalized.number) != heads.finalized:
        raise rpc.ChainNotTrusted("the finalized block is another one by its height")
    return heads


def require_final(node: rpc.Node, cursor: ScanCursor, heads: rpc.Heads) -> None:
    """
    Refuse a node that shows another block where we were shown a final one.

    :raises ChainNotTrusted: it lies, or a reorg was deeper than finality: then the scan has to walk back first
    """
    if cursor.finalized_hash is None:
        return
    known = heads.finalized.number == cursor.finalized_number
    if (heads.finalized if known else _block(node, cursor.finalized_number)).hash != cursor.finalized_hash:
        raise rpc.ChainNotTrusted("a block that was final is another one now", reason="finalized_changed")


def believe_deep_reorg(node: rpc.Node, here: network.Network, cursor: ScanCursor) -> None:
    """
    Sound the alarm over a final block that is another one now; a second node, where there is one, has to show the same.

    :raises ChainNotTrusted: if it does not: then nobody walks back
    """
    from escrow import watch  # which reads custody, and so the heads

    shown, second = _block(node, cursor.finalized_number), network.second_node()
    if second is not None and not _shows(second, here, shown):
        raise rpc.ChainNotTrusted("a final block changed on one node alone", reason="finalized_changed")
    watch.alarm("deep_reorg", detail=f"Block {shown.number} was final and is another one now.")


@contextmanager
def reported(reading: str) -> Iterator[None]:
    """Say aloud why the chain cannot be believed or read, and that it is over once the same reading succeeds."""
    try:
        yield
    except rpc.ChainNotTrusted as error:
        distrusted(error)
        raise
    except rpc.NodeError as error:
        alerts.sound("chain_unreadable", reading, detail=str(error))
        raise
    alerts.clear("chain_unreadable", reading)


def distrusted(error: rpc.ChainNotTrusted) -> None:
    """Say aloud why the node is not believed."""
    alerts.sound("chain_not_trusted", error.reason, detail=str(error))


def believed() -> None:
    """Say that the node is believed again: the scan read it to its head."""
    open_alerts = Alert.objects.filter(kind="chain_not_trusted", subject__in=REASONS, cleared_at=None)
    for reason in list(open_alerts.values_list("subject", flat=True)):
        alerts.clear("chain_not_trusted", reason)


def _shows(second: rpc.Node, here: network.Network, block: rpc.Block) -> bool:
    try:
        return second.chain_id() == here.chain_id and second.block(block.number) == block
    except rpc.NodeError:
        return False


def _block(node: rpc.Node, number: int) -> rpc.Block:
    block = node.block(number)
    if block is None:
        raise rpc.NodeUnavailable("a final block is missing")
    return block
