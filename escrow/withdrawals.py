"""
Withdrawals, as far as the database decides: asked for, held, approved, cancelled. What follows is in payouts.py.

The money waits in `withdrawing` from the request on; at the end it has left, or all of it is back.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Max, Q, Sum

from accounts import clock, ids, spending
from accounts.edge.fields import units_to_text
from accounts.errors import Conflict, Invalid, NotAllowed, NotFound
from accounts.events import log
from accounts.models import Agent, AgentKey, Token, User
from escrow import address_book, ledger
from escrow import withdrawal_table as table
from escrow.chain import addresses, network
from escrow.ledger import Move
from escrow.models import Deposit, Withdrawal, WithdrawalApproval
from escrow.withdrawal_table import Action

State = Withdrawal.State
DAY = timedelta(hours=24)
# Above this multiple of the threshold two treasurers have to agree.
TWO_APPROVALS_MULTIPLE = 10


class RevisionChanged(Conflict):
    code = "revision_changed"
    title = "The withdrawal is not what was approved"


class OwnWithdrawal(NotAllowed):
    title = "Nobody approves a payout of an agent they own"


@transaction.atomic
def request(
    agent: Agent, *, amount_units: int, entry_id: UUID, token: Token | None = None, at: datetime | None = None
) -> Withdrawal:
    """
    Ask for a payout: amount and fee leave `available` now.

    :raises Invalid: below the minimum
    :raises NotFound: if the address is not in the agent's book; :raises address_book.AddressCooling: if it is too new
    :raises ledger.InsufficientFunds: if the balance does not cover amount and fee
    """
    if amount_units < settings.WITHDRAWAL_MINIMUM_UNITS:
        least = units_to_text(settings.WITHDRAWAL_MINIMUM_UNITS)
        raise Invalid.at("/amount", "below_minimum", f"At least {least} USDC.")
    agent = Agent.objects.select_for_update(no_key=True).get(pk=agent.pk)
    at = at or clock.now()
    entry = address_book.usable(entry_id, agent=agent, at=at)
    held_for = _reasons_to_hold(agent.pk, amount_units=amount_units, at=at)
    withdrawal = Withdrawal(
        id=ids.uuid7(),
        agent=agent,
        chain_id=network.current().chain_id,
        amount_units=amount_units,
        fee_units=settings.WITHDRAWAL_FEE_UNITS,
        entry=entry,
        address=entry.address,
        state=State.REQUESTED,
        requested_at=at,
        cooling_until=_cooling_until(agent.pk, at=at),
        credited_block=_newest_credited_block(agent.pk),
    )
    if held_for:
        _hold(withdrawal, held_for, at=at)
    elif withdrawal.cooling_until:
        table.advance(withdrawal, Action.COOL)
    withdrawal.revision = 1
    withdrawal.save(force_insert=True)
    spending.spend(token, units=amount_units + withdrawal.fee_units, at=at)
    tell("withdrawal.requested", withdrawal, at=at)
    if held_for:
        tell("withdrawal.held", withdrawal, at=at)
    _post(withdrawal, "request", moves=_moves(withdrawal, +1), at=at, actor=f"agent:{agent.pk}")
    return withdrawal


@transaction.atomic
def cancel(withdrawal_id: UUID, *, agent: Agent, at: datetime | None = None) -> Withdrawal:
    """
    Call a payout off before it is authorized; the money is back at once.

    :raises NotFound: if it is not this agent's
    :raises table.TransitionNotAllowed: if it is authorized or over
    """
    withdrawal = lock(withdrawal_id)
    if withdrawal.agent_id != agent.pk:
        raise NotFound
    return _give_back(withdrawal, Action.CANCEL, "withdrawal.cancelled", actor=f"agent:{agent.pk}", at=at)


@transaction.atomic
def approve(
    withdrawal_id: UUID, *, by: User, revision: int, reason: str = "", at: datetime | None = None
) -> Withdrawal:
    """
    Let a held payout go, as one of the treasurers it needs.

    :raises NotAllowed: if the person may not approve, or owns the agent
    :raises RevisionChanged: if the row is not the one the person saw
    :raises table.TransitionNotAllowed: if it is not held, or `approve_by` is over
    """
    withdrawal = lock(withdrawal_id)
    if not by.has_perm("escrow.approve_withdrawal"):
        raise NotAllowed("Only treasurers approve withdrawals.")
    if withdrawal.agent is not None and withdrawal.agent.owner_id == by.pk:
        raise OwnWithdrawal
    if withdrawal.state != State.HELD:
        raise table.TransitionNotAllowed("The withdrawal is not held.", state=withdrawal.state)
    if withdrawal.revision != revision:
        raise RevisionChanged(revision=withdrawal.revision)
    at = at or clock.now()
    if withdrawal.approve_by is not None and at >= withdrawal.approve_by:
        raise table.TransitionNotAllowed("The time to approve it is over.", state=withdrawal.state)
    given = WithdrawalApproval.objects.filter(withdrawal=withdrawal)
    if given.filter(by=by).exists():
        raise Conflict("You have approved this withdrawal already; another treasurer has to.")
    WithdrawalApproval.objects.create(withdrawal=withdrawal, by=by, revision=revision, reason=reason[:500], at=at)
    if given.count() < withdrawal.approvals_needed:
        withdrawal.revision += 1
        withdrawal.save(update_fields=["revision"])
        return withdrawal
    fields = table.advance(withdrawal, Action.APPROVE)
    if withdrawal.cooling_until and withdrawal.cooling_until > at:
        table.advance(withdrawal, Action.COOL)
    withdrawal.save(update_fields=fields)
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

    :raises NotAllowed: if the person may not
    :raises RevisionChanged: if the row is not the one the person saw
    :raises table.TransitionNotAllowed: if it is not held
    """
    withdrawal = lock(withdrawal_id)
    if by is not None and not by.has_perm("escrow.approve_withdrawal"):
        raise NotAllowed("Only treasurers reject withdrawals.")
    if revision is not None and withdrawal.state == State.HELD and withdrawal.revision != revision:
        raise RevisionChanged(revision=withdrawal.revision)
    if reason:
        withdrawal.note = reason[:500]
        withdrawal.save(update_fields=["note"])
    actor = f"user:{by.pk}" if by else "system"
    return _give_back(withdrawal, Action.REJECT, "withdrawal.rejected", actor=actor, at=at)


