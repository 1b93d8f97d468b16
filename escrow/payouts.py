"""
Payouts: what the treasury process does with a withdrawal that may go (ERC-3009).

Every step is committed before the next, and every step done twice is harmless: the token pays a nonce once. So a
process may die anywhere in here, and two may run at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet
from eth_hash.auto import keccak

from accounts import alerts, clock, pauses
from escrow import funds, guard, heads, leases, ledger, opinions, relays, sweeps, withdrawal_moves, withdrawals
from escrow import withdrawal_table as table
from escrow.chain import addresses, network, rpc, usdc
from escrow.models import Authorization, RelayTransaction, Withdrawal
from escrow.withdrawal_table import Action

log = logging.getLogger(__name__)
State = Withdrawal.State
NONCES = 100  # asked for in one call


def authorize_due(limit: int = 50) -> int:
    """
    Write authorizations for withdrawals that may go, and answer how many; sweeps where the treasury's USDC is short.

    Nothing while payouts are paused, or while the chain shows what no row of ours stands for.
    """
    here, node = network.current(), network.node()
    waiting = Withdrawal.objects.filter(chain_id=here.chain_id, state=State.REQUESTED)
    if pauses.is_paused(pauses.Flag.WITHDRAWALS) or not waiting.exists():
        return 0
    tips = heads.trusted(node, here)
    if not guard.all_is_known(node, here, tips):
        return 0
    usdc.domain_separator(node, here.usdc, chain_id=here.chain_id)
    final = waiting.filter(credited_block__lte=tips.finalized.number)
    purses = funds.read(node, here, latest=tips.latest, waiting=final)
    done = sum(_authorize_from(purse, final, tips=tips, limit=limit) for purse in purses)
    if any(purse.owes(final).filter(amount_units__gt=purse.free_units).exists() for purse in purses):
        sweeps.sweep_due()
    return done


def _authorize_from(purse: funds.Funds, final: QuerySet[Withdrawal], *, tips: rpc.Heads, limit: int) -> int:
    """What one treasury can pay: what it cannot waits for a sweep, and keeps nobody from their turn."""
    done = 0
    for withdrawal_id in leases.claim(purse.owes(final).filter(amount_units__lte=purse.free_units), limit=limit):
        try:
            authorize(withdrawal_id, purse=purse, tips=tips)
            done += 1
        except (funds.NotReady, table.TransitionNotAllowed):
            continue  # its turn comes again, or it was called off meanwhile
        finally:
            leases.release(Withdrawal, withdrawal_id)
    return done


@transaction.atomic
def authorize(withdrawal_id: UUID, *, purse: funds.Funds, tips: rpc.Heads, at: datetime | None = None) -> Withdrawal:
    """
    Write down, once, what the treasury will sign. Nothing is signed before this is committed.

    :raises funds.NotReady: if payouts are paused, the money it rests on is not final, or an earlier treasury has
        payouts open
    :raises funds.TreasuryShort: if the treasury's own USDC less its open authorizations does not cover it
    :raises table.TransitionNotAllowed: if it is not waiting any more
    """
    withdrawal = withdrawals.lock(withdrawal_id)
    if pauses.is_paused(pauses.Flag.WITHDRAWALS):
        raise funds.NotReady("Payouts have been paused meanwhile.")
    at = at or clock.now()
    if withdrawals.called_off_as_ours(withdrawal, at=at):
        return withdrawal
    reasons = withdrawals.reasons_to_hold_now(withdrawal, at=at)
    if withdrawal.state == State.REQUESTED and reasons:
        withdrawals.hold(withdrawal, reasons, at=at)
        return withdrawal
    fields = table.advance(withdrawal, Action.AUTHORIZE)
    if not withdrawals.is_set_aside(withdrawal):
        log.error("payout_without_money withdrawal=%s", withdrawal.pk)
        raise funds.NotReady("No money was set aside for it: it was not asked for here.")
    if withdrawal.credited_block > tips.finalized.number:
        raise funds.NotReady("The deposits it is paid from are not final yet.")
    funds.require_cover(withdrawal, purse)
    valid_before = max(tips.latest.timestamp, int(at.timestamp())) + settings.AUTHORIZATION_SECONDS
    withdrawal.lapses_at = datetime.fromtimestamp(valid_before, UTC)
    withdrawal.save(update_fields=[*fields, "lapses_at"])
    Authorization.objects.create(
        withdrawal=withdrawal,
        chain_id=withdrawal.chain_id,
        token=network.current().usdc,
        sender=purse.treasury.address,
        receiver=withdrawal.address,
        value_units=withdrawal.amount_units,
        valid_before=valid_before,
        nonce=nonce_of(withdrawal),
        since_block=tips.finalized.number,
        created_at=at,
    )
    return withdrawal


def relay_due(limit: int = 50) -> int:
    """
    Sign authorizations that nobody has relayed yet and give each a relayer's nonce; answers how many.

    Nothing while payouts are paused, or while the chain shows what no row of ours stands for.
    """
    here, node = network.current(), network.node()
    under_way = Q(relays__state__in=[*RelayTransaction.OPEN, RelayTransaction.State.CONFIRMED])
    due = Withdrawal.objects.filter(chain_id=here.chain_id, state__in=table.WANTED).exclude(
        pk__in=Withdrawal.objects.filter(under_way).values("pk")
    )
    if pauses.is_paused(pauses.Flag.WITHDRAWALS) or not due.exists():
        return 0
    tips = heads.trusted(node, here)
    if not guard.all_is_known(node, here, tips):
        return 0
    done = 0
    for withdrawal_id in leases.claim(due, limit=limit):
        ready: bool | None = False
        try:
            if not pauses.is_paused(pauses.Flag.WITHDRAWALS):  # an alarm does not wait for those that are left
                ready = _relay(node, here, withdrawal_id, tips=tips)
            done += ready is True
        finally:
            if ready is not None:
                leases.release(Withdrawal, withdrawal_id)
    return done


def _relay(node: rpc.Node, here: network.Network, withdrawal_id: UUID, *, tips: rpc.Heads) -> bool | None:
    """
    True if it has a nonce now, False if another process or the chain was first, None if it cannot go now.

    Then its claim runs out before it has another turn: blocked receivers and lost keys may not block everyone.
    """
    from escrow.signing import keys  # the treasury process alone can

    row = Authorization.objects.get(pk=withdrawal_id)
    try:
        call = _signed_call(node, here, row)
        gas_limit = relays.gas_for(node, to=here.usdc, data=call)
        relays.allocate_for_withdrawal(withdrawal_id, to=here.usdc, data=call, gas_limit=gas_limit)
    except keys.KeyRefused as refusal:
        alerts.sound("key_refused", addresses.to_text(row.sender), detail=str(refusal))
        return None
    except relays.NoRelayer as refusal:
        alerts.sound("key_refused", "relayers", detail=str(refusal))
        return None
    except rpc.NodeRefused as refusal:
        # It would be reverted now: paused, blacklisted, not funded, or submitted by somebody else already.
        if not usdc.authorization_state(
            node, here.usdc, authorizer=row.sender, nonce=row.nonce, block=tips.latest.hash
        ):
            alerts.sound("payout_would_revert", str(withdrawal_id), detail=refusal.message)
        return None
    except relays.NotWanted:
        return False
    alerts.clear("key_refused", addresses.to_text(row.sender))
    alerts.clear("key_refused", "relayers")
    alerts.clear("payout_would_revert", str(withdrawal_id))
    return True


def settle_due() -> int:
    """End what the finalized chain has decided: paid, cancelled, or expired unused; answers how many."""
    here, node = network.current(), network.node()
    pending = Authorization.objects.filter(chain_id=here.chain_id, withdrawal__state__in=table.UNPAID)
    wanted = Withdrawal.objects.filter(chain_id=here.chain_id, state__in=table.WANTED)
    alerts.clear_others("payout_would_revert", still=[str(pk) for pk in wanted.values_list("pk", flat=True)])
    if not pending.exists():
        return 0
    tips = heads.trusted(node, here)
    lapse_due(tips)
    ended = 0
    for sender in set(pending.values_list("sender", flat=True)):
        rows = list(pending.filter(sender=sender).order_by("since_block"))
        for start in range(0, len(rows), NONCES):
            ended += _settle(node, here, rows[start : start + NONCES], tips.finalized)
    alerts.clear_others("payout_would_revert", still=[str(pk) for pk in wanted.values_list("pk", flat=True)])
    return ended


def lapse_due(tips: rpc.Heads) -> None:
    """Stop relaying what the token would refuse by now; it still waits for the chain's word."""
    expired = Withdrawal.objects.filter(
        chain_id=network.current().chain_id,
        state__in=table.WANTED,
        authorization__valid_before__lte=tips.latest.timestamp,
    )
    for withdrawal_id in expired.order_by("pk").values_list("pk", flat=True):
        with transaction.atomic():
            withdrawal = withdrawals.lock(withdrawal_id)
            if withdrawal.state in table.WANTED:
                withdrawal.save(update_fields=table.advance(withdrawal, Action.LAPSE))


