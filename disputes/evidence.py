"""What the parties bring to a case: hostile input, stored as bytes, chained by hashes, never changed."""

import hashlib
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

import rfc8785
from django.db import transaction
from django.db.models import Count, Q, Sum

from accounts.errors import DomainError, NotFound
from accounts.models import Agent
from disputes import cases, lifecycle
from disputes.lifecycle import Action
from disputes.models import Dispute, Evidence
from disputes.models.evidence import MAX_ITEM_BYTES, MAX_SIDE_BYTES, MAX_SIDE_ITEMS
from marketplace import terms

START_OF_CHAIN = bytes(32)


class EvidenceTooLarge(DomainError):
    status = 413
    code = "body_too_large"
    title = "This is more evidence than a side may bring"


class EvidenceFull(DomainError):
    code = "evidence_full"
    title = "This side has brought all the items it may"


class Item(NamedTuple):
    """What one item holds."""

    kind: str
    content: bytes
    content_type: str


def from_text(text: str) -> Item:
    return Item(Evidence.Kind.TEXT, text.encode(), "text/plain; charset=utf-8")


def from_json(value: Any) -> Item:
    """
    Take any JSON value, in canonical form (RFC 8785).

    :raises Invalid: for what has none, such as an integer beyond 2^53
    """
    content = terms.canonical(terms.normalised(value, "/content"), "/content")
    return Item(Evidence.Kind.JSON, content, "application/json")


@transaction.atomic
def submit(dispute_id: UUID, *, by: Agent, item: Item, at: datetime | None = None) -> Dispute:
    """
    Add an item to the case: at most 10 and 25 MB a side, 10 MB each.

    :raises lifecycle.TransitionNotAllowed: once evidence is closed
    :raises EvidenceFull: on the eleventh item
    :raises EvidenceTooLarge: beyond the bytes of an item or a side
    """
    dispute = lifecycle.lock(dispute_id)
    who, at = lifecycle.who_of(by, dispute), lifecycle.moment(at)
    role = lifecycle.role_named(dispute, who)
    lifecycle.rule_for(dispute, Action.SUBMIT_EVIDENCE, who, at)
    number = _next_number(dispute, role, len(item.content))
    lifecycle.advance(dispute, Action.SUBMIT_EVIDENCE, by=who, at=at, note=f"item {number}")
    row = Evidence(
        dispute=dispute,
        number=number,
        by=role,
        submitted_by=by,
        kind=item.kind,
        content_type=item.content_type,
        content=item.content,
        size=len(item.content),
        sha256=hashlib.sha256(item.content).digest(),
        submitted_at=at,
    )
    row.chain_hash = chained(_end_of_chain(dispute), row)
    row.save(force_insert=True)
    cases.tell("dispute.evidence_added", dispute, at, by=role, number=str(number), sha256=row.sha256.hex())
    return dispute


def read(dispute_id: UUID, number: int, *, by: Agent) -> Evidence:
    """
    Get an item for a party.

    :raises NotFound: for a stranger, an unknown number, or an item that retention has erased
    """
    dispute = Dispute.objects.filter(pk=dispute_id).first()
    if dispute is None:
        raise NotFound("There is no such case.")
    lifecycle.who_of(by, dispute)
    found = Evidence.objects.filter(dispute=dispute, number=number, content__isnull=False).first()
    if found is None:
        raise NotFound("There is no such item.")
    return found


def chained(before: bytes, item: Evidence) -> bytes:
    """Digest an item together with the digest of the one before it, so that a later change of either shows."""
    described = rfc8785.dumps({
        "number": item.number,
        "by": str(item.by),
        "kind": str(item.kind),
        "content_type": item.content_type,
        "filename": item.filename,
        "size": item.size,
        "sha256": bytes(item.sha256).hex(),
        "submitted_at": item.submitted_at.astimezone(UTC).isoformat(timespec="microseconds"),
    })  # fmt: skip
    return hashlib.sha256(bytes(before) + described).digest()


def broken_links(dispute: Dispute) -> list[int]:
    """Name the items whose chain hash is not what it must be."""
    before, broken = START_OF_CHAIN, []
    for item in dispute.evidence.order_by("number"):
        if chained(before, item) != bytes(item.chain_hash):
            broken.append(item.number)
        before = bytes(item.chain_hash)
    return broken


def _next_number(dispute: Dispute, role: str, size: int) -> int:
    if size > MAX_ITEM_BYTES:
        raise EvidenceTooLarge(f"An item has at most {MAX_ITEM_BYTES} bytes.", limit=MAX_ITEM_BYTES)
    theirs = Q(by=role)
    held = Evidence.objects.filter(dispute=dispute).aggregate(
        all=Count("pk"), items=Count("pk", filter=theirs), size=Sum("size", filter=theirs, default=0)
    )
    if held["items"] >= MAX_SIDE_ITEMS:
        raise EvidenceFull(f"A side brings at most {MAX_SIDE_ITEMS} items.", limit=MAX_SIDE_ITEMS)
    if held["size"] + size > MAX_SIDE_BYTES:
        raise EvidenceTooLarge(f"A side brings at most {MAX_SIDE_BYTES} bytes.", limit=MAX_SIDE_BYTES)
    return held["all"] + 1


def _end_of_chain(dispute: Dispute) -> bytes:
    last = dispute.evidence.order_by("-number").values_list("chain_hash", flat=True).first()
    return bytes(last) if last is not None else START_OF_CHAIN
