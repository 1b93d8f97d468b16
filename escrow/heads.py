"""The heads of the chain, believed only while they can be true."""

from datetime import timedelta

from django.conf import settings

from accounts import clock
from escrow.chain import network, rpc
from escrow.models import ScanCursor


def trusted(node: rpc.Node, here: network.Network) -> rpc.Heads:
    """
    The node's three heads, if they can be true.

    :raises ChainNotTrusted: another chain, heads out of order, a finalized block that went back, a head gone stale
    """
    if node.chain_id() != here.chain_id:
        raise rpc.ChainNotTrusted("the node is on another chain")
    heads = node.heads()
    cursor = ScanCursor.objects.filter(chain_id=here.chain_id).first()
    if cursor and heads.finalized.number < cursor.finalized_number:
        raise rpc.ChainNotTrusted("the finalized block went back")
    oldest = clock.now() - timedelta(seconds=settings.CHAIN_HEAD_MAX_AGE_SECONDS)
    if heads.latest.timestamp < oldest.timestamp():
        raise rpc.ChainNotTrusted("the head is stale")
    return heads
