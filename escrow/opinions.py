"""
What nodes say before money moves on their word: of a deposit ours once more, and of a large one, or of a payout that is
to be given back, somebody else's as well.
"""

from __future__ import annotations

import logging

from django.conf import settings

from accounts import alerts
from escrow.chain import network, rpc, usdc
from escrow.models import Authorization, Deposit

log = logging.getLogger(__name__)
KIND = "second_opinion"


class Disagrees(Exception):
    """The second node does not show this deposit."""


class Behind(Exception):
    """The second node is about to get there."""


def stands(node: rpc.Node, here: network.Network, deposit: Deposit) -> bool:
    """Read the receipt once more: the same block, and in it the same log."""
    receipt = node.receipt(deposit.tx_hash)
    if receipt is None or rpc.number(receipt["status"]) != 1:
        return False
    if (rpc.number(receipt["blockNumber"]), rpc.raw(receipt["blockHash"])) != (
        deposit.block_number,
        deposit.block_hash,
    ):
        return False
    return any(_is_of(usdc.decoded_transfer(log, here.usdc), deposit) for log in receipt["logs"])


class Second:
    """
    The second node in one round of crediting; where it fails to answer once, it is not waited for again.

    A local stack has one node only; elsewhere a large deposit waits until a second provider is named.
    """

    def __init__(self, here: network.Network) -> None:
        self._here, self._node = here, network.second_node()
        self._heads: rpc.Heads | None = None
        self._failure: Exception | None = None
        self._waiting: list[str] = []

    def agrees(self, deposit: Deposit, tips: rpc.Heads) -> bool:
        """
        True if the deposit is small, or this node shows it too, as deep as the first does. Otherwise it has to wait.

        :param tips: the heads of the first node
        """
        if deposit.amount_units < settings.DEPOSIT_SECOND_OPINION_ABOVE_UNITS:
            return True
        if self._node is None and settings.LOCAL:
            return True
        try:
            self._require_shown(deposit, tips)
        except Behind:
            self._waiting.append(str(deposit.id))
            return False
        except (Disagrees, rpc.ChainNotTrusted, rpc.NodeError) as doubt:
            self._waiting.append(str(deposit.id))
            alerts.sound(KIND, str(deposit.id), detail=f"A large deposit waits: {doubt}.")
            return False
        return True

    def end(self) -> None:
        """Say that it is over with those that do not wait any more."""
        alerts.clear_others(KIND, still=self._waiting)

    def _require_shown(self, deposit: Deposit, tips: rpc.Heads) -> None:
        node = self._node
        if node is None:
            raise Disagrees("CHAIN_SECOND_RPC_URL names no second provider")
        if self._failure:
            raise self._failure
        try:
            heads = self._heads = self._heads or self._believable(node)
            self._require_reached(heads, deposit, tips)
            shown = stands(node, self._here, deposit)
        except (rpc.ChainNotTrusted, rpc.NodeUnavailable) as error:
            self._failure = error
            raise
        if not shown:
            raise Disagrees("the second node does not show it")

    def _believable(self, node: rpc.Node) -> rpc.Heads:
        if node.chain_id() != self._here.chain_id:
            raise rpc.ChainNotTrusted("the second node is on another chain", reason="other_chain")
        return node.heads()

    def _require_reached(self, heads: rpc.Heads, deposit: Deposit, tips: rpc.Heads) -> None:
        """
        The same rule for both: final here has to be final there, safe here safe there.

        :raises Behind: if it is nearly there: two nodes are never quite equal
        :raises Disagrees: if it has been left behind
        """
        is_final = deposit.block_number <= tips.finalized.number
        theirs, ours = (heads.finalized, tips.finalized) if is_final else (heads.safe, tips.safe)
        if theirs.number >= deposit.block_number:
            return
        if ours.timestamp - theirs.timestamp <= settings.CHAIN_HEAD_MAX_AGE_SECONDS:
            raise Behind
        raise Disagrees("the second node has been left behind")


def expired_unused(here: network.Network, signed: Authorization) -> bool:
    """
    Ask the second node, where there is one, whether this authorization can never be paid: money is to be given back.

    One node that lies about the clock, the logs and the nonce at once must not have a payout both paid and refunded.
    """
    node = network.second_node()
    if node is None:
        return True
    try:
        finalized = node.heads().finalized
        unused = not usdc.authorization_state(
            node, here.usdc, authorizer=signed.sender, nonce=signed.nonce, block=finalized.hash
        )
        agrees = node.chain_id() == here.chain_id and finalized.timestamp >= signed.valid_before and unused
    except (rpc.ChainNotTrusted, rpc.NodeError) as doubt:
        log.warning("refund_waits withdrawal=%s: %s", signed.withdrawal_id, doubt)
        return False
    return agrees


def _is_of(transfer: usdc.Transfer | None, deposit: Deposit) -> bool:
    if transfer is None:
        return False
    place = (deposit.block_number, deposit.block_hash, deposit.tx_hash, deposit.log_index)
    return (*transfer.place, transfer.receiver, transfer.amount_units) == (
        *place,
        deposit.receiver,
        deposit.amount_units,
    )
