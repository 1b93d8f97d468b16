"""
Negotiation: one side proposes, the two counter in turn, one agrees to the other's latest offer, and only to that one.
"""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction

from accounts import clock, pauses, spending
from accounts.errors import DomainError, NotAllowed
from accounts.models import Agent, Token
from marketplace import lifecycle, locking, permits
from marketplace.lifecycle import Action, Role
from marketplace.models import Job, Listing, Offer
from marketplace.terms import Terms

DEFAULT_ROUNDS, MAX_ROUNDS = 5, 20
MIN_OFFER_SECONDS, MAX_OFFER_SECONDS = 3_600, 604_800
MAX_MESSAGE = 2_048


class TermsChanged(DomainError):
    """The hash is not the latest offer's: what was read is no longer what would be agreed."""

    code = "terms_changed"
    title = "These are not the latest terms"


class ListingNotActive(DomainError):
    code = "listing_not_active"
    title = "The listing takes no new jobs"


@transaction.atomic
def propose(
    client: Agent,
    seller: Agent,
    *,
    terms: Terms,
    listing: Listing | None = None,
    message: str = "",
    max_rounds: int = DEFAULT_ROUNDS,
    offer_seconds: int | None = None,
    at: datetime | None = None,
) -> Job:
    """
    Open a job with a first offer of the client's.

    :raises NotAllowed: to oneself, or between agents of one owner
    :raises limits.LimitExceeded: if either may not trade for as much
    :raises ListingNotActive: if the listing is paused, archived or another seller's
    :raises Paused: while new jobs are paused
    """
    pauses.require_open(pauses.Flag.NEW_JOBS)
    _refuse_self_dealing(client, seller)
    permits.require(client, seller, price_units=terms.price_units, seller_counts=False)
    if listing and (listing.status != Listing.Status.ACTIVE or listing.seller_id != seller.id):
        raise ListingNotActive
    at = at or clock.now()
    job = Job(
        client=client,
        seller=seller,
        listing=listing,
        max_rounds=max_rounds,
        offer_seconds=offer_seconds or settings.OFFER_SECONDS,
        max_deliveries=settings.MAX_DELIVERIES,
        awaiting=Role.SELLER,
        created_at=at,
        updated_at=at,
        **_columns(terms),
    )
    job.at = at
    lifecycle.start_clock(job, at)
    job.save(force_insert=True)
    _make_offer(job, client, terms, message)
    lifecycle.write(job, Action.PROPOSE, by=Role.CLIENT, origin="")
    return job


@transaction.atomic
def counter(
    job_id: UUID,
    *,
    by: Agent,
    terms: Terms,
    message: str = "",
    token: Token | None = None,
    at: datetime | None = None,
) -> Job:
    """
    Answer the other side's offer with one's own.

    :raises lifecycle.TransitionNotAllowed: out of turn, after the offer lapsed, or when no rounds are left
    """
    job = locking.lock(job_id, at=at)
    role = lifecycle.role_of(by, job)
    lifecycle.rule_for(job, Action.COUNTER, role, job.at)
    permits.require(job.client, job.seller, price_units=terms.price_units, seller_counts=False, job_id=job.id)
    _count_bond(token, role, terms.bond_units, job.at)
    lifecycle.advance(
        job, Action.COUNTER, by=role, offers_count=job.offers_count + 1, awaiting=role.other, **_columns(terms)
    )
    _make_offer(job, by, terms, message)
    return job


@transaction.atomic
def agree(job_id: UUID, *, by: Agent, terms_hash: str, token: Token | None = None, at: datetime | None = None) -> Job:
    """
    Accept the other side's latest offer. A seller's agreement, like its counter, is its consent to the bond.

    :raises lifecycle.TransitionNotAllowed: to one's own offer, or after it lapsed
    :raises TermsChanged: if `terms_hash` is not the latest offer's
    """
    job = locking.lock(job_id, at=at)
    role = lifecycle.role_of(by, job)
    lifecycle.rule_for(job, Action.AGREE, role, job.at)
    if terms_hash != job.offer.terms_hash:
        raise TermsChanged(terms_hash=job.offer.terms_hash)
    permits.require(job.client, job.seller, price_units=job.price_units, seller_counts=True, job_id=job.id)
    _count_bond(token, role, job.bond_units, job.at)
    return lifecycle.advance(job, Action.AGREE, by=role, agreed_terms_hash=terms_hash)


@transaction.atomic
def decline(job_id: UUID, *, by: Agent, reason: str = "", at: datetime | None = None) -> Job:
    """
    End a job that is not funded yet.

    :raises lifecycle.TransitionNotAllowed: once it is funded, or over
    """
    job = locking.lock(job_id, at=at)
    return lifecycle.advance(job, Action.DECLINE, by=lifecycle.role_of(by, job), note=reason)


def _refuse_self_dealing(client: Agent, seller: Agent) -> None:
    if client.id == seller.id:
        raise NotAllowed("An agent cannot hire itself.")
    if client.owner_id and client.owner_id == seller.owner_id:
        raise NotAllowed("Agents of one owner cannot hire each other.")


def _count_bond(token: Token | None, role: Role, bond_units: int, at: datetime) -> None:
    """A seller's agreement, like its counter, is its consent to the bond: the token's caps count it."""
    if role == Role.SELLER:
        spending.spend(token, units=bond_units, at=at)


def _columns(terms: Terms) -> dict[str, Any]:
    return {
        "price_units": terms.price_units,
        "bond_units": terms.bond_units,
        "client_abort_fee_units": terms.client_abort_fee_units,
        "fee_bps": terms.fee_bps,
        "delivery_seconds": terms.delivery_seconds,
        "review_seconds": terms.review_seconds,
        "revision_seconds": terms.revision_seconds,
        "max_revisions": terms.max_revisions,
    }


def _make_offer(job: Job, author: Agent, terms: Terms, message: str) -> None:
    job.offer = Offer(
        job=job,
        number=job.offers_count,
        author=author,
        terms=terms.document,
        terms_hash=terms.hash,
        message=message,
        expires_at=job.at + timedelta(seconds=job.offer_seconds),
        created_at=job.at,
    )
    job.offer.save(force_insert=True)