@transaction.atomic
def settle(withdrawal_id: UUID, *, used: usdc.AuthorizationLog, at: datetime | None = None) -> Withdrawal:
    """
    Close a payout that a finalized block holds, whoever sent it: the amount has left, the fee is ours.

    :raises table.TransitionNotAllowed: if it has ended already
    """
    withdrawal = withdrawals.lock(withdrawal_id)
    at = at or clock.now()
    proof = {"tx_hash": used.tx_hash, "block_number": used.block_number, "block_hash": used.block_hash}
    withdrawals.end(withdrawal, Action.SETTLE, at=at, **proof)
    withdrawals.tell("withdrawal.settled", withdrawal, at=at)
    if moves := withdrawal_moves.settled(withdrawal):
        ledger.post(withdrawal_moves.reference(withdrawal, "settle"), kind="withdrawal_settle", moves=moves, at=at)
    return withdrawal


@transaction.atomic
def refund(withdrawal_id: UUID, *, at: datetime | None = None) -> Withdrawal:
    """
    Give back what the chain can never pay any more; the caller has its proof.

    :raises table.TransitionNotAllowed: if it has ended already
    """
    withdrawal = withdrawals.lock(withdrawal_id)
    at = at or clock.now()
    withdrawals.end(withdrawal, Action.REFUND, at=at)
    withdrawals.tell("withdrawal.refunded", withdrawal, at=at)
    if moves := withdrawal_moves.given_back(withdrawal):
        ledger.post(withdrawal_moves.reference(withdrawal, "refund"), kind="withdrawal_refund", moves=moves, at=at)
    return withdrawal