def advance_due(limit: int = 100) -> int:
    """Release what has cooled, reject what nobody approved in time; answers how many. Safe to run twice at once."""
    count = 0
    while count < limit and _advance_one():
        count += 1
    return count


@transaction.atomic
def _advance_one() -> bool:
    at = clock.now()
    due = Withdrawal.objects.filter(
        Q(state=State.COOLING, cooling_until__lte=at) | Q(state=State.HELD, approve_by__lte=at)
    )
    withdrawal = due.select_for_update(skip_locked=True, no_key=True, of=("self",)).order_by("pk").first()
    if withdrawal is None:
        return False
    if withdrawal.state == State.HELD:
        _give_back(withdrawal, Action.REJECT, "withdrawal.rejected", actor="system", at=at)
    else:
        withdrawal.save(update_fields=table.advance(withdrawal, Action.RELEASE))
    return True


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


def give_back_moves(withdrawal: Withdrawal) -> list[Move]:
    """The whole of it, fee included, back to where it came from."""
    return _moves(withdrawal, -1)


def reference(withdrawal: Withdrawal, what: str) -> str:
    return f"withdrawal:{withdrawal.id}:{what}"


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


def reasons_to_hold_now(withdrawal: Withdrawal, *, at: datetime) -> list[str]:
    """What in the limits of this moment asks for a treasurer, if none has approved it."""
    if withdrawal.approvals_needed or withdrawal.agent_id is None:
        return []
    earlier = _recent(at=at).filter(pk__lt=withdrawal.pk)
    return _reasons(withdrawal.agent_id, earlier, amount_units=withdrawal.amount_units)


