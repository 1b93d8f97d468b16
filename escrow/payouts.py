"""
Payouts: what the treasury process does with a withdrawal that may go (ERC-3009).

Every step is committed before the next, and every step done twice is harmless: the token pays a nonce once. So a
process may die anywhere in here, and two may run at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Q, Sum
from eth_hash.auto import keccak

from accounts import clock
from accounts.errors import Conflict
from escrow import heads, leases, ledger, relays, sweeps, treasury, withdrawals
from escrow import withdrawal_table as table
from escrow.chain import network, rpc, usdc
from escrow.ledger import Move
from escrow.models import Authorization, RelayTransaction, Treasury, Withdrawal
from escrow.withdrawal_table import Action

log = logging.getLogger(__name__)
State = Withdrawal.State
NONCES = 100  # asked for in one call


class NotReady(Conflict):
    """The withdrawal has to wait: for the chain, for an earlier treasury, or for USDC."""


class TreasuryShort(NotReady):
    """The treasury's own USDC does not cover it: deposit addresses have to be swept first."""


class Funds(NamedTuple):
    """What the treasury has (micro-USDC), as of a block."""

    treasury: Treasury
    units: int
    block: int


def authorize_due(limit: int = 50) -> int:
    """Write authorizations for withdrawals that may go, and answer how many; sweeps first where USDC is short."""
    here, node = network.current(), network.node()
    due = Withdrawal.objects.filter(chain_id=here.chain_id, state=State.REQUESTED)
    if not due.exists():
        return 0
    tips = heads.trusted(node, here)
    usdc.domain_separator(node, here.usdc, chain_id=here.chain_id)
    funds = _funds(node, here)
    done, short = 0, False
    for withdrawal_id in leases.claim(due, limit=limit):
        try:
            authorize(withdrawal_id, funds=funds, tips=tips)
            done += 1
        except TreasuryShort:
            short = True
        except (NotReady, table.TransitionNotAllowed):
            continue  # its turn comes again, or it was called off meanwhile
        finally:
            leases.release(Withdrawal, withdrawal_id)
    if short:
        sweeps.sweep_due()
    return done


@transaction.atomic
def authorize(withdrawal_id: UUID, *, funds: Funds, tips: rpc.Heads, at: datetime | None = None) -> Withdrawal:
    """
    Write down, once, what the treasury will sign. Nothing is signed before this is committed.

    :raises NotReady: if the money it rests on is not final, or an earlier treasury has payouts open
    :raises TreasuryShort: if the treasury's own USDC less its open authorizations does not cover it
    :raises table.TransitionNotAllowed: if it is not waiting any more
    """
    withdrawal = withdrawals.lock(withdrawal_id)
    at = at or clock.now()
    reasons = withdrawals.reasons_to_hold_now(withdrawal, at=at)
    if withdrawal.state == State.REQUESTED and reasons:
        withdrawals.hold(withdrawal, reasons, at=at)
        return withdrawal
    fields = table.advance(withdrawal, Action.AUTHORIZE)
    if withdrawal.credited_block > tips.finalized.number:
        raise NotReady("The deposits it is paid from are not final yet.")
    _require_cover(withdrawal, funds)
    valid_before = max(tips.latest.timestamp, int(at.timestamp())) + settings.AUTHORIZATION_SECONDS
    withdrawal.lapses_at = datetime.fromtimestamp(valid_before, UTC)
    withdrawal.save(update_fields=[*fields, "lapses_at"])
    Authorization.objects.create(
        withdrawal=withdrawal,
        chain_id=withdrawal.chain_id,
        token=network.current().usdc,
        sender=funds.treasury.address,
        receiver=withdrawal.address,
        value_units=withdrawal.amount_units,
        valid_before=valid_before,
        nonce=nonce_of(withdrawal),
        since_block=tips.finalized.number,
        created_at=at,
    )
    return withdrawal


def relay_due(limit: int = 50) -> int:
    """Sign authorizations that nobody has relayed yet and give each a relayer's nonce; answers how many."""
    here, node = network.current(), network.node()
    under_way = Q(relays__state__in=[*RelayTransaction.OPEN, RelayTransaction.State.CONFIRMED])
    due = Withdrawal.objects.filter(chain_id=here.chain_id, state__in=table.WANTED).exclude(
        pk__in=Withdrawal.objects.filter(under_way).values("pk")
    )
    done = 0
    for withdrawal_id in leases.claim(due, limit=limit):
        put_off = False
        try:
            call = _signed_call(node, here, Authorization.objects.get(pk=withdrawal_id))
            gas_limit = relays.gas_for(node, to=here.usdc, data=call)
            relays.allocate_for_withdrawal(withdrawal_id, to=here.usdc, data=call, gas_limit=gas_limit)
            done += 1
        except rpc.NodeRefused as refusal:
            # It would be reverted now: paused, blacklisted, not funded, or submitted by somebody else already.
            # Until its claim runs out the others have their turn: blocked receivers may not block everyone.
            log.warning("payout_would_revert withdrawal=%s: %s", withdrawal_id, refusal.message)
            put_off = True
        except relays.NotWanted:
            continue
        finally:
            if not put_off:
                leases.release(Withdrawal, withdrawal_id)
    return done


