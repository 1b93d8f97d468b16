"""
The platform's income on its way out: asked for by one treasurer, approved by another, bounded by what was earned.

From then on it is a withdrawal like any other.
"""

from datetime import datetime

from django.conf import settings
from django.db import transaction

from accounts import clock, ids, pauses
from accounts.edge.fields import units_to_text
from accounts.errors import Invalid
from accounts.models import User
from escrow import address_book, conflicts, withdrawal_limits, withdrawals
from escrow.chain import network
from escrow.models import Withdrawal


@transaction.atomic
def request(*, by: User, amount_units: int, address: bytes, note: str, at: datetime | None = None) -> Withdrawal:
    """
    Ask for a payout of income: it is set aside now, and waits for another treasurer, for two when it is large.

    :raises NotAllowed: if the person is no treasurer, or owns an agent that is paid at this address
    :raises interests.ConflictOfInterest: if an agent of theirs has traded with one that is
    :raises Paused: while withdrawals are
    :raises Invalid: below the minimum, without a note, or to an address that nothing may be paid to
    :raises ledger.InsufficientFunds: if fees and penalties do not cover it
    """
    pauses.require_open("withdrawals")
    withdrawals.require_treasurer(by)
    withdrawals.require_note(note)
    if amount_units < settings.WITHDRAWAL_MINIMUM_UNITS:
        least = units_to_text(settings.WITHDRAWAL_MINIMUM_UNITS)
        raise Invalid.at("/amount", "below_minimum", f"At least {least} USDC.")
    address_book.refuse_unpayable(address, pointer="/address")
    conflicts.require_none(by, conflicts.paid_at(address))
    at = at or clock.now()
    here = network.current()
    withdrawal = Withdrawal(
        id=ids.uuid7(),
        owner=Withdrawal.Owner.PLATFORM,
        asked_by=by,
        note=note,
        chain_id=here.chain_id,
        amount_units=amount_units,
        address=address,
        state=Withdrawal.State.REQUESTED,
        requested_at=at,
        credited_block=withdrawal_limits.newest_credited_block(here.chain_id),
    )
    withdrawals.begin(withdrawal, held_for=["platform"], actor=f"user:{by.pk}", at=at)
    withdrawals.written("platform_payout.requested", withdrawal, user=by, reason=note, at=at)
    return withdrawal