def hold(withdrawal: Withdrawal, reasons: list[str], *, at: datetime) -> None:
    """Hold a locked withdrawal that the limits of today do not allow any more."""
    _hold(withdrawal, reasons, at=at)
    withdrawal.save(update_fields=["state", "revision", "held_for", "approvals_needed", "approve_by"])
    tell("withdrawal.held", withdrawal, at=at)


def _hold(withdrawal: Withdrawal, reasons: list[str], *, at: datetime) -> None:
    table.advance(withdrawal, Action.HOLD)
    withdrawal.held_for = reasons
    large = withdrawal.amount_units > TWO_APPROVALS_MULTIPLE * settings.WITHDRAWAL_APPROVAL_THRESHOLD_UNITS
    withdrawal.approvals_needed = 2 if large else 1
    withdrawal.approve_by = at + timedelta(seconds=settings.WITHDRAWAL_APPROVAL_SECONDS)


def _reasons_to_hold(agent_id: UUID, *, amount_units: int, at: datetime) -> list[str]:
    """What a treasurer has to look at. The agent's row is locked; the platform's sum gets a lock of its own."""
    with connection.cursor() as cursor:  # one request at a time, or two could pass the platform's limit together
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('withdrawals.velocity'))")
    return _reasons(agent_id, _recent(at=at), amount_units=amount_units)


def _reasons(agent_id: UUID, recent: Any, *, amount_units: int) -> list[str]:
    of_all = recent.aggregate(total=Sum("amount_units"))["total"] or 0
    of_agent = recent.filter(agent_id=agent_id).aggregate(total=Sum("amount_units"))["total"] or 0
    rules = {
        "amount": amount_units > settings.WITHDRAWAL_APPROVAL_THRESHOLD_UNITS,
        "agent_limit": of_agent + amount_units > settings.WITHDRAWAL_DAILY_LIMIT_UNITS,
        "platform_limit": of_all + amount_units > settings.WITHDRAWAL_PLATFORM_DAILY_LIMIT_UNITS,
        "shortfall": Deposit.objects.filter(agent_id=agent_id, shortfall_units__gt=0).exists(),
    }
    return [name for name, applies in rules.items() if applies]


def _recent(*, at: datetime) -> Any:
    """What was asked for in the last 24 hours and did not come back."""
    came_back = (State.CANCELLED, State.REJECTED, State.REFUNDED)
    return Withdrawal.objects.filter(requested_at__gt=at - DAY, owner="agent").exclude(state__in=came_back)


def _cooling_until(agent_id: UUID, *, at: datetime) -> datetime | None:
    """Until when a change of the agent's keys makes it wait; the first key is no change."""
    keys = list(AgentKey.objects.filter(agent_id=agent_id).order_by("created_at"))
    changes = [key.created_at for key in keys[1:]] + [key.removed_at for key in keys if key.removed_at]
    if not changes:
        return None
    until = max(changes) + timedelta(seconds=settings.WITHDRAWAL_COOLING_SECONDS)
    return until if until > at else None


def _newest_credited_block(agent_id: UUID) -> int:
    credited = Deposit.objects.filter(agent_id=agent_id, state=Deposit.State.CREDITED)
    return credited.aggregate(newest=Max("block_number"))["newest"] or 0


def _give_back(withdrawal: Withdrawal, action: Action, event: str, *, actor: str, at: datetime | None) -> Withdrawal:
    at = at or clock.now()
    end(withdrawal, action, at=at)
    tell(event, withdrawal, at=at)
    _post(withdrawal, "refund", moves=give_back_moves(withdrawal), at=at, actor=actor)
    return withdrawal


def _moves(withdrawal: Withdrawal, sign: int) -> list[Move]:
    owner = str(withdrawal.agent_id)
    total = sign * (withdrawal.amount_units + withdrawal.fee_units)
    return [Move("available", owner, -total), Move("withdrawing", owner, total)]


def _post(withdrawal: Withdrawal, what: str, *, moves: list[Move], actor: str, at: datetime) -> None:
    ledger.post(reference(withdrawal, what), kind=f"withdrawal_{what}", moves=moves, actor=actor, at=at)
