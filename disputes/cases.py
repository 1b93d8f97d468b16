"""What the parties do in a case: open it, answer, settle, withdraw. The moderators' part is arbitration.py."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction

from accounts import ids, spending
from accounts.errors import Conflict, NotFound
from accounts.events import log
from accounts.models import Agent, Token
from disputes import clocks, decisions, deposits, effects, lifecycle, rulings
from disputes.lifecycle import Action, Who
from disputes.models import Deposit, Dispute, Party, Ruling
from escrow import ledger
from marketplace import jobs, locking, settlements
from marketplace import lifecycle as job_lifecycle
from marketplace.models import Job

STATEMENT_CHARS = (100, 20_000)


@transaction.atomic
def open(
    job_id: UUID,
    *,
    opener: Agent,
    reason: str,
    statement: str,
    requested_seller_bps: int,
    token: Token | None = None,
    at: datetime | None = None,
) -> Dispute:
    """
    Open a case: the job stands still, the opener's deposit is held as far as its balance reaches.

    :raises job_lifecycle.TransitionNotAllowed: if row 21 of the job table has no dispute for this party now
    :raises spending.SpendingCapExceeded: if the deposit passes a cap of the token
    """
    job = locking.lock(job_id, at=at)
    role = job_lifecycle.role_of(opener, job)
    job_lifecycle.rule_for(job, job_lifecycle.Action.DISPUTE, role, job.at)
    dispute = _new_case(job, opener, Party(role), reason, statement, requested_seller_bps)
    dispute.deposit_due_units = deposits.due_units(opener, price_units=job.price_units, at=job.at)
    deadline = effects.deadline_of(dispute, job)
    assert deadline is not None  # noqa: S101 (the case lives)
    jobs.freeze(
        job,
        by=role,
        dispute_id=dispute.id,
        deadline_at=deadline.at,
        effect=deadline.effect,
        awaiting=deadline.awaiting,
        note=reason,
    )
    spending.spend(token, units=deposits.reach_units(opener.id, due_units=dispute.deposit_due_units), at=job.at)
    # The money before the row, which tells how much of the deposit is held; both or neither are committed.
    deposits.take(dispute, payer_id=opener.id, at=job.at)
    dispute.save(force_insert=True)
    lifecycle.write(dispute, Action.OPEN, by=Who.OPENER, at=job.at, note=reason)
    tell("dispute.opened", dispute, job.at, reason=reason, by=str(role))
    return dispute


@transaction.atomic
def answer(
    dispute_id: UUID, *, by: Agent, statement: str, requested_seller_bps: int, at: datetime | None = None
) -> Dispute:
    """
    Answer the case: say the other side of it, and what one asks for.

    :raises lifecycle.TransitionNotAllowed: for the opener, after `answer_by`, or when it was answered
    """
    dispute = lifecycle.lock(dispute_id)
    who, at = lifecycle.who_of(by, dispute), lifecycle.moment(at)
    role = lifecycle.role_named(dispute, who)
    said: dict[str, Any] = {f"statement_of_{role}": statement, f"requested_by_{role}_bps": requested_seller_bps}
    lifecycle.advance(dispute, Action.ANSWER, by=who, at=at, answered_at=at, **said)
    show_clock(dispute)
    tell("dispute.answered", dispute, at, by=role)
    return dispute


@transaction.atomic
def withdraw(dispute_id: UUID, *, by: Agent, at: datetime | None = None) -> Dispute:
    """
    Withdraw a case. While nobody has answered the opener does it alone, and the job goes on under its original clock.

    Once it was answered it takes both: the opener asks, the other side consents, and the time that was left comes back.

    :raises lifecycle.TransitionNotAllowed: after a ruling, for an opener who asks twice, for the other side unasked
    """
    dispute = lifecycle.lock(dispute_id)
    who, at = lifecycle.who_of(by, dispute), lifecycle.moment(at)
    if who == Who.RESPONDENT:
        return _end_withdrawn(dispute, Action.CONSENT_TO_WITHDRAWAL, who, at)
    if dispute.answered_at is None:
        return _end_withdrawn(dispute, Action.WITHDRAW, who, at)
    lifecycle.advance(dispute, Action.ASK_WITHDRAWAL, by=who, at=at, withdrawal_asked_at=at)
    tell("dispute.withdrawal_asked", dispute, at, by=lifecycle.role_named(dispute, who))
    return dispute


@transaction.atomic
def settle_offer(job_id: UUID, *, by: Agent, seller_bps: int, at: datetime | None = None) -> Job:
    """
    Offer a split of a job, disputed or not; one that meets the other side's settles job and case at once.

    :raises lifecycle.TransitionNotAllowed: once the case is ruled
    :raises job_lifecycle.TransitionNotAllowed: unless the price is held
    """
    dispute = lifecycle.lock_live_of(job_id)
    if dispute is None:
        job = settlements.offer(job_id, by=by, seller_bps=seller_bps, at=at)
        _refuse_if_frozen_meanwhile(job)
        return job
    if by.id not in (dispute.client_id, dispute.seller_id):
        raise NotFound  # in the words for an unknown job: a stranger does not learn that there is a case
    who, at = lifecycle.who_of(by, dispute), lifecycle.moment(at)
    lifecycle.rule_for(dispute, Action.SETTLE, who, at)
    back = deposits.closing_moves(dispute, went=Deposit.BACK, client_share_units=0, seller_share_units=0)
    job = settlements.offer(job_id, by=by, seller_bps=seller_bps, extra=back, at=at)
    if job.closed_at is not None:
        lifecycle.advance(dispute, Action.SETTLE, by=who, at=at, deposit_went=Deposit.BACK)
        rulings.drop_proposed(dispute)
        tell("dispute.settled", dispute, at)
    return job


@transaction.atomic
def withdraw_settle_offer(job_id: UUID, *, by: Agent, at: datetime | None = None) -> Job:
    """
    Take back one's split offer.

    :raises settlements.NoOffer: if there is none
    """
    lifecycle.lock_live_of(job_id)
    return settlements.withdraw(job_id, by=by, at=at)


def deposit_on_withdrawal(dispute: Dispute) -> str:
    """
    Say where the deposit goes if the case is withdrawn now: back, unless a moderator was given the case before.

    Where it takes both sides, what counts is when the opener asked: consenting late must not pay.
    """
    given_at, asked_at = dispute.first_assigned_at, dispute.withdrawal_asked_at
    return Deposit.OTHER_SIDE if given_at and (asked_at is None or given_at <= asked_at) else Deposit.BACK


def show_clock(dispute: Dispute, *, standing: Ruling | None = None) -> None:
    """Pass the deadline of a living case down to its job, in words; a ruling ends what settlements were offered."""
    deadline = effects.deadline_of(dispute, dispute.job, standing=standing)
    assert deadline is not None  # noqa: S101 (the case lives)
    jobs.show_dispute_clock(
        dispute.job_id,
        deadline_at=deadline.at,
        deadline_from=dispute.deadline_from,
        effect=deadline.effect,
        awaiting=deadline.awaiting,
        settlement_closed=standing is not None,
    )


def tell(kind: str, dispute: Dispute, at: datetime, **facts: str) -> None:
    data = {"dispute_id": str(dispute.id), "job_id": str(dispute.job_id), "state": str(dispute.state), **facts}
    log.record(kind, to=[dispute.client_id, dispute.seller_id], data=data, at=at)


def _new_case(job: Job, opener: Agent, role: Party, reason: str, statement: str, requested_seller_bps: int) -> Dispute:
    due_by = decisions.delivery_due_by(job)
    dispute = Dispute(
        id=ids.uuid7(),
        job=job,
        client=job.client,
        seller=job.seller,
        price_units=job.price_units,
        bond_units=job.bond_units,
        reason=reason,
        opened_by=role,
        opener=opener,
        job_state_at_opening=job.state,
        opened_before_deliver_by=due_by is not None and job_lifecycle.judged_at(job, job.at) < due_by,
        deliveries_at_opening=job.deliveries_count,
        answer_seconds=settings.DISPUTE_ANSWER_SECONDS,
        evidence_seconds=settings.DISPUTE_EVIDENCE_SECONDS,
        question_seconds=settings.DISPUTE_QUESTION_SECONDS,
        ruling_seconds=settings.RULING_SLA_SECONDS,
        approval_seconds=settings.RULING_APPROVAL_SLA_SECONDS,
        appeal_seconds=settings.APPEAL_SECONDS,
        appeal_hearing_seconds=settings.APPEAL_SLA_SECONDS,
        hard_stop_seconds=settings.DISPUTE_HARD_STOP_SECONDS,
        hard_stop_at=job.at + timedelta(seconds=settings.DISPUTE_HARD_STOP_SECONDS),
        approval_threshold_units=settings.RULING_APPROVAL_THRESHOLD_UNITS,
        deposit_due_units=0,
        deposit_held_units=0,
        created_at=job.at,
    )
    setattr(dispute, f"statement_of_{role}", statement)
    setattr(dispute, f"requested_by_{role}_bps", requested_seller_bps)
    clocks.enter(dispute, Dispute.State.AWAITING_ANSWER, job.at)
    return dispute


def _end_withdrawn(dispute: Dispute, action: Action, who: Who, at: datetime) -> Dispute:
    went = deposit_on_withdrawal(dispute)
    lifecycle.advance(dispute, action, by=who, at=at, deposit_went=went)
    rulings.drop_proposed(dispute)
    jobs.resume(
        dispute.job_id,
        by=job_lifecycle.Role(lifecycle.role_named(dispute, who)),
        consented=action == Action.CONSENT_TO_WITHDRAWAL,
        note="The dispute was withdrawn.",
        at=at,
    )
    _give_deposit(dispute, went=went, at=at)
    tell("dispute.withdrawn", dispute, at)
    return dispute


def _give_deposit(dispute: Dispute, *, went: str, at: datetime) -> None:
    moves = deposits.closing_moves(dispute, went=went, client_share_units=0, seller_share_units=0)
    if moves:
        ledger.post(f"{dispute.deposit_key}:give", kind="deposit.give", moves=moves, at=at)


def _refuse_if_frozen_meanwhile(job: Job) -> None:
    """A case opened between our look and the job's lock: its row must be locked first, so this try is over."""
    if Dispute.objects.filter(job_id=job.id, state__in=Dispute.LIVE).exists():
        raise Conflict("A dispute was opened at the same moment; ask again.")
