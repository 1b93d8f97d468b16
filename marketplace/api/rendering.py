"""Jobs, offers, deliveries and listings as JSON; plain functions, because these are the answers that are made most."""

import json
from datetime import datetime
from typing import Any

from accounts.api.fields import moment
from accounts.edge.fields import units_to_text
from marketplace import effects, lifecycle
from marketplace.lifecycle import Action, Role
from marketplace.models import Delivery, Job, Listing, Offer, Transition

# Where each action of a party is asked for, below /v1/jobs/{id}/.
_HREFS = {
    Action.COUNTER: "offers",
    Action.AGREE: "agreement",
    Action.DECLINE: "decline",
    Action.FUND: "funding",
    Action.START: "start",
    Action.DELIVER: "deliveries",
    Action.APPROVE: "approval",
    Action.REQUEST_REVISION: "revisions",
    Action.ABORT: "abort",
    Action.DISPUTE: "dispute",
    Action.SETTLE: "settlement-offers",
}


def job(job: Job, *, role: Role, at: datetime) -> dict[str, Any]:
    """Show a job to one of its parties. Needs `job.client`, `.seller` and `.offer` loaded."""
    held = lifecycle.holds_money(job)
    return {
        "id": str(job.id),
        "revision": job.revision,
        "state": job.state,
        "client": {"id": str(job.client_id), "handle": job.client.handle},
        "seller": {"id": str(job.seller_id), "handle": job.seller.handle},
        "listing_id": str(job.listing_id) if job.listing_id else None,
        "offer": offer(job.offer, job),
        "agreed_terms_hash": job.agreed_terms_hash,
        "awaiting": job.awaiting,
        "deadline": deadline(job),
        "money": {
            "price": units_to_text(job.price_units),
            "bond": units_to_text(job.bond_units),
            "held": units_to_text(job.price_units if held else 0),
            "fee_bps": job.fee_bps,
        },
        "revisions_used": job.revisions_used,
        "deliveries": _deliveries(job),
        "settlement": _settlement(job),
        "dispute_id": str(job.dispute_id) if job.dispute_id else None,
        "available_actions": [_action(job, action, role) for action in lifecycle.available(job, role, at)],
        "created_at": moment(job.created_at),
        "updated_at": moment(job.updated_at),
    }


def offer(offer: Offer, job: Job) -> dict[str, Any]:
    return {
        "number": offer.number,
        "author": "client" if offer.author_id == job.client_id else "seller",
        "terms": offer.terms,
        "terms_hash": offer.terms_hash,
        "message": offer.message,
        "expires_at": moment(offer.expires_at),
    }


def deadline(job: Job) -> dict[str, Any] | None:
    if job.deadline_at is None:
        return None
    return {"at": moment(job.deadline_at), "action": job.deadline_action, "effect": job.deadline_effect}


def step(transition: Transition) -> dict[str, Any]:
    return {
        "action": transition.action,
        "by": transition.by,
        "from": transition.from_state or None,
        "to": transition.to_state,
        "occurred_at": moment(transition.occurred_at),
        "revision": transition.revision,
    } | ({"note": transition.note} if transition.note else {})


def delivery(delivery: Delivery, *, whole: bool) -> dict[str, Any]:
    """Show a delivery; `whole` with its JSON content. A file is fetched from its own address."""
    shown = {
        "number": delivery.number,
        "sha256": delivery.sha256,
        "size": delivery.size,
        "content_type": delivery.content_type,
        "note": delivery.note,
        "delivered_at": moment(delivery.delivered_at),
        "check_results": None,
    }
    if delivery.is_file:
        shown["filename"] = delivery.filename
    elif whole:
        shown["content"] = json.loads(bytes(delivery.body))
    return shown


def listing(listing: Listing) -> dict[str, Any]:
    return {
        "id": str(listing.id),
        "seller": {"id": str(listing.seller_id), "handle": listing.seller.handle},
        "title": listing.title,
        "description": listing.description,
        "skills": listing.skills,
        "price": units_to_text(listing.price_units),
        "unit": listing.unit,
        "delivery_seconds": listing.delivery_seconds,
        "input_schema": listing.input_schema,
        "output_schema": listing.output_schema,
        "default_terms": listing.default_terms,
        "instant": listing.instant,
        "instant_bond": listing.instant_bond,
        "max_open_jobs": listing.max_open_jobs,
        "status": listing.status,
        "score": None,
        "created_at": moment(listing.created_at),
        "updated_at": moment(listing.updated_at),
    }


def _deliveries(job: Job) -> list[dict[str, Any]]:
    if not job.deliveries_count:
        return []
    rows = getattr(job, "delivered", None)
    if rows is None:
        rows = job.deliveries.order_by("number").only("number", "sha256", "size", "delivered_at")
    return [
        {
            "number": row.number,
            "sha256": row.sha256,
            "size": row.size,
            "delivered_at": moment(row.delivered_at),
            "checks": None,
        }
        for row in rows
    ]


def _settlement(job: Job) -> dict[str, Any]:
    offers = {"by_client": job.client_settlement_bps, "by_seller": job.seller_settlement_bps}
    return {side: {"seller_bps": bps} for side, bps in offers.items() if bps is not None}


def _action(job: Job, action: Action, role: Role) -> dict[str, Any]:
    return {
        "action": action,
        "method": "POST",
        "href": f"/v1/jobs/{job.id}/{_HREFS[action]}",
        "effects": [effect.rendered() for effect in effects.of_action(job, action, role)],
    }
