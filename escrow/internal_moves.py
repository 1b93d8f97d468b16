"""
Moves between addresses of ours: to the cold address, and out of a treasury that was rotated away.

Custody does not change hands, so one treasurer's word is enough and the ledger posts nothing. What reads the chain
does so before its transaction. Amounts are micro-USDC.
"""

from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q, Sum

from accounts import clock, ids, pauses
from accounts.edge.fields import units_to_text
from accounts.errors import Conflict, Invalid, TryLater
from accounts.models import User
from escrow import treasury, withdrawals
from escrow import withdrawal_table as table
from escrow.chain import addresses, network, rpc, usdc
from escrow.models import Authorization, Treasury, Withdrawal

Owner = Withdrawal.Owner


class NoColdAddress(Conflict):
    code = "no_cold_address"
    title = "No cold address is set up"


class HotCeiling(Conflict):
    code = "hot_ceiling"
    title = "The treasury needs what would be left"


class NotDrainable(Conflict):
    code = "not_drainable"
    title = "Only an earlier treasury that owes nothing is emptied"


class ChainUnreadable(TryLater):
    title = "The chain cannot be read at the moment"


def to_cold(*, amount_units: int, by: User, note: str, at: datetime | None = None) -> Withdrawal:
    """
    Move USDC from the treasury to the cold address; what open payouts need and TREASURY_HOT_CEILING stay.

    :raises NotAllowed: if the person is no treasurer; :raises Paused: while withdrawals are
    :raises NoColdAddress: if TREASURY_COLD_ADDRESS is not set, or not registered
    :raises HotCeiling: with what could be moved as `spare`; :raises ChainUnreadable: if the node does not answer
    """
    here, at = network.current(), at or clock.now()
    _require_may_move(by, note)
    if amount_units <= 0:
        raise Invalid.at("/amount", "below_minimum", "More than nothing.")
    cold, hot = _cold(here), treasury.current(here.chain_id)
    held_units = _balance(here, hot)
    with transaction.atomic():
        _lock(hot)
        spare_units = held_units - owed_units(hot) - settings.TREASURY_HOT_CEILING_UNITS
        if amount_units > spare_units:
            raise HotCeiling(spare=units_to_text(max(spare_units, 0)))
        return _begin(hot, to=cold, amount_units=amount_units, by=by, note=note, at=at)


def drain(old: Treasury, *, by: User, note: str, at: datetime | None = None) -> Withdrawal:
    """
    Move all the USDC of an earlier treasury to the one that signs now.

    :raises NotAllowed: if the person is no treasurer; :raises Paused: while withdrawals are
    :raises NotDrainable: if it is cold, the current one, empty, or has payouts open
    :raises ChainUnreadable: if the node does not answer
    """
    here, at = network.current(), at or clock.now()
    _require_may_move(by, note)
    paying = treasury.current(here.chain_id)
    if old.cold or old.chain_id != here.chain_id or old.pk == paying.pk:
        raise NotDrainable("It is the treasury that signs, or its key is not here.")
    held_units = _balance(here, old)
    with transaction.atomic():
        _lock(old)
        signed = Authorization.objects.filter(chain_id=here.chain_id, sender=old.address)
        if signed.filter(withdrawal__state__in=table.UNPAID).exists() or _moves_from(old).exists():
            raise NotDrainable("It has payouts open.")
        if not held_units:
            raise NotDrainable("It is empty.")
        return _begin(old, to=paying, amount_units=held_units, by=by, note=note, at=at)


def owed_units(paying: Treasury) -> int:
    """What the treasury that signs has to keep for everything that is asked of it."""
    wanted = Withdrawal.objects.filter(chain_id=paying.chain_id, state__in=Withdrawal.OPEN)
    mine = wanted.filter(~Q(owner=Owner.INTERNAL) | Q(source=paying.address))
    return mine.aggregate(total=Sum("amount_units"))["total"] or 0


def _require_may_move(by: User, note: str) -> None:
    pauses.require_open("withdrawals")
    withdrawals.require_treasurer(by)
    withdrawals.require_note(note)


def _cold(here: network.Network) -> Treasury:
    """
    The cold address, as it is recorded: what nobody recorded is not watched, and does not count as custody.

    :raises NoColdAddress: if there is none
    """
    if not settings.TREASURY_COLD_ADDRESS:
        raise NoColdAddress
    address = addresses.parse(settings.TREASURY_COLD_ADDRESS)
    found = Treasury.objects.filter(chain_id=here.chain_id, address=address, cold=True).first()
    if found is None:
        raise NoColdAddress("TREASURY_COLD_ADDRESS is not registered yet (`manage.py register_keys`).")
    return found


def _balance(here: network.Network, which: Treasury) -> int:
    try:
        return usdc.balance_of(network.node(), here.usdc, which.address)
    except (rpc.NodeError, rpc.ChainNotTrusted) as error:
        raise ChainUnreadable from error


def _lock(which: Treasury) -> None:
    Treasury.objects.select_for_update(no_key=True).get(pk=which.pk)  # two moves may not count on the same USDC


def _moves_from(which: Treasury) -> Any:
    return Withdrawal.objects.filter(chain_id=which.chain_id, source=which.address, state__in=Withdrawal.OPEN)


def _begin(source: Treasury, *, to: Treasury, amount_units: int, by: User, note: str, at: datetime) -> Withdrawal:
    withdrawal = Withdrawal(
        id=ids.uuid7(),
        owner=Owner.INTERNAL,
        source=source.address,
        asked_by=by,
        note=note,
        chain_id=source.chain_id,
        amount_units=amount_units,
        address=to.address,
        state=Withdrawal.State.REQUESTED,
        requested_at=at,
    )
    withdrawals.begin(withdrawal, held_for=[], actor=f"user:{by.pk}", at=at)
    withdrawals.written("internal_move.requested", withdrawal, user=by, reason=note, at=at)
    return withdrawal
