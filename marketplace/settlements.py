"""
Settlements: a split that both parties agree on, with or without a dispute.

Each side may have one live offer, in basis points for the seller. Equal or crossing offers settle at their midpoint.
"""

from datetime import datetime
from uuid import UUID

from django.db import transaction

from accounts.errors import DomainError
from accounts.events import log
from accounts.models import Agent
from escrow import holds
from escrow.ledger import Move
from marketplace import effects, lifecycle, locking
from marketplace.lifecycle import Action, Role
from marketplace.models import Job


class NoOffer(DomainError):
    status = 404
    code = "not_found"
    title = "There is no settlement offer of yours"


@transaction.atomic
def offer(job_id: UUID, *, by: Agent, seller_bps: int, extra: tuple[Move, ...] = (), at: datetime | None = None) -> Job:
    """
    Offer a split; settle at once if it meets the other side's.

    `extra` are moves that ride along with a settlement: the deposits of a dispute, which its app has locked first.

    :raises lifecycle.TransitionNotAllowed: unless the price is held and no ruling is made
    """
    job = locking.lock(job_id, at=at)
    role = lifecycle.role_of(by, job)
    lifecycle.rule_for(job, Action.SETTLE, role, job.at)
    client_bps = seller_bps if role == Role.CLIENT else job.client_settlement_bps
    asked_bps = seller_bps if role == Role.SELLER else job.seller_settlement_bps
    if client_bps is not None and asked_bps is not None and client_bps >= asked_bps:
        agreed_bps = (client_bps + asked_bps) // 2
        lifecycle.advance(job, Action.SETTLE, by=role, note=f"seller_bps {agreed_bps}")
        holds.close(effects.split(job, agreed_bps, extra=extra), kind="job.settle", at=job.at)
        return job
    job.client_settlement_bps, job.seller_settlement_bps = client_bps, asked_bps
    _save(job)
    _tell(job, role, seller_bps)
    return job


@transaction.atomic
def withdraw(job_id: UUID, *, by: Agent, at: datetime | None = None) -> Job:
    """
    Take back one's offer.

    :raises NoOffer: if there is none
    """
    job = locking.lock(job_id, at=at)
    role = lifecycle.role_of(by, job)
    column = f"{role}_settlement_bps"
    if getattr(job, column) is None:
        raise NoOffer
    setattr(job, column, None)
    _save(job)
    _tell(job, role, None)
    return job


def _tell(job: Job, role: Role, seller_bps: int | None) -> None:
    """Tell both what is on the table; an offer that was taken back is one of null."""
    data = {"job_id": str(job.id), "by": role, "seller_bps": seller_bps}
    log.record("job.settlement_offered", to=[job.client_id, job.seller_id], data=data, at=job.at)


def _save(job: Job) -> None:
    """A settlement offer is no transition: the revision stands, and with it every other clock."""
    job.updated_at = job.at
    job.save(update_fields=["client_settlement_bps", "seller_settlement_bps", "updated_at"])