def settle_due() -> int:
    """End what the finalized chain has decided: paid, cancelled, or expired unused; answers how many."""
    here, node = network.current(), network.node()
    if not Withdrawal.objects.filter(chain_id=here.chain_id, state__in=table.UNPAID).exists():
        return 0
    tips = heads.trusted(node, here)
    lapse_due(tips)
    pending = Authorization.objects.filter(chain_id=here.chain_id, withdrawal__state__in=table.UNPAID)
    ended = 0
    for sender in set(pending.values_list("sender", flat=True)):
        rows = list(pending.filter(sender=sender).order_by("since_block"))
        for start in range(0, len(rows), NONCES):
            ended += _settle(node, here, rows[start : start + NONCES], tips.finalized)
    return ended


def lapse_due(tips: rpc.Heads) -> None:
    """Stop relaying what the token would refuse by now; it still waits for the chain's word."""
    expired = Withdrawal.objects.filter(state__in=table.WANTED, authorization__valid_before__lte=tips.latest.timestamp)
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
    reference = withdrawals.reference(withdrawal, "settle")
    amount, fee = withdrawal.amount_units, withdrawal.fee_units
    moves = [
        Move("withdrawing", str(withdrawal.agent_id), -(amount + fee)),
        Move("custody", f"chain:{withdrawal.chain_id}", amount),
        Move(*ledger.fee_account(reference), fee),
    ]
    ledger.post(reference, kind="withdrawal_settle", moves=[move for move in moves if move.amount_units], at=at)
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
    ledger.post(
        withdrawals.reference(withdrawal, "refund"),
        kind="withdrawal_refund",
        moves=withdrawals.give_back_moves(withdrawal),
        at=at,
    )
    return withdrawal


def nonce_of(withdrawal: Withdrawal) -> bytes:
    """The nonce under which the token pays this withdrawal, at most once."""
    return keccak(f"withdrawal:{withdrawal.chain_id}:{withdrawal.id}".encode())


def _funds(node: rpc.Node, here: network.Network) -> Funds:
    """The current treasury's own USDC, read at one block."""
    paying = treasury.current(here.chain_id)
    latest = node.heads().latest
    return Funds(paying, usdc.balance_of(node, here.usdc, paying.address, block=latest.hash), latest.number)


def _require_cover(withdrawal: Withdrawal, funds: Funds) -> None:
    """
    Let no two authorizations count on the same USDC.

    :raises NotReady: if an earlier treasury still has payouts open
    :raises TreasuryShort: if there is not enough
    """
    Treasury.objects.select_for_update(no_key=True).get(pk=funds.treasury.pk)  # one at a time
    signed = Authorization.objects.filter(chain_id=withdrawal.chain_id)
    if signed.exclude(sender=funds.treasury.address).filter(withdrawal__state__in=table.UNPAID).exists():
        raise NotReady("An earlier treasury has payouts open.")
    # What was paid after the balance was read is still in that balance.
    counted = Q(withdrawal__state__in=table.UNPAID) | Q(withdrawal__block_number__gt=funds.block)
    promised = signed.filter(counted, sender=funds.treasury.address).aggregate(total=Sum("value_units"))["total"] or 0
    if funds.units - promised < withdrawal.amount_units:
        raise TreasuryShort("The treasury's own USDC does not cover it.")


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
                ended += _once(refund, row.withdrawal_id)
            elif _paid(node, here, row, entry):
                ended += _once(settle, row.withdrawal_id, used=entry)
    for row in by_nonce.values():
        if finalized.timestamp >= row.valid_before and not usdc.authorization_state(
            node, here.usdc, authorizer=row.sender, nonce=row.nonce, block=finalized.hash
        ):
            ended += _once(refund, row.withdrawal_id)
    return ended


def _is_final(node: rpc.Node, entry: usdc.AuthorizationLog, finalized: rpc.Block) -> bool:
    block = node.block(entry.block_number)
    return block is not None and block.hash == entry.block_hash and block.number <= finalized.number


def _paid(node: rpc.Node, here: network.Network, row: Authorization, used: usdc.AuthorizationLog) -> bool:
    """Both logs in one transaction: the nonce used, and the value gone from the treasury to the receiver."""
    receipt = node.receipt(used.tx_hash)
    if receipt is None or rpc.raw(receipt["blockHash"]) != used.block_hash:
        return False
    moved = [usdc.decoded_transfer(entry, here.usdc) for entry in receipt["logs"]]
    wanted = (row.sender, row.receiver, row.value_units)
    paid = any(move and (move.sender, move.receiver, move.amount_units) == wanted for move in moved)
    if not paid:
        log.error("payout_without_transfer withdrawal=%s", row.withdrawal_id)
    return paid


def _once(verb: Callable[..., Withdrawal], withdrawal_id: UUID, **proof: usdc.AuthorizationLog) -> bool:
    """False if another process was first."""
    try:
        verb(withdrawal_id, **proof)
    except table.TransitionNotAllowed:
        return False
    return True
