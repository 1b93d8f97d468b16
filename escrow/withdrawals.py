"""
Withdrawals, as far as the database decides: asked for, held, approved, cancelled. What follows is in payouts.py.

The money waits in `withdrawing` from the request on; at the end it has left, or all of it is back.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction

from accounts import audit, clock, ids, pauses, spending, sweeps
from accounts.edge.fields import units_to_text
from accounts.errors import Conflict, Invalid, NotAllowed, NotFound
from accounts.events import log
from accounts.models import Agent, Token, User
from escrow import address_book, conflicts, guard, ledger, treasury, withdrawal_limits, withdrawal_moves
from escrow import withdrawal_table as table
from escrow.chain import addresses, network
from escrow.conflicts import OwnWithdrawal
from escrow.ledger import Move
from escrow.models import Deposit, Entry, Withdrawal, WithdrawalApproval
from escrow.withdrawal_table import Action

State, Owner = Withdrawal.State, Withdrawal.Owner
NOTE_CHARS = 500


class RevisionChanged(Conflict):
    code = "revision_changed"
    title = "The withdrawal is not what was approved"


@transaction.atomic
def request(
    agent: Agent, *, amount_units: int, entry_id: UUID, token: Token | None = None, at: datetime | None = None
) -> Withdrawal:
    """
    Ask for a payout: amount and fee leave `available` now.

    :raises Paused: while withdrawals are; :raises Invalid: below the minimum
    :raises NotFound: if the address is not in the agent's book; :raises address_book.AddressCooling: if it is too new
    :raises ledger.InsufficientFunds: if the balance does not cover amount and fee
    """
    pauses.require_open("withdrawals")
    if amount_units < settings.WITHDRAWAL_MINIMUM_UNITS:
        least = units_to_text(settings.WITHDRAWAL_MINIMUM_UNITS)
        raise Invalid.at("/amount", "below_minimum", f"At least {least} USDC.")
    agent = Agent.objects.select_for_update(no_key=True).get(pk=agent.pk)
    at = at or clock.now()
    entry = address_book.usable(entry_id, agent=agent, at=at)
    held_for = withdrawal_limits.reasons_to_hold(agent.pk, amount_units=amount_units, at=at)
    here = network.current()
    withdrawal = Withdrawal(
        id=ids.uuid7(),
        agent=agent,
        chain_id=here.chain_id,
        amount_units=amount_units,
        fee_units=settings.WITHDRAWAL_FEE_UNITS,
        entry=entry,
        address=entry.address,
        state=State.REQUESTED,
        requested_at=at,
        cooling_until=withdrawal_limits.cooling_until(agent, at=at),
        credited_block=withdrawal_limits.newest_credited_block(here.chain_id),
    )
    spending.spend(token, units=amount_units + withdrawal.fee_units, at=at)
    begin(withdrawal, held_for=held_for, actor=f"agent:{agent.pk}", at=at)
    written("withdrawal.requested", withdrawal, agent=agent, at=at)
    return withdrawal


def begin(withdrawal: Withdrawal, *, held_for: list[str], actor: str, at: datetime) -> Withdrawal:
    """
    Write down a new withdrawal, whoever asked for it: its money waits in `withdrawing` from now on.

    :raises ledger.InsufficientFunds: if what it is taken from does not cover it
    """
    if held_for:
        _hold(withdrawal, held_for, at=at)
    elif withdrawal.cooling_until:
        table.advance(withdrawal, Action.COOL)
    withdrawal.revision = 1
    withdrawal.save(force_insert=True)
    tell("withdrawal.requested", withdrawal, at=at)
    if held_for:
        tell("withdrawal.held", withdrawal, at=at)
    _post(withdrawal, "request", moves=withdrawal_moves.requested(withdrawal), at=at, actor=actor)
    return withdrawal


@transaction.atomic
def cancel(withdrawal_id: UUID, *, agent: Agent, at: datetime | None = None) -> Withdrawal:
    """
    Call a payout off before it is authorized; the money is back at once.

    :raises NotFound: if it is not this agent's; :raises Paused: while payouts are compared with the chain
    :raises table.TransitionNotAllowed: if it is authorized or over
    """
    withdrawal = lock(withdrawal_id)
    if withdrawal.agent_id != agent.pk:
        raise NotFound
    before = audit.state_of(withdrawal)
    _give_back(withdrawal, Action.CANCEL, "withdrawal.cancelled", actor=f"agent:{agent.pk}", at=at)
    written("withdrawal.cancelled", withdrawal, agent=agent, before=before, at=at)
    return withdrawal


@transaction.atomic
def call_off(withdrawal_id: UUID, *, by: User, reason: str = "", at: datetime | None = None) -> Withdrawal:
    """
    Call off what treasurers asked for, before it is authorized: whoever asked, or any of them for an internal move.

    :raises NotAllowed: if it is not the person's to call off
    :raises table.TransitionNotAllowed: if it is authorized or over
    """
    withdrawal = lock(withdrawal_id)
    require_treasurer(by)
    if withdrawal.asked_by_id != by.pk and withdrawal.owner != Owner.INTERNAL:
        raise NotAllowed("Whoever asked for it can call it off; another treasurer can refuse it.")
    before = audit.state_of(withdrawal)
    _add_note(withdrawal, "Called off", reason)
    _give_back(withdrawal, Action.CANCEL, "withdrawal.cancelled", actor=f"user:{by.pk}", at=at)
    written("withdrawal.called_off", withdrawal, user=by, before=before, reason=reason, at=at)
    return withdrawal


@transaction.atomic
def approve(
    withdrawal_id: UUID, *, by: User, revision: int, reason: str = "", at: datetime | None = None
) -> Withdrawal:
    """
    Let a held payout go, as one of the treasurers it needs.

    :raises NotAllowed: if the person may not approve, or owns the agent
    :raises interests.ConflictOfInterest: if an agent of theirs has traded with it
    :raises RevisionChanged: if the row is not the one the person saw
    :raises table.TransitionNotAllowed: if it is not held, or `approve_by` is over
    """
    withdrawal = lock(withdrawal_id)
    require_treasurer(by)
    if by.pk == withdrawal.asked_by_id:
        raise OwnWithdrawal
    conflicts.require_none(by, conflicts.agents_of(withdrawal))
    if withdrawal.state != State.HELD:
        raise table.TransitionNotAllowed("The withdrawal is not held.", state=withdrawal.state)
    if withdrawal.revision != revision:
        raise RevisionChanged(revision=withdrawal.revision)
    at = at or clock.now()
    if withdrawal.approve_by is not None and at >= withdrawal.approve_by:
        raise table.TransitionNotAllowed("The time to approve it is over.", state=withdrawal.state)
    if withdrawal.returns and withdrawal.returns.posted_to != Deposit.PostedTo.SUSPENSE:
        raise Conflict("The deposit is not in suspense any more: the chain took it back.")
    given = WithdrawalApproval.objects.filter(withdrawal=withdrawal)
    if given.filter(by=by).exists():
        raise Conflict("You have approved this withdrawal already; another treasurer has to.")
    before = audit.state_of(withdrawal)
    WithdrawalApproval.objects.create(withdrawal=withdrawal, by=by, revision=revision, reason=reason[:500], at=at)
    if given.count() < withdrawal.approvals_needed:
        withdrawal.revision += 1
        withdrawal.save(update_fields=["revision"])
    else:
        fields = table.advance(withdrawal, Action.APPROVE)
        if withdrawal.cooling_until and withdrawal.cooling_until > at:
            table.advance(withdrawal, Action.COOL)
        withdrawal.save(update_fields=fields)
    written("withdrawal.approved", withdrawal, user=by, before=before, reason=reason, at=at)
    return withdrawal


@transaction.atomic
def reject(
    withdrawal_id: UUID,
    *,
    by: User | None = None,
    revision: int | None = None,
    reason: str = "",
    at: datetime | None = None,
) -> Withdrawal:
    """
    Refuse a held payout, by a treasurer or because nobody approved it in time; the money is back at once.

    :raises NotAllowed: if the person may not, or owns the agent
    :raises interests.ConflictOfInterest: if an agent of theirs has traded with it
    :raises RevisionChanged: if the row is not the one the person saw
    :raises table.TransitionNotAllowed: if it is not held
    """
    withdrawal = lock(withdrawal_id)
    if by is not None:
        require_treasurer(by)
        conflicts.require_none(by, conflicts.agents_of(withdrawal))
    if revision is not None and withdrawal.state == State.HELD and withdrawal.revision != revision:
        raise RevisionChanged(revision=withdrawal.revision)
    before = audit.state_of(withdrawal)
    _add_note(withdrawal, "Refused", reason)
    actor = f"user:{by.pk}" if by else "system"
    _give_back(withdrawal, Action.REJECT, "withdrawal.rejected", actor=actor, at=at)
    if by is not None:
        written("withdrawal.rejected", withdrawal, user=by, before=before, reason=reason, at=at)
    return withdrawal


def advance_due(limit: int = 1_000) -> int:
    """Release what has cooled, reject what nobody approved in time; answers how many. Safe to run twice at once."""
    released = sweeps.run(COOLED, limit=limit)
    return released if guard.frozen() else released + sweeps.run(UNAPPROVED, limit=limit)


def _release(withdrawal_id: UUID) -> Withdrawal:
    withdrawal = lock(withdrawal_id)
    withdrawal.save(update_fields=[*table.advance(withdrawal, Action.RELEASE), *_went_through(withdrawal)])
    return withdrawal


def _reject_late(withdrawal_id: UUID) -> Withdrawal:
    withdrawal = lock(withdrawal_id)
    withdrawal.save(update_fields=_went_through(withdrawal))
    return _give_back(withdrawal, Action.REJECT, "withdrawal.rejected", actor="system", at=clock.now())


def _went_through(withdrawal: Withdrawal) -> list[str]:
    withdrawal.due_failures, withdrawal.due_retry_at = 0, None
    return ["due_failures", "due_retry_at"]


COOLED = sweeps.Sweep(
    noun="withdrawal", table="escrow_withdrawal", due="cooling_until", where="state = 'cooling'", act=_release
)
UNAPPROVED = sweeps.Sweep(
    noun="withdrawal", table="escrow_withdrawal", due="approve_by", where="state = 'held'", act=_reject_late
)


def require_treasurer(by: User) -> None:
    """
    Let nobody else ask for the platform's payouts, or decide about those that are held.

    :raises NotAllowed: if the person is no treasurer
    """
    if not by.has_perm("escrow.approve_withdrawal"):
        raise NotAllowed("Only treasurers may.")


def require_note(note: str) -> None:
    """
    Have a treasurer say why.

    :raises Invalid: if nothing, or too much, is said
    """
    if not note.strip() or len(note) > NOTE_CHARS:
        raise Invalid.at("/note", "required", f"Say why, in at most {NOTE_CHARS} characters.")


def lock(withdrawal_id: UUID) -> Withdrawal:
    """
    The withdrawal, locked until the transaction ends.

    :raises NotFound: if there is none
    """
    found = Withdrawal.objects.select_for_update(no_key=True, of=("self",)).select_related("agent")
    withdrawal = found.filter(pk=withdrawal_id).first()
    if withdrawal is None:
        raise NotFound
    return withdrawal


def end(withdrawal: Withdrawal, action: Action, *, at: datetime, **proof: Any) -> None:
    """Write the end of a locked withdrawal; the caller posts the money."""
    fields = table.advance(withdrawal, action)
    withdrawal.closed_at, withdrawal.lease_until = at, None
    for name, value in proof.items():
        setattr(withdrawal, name, value)
    withdrawal.save(update_fields=[*fields, "closed_at", "lease_until", *proof])


def tell(kind: str, withdrawal: Withdrawal, *, at: datetime) -> None:
    """Tell the agent, if it has one, what became of its withdrawal."""
    if withdrawal.agent_id is None:
        return
    data = {
        "withdrawal_id": str(withdrawal.id),
        "amount": units_to_text(withdrawal.amount_units),
        "fee": units_to_text(withdrawal.fee_units),
        "address": addresses.to_text(withdrawal.address),
        "state": withdrawal.state,
    }
    if withdrawal.tx_hash:
        data["tx_hash"] = "0x" + withdrawal.tx_hash.hex()
    log.record(kind, to=[withdrawal.agent_id], data=data, at=at)


def written(
    action: str,
    withdrawal: Withdrawal,
    *,
    user: User | None = None,
    agent: Agent | None = None,
    before: dict[str, Any] | None = None,
    reason: str = "",
    at: datetime | None,
) -> None:
    """Put what a person or an agent did with a withdrawal into the audit log."""
    audit.record(
        action,
        user=user,
        agent=agent,
        subject=f"withdrawal:{withdrawal.pk}",
        before=before,
        after=audit.state_of(withdrawal),
        facts={"amount_units": withdrawal.amount_units, "state": withdrawal.state, "owner": withdrawal.owner},
        reason=reason,
        at=at,
    )


def reasons_to_hold_now(withdrawal: Withdrawal, *, at: datetime) -> list[str]:
    """What in the limits of this moment asks for a treasurer, unless as many as it needs have approved it."""
    if withdrawal.approvals_needed and withdrawal.approvals.count() >= withdrawal.approvals_needed:
        return []
    if withdrawal.owner in (Owner.PLATFORM, Owner.RETURN):
        return [withdrawal.owner]
    return withdrawal_limits.reasons_now(withdrawal, at=at)


def is_set_aside(withdrawal: Withdrawal) -> bool:
    """Tell whether its request was posted: a row that somebody else wrote into the database pays nobody."""
    if withdrawal.owner == Owner.INTERNAL:
        return withdrawal.address in treasury.addresses(withdrawal.chain_id)
    entry = withdrawal.entry
    if withdrawal.owner == Owner.AGENT and (
        entry is None or (entry.agent_id, entry.address) != (withdrawal.agent_id, withdrawal.address)
    ):
        return False
    return Entry.objects.filter(
        transfer__reference=withdrawal_moves.reference(withdrawal, "request"),
        account__kind="withdrawing",
        amount=withdrawal.amount_units + withdrawal.fee_units,
    ).exists()


def called_off_as_ours(withdrawal: Withdrawal, *, at: datetime) -> bool:
    """Call off what would be paid to an address that became one of ours after it was asked for: a circle."""
    if withdrawal.state != State.REQUESTED or withdrawal.owner == Owner.INTERNAL:
        return False
    try:
        address_book.refuse_unpayable(withdrawal.address, pointer="/address")
    except Invalid:
        _give_back(withdrawal, Action.CANCEL, "withdrawal.cancelled", actor="system", at=at)
        return True
    return False


def hold(withdrawal: Withdrawal, reasons: list[str], *, at: datetime) -> None:
    """Hold a locked withdrawal that the limits of today do not allow any more."""
    _hold(withdrawal, reasons, at=at)
    withdrawal.save(update_fields=["state", "revision", "held_for", "approvals_needed", "approve_by"])
    tell("withdrawal.held", withdrawal, at=at)


def _hold(withdrawal: Withdrawal, reasons: list[str], *, at: datetime) -> None:
    table.advance(withdrawal, Action.HOLD)
    withdrawal.held_for = reasons
    withdrawal.approvals_needed = withdrawal_limits.approvals_for(withdrawal.amount_units)
    withdrawal.approve_by = at + timedelta(seconds=settings.WITHDRAWAL_APPROVAL_SECONDS)


def _add_note(withdrawal: Withdrawal, what: str, reason: str) -> None:
    """Keep why it ended, beside what a treasurer asked for it for."""
    if reason:
        withdrawal.note = f"{withdrawal.note}\n{what}: {reason}".lstrip()[:NOTE_CHARS]
        withdrawal.save(update_fields=["note"])


def _give_back(withdrawal: Withdrawal, action: Action, event: str, *, actor: str, at: datetime | None) -> Withdrawal:
    guard.refuse_giving_back()
    at = at or clock.now()
    end(withdrawal, action, at=at)
    tell(event, withdrawal, at=at)
    _post(withdrawal, "refund", moves=withdrawal_moves.given_back(withdrawal), at=at, actor=actor)
    return withdrawal


def _post(withdrawal: Withdrawal, what: str, *, moves: list[Move], actor: str, at: datetime) -> None:
    if moves:
        ledger.post(
            withdrawal_moves.reference(withdrawal, what), kind=f"withdrawal_{what}", moves=moves, actor=actor, at=at
        )
