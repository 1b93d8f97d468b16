"""
Relays: transactions that relayers pay gas for. Nothing is sent that is not in the database first.

A nonce is handed out under the relayer's lock and stays a row until a block has used it: sent again as the same bytes,
replaced with higher fees, or, when nobody wants it any more, filled with a transfer of nothing to the relayer itself.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Count, Q

from accounts import alerts, clock
from accounts.errors import Conflict
from escrow import heads, leases, withdrawals
from escrow import withdrawal_table as table
from escrow.chain import addresses, network, rpc, usdc
from escrow.models import RelayAttempt, Relayer, RelayTransaction
from escrow.withdrawal_table import Action

log = logging.getLogger(__name__)
State, Purpose = RelayTransaction.State, RelayTransaction.Purpose
RESEND_SECONDS = 5
FILLER_GAS = 21_000
MOST_GAS = 100_000_000
STUCK = "relay_stuck_at_fee_cap"  # the alert


class NotWanted(Conflict):
    """Another process has it under way, or nobody needs it any more."""


class NoRelayer(NotWanted):
    """No relayer of this chain has its key here."""


@transaction.atomic
def allocate_for_withdrawal(withdrawal_id: UUID, *, to: bytes, data: bytes, gas_limit: int) -> RelayTransaction:
    """
    Give a signed payout a relayer's nonce.

    :raises NotWanted: if it has one, or has lapsed or ended
    """
    withdrawal = withdrawals.lock(withdrawal_id)
    under_way = withdrawal.relays.filter(state__in=[*RelayTransaction.OPEN, State.CONFIRMED])
    if withdrawal.state not in table.WANTED or under_way.exists():
        raise NotWanted
    return allocate(
        withdrawal.chain_id, purpose=Purpose.WITHDRAWAL, withdrawal=withdrawal, to=to, data=data, gas_limit=gas_limit
    )


@transaction.atomic
def allocate(chain_id: int, **what: Any) -> RelayTransaction:
    """
    Hand out the next nonce of the least busy relayer whose key is here, under its lock.

    :raises NotWanted: if the database knows such a relay to be open; :raises NoRelayer: if there is nobody to sign it
    """
    here = Relayer.objects.filter(chain_id=chain_id, retired_at=None, address__in=addresses_with_keys())
    busy = Count("transactions", filter=Q(transactions__state__in=RelayTransaction.OPEN))
    chosen = here.annotate(busy=busy).order_by("busy", "pk").first()
    if chosen is None:
        raise NoRelayer("There is no relayer for this chain whose key is here.")
    relayer = Relayer.objects.select_for_update(no_key=True).get(pk=chosen.pk)
    try:
        with transaction.atomic():
            relay = RelayTransaction.objects.create(relayer=relayer, nonce=relayer.next_nonce, **what)
    except IntegrityError as error:
        raise NotWanted from error
    relayer.next_nonce += 1
    relayer.save(update_fields=["next_nonce"])
    return relay


@transaction.atomic
def catch_up(relayer_id: int, *, count: int) -> Relayer:
    """
    Hand out nonces from the finalized chain's `count` on: the ones below are used, by transactions nobody remembers.

    Only upwards; where the chain has counted no more than was handed out, nothing changes.
    """
    relayer = Relayer.objects.select_for_update(no_key=True).get(pk=relayer_id)
    if count > relayer.next_nonce:
        log.warning("relayer_caught_up relayer=%s from=%s to=%s", relayer, relayer.next_nonce, count)
        relayer.next_nonce = count
        relayer.save(update_fields=["next_nonce"])
    return relayer


def push_due(limit: int = 100) -> int:
    """Bring every open relay one step further, and answer how many were closed."""
    here, node = network.current(), network.node()
    due = RelayTransaction.objects.filter(relayer__chain_id=here.chain_id, state__in=RelayTransaction.OPEN)
    if not due.exists():
        return 0
    from escrow.signing import keys  # the treasury process alone can

    tips = heads.trusted(node, here)
    closed = 0
    for relay_id in leases.claim(due, limit=limit):
        put_off = False
        try:
            closed += push(node, relay_id, finalized=tips.finalized)
        except IntegrityError:
            continue  # another process, whose claim on it had run out, signed the same attempt
        except keys.KeyRefused as refusal:
            # Until its claim runs out the others have their turn: a key that is lost may not stop everyone.
            relayer = RelayTransaction.objects.select_related("relayer").get(pk=relay_id).relayer
            alerts.sound("key_refused", addresses.to_text(relayer.address), detail=str(refusal))
            put_off = True
        finally:
            if not put_off:
                leases.release(RelayTransaction, relay_id)
    return closed


def push(node: rpc.Node, relay_id: UUID, *, finalized: rpc.Block) -> bool:
    """Sign, send, send again, replace, or close one relay; True if it is closed."""
    relay = RelayTransaction.objects.select_related("relayer", "withdrawal").get(pk=relay_id)
    attempts = list(relay.attempts.order_by("number"))
    for attempt in attempts:
        receipt = node.receipt(attempt.tx_hash)
        if receipt:
            return _close_if_final(node, relay, attempt, receipt, finalized)
    seems_taken = _seems_taken(node, relay, attempts, finalized)
    filler = not _is_wanted(relay)
    if not attempts or _needs_another(attempts[-1], filler=filler):
        attempt = _sign(node, relay, attempts, filler=filler)
    else:
        attempt = attempts[-1]
    if seems_taken and _is_refused(node, attempt):
        return _close_as_taken(relay.pk)
    if attempt.sent_at is None or attempt.sent_at < clock.now() - timedelta(seconds=RESEND_SECONDS):
        _send(node, relay, attempt)
    return False


def gas_for(node: rpc.Node, *, to: bytes, data: bytes) -> int:
    """
    The gas limit for a call, with room.

    :raises NodeRefused: if the call would be reverted now
    :raises NodeUnavailable: if no call can cost what the node says; it would stick to the nonce for good
    """
    estimate = rpc.number(node.ask("eth_estimateGas", {"to": rpc.text(to), "data": rpc.text(data)}))
    if not FILLER_GAS <= estimate <= MOST_GAS:
        raise rpc.NodeUnavailable("the estimate of gas is none")
    return estimate * 3 // 2


def _is_wanted(relay: RelayTransaction) -> bool:
    if relay.purpose == Purpose.WITHDRAWAL:
        return relay.withdrawal is not None and relay.withdrawal.state in table.WANTED
    return relay.purpose == Purpose.SWEEP


def _seems_taken(node: rpc.Node, relay: RelayTransaction, attempts: list[RelayAttempt], finalized: rpc.Block) -> bool:
    """True if a finalized block has, by its count, used the nonce for a transaction that is none of ours."""
    if node.transaction_count(relay.relayer.address, block=finalized.number) <= relay.nonce:
        return False
    # One of ours may have become final after its receipt was asked for.
    return not any(node.receipt(attempt.tx_hash) or node.knows(attempt.tx_hash) for attempt in attempts)


def _is_refused(node: rpc.Node, attempt: RelayAttempt) -> bool:
    """No single answer closes a relay: where the nonce is used up, nobody takes what is signed under it either."""
    try:
        node.send(bytes(attempt.raw))
    except rpc.NodeRefused:
        return True
    return False


def _needs_another(attempt: RelayAttempt, *, filler: bool) -> bool:
    """True if nobody wants what was signed any more, or no block takes it and we may pay more."""
    if filler and not attempt.filler:
        return True
    stuck = attempt.signed_at < clock.now() - timedelta(seconds=settings.RELAY_REPLACE_SECONDS)
    return stuck and _can_pay_more(attempt)


def _can_pay_more(attempt: RelayAttempt) -> bool:
    if _raised(attempt.max_fee) <= settings.RELAY_MAX_FEE_WEI:
        return True
    detail = f"no block takes {rpc.text(attempt.tx_hash)}, and its fees are as high as they may be"
    alerts.sound(STUCK, str(attempt.relay_id), detail=detail)
    return False


def _sign(node: rpc.Node, relay: RelayTransaction, earlier: list[RelayAttempt], *, filler: bool) -> RelayAttempt:
    """Sign under the relay's nonce and commit the bytes; sending comes after."""
    from escrow.signing import keys  # the treasury process alone can

    max_fee, priority_fee = _fees(node, earlier)
    transaction_ = {
        "type": 2,
        "chainId": relay.relayer.chain_id,
        "nonce": relay.nonce,
        "to": addresses.to_text(relay.relayer.address if filler else relay.to),
        "value": 0,
        "data": b"" if filler else bytes(relay.data),
        "gas": FILLER_GAS if filler else relay.gas_limit,
        "maxFeePerGas": max_fee,
        "maxPriorityFeePerGas": priority_fee,
    }
    signed = keys.sign_transaction(relay.relayer.address, transaction_)
    alerts.clear("key_refused", addresses.to_text(relay.relayer.address))
    with transaction.atomic():
        locked = RelayTransaction.objects.select_for_update(no_key=True).get(pk=relay.pk)
        if locked.state == State.ALLOCATED:
            locked.state = State.SIGNED
            locked.save(update_fields=["state"])
        return RelayAttempt.objects.create(
            relay=relay,
            number=len(earlier) + 1,
            raw=signed.raw,
            tx_hash=signed.hash,
            filler=filler,
            max_fee=max_fee,
            priority_fee=priority_fee,
            signed_at=clock.now(),
        )


