"""Deposits that are nobody's, on their way back to whoever sent them: asked for and approved like platform payouts."""

from datetime import datetime
from uuid import UUID

from django.db import transaction

from accounts import clock, ids, pauses
from accounts.errors import Conflict, NotFound
from accounts.models import User
from escrow import address_book, conflicts, withdrawals
from escrow.models import Deposit, Withdrawal

State = Withdrawal.State
# A return that ended like this has given the money back to suspense: it can be asked for again.
CAME_BACK = (State.CANCELLED, State.REJECTED, State.REFUNDED)


class NotReturnable(Conflict):
    code = "not_returnable"
    title = "Only a final deposit that is nobody's goes back"


class ReturnedAlready(Conflict):
    code = "returned_already"
    title = "The deposit is on its way back, or has gone back"


@transaction.atomic
def request(deposit_id: UUID, *, by: User, note: str, at: datetime | None = None) -> Withdrawal:
    """
    Ask to send a deposit in suspense back to its sender; another treasurer has to agree.

    :raises NotAllowed: if the person is no treasurer, or owns an agent that is paid at the sender's address
    :raises interests.ConflictOfInterest: if an agent of theirs has traded with one that is
    :raises Paused: while withdrawals are
    :raises NotFound: if there is no such deposit; :raises Invalid: without a note, or if its sender cannot be paid
    :raises NotReturnable: if it is somebody's, or not in suspense; :raises ReturnedAlready: if it goes back already
    """
    pauses.require_open("withdrawals")
    withdrawals.require_treasurer(by)
    withdrawals.require_note(note)
    deposit = Deposit.objects.select_for_update(no_key=True).filter(pk=deposit_id).first()
    if deposit is None:
        raise NotFound
    require_in_suspense(deposit)
    address_book.refuse_unpayable(deposit.sender, pointer="/deposit_id")
    conflicts.require_none(by, conflicts.paid_at(deposit.sender))
    if deposit.returned_by.exclude(state__in=CAME_BACK).exists():
        raise ReturnedAlready
    at = at or clock.now()
    withdrawal = Withdrawal(
        id=ids.uuid7(),
        owner=Withdrawal.Owner.RETURN,
        returns=deposit,
        asked_by=by,
        note=note,
        chain_id=deposit.chain_id,
        amount_units=deposit.amount_units,
        address=deposit.sender,
        state=State.REQUESTED,
        requested_at=at,
        credited_block=deposit.block_number,
    )
    withdrawals.begin(withdrawal, held_for=["return"], actor=f"user:{by.pk}", at=at)
    withdrawals.written("return.requested", withdrawal, user=by, reason=note, at=at)
    return withdrawal


def require_in_suspense(deposit: Deposit) -> None:
    """
    Refuse what is not, or not any more, money of nobody's that the finalized chain brought.

    :raises NotReturnable: then
    """
    if deposit.state != Deposit.State.UNATTRIBUTED or deposit.posted_to != Deposit.PostedTo.SUSPENSE:
        raise NotReturnable(state=deposit.state)
