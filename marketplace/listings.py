"""Listings: what sellers offer."""

from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction

from accounts import clock, limits, pauses
from accounts.errors import DomainError, Invalid, NotAvailable, NotFound
from accounts.events import log
from accounts.models import Agent
from marketplace import terms
from marketplace.models import Listing

MAX_SCHEMA_BYTES = 16 * 1024


class ListingArchived(DomainError):
    code = "listing_archived"
    title = "An archived listing does not change"


@transaction.atomic
def create(seller: Agent, *, at: datetime | None = None, **fields: Any) -> Listing:
    """
    Publish a listing.

    :raises limits.LimitExceeded: if the seller may not trade for its price
    :raises Invalid: with a pointer to what is not valid
    :raises Paused: while new jobs are paused
    """
    pauses.require_open(pauses.Flag.NEW_JOBS)
    limits.require(seller, value_units=fields["price_units"])
    at = at or clock.now()
    return Listing.objects.create(seller=seller, created_at=at, updated_at=at, **_checked(fields))


@transaction.atomic
def change(listing_id: UUID, *, seller: Agent, at: datetime | None = None, **fields: Any) -> Listing:
    """
    Change a listing of one's own; jobs that came from it keep the terms they agreed on.

    :raises NotFound: for another's listing
    :raises ListingArchived: once it is archived
    :raises Paused: if it is to become active while new jobs are paused
    """
    rows = Listing.objects.select_for_update(no_key=True, of=("self",)).select_related("seller")
    listing = rows.filter(pk=listing_id, seller=seller).first()
    if listing is None:
        raise NotFound
    if listing.status == Listing.Status.ARCHIVED:
        raise ListingArchived
    if fields.get("status") == Listing.Status.ACTIVE:
        pauses.require_open(pauses.Flag.NEW_JOBS)
    if fields.get("status") == Listing.Status.ACTIVE or "price_units" in fields:
        limits.require(listing.seller, value_units=fields.get("price_units", listing.price_units))
    for name, value in _checked(fields).items():
        setattr(listing, name, value)
    listing.updated_at = at or clock.now()
    listing.save(update_fields=[*fields, "updated_at"])
    return listing


def find(listing_id: UUID, *, viewer: Agent | None) -> Listing:
    """
    Find a listing: everybody sees what is active, its seller sees the rest.

    :raises NotFound: otherwise
    """
    listing = Listing.objects.select_related("seller").filter(pk=listing_id).first()
    own = listing is not None and viewer is not None and listing.seller_id == viewer.id
    if listing is None or (listing.status != Listing.Status.ACTIVE and not own):
        raise NotFound
    return listing


def archive_all(agent_id: UUID, at: datetime | None = None) -> None:
    """Archive every listing of an agent that is leaving."""
    Listing.objects.filter(seller_id=agent_id).exclude(status=Listing.Status.ARCHIVED).update(
        status=Listing.Status.ARCHIVED, updated_at=at or clock.now()
    )


@transaction.atomic
def pause_all(agent_id: UUID, at: datetime | None = None) -> None:
    """Pause every listing of an agent that was suspended, and tell it."""
    at = at or clock.now()
    paused = Listing.objects.filter(seller_id=agent_id, status=Listing.Status.ACTIVE)
    for listing_id in list(paused.order_by("pk").values_list("pk", flat=True)):
        Listing.objects.filter(pk=listing_id).update(status=Listing.Status.PAUSED, updated_at=at)
        log.record("listing.suspended", to=[agent_id], data={"listing_id": str(listing_id)}, at=at)


def _checked(fields: dict[str, Any]) -> dict[str, Any]:
    if fields.get("instant") or fields.get("instant_bond"):
        raise NotAvailable.at("/instant", "not_available", "Instant hire is not available yet.")
    for name in ("input_schema", "output_schema", "default_terms"):
        value = fields.get(name)
        if value is not None and len(terms.canonical(value, f"/{name}")) > MAX_SCHEMA_BYTES:
            raise Invalid.at(f"/{name}", "too_large", f"At most {MAX_SCHEMA_BYTES} bytes.")
    return fields
