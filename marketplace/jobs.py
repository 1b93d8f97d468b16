"""
The verbs of a funded job, and those that the apps above call when a dispute takes it out of its clock.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import cast
from uuid import UUID

from django.db import transaction

from accounts import pauses, spending
from accounts.errors import NotFound
from accounts.events import log
from accounts.models import Agent, Token
from escrow import holds, ledger
from escrow.ledger import Move
from marketplace import effects, lifecycle, locking, permits
from marketplace.lifecycle import Action, Role
from marketplace.models import Job, State


@transaction.atomic
def fund(job_id: UUID, *, client: Agent, token: Token | None = None, at: datetime | None = None) -> Job:
    """
    Hold the client's price and the seller's bond.

    :raises lifecycle.TransitionNotAllowed: unless the terms are agreed and the client asks
    :raises ledger.InsufficientFunds: if the client cannot cover the price
    :raises spending.SpendingCapExceeded: if the token may not spend the price
    :raises holds.BondUnavailable: if the seller cannot cover the bond; the seller is told
    :raises Paused: while new jobs are paused
    """
    job = locking.lock(job_id, at=at)
    role = lifecycle.role_of(client, job)
    lifecycle.rule_for(job, Action.FUND, role, job.at)
    pauses.require_open(pauses.Flag.NEW_JOBS)
    permits.require(job.client, job.seller, price_units=job.price_units, seller_counts=True, job_id=job.id)
    spending.spend(token, units=job.price_units, at=job.at)
    lifecycle.advance(job, Action.FUND, by=role, funded_at=job.at)
    try:
        holds.fund(
            job.hold_key,
            client_id=job.client_id,
            seller_id=job.seller_id,
            price_units=job.price_units,
            bond_units=job.bond_units,
            at=job.at,
        )
    except holds.BondUnavailable as refusal:
        data = {"job_id": str(job.id)}
        refusal.afterwards = partial(log.record, "job.bond_unavailable", to=[job.seller_id], data=data, at=job.at)
        raise
    return job


@transaction.atomic
def start(job_id: UUID, *, seller: Agent, at: datetime | None = None) -> Job:
    """
    Say that the work has begun.

    :raises lifecycle.TransitionNotAllowed: unless the job is funded, in time, and the seller asks
    """
    job = locking.lock(job_id, at=at)
    return lifecycle.advance(job, Action.START, by=lifecycle.role_of(seller, job))


@transaction.atomic
def approve(job_id: UUID, *, client: Agent, at: datetime | None = None) -> Job:
    """
    Accept the delivery: pay the seller less the fee, give the bond back.

    :raises lifecycle.TransitionNotAllowed: if nothing is delivered, or another than the client asks
    """
    job = locking.lock(job_id, at=at)
    lifecycle.advance(job, Action.APPROVE, by=lifecycle.role_of(client, job))
    holds.close(effects.approved(job), kind="job.approve", at=job.at)
    return job


@transaction.atomic
def abort(job_id: UUID, *, by: Agent, reason: str, at: datetime | None = None) -> Job:
    """
    Give the job up: a client pays the abort fee it agreed to, a seller loses the bond.

    :raises lifecycle.TransitionNotAllowed: once something is delivered, or for a client after `deliver_by`
    """
    job = locking.lock(job_id, at=at)
    return _abort(job, lifecycle.role_of(by, job), reason)


def _abort(job: Job, role: Role, reason: str) -> Job:
    lifecycle.advance(job, Action.ABORT, by=role, note=reason)
    closing = effects.aborted_by_client(job) if role == Role.CLIENT else effects.given_up_by_seller(job)
    holds.close(closing, kind="job.abort", at=job.at)
    return job


# --- for disputes ---------------------------------------------------------------------------------------------------
def freeze(
    job: Job,
    *,
    by: Role,
    dispute_id: UUID,
    deadline_at: datetime,
    effect: str,
    awaiting: str | None,
    note: str = "",
) -> Job:
    """
    Take a locked job out of its clock while a dispute lasts (row 21).

    :raises lifecycle.TransitionNotAllowed: if the table has no dispute for this party now
    """
    lifecycle.rule_for(job, Action.DISPUTE, by, job.at)
    left = f"{by}_disputes_left"
    return lifecycle.advance(
        job,
        Action.DISPUTE,
        by=by,
        note=note,
        dispute_id=dispute_id,
        frozen_state=job.state,
        frozen_at=job.at,
        frozen_from=job.deadline_from,
        settlement_closed=False,
        deadline_at=deadline_at,
        deadline_effect=effect,
        awaiting=awaiting,
        **{left: getattr(job, left) - 1},
    )


@transaction.atomic
def show_dispute_clock(
    job_id: UUID,
    *,
    deadline_at: datetime,
    deadline_from: datetime | None = None,
    effect: str,
    awaiting: str | None,
    settlement_closed: bool = False,
) -> None:
    """
    Write the dispute's clock into the job, for display; a ruling also ends what settlements were on the table.

    Both parties are reminded of it like of any other, and once more where it is another one now. `deadline_from` is
    when it was started, by default now.
    """
    job = locking.lock(job_id)
    if job.state != State.DISPUTED:
        raise NotFound
    if job.deadline_at != deadline_at:
        job.deadline_at = deadline_at
        lifecycle.remind(job, deadline_from or job.at)
    job.deadline_effect, job.awaiting, job.settlement_closed = effect, awaiting, settlement_closed
    if settlement_closed:
        job.client_settlement_bps = job.seller_settlement_bps = None
    job.save(update_fields=_SHOWN)


_SHOWN = [
    "deadline_at", "deadline_from", "near_at", "deadline_effect", "awaiting", "settlement_closed",
    "client_settlement_bps", "seller_settlement_bps",
]  # fmt: skip


@transaction.atomic
def resolve(
    job_id: UUID,
    *,
    plan: Callable[[Job], holds.Closing],
    by: Role = Role.MODERATOR,
    note: str = "",
    at: datetime | None = None,
) -> Job:
    """
    Execute a ruling: split the price, give the bond, and whatever rides along, in one transfer (row 23).

    `plan` reckons that transfer from the locked job; it is the same function that showed the ruling beforehand.

    :raises lifecycle.TransitionNotAllowed: unless the job is disputed
    :raises holds.NotAsAgreed: if it holds anything else than its price and its bond
    """
    job = locking.lock(job_id, at=at)
    lifecycle.advance(job, Action.RESOLVE, by=by, note=note)
    holds.require(job.hold_key, price_units=job.price_units, bond_units=job.bond_units)
    holds.close(plan(job), kind="job.resolve", at=job.at)
    return job


@transaction.atomic
def redo(
    job_id: UUID,
    *,
    by: Role = Role.MODERATOR,
    note: str = "",
    extra: Sequence[Move] = (),
    at: datetime | None = None,
) -> Job:
    """
    Execute a ruling that lets the work be done again (row 23): price and bond stay, one more delivery is granted, and
    each side may open one more dispute. `extra` is posted with it: where the deposits of the dispute go.

    :raises lifecycle.TransitionNotAllowed: unless the job is disputed, or if it was redone before
    :raises holds.NotAsAgreed: if it holds anything else than its price and its bond
    """
    job = locking.lock(job_id, at=at)
    lifecycle.advance(
        job,
        Action.REDO,
        by=by,
        note=note,
        redos_left=job.redos_left - 1,
        max_deliveries=job.max_deliveries + 1,
        client_disputes_left=job.client_disputes_left + 1,
        seller_disputes_left=job.seller_disputes_left + 1,
        settlement_closed=False,
    )
    holds.require(job.hold_key, price_units=job.price_units, bond_units=job.bond_units)
    if extra:
        ledger.post(f"{job.hold_key}:redo", kind="job.redo", moves=extra, at=job.at)
    return job


@transaction.atomic
def resume(job_id: UUID, *, by: Role, consented: bool, note: str = "", at: datetime | None = None) -> Job:
    """
    Put a job back where a dispute froze it (row 24).

    With the other side's consent the time that was left comes back; without it the original clock stands, and if it is
    over the next sweep fires it.

    :raises lifecycle.TransitionNotAllowed: unless the job is disputed
    """
    job = locking.lock(job_id, at=at)
    lifecycle.rule_for(job, Action.RESUME, by, job.at)
    clock = getattr(job, lifecycle.CLOCK_COLUMN[State(job.frozen_state)])
    frozen_at, frozen_from = cast(datetime, job.frozen_at), cast(datetime, job.frozen_from)
    if consented:
        clock += job.at - max(frozen_from, lifecycle.judged_at(job, frozen_at))
    clock_from = job.at if consented else frozen_from
    return lifecycle.advance(
        job, Action.RESUME, by=by, note=note, clock=clock, clock_from=clock_from, settlement_closed=False
    )


# --- leaving --------------------------------------------------------------------------------------------------------
def leave(agent_id: UUID, at: datetime | None = None) -> None:
    """
    End the open business of an agent that is leaving, one transaction a job; safe to run again.

    Before funding a job is declined; funded work is aborted by whoever leaves. What is delivered, a client's `revising`
    and disputes run on to their end.
    """
    _each(agent_id, at, why="The agent left.", seller=_ABORTED_AS_SELLER, client=_ABORTED_AS_CLIENT)


def stop_new_business(agent_id: UUID, at: datetime | None = None) -> None:
    """Decline what is not funded yet, for an agent that is suspended or frozen; funded jobs run on."""
    _each(agent_id, at, why="The agent was suspended.", seller=(), client=())


_DECLINED = (State.NEGOTIATING, State.AGREED)
_ABORTED_AS_SELLER = (State.FUNDED, State.IN_PROGRESS, State.REVISING)
_ABORTED_AS_CLIENT = (State.FUNDED, State.IN_PROGRESS)


def _each(
    agent_id: UUID, at: datetime | None, *, why: str, seller: tuple[State, ...], client: tuple[State, ...]
) -> None:
    for job_id, role in _open_jobs(agent_id, seller=(*_DECLINED, *seller), client=(*_DECLINED, *client)):
        with transaction.atomic():
            job = locking.lock(job_id, at=at)
            ending = Action.DECLINE if job.state in _DECLINED else Action.ABORT
            if ending not in lifecycle.available(job, role, job.at):
                continue  # it went on, or ended, since it was listed
            if ending == Action.DECLINE:
                lifecycle.advance(job, Action.DECLINE, by=role, note=why)
            else:
                _abort(job, role, why)


def _open_jobs(agent_id: UUID, **states: tuple[State, ...]) -> Iterator[tuple[UUID, Role]]:
    for role in (Role.SELLER, Role.CLIENT):
        jobs = Job.objects.filter(**{role: agent_id}, state__in=states[role]).order_by("pk")
        for job_id in jobs.values_list("pk", flat=True):
            yield job_id, role