def _fees(node: rpc.Node, earlier: list[RelayAttempt]) -> tuple[int, int]:
    """Fees in wei per gas: what the node suggests, and for a replacement at least an eighth more than before."""
    priority_fee = rpc.number(node.ask("eth_maxPriorityFeePerGas"))
    max_fee = min(2 * rpc.number(node.ask("eth_gasPrice")) + priority_fee, settings.RELAY_MAX_FEE_WEI)
    if earlier:
        max_fee = max(max_fee, _raised(earlier[-1].max_fee))
        priority_fee = max(priority_fee, _raised(earlier[-1].priority_fee))
    return max_fee, min(priority_fee, max_fee)


def _raised(fee: int) -> int:
    """A fee × 1.125, rounded up: what nodes ask of a replacement, and a little more."""
    return -(-fee * 9 // 8)


def _send(node: rpc.Node, relay: RelayTransaction, attempt: RelayAttempt) -> None:
    """Hand the committed bytes to the node. Unless it refuses them, they may be on their way."""
    try:
        node.send(bytes(attempt.raw))
    except rpc.NodeRefused as refusal:
        # "already known" and "nonce too low" look like this too: the receipt will tell, and the same bytes go again.
        log.info("relay_refused tx=%s: %s", rpc.text(attempt.tx_hash), refusal.message)
        if attempt.sent_at is None:
            return
    except rpc.NodeUnavailable:
        log.warning("relay_unanswered tx=%s", rpc.text(attempt.tx_hash))
    _mark_sent(relay, attempt)


@transaction.atomic
def _mark_sent(relay: RelayTransaction, attempt: RelayAttempt) -> None:
    at = clock.now()
    if relay.purpose == Purpose.WITHDRAWAL and not attempt.filler and relay.withdrawal_id:
        withdrawal = withdrawals.lock(relay.withdrawal_id)
        if withdrawal.state in table.RULES[Action.BROADCAST].before:
            fields = table.advance(withdrawal, Action.BROADCAST)
            withdrawal.broadcast_at, withdrawal.tx_hash = at, attempt.tx_hash
            withdrawal.save(update_fields=[*fields, "broadcast_at", "tx_hash"])
            withdrawals.tell("withdrawal.broadcast", withdrawal, at=at)
    locked = RelayTransaction.objects.select_for_update(no_key=True).get(pk=relay.pk)
    if locked.state == State.SIGNED:
        locked.state = State.SENT
        locked.save(update_fields=["state"])
    attempt.sent_at = at
    attempt.save(update_fields=["sent_at"])


def _close_if_final(
    node: rpc.Node, relay: RelayTransaction, attempt: RelayAttempt, receipt: dict[str, Any], finalized: rpc.Block
) -> bool:
    if rpc.number(receipt["blockNumber"]) > finalized.number:
        return False
    # A receipt that was made up would leave a gap no later nonce gets past: the count has to say the same.
    if node.transaction_count(relay.relayer.address, block=finalized.number) <= relay.nonce:
        return False
    if rpc.number(receipt["status"]) != 1 and _is_paid_otherwise(node, relay, finalized):
        return False  # the payout is settled first, then it is known that another transaction did the work
    _close(relay.pk, attempt, receipt)
    return True


def _is_paid_otherwise(node: rpc.Node, relay: RelayTransaction, finalized: rpc.Block) -> bool:
    """A reverted relay is no proof of anything: its nonce may be used, and our books may not know yet."""
    withdrawal = relay.withdrawal
    if withdrawal is None or withdrawal.state not in table.UNPAID:
        return False
    signed = withdrawal.authorization
    return usdc.authorization_state(
        node, signed.token, authorizer=signed.sender, nonce=signed.nonce, block=finalized.hash
    )


@transaction.atomic
def _close_as_taken(relay_id: UUID) -> bool:
    """What it was for is relayed anew, under another nonce, if it is still wanted."""
    relay = RelayTransaction.objects.select_for_update(no_key=True).get(pk=relay_id)
    if relay.closed_at:
        return False
    log.error("relay_nonce_taken relay=%s nonce=%s", relay.pk, relay.nonce)
    relay.state, relay.closed_at = State.SUPERSEDED, clock.now()
    relay.save(update_fields=["state", "closed_at"])
    alerts.clear(STUCK, str(relay.pk))
    return True


@transaction.atomic
def _close(relay_id: UUID, attempt: RelayAttempt, receipt: dict[str, Any]) -> None:
    """A finalized block has used the nonce: write down what it did."""
    from escrow import sweeps  # a sweep is a relay, and a relay that was a sweep tells it

    relay = RelayTransaction.objects.select_for_update(no_key=True).get(pk=relay_id)
    if relay.closed_at:
        return
    at = clock.now()
    worked = rpc.number(receipt["status"]) == 1
    if attempt.filler:
        relay.state = State.SUPERSEDED
    elif worked:
        relay.state = State.CONFIRMED
    else:
        relay.state = State.SUPERSEDED if _done_by_another(relay) else State.REVERTED
    relay.closed_at, relay.tx_hash, relay.block_number = at, attempt.tx_hash, rpc.number(receipt["blockNumber"])
    relay.save(update_fields=["state", "closed_at", "tx_hash", "block_number"])
    alerts.clear(STUCK, str(relay.pk))
    if relay.purpose == Purpose.SWEEP and worked:
        sweeps.record(relay, receipt, at=at)


def addresses_with_keys() -> list[bytes]:
    """
    The relayers whose keys are here.

    :raises NoRelayer: if none opens
    """
    from escrow.signing import keys  # the treasury process alone can

    try:
        return keys.relayer_addresses()
    except keys.KeyRefused as refusal:
        raise NoRelayer(str(refusal)) from refusal


def _done_by_another(relay: RelayTransaction) -> bool:
    """True if the payout was settled by a transaction that is not one of this relay's."""
    if relay.withdrawal is None or relay.withdrawal.state not in (table.State.SETTLED, table.State.RECOGNISED):
        return False
    return not relay.attempts.filter(tx_hash=relay.withdrawal.tx_hash).exists()
