"""
Explanations: why USDC left an address of ours. Payouts explain what they paid; the rest is somebody else's doing.

What nothing explains is alarmed as soon as it is seen, final or not: a stolen key does not wait.
"""

from __future__ import annotations

import logging
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from accounts import alerts, clock
from escrow import treasury, watch
from escrow.chain import network, rpc, usdc
from escrow.models import Authorization, Outflow

log = logging.getLogger(__name__)
Explanation = Outflow.Explanation
UNEXPLAINED = "unexplained_outflow"  # the alert


def explain_due(limit: int = 500) -> int:
    """
    Find the payout behind each transfer that left, and answer how many have one; alarm on those that have none.

    :raises NodeError: if a receipt cannot be read
    """
    here, node = network.current(), network.node()
    waiting = list(unexplained().filter(chain_id=here.chain_id).order_by("block_number", "log_index")[:limit])
    receipts = _receipts(node, {outflow.tx_hash for outflow in waiting})
    explained = sum(_explain(here, outflow, receipts[outflow.tx_hash]) for outflow in waiting)
    alerts.clear_others(UNEXPLAINED, still=[str(pk) for pk in unexplained().values_list("pk", flat=True)])
    return explained


def unexplained() -> QuerySet[Outflow]:
    """What left our addresses and nothing stands for, the newest of which have not been looked at yet."""
    return Outflow.objects.filter(explanation=Explanation.UNEXPLAINED, orphaned_at=None)


def _explain(here: network.Network, outflow: Outflow, receipt: dict[str, Any] | None) -> bool:
    """True if a payout of ours made it. A node that does not show its block now will, or the scan finds it gone."""
    if receipt is None or rpc.raw(receipt["blockHash"]) != outflow.block_hash:
        return False
    moved = usdc.authorized_transfers(receipt, here.usdc).get(outflow.log_index)
    nonce = moved[1].nonce if moved else None
    # The chain was read before our rows: an authorization is committed before anything of it can be on the chain.
    signed = Authorization.objects.filter(sender=outflow.sender, nonce=nonce).first() if nonce else None
    if signed and (signed.receiver, signed.value_units) == (outflow.receiver, outflow.amount_units):
        return _write(outflow, nonce=nonce, explanation=Explanation.PAYOUT, withdrawal_id=signed.withdrawal_id)
    if outflow.receiver in treasury.addresses(here.chain_id):  # recorded as ours after the scan had seen it
        return _write(outflow, nonce=nonce, explanation=Explanation.INTERNAL)
    if _write(outflow, nonce=nonce):
        why = "an authorization that no row of ours stands for" if moved else "no authorization of ours"
        watch.alarm(UNEXPLAINED, str(outflow.pk), f"{outflow.amount_units} micro-USDC left by {why}: {outflow}")
    return False


def _write(outflow: Outflow, **what: Any) -> bool:
    """False if it is explained meanwhile, or its block is gone."""
    same = unexplained().filter(pk=outflow.pk, block_hash=outflow.block_hash)
    if "explanation" in what:
        what["explained_at"] = clock.now()
    try:
        with transaction.atomic():
            return bool(same.update(**what))
    except IntegrityError:  # the same payout at another place of the chain: the scan will find one of them gone
        log.warning("outflow_twice outflow=%s", outflow.pk)
        return False


def _receipts(node: rpc.Node, hashes: set[bytes]) -> dict[bytes, dict[str, Any] | None]:
    return {tx_hash: node.receipt(tx_hash) for tx_hash in hashes}