def nonce_of(withdrawal: Withdrawal) -> bytes:
    """The nonce under which the token pays this withdrawal, at most once."""
    return keccak(f"withdrawal:{withdrawal.chain_id}:{withdrawal.id}".encode())


def _signed_call(node: rpc.Node, here: network.Network, row: Authorization) -> bytes:
    from escrow.signing import keys  # the treasury process alone can

    if (row.chain_id, bytes(row.token)) != (here.chain_id, here.usdc):
        log.error("payout_of_another_token withdrawal=%s", row.withdrawal_id)
        raise relays.NotWanted("The settings name another token: these would be other fields under this nonce.")
    fields = usdc.Authorization(row.sender, row.receiver, row.value_units, row.valid_before, row.nonce)
    domain = usdc.domain_separator(node, here.usdc, chain_id=here.chain_id)
    signature = keys.sign_digest(row.sender, usdc.authorization_digest(fields, domain))
    return usdc.payment_call(fields, v=signature.v, r=signature.r, s=signature.s)


def _settle(node: rpc.Node, here: network.Network, rows: list[Authorization], finalized: rpc.Block) -> int:
    """End these authorizations, all of one sender, as far as the finalized chain has decided them."""
    by_nonce = {row.nonce: row for row in rows}
    found = usdc.authorization_logs(
        node,
        here.usdc,
        authorizer=rows[0].sender,
        nonces=list(by_nonce),
        first=min(row.since_block for row in rows),
        last=finalized.number,
    )
    ended = 0
    for entry in found:
        row = by_nonce.pop(entry.nonce, None)
        if row and _is_final(node, entry, finalized):
            if not entry.used:
                ended += _is_in_its_receipt(node, here, entry) and _once(refund, row.withdrawal_id)
            elif _paid(node, here, row, entry):
                ended += _once(settle, row.withdrawal_id, used=entry)
    for row in by_nonce.values():
        if finalized.timestamp >= row.valid_before and _can_never_be_paid(node, here, row, finalized):
            ended += _once(refund, row.withdrawal_id)
    return ended


def _can_never_be_paid(node: rpc.Node, here: network.Network, row: Authorization, finalized: rpc.Block) -> bool:
    """It has expired unused; or the nonce was cancelled in a past that this database, restored, has forgotten."""
    if not usdc.authorization_state(node, here.usdc, authorizer=row.sender, nonce=row.nonce, block=finalized.hash):
        return opinions.expired_unused(here, row)
    found = usdc.authorization_logs(
        node,
        here.usdc,
        authorizer=row.sender,
        nonces=[row.nonce],
        first=settings.CHAIN_START_BLOCK,
        last=finalized.number,
    )
    return (
        [entry.used for entry in found] == [False]
        and _is_final(node, found[0], finalized)
        and _is_in_its_receipt(node, here, found[0])
    )


def _is_final(node: rpc.Node, entry: usdc.AuthorizationLog, finalized: rpc.Block) -> bool:
    block = node.block(entry.block_number)
    return block is not None and block.hash == entry.block_hash and block.number <= finalized.number


def _is_in_its_receipt(node: rpc.Node, here: network.Network, cancelled: usdc.AuthorizationLog) -> bool:
    """No single answer of a node gives money back: a cancellation is read twice."""
    receipt = node.receipt(cancelled.tx_hash)
    return receipt is not None and cancelled in [
        usdc.decoded_authorization(entry, here.usdc) for entry in receipt["logs"]
    ]


def _paid(node: rpc.Node, here: network.Network, row: Authorization, used: usdc.AuthorizationLog) -> bool:
    """Both logs in one transaction: the nonce used, and the value gone from the treasury to the receiver."""
    receipt = node.receipt(used.tx_hash)
    if receipt is None or rpc.raw(receipt["blockHash"]) != used.block_hash:
        return False
    wanted = (row.sender, row.receiver, row.value_units)
    paid = any(
        by.nonce == row.nonce and (moved.sender, moved.receiver, moved.amount_units) == wanted
        for moved, by in usdc.authorized_transfers(receipt, here.usdc).values()
    )
    if not paid:
        log.error("payout_without_transfer withdrawal=%s", row.withdrawal_id)
    return paid


def _once(verb: Callable[..., Withdrawal], withdrawal_id: UUID, **proof: usdc.AuthorizationLog) -> bool:
    """False if another process was first."""
    try:
        verb(withdrawal_id, **proof)
    except table.TransitionNotAllowed:
        return False
    except ledger.InsufficientFunds:  # one whose money is not there keeps nobody else waiting
        log.exception("payout_without_money withdrawal=%s", withdrawal_id)
        return False
    return True
